//! A record's message and key-values, each within its bound.

use std::fmt::{self, Write};

use log::kv::{self, Key, VisitSource, VisitValue};

use crate::limits::{MAX_LOG_FIELD_BYTES, MAX_LOG_FIELDS, MAX_LOG_MESSAGE_BYTES};

/// What a key-value holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
}

/// The key-values of a line: those that have a place of their own first, then the others as they were given.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, Value)>);

/// Keys whose place is fixed, in their order.
const PLACES: [&str; 7] = ["worker", "trace_id", "span_id", "connection", "session", "principal", "peer"];
/// Keys that every line has by itself: one of a record's own that is called so is shown with a `_` before it.
const RESERVED: [&str; 5] = ["timestamp", "level", "target", "message", "service_id"];

impl Fields {
    /// The key-values of a record. Without a `worker` among them it is the one whose thread this is.
    ///
    /// Of a key that is there twice the first counts; past [`MAX_LOG_FIELDS`] the rest is left out and counted.
    pub fn of(record: &log::Record<'_>) -> Fields {
        let mut collector = Collector { fields: Vec::new(), left_out: 0 };
        // An error comes from a source of somebody else's: what came before it is kept.
        let _ = record.key_values().visit(&mut collector);
        let Collector { mut fields, left_out } = collector;
        if !fields.iter().any(|(key, _)| key == "worker")
            && let Some(worker) = own_worker()
        {
            fields.push(("worker".to_owned(), Value::Unsigned(worker)));
        }
        if left_out > 0 {
            fields.push(("fields_left_out".to_owned(), Value::Unsigned(left_out)));
        }
        // Stable: the others keep their order.
        fields.sort_by_key(|(key, _)| PLACES.iter().position(|place| place == key).unwrap_or(PLACES.len()));
        Fields(fields)
    }

    /// Each key with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Takes one out.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(have, _)| have == key)?;
        Some(self.0.remove(at).1)
    }
}

/// A record's message.
pub(super) fn message(args: fmt::Arguments<'_>) -> String {
    bounded(MAX_LOG_MESSAGE_BYTES, args)
}

/// What `text` displays, at most `limit` bytes of it; what is cut off is told by its size.
pub(super) fn bounded(limit: usize, text: impl fmt::Display) -> String {
    let mut writer = Bounded { text: String::new(), limit, cut: 0 };
    let whole = write!(writer, "{text}").is_ok();
    let Bounded { mut text, cut, .. } = writer;
    if cut > 0 {
        let _ = write!(text, "… ({cut} more bytes)");
    }
    if !whole {
        text.push_str(" (and then its formatting failed)");
    }
    text
}

/// Keeps the first `limit` bytes of what is written to it, and counts the others.
struct Bounded {
    text: String,
    limit: usize,
    cut: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Once something is cut off nothing behind it is kept, however short.
        let room = if self.cut > 0 { 0 } else { self.limit - self.text.len() };
        let end = text.floor_char_boundary(room);
        self.text.push_str(&text[..end]);
        self.cut += text.len() - end;
        Ok(())
    }
}

struct Collector {
    fields: Vec<(String, Value)>,
    left_out: u64,
}

impl<'kvs> VisitSource<'kvs> for Collector {
    fn visit_pair(&mut self, key: Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        if self.fields.len() >= MAX_LOG_FIELDS {
            self.left_out += 1;
            return Ok(());
        }
        let mut name = bounded(MAX_KEY_BYTES, key.as_str());
        if name.is_empty() || RESERVED.contains(&name.as_str()) {
            name.insert(0, '_');
        }
        if self.fields.iter().any(|(have, _)| *have == name) {
            return Ok(());
        }
        let mut taken = Taken(None);
        value.visit(&mut taken)?;
        // `None` is nothing: a peer that is gone, a request without a trace.
        self.fields.extend(taken.0.map(|value| (name, value)));
        Ok(())
    }
}

/// Bytes of a key.
const MAX_KEY_BYTES: usize = 64;

struct Taken(Option<Value>);

impl Taken {
    fn text(&mut self, text: impl fmt::Display) -> Result<(), kv::Error> {
        self.0 = Some(Value::Text(bounded(MAX_LOG_FIELD_BYTES, text)));
        Ok(())
    }

    fn value(&mut self, value: Value) -> Result<(), kv::Error> {
        self.0 = Some(value);
        Ok(())
    }
}

impl<'v> VisitValue<'v> for Taken {
    fn visit_any(&mut self, value: kv::Value<'_>) -> Result<(), kv::Error> {
        self.text(value)
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        self.0 = None;
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.value(Value::Unsigned(value))
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.value(Value::Signed(value))
    }

    // Wider than any reader of JSON takes for a whole number.
    fn visit_u128(&mut self, value: u128) -> Result<(), kv::Error> {
        if let Ok(value) = u64::try_from(value) { self.visit_u64(value) } else { self.text(value) }
    }

    fn visit_i128(&mut self, value: i128) -> Result<(), kv::Error> {
        if let Ok(value) = i64::try_from(value) { self.visit_i64(value) } else { self.text(value) }
    }

    // JSON has no infinity and no NaN.
    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        if value.is_finite() { self.value(Value::Float(value)) } else { self.text(value) }
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.value(Value::Bool(value))
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        self.text(value)
    }
}

/// The worker whose thread this is: they are named `worker-0` and so on.
fn own_worker() -> Option<u64> {
    std::thread::current().name()?.strip_prefix("worker-")?.parse().ok()
}

/// Characters that a terminal obeys or a reader does not see: control characters, the other ends of a
/// line, and those that turn the direction of text or take up no room.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
