//! A line of JSON for each SUBMIT, SESSION_PUT and SESSION_DELETE that was acknowledged, in the order in which that was
//! heard of: what a script compares with the journal, the sinks and the session store after a crash. PURE.
//!
//! ```text
//! {"kind":"submit","topic":"load/3","key":"…","id":17,"duplicate":false,"seq_in_topic":5,"connection":3,"digest":"…","at_ms":…}
//! {"kind":"put","session":"…","key":"load-2","value":"aGVs…","number":9,"connection":3,"at_ms":…}
//! {"kind":"delete","session":"…","key":"load-2","number":10,"connection":3,"at_ms":…}
//! {"kind":"ready","session":"…","resumed":true,"connection":3,"at_ms":…}
//! ```
//!
//! `key` of a SUBMIT is its idempotency key, `digest` the SHA-256 of its body, `at_ms` the time since 1970.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::payload::{Pattern, key, topic};
use crate::hex::hex;
use crate::proto::{Command, SessionId};

/// The lines that are not in the file yet.
#[derive(Debug, Default)]
pub struct Acks {
    /// Whether anybody wants them.
    pub wanted: bool,
    /// They.
    pub lines: Vec<u8>,
    /// When the run began, ms since 1970.
    pub began_ms: u64,
}

/// Which request was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// The number of the connection.
    pub owner: u32,
    /// The request's own.
    pub number: u32,
    /// Bytes of body or value.
    pub len: u16,
    /// Since the run began, ns.
    pub now: u64,
}

impl Acks {
    /// A message is stored.
    pub fn submit(&mut self, pattern: &Pattern, acked: Acked, id: u64, duplicate: bool) {
        if !self.wanted {
            return;
        }
        let Acked { owner, number, len, .. } = acked;
        let (topic, key) = (topic(owner), hex(&pattern.idempotency(owner, number)));
        let digest = hex(&pattern.digest(owner, number, len));
        let line = format_args!(
            "\"kind\":\"submit\",\"topic\":\"{topic}\",\"key\":\"{key}\",\"id\":{id},\"duplicate\":{duplicate},\
             \"seq_in_topic\":{number},\"digest\":\"{digest}\""
        );
        self.line(acked, line);
    }

    /// A value is stored, or gone.
    pub fn state(&mut self, pattern: &Pattern, acked: Acked, session: &SessionId, cmd: Command) {
        if !self.wanted {
            return;
        }
        let Acked { owner, number, len, .. } = acked;
        let (session, key) = (hex(session), String::from_utf8_lossy(key(number)));
        if cmd == Command::SESSION_DELETE {
            let text = "\"kind\":\"delete\",\"session\":";
            return self.line(acked, format_args!("{text}\"{session}\",\"key\":\"{key}\",\"number\":{number}"));
        }
        let mut value = Vec::with_capacity(usize::from(len));
        pattern.write_value(&mut value, owner, number, len);
        let value = STANDARD.encode(&value);
        let text = "\"kind\":\"put\",\"session\":";
        let line = format_args!("{text}\"{session}\",\"key\":\"{key}\",\"value\":\"{value}\",\"number\":{number}");
        self.line(acked, line);
    }

    /// A connection has its session.
    pub fn ready(&mut self, owner: u32, now: u64, session: &SessionId, resumed: bool) {
        if self.wanted {
            let acked = Acked { owner, number: 0, len: 0, now };
            let session = hex(session);
            self.line(acked, format_args!("\"kind\":\"ready\",\"session\":\"{session}\",\"resumed\":{resumed}"));
        }
    }

    fn line(&mut self, acked: Acked, fields: std::fmt::Arguments<'_>) {
        let (owner, at_ms) = (acked.owner, self.began_ms + acked.now / 1_000_000);
        // Writing to memory does not fail.
        let _ = writeln!(self.lines, "{{{fields},\"connection\":{owner},\"at_ms\":{at_ms}}}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sha2::{Digest, Sha256};

    use super::*;

    fn lines(write: impl FnOnce(&mut Acks, &Pattern)) -> Vec<Value> {
        let mut acks = Acks { wanted: true, lines: Vec::new(), began_ms: 1_000 };
        write(&mut acks, &Pattern::new(1, 2));
        let text = String::from_utf8(acks.lines).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_line_says_what_was_acknowledged() {
        let acked = Acked { owner: 3, number: 9, len: 20, now: 5_000_000 };
        let session = [0xab; 16];
        let found = lines(|acks, pattern| {
            acks.ready(3, 0, &session, false);
            acks.submit(pattern, acked, 17, true);
            acks.state(pattern, acked, &session, Command::SESSION_PUT);
            acks.state(pattern, acked, &session, Command::SESSION_DELETE);
        });
        let (mut body, mut value) = (Vec::new(), Vec::new());
        let pattern = Pattern::new(1, 2);
        pattern.write_value(&mut value, 3, 9, 20);
        pattern.encode(&mut body, crate::load::payload::Place { owner: 3, seq: 0, number: 9 }, Command::PUBLISH, 20);
        let session = "ab".repeat(16);
        let digest = hex(&Sha256::digest(&body[body.len() - 20..]));
        assert_eq!(
            found,
            [
                json!({"kind": "ready", "session": session, "resumed": false, "connection": 3, "at_ms": 1_000}),
                json!({"kind": "submit", "topic": "load/3", "key": hex(&pattern.idempotency(3, 9)), "id": 17,
                       "duplicate": true, "seq_in_topic": 9, "digest": digest, "connection": 3, "at_ms": 1_005}),
                json!({"kind": "put", "session": session, "key": "load-1", "value": STANDARD.encode(&value), "number": 9,
                       "connection": 3, "at_ms": 1_005}),
                json!({"kind": "delete", "session": session, "key": "load-1", "number": 9, "connection": 3, "at_ms": 1_005}),
            ]
        );
    }

    #[test]
    fn nobody_wants_them_nothing_is_written() {
        let mut acks = Acks::default();
        acks.submit(&Pattern::new(1, 1), Acked { owner: 0, number: 0, len: 0, now: 0 }, 1, false);
        assert!(acks.lines.is_empty());
    }
}
