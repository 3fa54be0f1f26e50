//! Dead letters: messages that their sink has refused for good, kept in the journal with the reason.
//!
//! Topic `<TIDEGATE_DEAD_LETTER_TOPIC>/<original topic>`, principal and trace of the original, and as body an object:
//!
//! ```text
//! {"id":17,"topic":"orders/eu","reason":"no such table","tries":5,"principal":"sensor-7","key":null,
//!  "trace_id":null,"time":"2026-01-31T12:00:00.250Z","part":1,"parts":1,"body":"aGVsbG8="}
//! ```
//!
//! A body that is too long for one message in base64 comes in two, `part` 1 and 2, to be decoded one by one and put
//! together. The idempotency key is derived from the original and the part: a retry stores none twice.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hex::hex;
use crate::journal::{Draft, Key, Message};
use crate::proto::MAX_BODY;
use crate::time::rfc3339;

/// Bytes of the original body in one letter: what remains of [`MAX_BODY`] is enough for all other fields, and
/// two hold the longest body.
const PART_BYTES: usize = 36 * 1024;
const _: () = assert!(2 * PART_BYTES >= MAX_BODY);
/// Bytes of a reason; what is over is cut off.
const MAX_REASON_BYTES: usize = 1024;
const _: () = assert!(PART_BYTES / 3 * 4 + 6 * (MAX_REASON_BYTES + 255 + 4 * 128) + 512 < MAX_BODY);

/// A dead letter's body.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    id: u64,
    topic: std::borrow::Cow<'a, str>,
    reason: std::borrow::Cow<'a, str>,
    tries: u32,
    principal: std::borrow::Cow<'a, str>,
    key: Option<String>,
    trace_id: Option<String>,
    time: String,
    part: u32,
    parts: u32,
    body: String,
}

/// One letter, to be stored.
#[derive(Debug)]
pub(super) struct Letter<'a> {
    original: &'a Message,
    topic: String,
    key: Key,
    body: Vec<u8>,
}

impl Letter<'_> {
    /// What the journal is given.
    pub fn draft(&self) -> Draft<'_> {
        let Message { principal, trace, session, .. } = self.original;
        let (topic, key) = (&self.topic, Some(self.key));
        Draft { topic, principal, key, trace: *trace, session: *session, body: &self.body }
    }
}

/// The letters that a message becomes: one, or two.
pub(super) fn letters<'a>(message: &'a Message, reason: &str, tries: u32, under: &str) -> Vec<Letter<'a>> {
    let parts: Vec<&[u8]> = if message.body.is_empty() { vec![&[]] } else { message.body.chunks(PART_BYTES).collect() };
    let letter = |(index, part): (usize, &&[u8])| {
        let body = Body {
            id: message.id,
            topic: (&message.topic).into(),
            reason: cut(reason, MAX_REASON_BYTES).into(),
            tries,
            principal: (&message.principal).into(),
            key: message.key.map(|key| hex(&key)),
            trace_id: message.trace.map(|trace| hex(&trace.trace_id)),
            time: rfc3339(message.time()),
            part: index as u32 + 1,
            parts: parts.len() as u32,
            body: STANDARD.encode(part),
        };
        Letter {
            original: message,
            topic: topic(under, &message.topic),
            key: key(body.id, &body.time, body.part),
            // Texts and numbers are always written.
            body: serde_json::to_vec(&body).unwrap_or_default(),
        }
    };
    parts.iter().enumerate().map(letter).collect()
}

/// Whether a message is a dead letter itself, and not one that a client has sent to such a topic.
pub(super) fn is_letter(message: &Message, under: &str) -> bool {
    let below = message.topic.strip_prefix(under).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    below
        && serde_json::from_slice::<Body<'_>>(&message.body)
            .is_ok_and(|body| message.key == Some(key(body.id, &body.time, body.part)))
}

/// The topic of dead letters, then the original one, as much of it as a topic has room for.
fn topic(under: &str, original: &str) -> String {
    match 255usize.saturating_sub(under.len() + 1) {
        0 => under.to_owned(),
        room => format!("{under}/{}", cut(original, room)),
    }
}

fn key(id: u64, time: &str, part: u32) -> Key {
    let digest = Sha256::digest(format!("tidegate dead letter {id} {time} {part}"));
    std::array::from_fn(|index| digest[index])
}

/// The first bytes of a text, as many as are whole characters.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::journal::is_topic;
    use crate::proto::Trace;

    fn message(topic: &str, body: &[u8]) -> Message {
        Message {
            id: u64::MAX,
            time_ms: 1_000_000_000_250,
            topic: topic.to_owned(),
            principal: "p".repeat(128),
            key: Some([0xa5; 16]),
            trace: Some(Trace { trace_id: [0x0f; 16], span_id: [1; 8], flags: 1 }),
            session: Some([7; 16]),
            body: body.to_vec(),
        }
    }

    fn stored(letter: &Letter<'_>) -> Message {
        let draft = letter.draft();
        Message { topic: draft.topic.to_owned(), key: draft.key, body: draft.body.to_vec(), ..message("", b"") }
    }

    #[test]
    fn a_letter_has_all_of_its_message_and_why_it_was_refused() {
        let original = message("orders/eu", b"hello");
        let letters = letters(&original, "no such table", 5, "dead");
        let draft = letters[0].draft();
        assert_eq!((letters.len(), draft.topic, draft.trace), (1, "dead/orders/eu", original.trace));
        assert_ne!(draft.key, original.key, "that one is taken, by the message itself");
        let body: Value = serde_json::from_slice(draft.body).unwrap();
        let wanted = serde_json::json!({
            "id": u64::MAX, "topic": "orders/eu", "reason": "no such table", "tries": 5, "principal": "p".repeat(128),
            "key": "a5".repeat(16), "trace_id": "0f".repeat(16), "time": "2001-09-09T01:46:40.250Z",
            "part": 1, "parts": 1, "body": "aGVsbG8=",
        });
        assert_eq!(body, wanted);
    }

    #[test]
    fn the_longest_message_fits_and_nothing_of_it_is_lost() {
        let long: Vec<u8> = (0..MAX_BODY).map(|n| (n % 251) as u8).collect();
        let original = message(&"\u{2028}\"".repeat(63), &long);
        let letters = letters(&original, &"\u{1}".repeat(5_000), u32::MAX, "dead");
        let mut whole = Vec::new();
        for (index, letter) in letters.iter().enumerate() {
            let draft = letter.draft();
            assert!(draft.body.len() <= MAX_BODY && is_topic(draft.topic.as_bytes()).is_some(), "{}", draft.body.len());
            let body: Value = serde_json::from_slice(draft.body).unwrap();
            assert_eq!((&body["part"], &body["parts"]), (&Value::from(index + 1), &Value::from(2)));
            whole.extend(STANDARD.decode(body["body"].as_str().unwrap()).unwrap());
        }
        assert_eq!(whole, long);
        assert_ne!(letters[0].key, letters[1].key);
    }

    #[test]
    fn its_topic_is_one_however_long_the_original_is() {
        for (under, original) in [("dead", "é".repeat(127)), (&"d".repeat(255), "a".into()), ("d", "a".repeat(255))] {
            let topic = topic(under, &original);
            assert!(is_topic(topic.as_bytes()).is_some() && topic.starts_with(under), "{topic}");
            assert!(topic.len() >= 254, "no more is cut than has to be: {topic}");
        }
    }

    #[test]
    fn a_letter_is_known_as_one_and_what_only_looks_like_it_is_not() {
        let original = message("orders", b"hello");
        let letter = stored(&letters(&original, "no", 1, "dead")[0]);
        assert!(is_letter(&letter, "dead"));
        assert!(!is_letter(&letter, "letters") && !is_letter(&letter, "dea"));
        assert!(!is_letter(&Message { key: Some([1; 16]), ..letter.clone() }, "dead"));
        assert!(!is_letter(&Message { body: b"{}".to_vec(), ..letter }, "dead"));
        assert!(!is_letter(&message("dead/orders", b"a client's own"), "dead"));
    }

    #[test]
    fn a_retry_makes_the_same_letter_and_another_message_another() {
        let (one, mut other) = (message("orders", b"x"), message("orders", b"x"));
        other.id = 1;
        let key = |message| letters(message, "why", 1, "dead")[0].key;
        assert_eq!(key(&one), letters(&one, "another reason", 9, "dead")[0].key);
        assert_ne!(key(&one), key(&other));
    }
}
