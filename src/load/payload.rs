//! Payloads that tell which request they belong to, and cost no more than a comparison of slices. PURE.

use fastrand::Rng;
use sha2::{Digest, Sha256};

use super::mix::{KEY, TOPIC};
use crate::proto::message::parse_submitted;
use crate::proto::{Command, Extensions, MAX_BODY, encode_extended, encode_with, extension_type};

/// Different beginnings that a payload can have: more than a connection has requests in flight.
const STARTS: usize = 1 << 16;
/// Keys of a session that are used.
pub(super) const KEYS: u32 = 8;

/// A stretch of random bytes; the payload of a request is where its `seq` begins.
#[derive(Clone, Debug)]
pub struct Pattern {
    bytes: Vec<u8>,
    /// Tells the messages of this run from those of all others.
    run: u64,
}

/// Whose a request is, and which.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The number of its connection in the run.
    pub owner: u32,
    /// On the wire.
    pub seq: u32,
    /// Of SUBMIT and of the SESSION commands: their own number, also when they are sent again.
    pub number: u32,
}

impl Pattern {
    /// The stretch that a seed gives. `run` is another one for each run.
    pub fn new(seed: u64, run: u64) -> Pattern {
        let mut bytes = vec![0; STARTS + MAX_BODY];
        Rng::with_seed(seed).fill(&mut bytes);
        Pattern { bytes, run }
    }

    #[inline]
    fn slice(&self, seq: u32, len: u16) -> &[u8] {
        let start = seq as usize % STARTS;
        &self.bytes[start..start + usize::from(len)]
    }

    /// Appends the frame of a request; `len` are the bytes of its payload, value or body.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>, place: Place, cmd: Command, len: u16) {
        let Place { owner, seq, number } = place;
        if cmd == Command::SUBMIT {
            return self.encode_submit(out, place, len);
        }
        let fitted = encode_with(out, seq, cmd, |out| match cmd {
            Command::SESSION_GET | Command::SESSION_DELETE => out.extend_from_slice(key(number)),
            Command::SESSION_PUT => {
                out.push(key(number).len() as u8);
                out.extend_from_slice(key(number));
                self.write_value(out, owner, number, len);
            }
            Command::PUBLISH => self.write_message(out, owner, number, len),
            _ => out.extend_from_slice(self.slice(seq, len)),
        });
        debug_assert!(fitted, "a mix has no larger entries");
    }

    fn encode_submit(&self, out: &mut Vec<u8>, place: Place, len: u16) {
        let Place { owner, seq, number } = place;
        let (mut block, mut payload) = (Vec::with_capacity(18), Vec::with_capacity(TOPIC + usize::from(len)));
        self.write_message(&mut payload, owner, number, len);
        let fitted = Extensions::push(&mut block, extension_type::IDEMPOTENCY, &self.idempotency(owner, number))
            && encode_extended(out, seq, Command::SUBMIT, &block, &payload);
        debug_assert!(fitted, "a mix has no larger entries");
    }

    /// The idempotency key of a message.
    pub fn idempotency(&self, owner: u32, number: u32) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.run.to_be_bytes());
        key[8..12].copy_from_slice(&owner.to_be_bytes());
        key[12..].copy_from_slice(&number.to_be_bytes());
        key
    }

    fn write_message(&self, out: &mut Vec<u8>, owner: u32, number: u32, len: u16) {
        let topic = topic(owner);
        out.push(topic.len() as u8);
        out.extend_from_slice(topic.as_bytes());
        self.write_body(out, owner, number, len);
    }

    /// Owner and number, if there is room, and then the pattern.
    fn write_body(&self, out: &mut Vec<u8>, owner: u32, number: u32, len: u16) {
        let begin = out.len();
        out.extend_from_slice(self.slice(number, len));
        if let Some(head) = out.get_mut(begin..begin + 8) {
            head[..4].copy_from_slice(&owner.to_be_bytes());
            head[4..].copy_from_slice(&number.to_be_bytes());
        }
    }

    /// SHA-256 of a message's body.
    pub fn digest(&self, owner: u32, number: u32, len: u16) -> [u8; 32] {
        let mut body = Vec::with_capacity(usize::from(len));
        self.write_body(&mut body, owner, number, len);
        Sha256::digest(&body).into()
    }

    /// Appends the value that the SESSION_PUT of this number sets: the number, if there is room, and then what all
    /// values of its key have there.
    pub fn write_value(&self, out: &mut Vec<u8>, owner: u32, number: u32, len: u16) {
        let begin = out.len();
        out.extend_from_slice(self.slice(value_start(owner, number), len));
        if let Some(head) = out.get_mut(begin..begin + 4) {
            head.copy_from_slice(&number.to_be_bytes());
        }
    }

    /// Whether this is a value of the key, whichever. The number that it has, if it is long enough.
    pub fn is_value(&self, owner: u32, number: u32, value: &[u8]) -> (bool, Option<u32>) {
        let Ok(len) = u16::try_from(value.len()) else { return (false, None) };
        let wanted = self.slice(value_start(owner, number), len);
        match (value.split_first_chunk::<4>(), wanted.get(4..)) {
            (Some((head, tail)), Some(wanted)) => (tail == wanted, Some(u32::from_be_bytes(*head))),
            _ => (value == wanted, None),
        }
    }

    /// Whether this is the reply to that request, as far as it can be told without knowing what was before.
    #[inline]
    pub fn is_reply(&self, place: Place, cmd: Command, len: u16, reply: (Command, &[u8])) -> bool {
        let (answer, payload) = reply;
        let Place { owner, seq, number } = place;
        match cmd {
            Command::ECHO => answer == cmd && payload == self.slice(seq, len),
            Command::PING => answer == Command::PONG && payload == self.slice(seq, len),
            Command::SESSION_GET => answer == cmd && self.is_value(owner, number, payload).0,
            Command::SESSION_PUT | Command::SESSION_DELETE => answer == cmd && payload.is_empty(),
            Command::SUBMIT => answer == cmd && parse_submitted(payload).is_some_and(|(id, _)| id > 0),
            Command::PUBLISH => answer == cmd && payload.len() == 4,
            // What the application answers is its own affair.
            _ => answer == cmd,
        }
    }
}

/// The topic of a connection.
pub fn topic(owner: u32) -> String {
    format!("load/{owner}")
}

/// The key of a request to the session's state.
pub fn key(number: u32) -> &'static [u8; KEY - 1] {
    [b"load-0", b"load-1", b"load-2", b"load-3", b"load-4", b"load-5", b"load-6", b"load-7"][(number % KEYS) as usize]
}

/// Where the values of a request's key begin: another place for each session and key.
fn value_start(owner: u32, number: u32) -> u32 {
    owner.wrapping_mul(KEYS).wrapping_add(number % KEYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::FrameDecoder;

    fn place(owner: u32, number: u32) -> Place {
        Place { owner, seq: number, number }
    }

    fn sent(pattern: &Pattern, place: Place, cmd: Command, len: u16) -> (Option<[u8; 16]>, Vec<u8>) {
        let mut out = Vec::new();
        pattern.encode(&mut out, place, cmd, len);
        let mut input = &out[..];
        let mut decoder = FrameDecoder::new(MAX_BODY);
        let frame = decoder.next(&mut input).unwrap().unwrap();
        (frame.extensions.idempotency(), frame.payload.to_vec())
    }

    fn echoed(pattern: &Pattern, seq: u32, len: u16) -> Vec<u8> {
        sent(pattern, place(0, seq), Command::ECHO, len).1
    }

    #[test]
    fn a_reply_to_another_request_is_noticed() {
        let pattern = Pattern::new(7, 1);
        for seq in [0, 1, 65_535, u32::MAX] {
            let right = echoed(&pattern, seq, 32);
            let is_reply = |cmd, payload: &[u8]| pattern.is_reply(place(0, seq), Command::ECHO, 32, (cmd, payload));
            assert!(is_reply(Command::ECHO, &right));
            assert!(!is_reply(Command::PONG, &right));
            assert!(!is_reply(Command::ECHO, &right[1..]));
            for other in [1u32, 2, 1_000, 60_000] {
                let swapped = echoed(&pattern, seq.wrapping_add(other), 32);
                assert!(!is_reply(Command::ECHO, &swapped), "{seq} and {other}");
            }
        }
    }

    #[test]
    fn the_largest_payload_of_the_last_seq_is_within_the_pattern() {
        assert_eq!(echoed(&Pattern::new(1, 1), u32::MAX, u16::MAX).len(), MAX_BODY);
    }

    #[test]
    fn a_value_of_another_session_or_key_is_noticed_and_one_tells_its_number() {
        let pattern = Pattern::new(9, 1);
        let value = |owner, number: u32, len| {
            let mut value = Vec::new();
            pattern.write_value(&mut value, owner, number, len);
            value
        };
        for (number, len) in [(16, 20), (8, 20), (8, 7), (8, 4)] {
            assert_eq!(pattern.is_value(5, 16, &value(5, number, len)), (true, Some(number)), "{number} {len}");
        }
        assert_eq!(pattern.is_value(5, 16, &value(5, 8, 3)), (true, None));
        assert_eq!(pattern.is_value(5, 16, &[]), (true, None));
        assert!(!pattern.is_value(5, 16, &value(5, 17, 20)).0 && !pattern.is_value(5, 16, &value(6, 16, 20)).0);
    }

    #[test]
    fn a_message_has_its_own_key_and_body_whenever_it_is_sent() {
        let pattern = Pattern::new(9, 0x0102);
        let of = |owner, number, seq| sent(&pattern, Place { owner, seq, number }, Command::SUBMIT, 20);
        let (key, payload) = of(3, 7, 1);
        assert_eq!((key, payload.clone()), of(3, 7, 2), "sent again");
        assert_eq!(key.unwrap(), [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 7]);
        assert_eq!(payload[..15], *b"\x06load/3\0\0\0\x03\0\0\0\x07");
        assert_eq!(pattern.digest(3, 7, 20)[..], Sha256::digest(&payload[7..])[..]);
        for other in [of(4, 7, 1), of(3, 8, 1), sent(&Pattern::new(9, 1), place(3, 7), Command::SUBMIT, 20)] {
            assert!(other.0 != key);
        }
        assert_eq!(of(3, 7, 1).1.len(), 7 + 20);
        let short = sent(&pattern, place(3, 7), Command::SUBMIT, 3).1;
        assert_eq!(short.len(), 7 + 3);
    }
}
