//! A message as one line of JSON: what `tidegate journal cat --json` prints and the sinks `file` and `exec` write.
//!
//! ```text
//! {"id":17,"topic":"orders/eu","principal":"sensor-7","key":"00…ff","trace_id":null,"time":"2026-01-31T12:00:00.250Z","body":"aGVsbG8="}
//! ```
//!
//! `key` and `trace_id` are 32 hex digits or null, `time` is RFC 3339 in UTC, `body` is base64 (RFC 4648, with padding).
//! A line has no newline within, and no character that a terminal obeys.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Message;
use crate::time::rfc3339;

/// Appends a message's line, newline included.
pub fn write_line(out: &mut Vec<u8>, message: &Message) {
    out.reserve(LEN_WITHOUT_TEXTS + message.topic.len() + message.principal.len() + message.body.len().div_ceil(3) * 4);
    // Writing to memory does not fail.
    let _ = write!(out, "{{\"id\":{},\"topic\":", message.id);
    write_text(out, &message.topic);
    out.extend_from_slice(b",\"principal\":");
    write_text(out, &message.principal);
    out.extend_from_slice(b",\"key\":");
    write_hex(out, message.key.as_ref());
    out.extend_from_slice(b",\"trace_id\":");
    write_hex(out, message.trace.as_ref().map(|trace| &trace.trace_id));
    let _ = write!(out, ",\"time\":\"{}\",\"body\":\"", rfc3339(message.time()));
    write_base64(out, &message.body);
    out.extend_from_slice(b"\"}\n");
}

/// Enough for everything but topic, principal and body.
const LEN_WITHOUT_TEXTS: usize = 224;

/// Appends a string, quotes included.
fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| is_escaped(*c)) {
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| drop(write!(out, "\\u{unit:04x}"))),
        }
        plain = at + c.len_utf8();
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

/// What JSON wants escaped, and what some reader takes for the end of a line or a terminal obeys.
fn is_escaped(c: char) -> bool {
    match c {
        '"' | '\\' => true,
        ' '..='~' => false,
        _ => c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'),
    }
}

fn write_hex(out: &mut Vec<u8>, bytes: Option<&[u8; 16]>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let Some(bytes) = bytes else { return out.extend_from_slice(b"null") };
    let mut text = [b'"'; 34];
    for (pair, byte) in text[1..33].chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    out.extend_from_slice(&text);
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let begin = out.len();
    out.resize(begin + bytes.len().div_ceil(3) * 4, b'=');
    // It fails where there is too little room, and there is exactly enough.
    let written = STANDARD.encode_slice(bytes, &mut out[begin..]).unwrap_or(0);
    out.truncate(begin + written);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::proto::Trace;

    fn message() -> Message {
        Message {
            id: 17,
            time_ms: 1_000_000_000_250,
            topic: "orders/eu".to_owned(),
            principal: "sensor-7".to_owned(),
            key: Some([0xa5; 16]),
            trace: Some(Trace { trace_id: [0x0f; 16], span_id: [1; 8], flags: 1 }),
            session: Some([7; 16]),
            body: b"hello".to_vec(),
        }
    }

    fn line(message: &Message) -> String {
        let mut out = b"before\n".to_vec();
        write_line(&mut out, message);
        String::from_utf8(out).unwrap().strip_prefix("before\n").unwrap().to_owned()
    }

    #[test]
    fn a_message_is_one_line_with_these_fields_and_no_others() {
        let wanted = format!(
            "{{\"id\":17,\"topic\":\"orders/eu\",\"principal\":\"sensor-7\",\"key\":\"{}\",\"trace_id\":\"{}\",\
             \"time\":\"2001-09-09T01:46:40.250Z\",\"body\":\"aGVsbG8=\"}}\n",
            "a5".repeat(16),
            "0f".repeat(16)
        );
        assert_eq!(line(&message()), wanted);
    }

    #[test]
    fn what_a_message_has_not_is_null_and_an_empty_body_is_empty() {
        let bare = Message { key: None, trace: None, body: Vec::new(), id: u64::MAX, ..message() };
        let parsed: Value = serde_json::from_str(&line(&bare)).unwrap();
        let wanted = json!({
            "id": u64::MAX, "topic": "orders/eu", "principal": "sensor-7", "key": null, "trace_id": null,
            "time": "2001-09-09T01:46:40.250Z", "body": "",
        });
        assert_eq!(parsed, wanted);
    }

    #[test]
    fn no_text_ends_a_line_or_a_string_and_every_one_is_read_back() {
        for text in ["a\"b\\c", "grüße/1", "a\u{2028}b\u{85}c\u{7f}", "a\nb\r\u{1b}[2J", "\u{1f600}", "\u{202e}abc", ""]
        {
            let line = line(&Message { topic: text.to_owned(), principal: text.to_owned(), ..message() });
            assert_eq!(line.find(['\n', '\r', '\u{85}', '\u{2028}', '\u{1b}']), Some(line.len() - 1), "{line}");
            let parsed: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&parsed["topic"], &parsed["principal"]), (&json!(text), &json!(text)));
        }
    }

    #[test]
    fn a_body_of_any_length_and_any_bytes_is_read_back() {
        for len in [0, 1, 2, 3, 4, 255, 65_535] {
            let body: Vec<u8> = (0..len).map(|n| (n % 251) as u8 ^ 0xff).collect();
            let parsed: Value = serde_json::from_str(&line(&Message { body: body.clone(), ..message() })).unwrap();
            assert_eq!(STANDARD.decode(parsed["body"].as_str().unwrap()).unwrap(), body);
        }
    }
}
