//! Text lines, for people: time, level, target, message, and key-values at the end.

use std::fmt::Write;

use log::Level;

use super::fields::{Fields, Value, is_unsafe, message};

/// Appends a line, newline included. With `color` for a terminal.
pub(super) fn write(out: &mut String, timestamp: &str, color: bool, record: &log::Record<'_>) {
    let paint = Paint(color);
    let mut fields = Fields::of(record);
    let backtrace = fields.take(BACKTRACE);
    let (level, begin) = (record.level(), out.len());
    paint.with(out, DIM, |out| out.push_str(timestamp));
    out.push(' ');
    paint.with(out, hue(level), |out| push(out, format_args!("{level:>5}")));
    out.push(' ');
    paint.with(out, DIM, |out| {
        escape(out, record.target());
        out.push(':');
    });
    out.push(' ');
    escape(out, &message(*record.args()));
    for (key, value) in fields.iter() {
        out.push(' ');
        paint.with(out, DIM, |out| {
            out.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() || "_-.:".contains(c) { c } else { '_' }));
            out.push('=');
        });
        push_value(out, value);
    }
    // The one value of several lines. Each is set in, so that none looks like a log line of its own.
    if let Some(Value::Text(backtrace)) = backtrace {
        for line in backtrace.lines() {
            out.push_str("\n    ");
            escape(out, line);
        }
    }
    debug_assert!(out.len() > begin, "there is always a time");
    out.push('\n');
}

/// The key of a panic's backtrace.
pub(super) const BACKTRACE: &str = "backtrace";

fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::Unsigned(value) => push(out, format_args!("{value}")),
        Value::Signed(value) => push(out, format_args!("{value}")),
        Value::Float(value) => push(out, format_args!("{value}")),
        Value::Bool(value) => push(out, format_args!("{value}")),
        Value::Text(text) => push_text(out, text),
    }
}

/// As it is if it can't be misread, else in quotes.
fn push_text(out: &mut String, text: &str) {
    let odd = |c: char| c.is_whitespace() || matches!(c, '"' | '\\' | '=') || is_unsafe(c);
    if !text.is_empty() && !text.contains(odd) {
        return out.push_str(text);
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        push_char(out, c);
    }
    out.push('"');
}

fn escape(out: &mut String, text: &str) {
    text.chars().for_each(|c| push_char(out, c));
}

fn push_char(out: &mut String, c: char) {
    if is_unsafe(c) { out.extend(c.escape_default()) } else { out.push(c) }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = out.write_fmt(text);
}

/// Select Graphic Rendition (ECMA-48, 8.3.117).
const DIM: &str = "2";

fn hue(level: Level) -> &'static str {
    match level {
        Level::Error => "1;31",
        Level::Warn => "33",
        Level::Info => "32",
        Level::Debug => "34",
        Level::Trace => "36",
    }
}

struct Paint(bool);

impl Paint {
    fn with(&self, out: &mut String, style: &str, write: impl FnOnce(&mut String)) {
        if self.0 {
            push(out, format_args!("\x1b[{style}m"));
        }
        write(out);
        if self.0 {
            out.push_str("\x1b[0m");
        }
    }
}
