//! Payloads that tell which request they belong to, and cost no more than a comparison of slices. PURE.

use fastrand::Rng;

use super::mix::PREFIX;
use crate::proto::{Command, MAX_BODY, encode_with};

/// Different beginnings that a payload can have: more than a connection has requests in flight.
const STARTS: usize = 1 << 16;
/// Keys of a session that are used.
const KEYS: u32 = 8;

/// A stretch of random bytes; the payload of a request is where its `seq` begins.
#[derive(Clone, Debug)]
pub struct Pattern(Vec<u8>);

impl Pattern {
    /// The stretch that a seed gives.
    pub fn new(seed: u64) -> Pattern {
        let mut bytes = vec![0; STARTS + MAX_BODY];
        Rng::with_seed(seed).fill(&mut bytes);
        Pattern(bytes)
    }

    #[inline]
    fn slice(&self, seq: u32, len: u16) -> &[u8] {
        let start = seq as usize % STARTS;
        &self.0[start..start + usize::from(len)]
    }

    /// Appends the frame of a request. `owner` is the connection's; `len` the bytes of its payload, value or body.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>, owner: u32, seq: u32, cmd: Command, len: u16) {
        let fitted = encode_with(out, seq, cmd, |out| match cmd {
            Command::SESSION_GET | Command::SESSION_DELETE => out.extend_from_slice(&key(seq)),
            Command::SESSION_PUT => {
                out.push(key(seq).len() as u8);
                out.extend_from_slice(&key(seq));
                out.extend_from_slice(self.slice(value_start(owner, seq), len));
            }
            Command::SUBMIT | Command::PUBLISH => {
                out.push(TOPIC.len() as u8);
                out.extend_from_slice(TOPIC);
                out.extend_from_slice(self.slice(seq, len));
            }
            _ => out.extend_from_slice(self.slice(seq, len)),
        });
        debug_assert!(fitted, "a mix has no larger entries");
    }

    /// Whether this is the reply to that request.
    #[inline]
    pub fn is_reply(&self, owner: u32, seq: u32, cmd: Command, len: u16, reply: (Command, &[u8])) -> bool {
        let (answer, payload) = reply;
        match cmd {
            Command::ECHO => answer == cmd && payload == self.slice(seq, len),
            Command::PING => answer == Command::PONG && payload == self.slice(seq, len),
            // An older value may be longer or shorter, but begins as each value of this key does.
            Command::SESSION_GET => u16::try_from(payload.len())
                .is_ok_and(|len| answer == cmd && payload == self.slice(value_start(owner, seq), len)),
            Command::SESSION_PUT | Command::SESSION_DELETE => answer == cmd && payload.is_empty(),
            Command::SUBMIT => answer == cmd && payload.len() == 9,
            Command::PUBLISH => answer == cmd && payload.len() == 4,
            // What the application answers is its own affair.
            _ => answer == cmd,
        }
    }
}

const TOPIC: &[u8; PREFIX - 1] = b"load-t";

fn key(seq: u32) -> [u8; PREFIX - 1] {
    *[b"load-0", b"load-1", b"load-2", b"load-3", b"load-4", b"load-5", b"load-6", b"load-7"][(seq % KEYS) as usize]
}

/// Where the value of a request's key begins: another place for each session and key.
fn value_start(owner: u32, seq: u32) -> u32 {
    owner.wrapping_mul(KEYS).wrapping_add(seq % KEYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::FrameDecoder;

    fn echoed(pattern: &Pattern, seq: u32, len: u16) -> Vec<u8> {
        let mut out = Vec::new();
        pattern.encode(&mut out, 0, seq, Command::ECHO, len);
        let mut input = &out[..];
        FrameDecoder::new(MAX_BODY).next(&mut input).unwrap().unwrap().payload.to_vec()
    }

    #[test]
    fn a_reply_to_another_request_is_noticed() {
        let pattern = Pattern::new(7);
        for seq in [0, 1, 65_535, u32::MAX] {
            let right = echoed(&pattern, seq, 32);
            assert!(pattern.is_reply(0, seq, Command::ECHO, 32, (Command::ECHO, &right)));
            assert!(!pattern.is_reply(0, seq, Command::ECHO, 32, (Command::PONG, &right)));
            assert!(!pattern.is_reply(0, seq, Command::ECHO, 32, (Command::ECHO, &right[1..])));
            for other in [1u32, 2, 1_000, 60_000] {
                let swapped = echoed(&pattern, seq.wrapping_add(other), 32);
                assert!(!pattern.is_reply(0, seq, Command::ECHO, 32, (Command::ECHO, &swapped)), "{seq} and {other}");
            }
        }
    }

    #[test]
    fn the_largest_payload_of_the_last_seq_is_within_the_pattern() {
        assert_eq!(echoed(&Pattern::new(1), u32::MAX, u16::MAX).len(), MAX_BODY);
    }

    #[test]
    fn a_value_of_another_session_or_key_is_noticed() {
        let pattern = Pattern::new(9);
        let value = |owner, seq: u32| pattern.slice(value_start(owner, seq), 20).to_vec();
        let get = |value: &[u8]| pattern.is_reply(5, 16, Command::SESSION_GET, 0, (Command::SESSION_GET, value));
        assert!(get(&value(5, 16)) && get(&value(5, 8)) && get(&value(5, 8)[..7]));
        assert!(!get(&value(5, 17)) && !get(&value(6, 16)));
    }
}
