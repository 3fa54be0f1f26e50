//! The payloads that the protocol itself defines, each with its bytes both ways.

use std::fmt;

use super::{Command, ErrorCode, SessionId, encode_with};

/// A payload that does not have its command's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedMessage(pub Command);

impl fmt::Display for MalformedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the payload of this {} does not have the form that the protocol gives it", self.0)
    }
}

impl std::error::Error for MalformedMessage {}

/// READY: the reply to AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthReady {
    /// The session this connection now has.
    pub session: SessionId,
    /// Whether it is the one that RESUME named, with its state.
    pub resumed: bool,
    /// After this many milliseconds of silence the server sends PING.
    pub heartbeat_ms: u32,
    /// Most bytes a body may have.
    pub max_payload: u32,
    /// Seconds that the session outlives its connection.
    pub session_ttl_s: u32,
}

impl AuthReady {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>, seq: u32) {
        let fitted = encode_with(out, seq, Command::READY, |out| {
            out.extend_from_slice(&self.session);
            out.push(u8::from(self.resumed));
            out.extend_from_slice(&self.heartbeat_ms.to_be_bytes());
            out.extend_from_slice(&self.max_payload.to_be_bytes());
            out.extend_from_slice(&self.session_ttl_s.to_be_bytes());
        });
        debug_assert!(fitted, "29 bytes fit");
    }

    /// Reads the payload. Bytes behind the known fields are left to later versions.
    pub fn parse(payload: &[u8]) -> Result<AuthReady, MalformedMessage> {
        let mut fields = Fields(payload);
        let mut read = || {
            Some(AuthReady {
                session: fields.array()?,
                resumed: fields.u8()? & 1 != 0,
                heartbeat_ms: fields.u32()?,
                max_payload: fields.u32()?,
                session_ttl_s: fields.u32()?,
            })
        };
        read().ok_or(MalformedMessage(Command::READY))
    }
}

/// How far a GOAWAY has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GoAwayStage {
    /// Move when you can; requests are still served.
    Notice = 0,
    /// No request beyond `last seq` was or will be processed.
    Final = 1,
}

/// Why a connection goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GoAwayReason {
    /// The server is being stopped.
    Drain = 0,
    /// The session is on a newer connection.
    Replaced = 1,
    /// Connections are being spread anew.
    Rebalance = 2,
    /// A person asked for it.
    Operator = 3,
    /// A new server takes over.
    Upgrade = 4,
    /// The client's own GOAWAY came first.
    Asked = 5,
}

impl GoAwayReason {
    /// The reason a value on the wire stands for.
    pub const fn from_wire(byte: u8) -> Option<GoAwayReason> {
        match byte {
            0 => Some(GoAwayReason::Drain),
            1 => Some(GoAwayReason::Replaced),
            2 => Some(GoAwayReason::Rebalance),
            3 => Some(GoAwayReason::Operator),
            4 => Some(GoAwayReason::Upgrade),
            5 => Some(GoAwayReason::Asked),
            _ => None,
        }
    }
}

/// The server's GOAWAY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// Notice or final.
    pub stage: GoAwayStage,
    /// Why.
    pub reason: GoAwayReason,
    /// The highest request accepted; [`GoAway::NO_LAST_SEQ`] in a notice.
    pub last_seq: u32,
    /// Milliseconds until the connection is cut.
    pub deadline_ms: u32,
    /// Milliseconds to wait before reconnecting.
    pub reconnect_after_ms: u32,
    /// Where to reconnect, as `host:port`; empty: where you came from.
    pub addresses: Vec<String>,
}

impl GoAway {
    /// `last seq` of a notice.
    pub const NO_LAST_SEQ: u32 = u32::MAX;

    /// Appends the frame, with `seq` 0. At most 255 addresses of at most 255 bytes are sent.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let addresses = || self.addresses.iter().filter(|a| a.len() <= 255).take(255);
        let fitted = encode_with(out, 0, Command::GOAWAY, |out| {
            out.extend_from_slice(&[self.stage as u8, self.reason as u8]);
            out.extend_from_slice(&self.last_seq.to_be_bytes());
            out.extend_from_slice(&self.deadline_ms.to_be_bytes());
            out.extend_from_slice(&self.reconnect_after_ms.to_be_bytes());
            out.push(addresses().count() as u8);
            for address in addresses() {
                out.push(address.len() as u8);
                out.extend_from_slice(address.as_bytes());
            }
        });
        debug_assert!(fitted, "15 + 255 × 256 bytes fit");
    }

    /// Reads the payload.
    pub fn parse(payload: &[u8]) -> Result<GoAway, MalformedMessage> {
        let mut fields = Fields(payload);
        let mut read = || {
            let stage = match fields.u8()? {
                0 => GoAwayStage::Notice,
                1 => GoAwayStage::Final,
                _ => return None,
            };
            let reason = GoAwayReason::from_wire(fields.u8()?)?;
            let (last_seq, deadline_ms, reconnect_after_ms) = (fields.u32()?, fields.u32()?, fields.u32()?);
            let count = fields.u8()?;
            let addresses = (0..count)
                .map(|_| {
                    let len = fields.u8()?;
                    Some(std::str::from_utf8(fields.bytes(usize::from(len))?).ok()?.to_owned())
                })
                .collect::<Option<Vec<String>>>()?;
            Some(GoAway { stage, reason, last_seq, deadline_ms, reconnect_after_ms, addresses })
        };
        read().ok_or(MalformedMessage(Command::GOAWAY))
    }
}

/// ERROR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply<'a> {
    /// The code as a number: a newer server may send one that this build does not know.
    pub code: u16,
    /// The command that failed; 0 where it is about the connection.
    pub cmd: u8,
    /// Milliseconds after which a retry makes sense; 0: nothing is known.
    pub retry_after_ms: u32,
    /// For a person.
    pub text: &'a str,
}

impl<'a> ErrorReply<'a> {
    /// An error with no retry time.
    pub fn new(code: ErrorCode, cmd: Command, text: &'a str) -> ErrorReply<'a> {
        ErrorReply { code: code.to_wire(), cmd: cmd.0, retry_after_ms: 0, text }
    }

    /// The code, if this build knows it.
    pub fn known_code(&self) -> Option<ErrorCode> {
        ErrorCode::from_wire(self.code)
    }

    /// Appends the frame; a text over 1,024 bytes is cut.
    pub fn encode(&self, out: &mut Vec<u8>, seq: u32) {
        let text = &self.text[..self.text.floor_char_boundary(1024)];
        let fitted = encode_with(out, seq, Command::ERROR, |out| {
            out.extend_from_slice(&self.code.to_be_bytes());
            out.push(self.cmd);
            out.extend_from_slice(&self.retry_after_ms.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        });
        debug_assert!(fitted, "7 + 1,024 bytes fit");
    }

    /// Reads the payload.
    pub fn parse(payload: &'a [u8]) -> Result<ErrorReply<'a>, MalformedMessage> {
        let mut fields = Fields(payload);
        let mut read = || {
            Some(ErrorReply {
                code: u16::from_be_bytes(fields.array()?),
                cmd: fields.u8()?,
                retry_after_ms: fields.u32()?,
                text: std::str::from_utf8(fields.0).ok()?,
            })
        };
        read().ok_or(MalformedMessage(Command::ERROR))
    }
}

/// Splits the payload of SESSION_PUT into key and value: `key len` u8, key (1–255 bytes), value.
pub fn parse_session_put(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = payload.split_first()?;
    (*len > 0).then(|| rest.split_at_checked(usize::from(*len))).flatten()
}

/// The payload of SESSION_PUT, or `None` if the key is not 1–255 bytes.
pub fn session_put_payload(key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let len = u8::try_from(key.len()).ok().filter(|len| *len > 0)?;
    let mut payload = Vec::with_capacity(1 + key.len() + value.len());
    payload.push(len);
    payload.extend_from_slice(key);
    payload.extend_from_slice(value);
    Some(payload)
}

/// Splits the payload of SUBMIT and PUBLISH into topic and body: `topic len` u8, topic (1–255 bytes), body.
pub fn parse_topic(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    parse_session_put(payload)
}

/// The payload of SUBMIT and PUBLISH, or `None` if the topic is not 1–255 bytes.
pub fn topic_payload(topic: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    session_put_payload(topic, body)
}

/// The payload of the reply to SUBMIT: `message id` u64, `flags` u8 (bit 0: duplicate).
pub fn submitted_payload(id: u64, duplicate: bool) -> [u8; 9] {
    let mut payload = [0; 9];
    payload[..8].copy_from_slice(&id.to_be_bytes());
    payload[8] = duplicate.into();
    payload
}

/// Reads the payload of the reply to SUBMIT: the message's id, and whether it was a duplicate.
pub fn parse_submitted(payload: &[u8]) -> Option<(u64, bool)> {
    let (id, flags) = payload.split_first_chunk::<8>()?;
    let [flags] = flags else { return None };
    Some((u64::from_be_bytes(*id), flags & 1 != 0))
}

/// Reads fields off the front of a payload.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::HEADER_LEN;

    #[test]
    fn ready_is_29_bytes_and_reads_back() {
        let ready = AuthReady {
            session: [9; 16],
            resumed: true,
            heartbeat_ms: 30_000,
            max_payload: 65_535,
            session_ttl_s: 3600,
        };
        let mut out = Vec::new();
        ready.encode(&mut out, 7);
        assert_eq!(out.len(), HEADER_LEN + 29);
        assert_eq!(AuthReady::parse(&out[HEADER_LEN..]), Ok(ready));
        assert!(AuthReady::parse(&out[HEADER_LEN..out.len() - 1]).is_err());
    }

    #[test]
    fn goaway_reads_back_with_its_addresses() {
        let goaway = GoAway {
            stage: GoAwayStage::Final,
            reason: GoAwayReason::Upgrade,
            last_seq: 41,
            deadline_ms: 25_000,
            reconnect_after_ms: 120,
            addresses: vec!["a:1".into(), "[::1]:7400".into()],
        };
        let mut out = Vec::new();
        goaway.encode(&mut out);
        assert_eq!(GoAway::parse(&out[HEADER_LEN..]), Ok(goaway));
        for cut in HEADER_LEN..out.len() {
            assert!(GoAway::parse(&out[HEADER_LEN..cut]).is_err());
        }
    }

    #[test]
    fn error_reads_back_and_keeps_a_code_it_does_not_know() {
        let error = ErrorReply { code: 999, cmd: 0x10, retry_after_ms: 50, text: "später" };
        let mut out = Vec::new();
        error.encode(&mut out, 3);
        let back = ErrorReply::parse(&out[HEADER_LEN..]).unwrap();
        assert_eq!((back.clone(), back.known_code()), (error, None));
    }

    #[test]
    fn session_put_needs_a_key_of_1_to_255_bytes() {
        let payload = session_put_payload(b"key", b"value").unwrap();
        assert_eq!(parse_session_put(&payload), Some((&b"key"[..], &b"value"[..])));
        assert_eq!(parse_session_put(&[]), None);
        assert_eq!(parse_session_put(&[0, 1]), None);
        assert_eq!(parse_session_put(&[3, 1, 2]), None);
        assert_eq!(session_put_payload(b"", b""), None);
        assert_eq!(session_put_payload(&[0; 256], b""), None);
    }
}
