//! JSON lines, for machines: `{"timestamp":…,"level":…,"target":…,"message":…,"service_id":…,…}`.

use std::io;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

use super::fields::{Fields, Value, is_unsafe, message};

/// Appends a line, newline included.
pub(super) fn write(out: &mut Vec<u8>, timestamp: &str, service_id: &str, record: &log::Record<'_>) {
    let begin = out.len();
    let fields = Fields::of(record);
    if serialize(&mut *out, timestamp, service_id, record, &fields).is_err() {
        // Writing to memory does not fail, nor do keys that are strings; but half a line must not be.
        out.truncate(begin);
        out.extend_from_slice(br#"{"level":"ERROR","message":"a log line could not be written"}"#);
    }
    out.push(b'\n');
}

fn serialize(
    out: &mut Vec<u8>,
    timestamp: &str,
    service_id: &str,
    record: &log::Record<'_>,
    fields: &Fields,
) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Plain);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", timestamp)?;
    map.serialize_entry("level", record.level().as_str())?;
    map.serialize_entry("target", record.target())?;
    map.serialize_entry("message", &message(*record.args()))?;
    map.serialize_entry("service_id", service_id)?;
    for (key, value) in fields.iter() {
        map.serialize_entry(key, value)?;
    }
    map.end()
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Unsigned(value) => serializer.serialize_u64(*value),
            Value::Signed(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// Compact, and with every character escaped that a terminal obeys or that some reader takes for the end
/// of a line (U+0085, U+2028): JSON asks for that only below U+0020 (RFC 8259, section 7).
struct Plain;

impl Formatter for Plain {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut plain = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| is_unsafe(*c)) {
            writer.write_all(&fragment.as_bytes()[plain..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain = at + c.len_utf8();
        }
        CompactFormatter.write_string_fragment(writer, &fragment[plain..])
    }
}
