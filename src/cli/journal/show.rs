//! The journal as text for people.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use tidegate::journal::Message;
use tidegate::journal::repair::{Loss, Report, RouteReport, SegmentReport};

/// Characters of a body that are shown.
const MAX_TEXT: usize = 200;
/// Bytes of a body that are shown as hex.
const MAX_HEX: usize = 32;

/// Appends a message's line: id, time, topic, principal, body.
pub fn line(out: &mut Vec<u8>, message: &Message) {
    let (topic, principal) = (clean(&message.topic), clean(&message.principal));
    let head = format!("{:>8}  {}  {topic:<20}  {principal:<12}  ", message.id, time(message.time_ms));
    out.extend_from_slice(head.as_bytes());
    body(out, &message.body);
    out.push(b'\n');
}

/// Text as it is, as far as it is text; anything else as hex. A body that is cut is followed by its length.
fn body(out: &mut Vec<u8>, body: &[u8]) {
    // Writing to memory does not fail.
    let _ = match std::str::from_utf8(body) {
        Ok("") => write!(out, "(empty)"),
        Ok(text) if text.chars().all(is_shown) => match text.char_indices().nth(MAX_TEXT) {
            Some((end, _)) => write!(out, "{}… ({} bytes)", &text[..end], body.len()),
            None => write!(out, "{text}"),
        },
        _ => {
            let hex: String = body.iter().take(MAX_HEX).map(|byte| format!("{byte:02x}")).collect();
            let more = if body.len() > MAX_HEX { "…" } else { "" };
            write!(out, "0x{hex}{more} ({} bytes)", body.len())
        }
    };
}

/// `ls`.
pub fn listing(report: &Report) -> String {
    let mut rows =
        vec![["segment", "bytes", "used", "messages", "first id", "last id", "from", "to"].map(str::to_owned)];
    rows.extend(report.segments.iter().map(segment));
    if report.segments.len() > 1 {
        let sum = |of: fn(&SegmentReport) -> u64| count(report.segments.iter().map(of).sum());
        let empty = String::new;
        let total = format!("{} in all", report.segments.len());
        rows.push([total, sum(|s| s.len), sum(|s| s.used), sum(|s| s.messages), empty(), empty(), empty(), empty()]);
    }
    let mut text = aligned(&rows, 1..6);
    if !report.routes.is_empty() {
        let mut rows = vec![["route", "done up to id", "unfinished"].map(str::to_owned)];
        rows.extend(report.routes.iter().map(route));
        let _ = write!(text, "\n{}", aligned(&rows, 1..3));
    }
    if report.torn > 0 || !report.is_sound() {
        let _ = write!(text, "\n{}", findings(report));
    }
    text
}

fn segment(segment: &SegmentReport) -> [String; 8] {
    let SegmentReport { file, len, used, messages, first_id, last_id, first_ms, last_ms } = segment;
    let unless_empty = |text: String| if *messages == 0 { "–".to_owned() } else { text };
    [
        file.clone(),
        count(*len),
        count(*used),
        count(*messages),
        unless_empty(first_id.to_string()),
        unless_empty(last_id.to_string()),
        unless_empty(time(*first_ms)),
        unless_empty(time(*last_ms)),
    ]
}

fn route(report: &RouteReport) -> [String; 3] {
    let pattern = clean(report.route.pattern.as_str());
    if report.route.keeps {
        return [pattern, "–".to_owned(), "kept here".to_owned()];
    }
    let beyond = report.progress.beyond.len();
    let more = if beyond > 0 { format!(" and {} above", count(beyond as u64)) } else { String::new() };
    [pattern, format!("{}{more}", report.progress.upto), count(report.unfinished)]
}

/// `verify`.
pub fn verdict(report: &Report) -> String {
    let messages = report.segments.iter().map(|segment| segment.messages).sum();
    let bytes = report.segments.iter().map(|segment| segment.used).sum();
    let (segments, messages) = (counted(report.segments.len() as u64, "segment"), counted(messages, "message"));
    let ids = ids(report).map_or(String::new(), |(first, last)| format!(", ids {first} to {last}"));
    let verdict = if report.is_sound() { "sound" } else { "DAMAGED" };
    format!("{verdict}: {segments}, {messages}{ids}, {} bytes\n{}", count(bytes), findings(report))
}

fn ids(report: &Report) -> Option<(u64, u64)> {
    let with = || report.segments.iter().filter(|segment| segment.messages > 0);
    Some((with().map(|segment| segment.first_id).min()?, with().map(|segment| segment.last_id).max()?))
}

fn findings(report: &Report) -> String {
    let mut text = String::new();
    if report.torn > 0 {
        let torn = counted(report.torn, "byte");
        let _ = writeln!(text, "the end has {torn} of an unfinished record, never acknowledged: a start cuts it");
    }
    text.extend(report.losses.iter().map(|loss| lost(loss, "may be missing")));
    if !report.is_sound() {
        text += "`tidegate journal repair` keeps every valid record and puts the damaged files aside\n";
    }
    text
}

fn lost(loss: &Loss, missing: &str) -> String {
    let bytes = counted(loss.bytes, "byte");
    let ids = match loss.ids {
        Some((first, last)) if first == last => format!("message {first} {missing}"),
        Some((first, last)) => format!("messages from {first} to {last} {missing}"),
        None => "no message is missing".to_owned(),
    };
    format!("{}; {bytes} without a valid record; {ids}\n", clean(&loss.damage.to_string()))
}

/// `repair`.
pub fn repaired(report: &Report) -> String {
    let mut text = String::new();
    text.extend(report.losses.iter().map(|loss| lost(loss, "are lost, as far as they were there")));
    text.extend(report.aside.iter().map(|file| format!("put aside: {}\n", clean(file))));
    let messages = counted(report.segments.iter().map(|segment| segment.messages).sum(), "message");
    let segments = counted(report.segments.len() as u64, "segment");
    if report.is_sound() && report.aside.is_empty() {
        return format!("nothing to repair: {messages} in {segments}\n");
    }
    text + &format!("kept: {messages} in {segments}; the server can be started\n")
}

/// Columns, each as wide as it has to be; those in `numbers` to the right.
fn aligned<const N: usize>(rows: &[[String; N]], numbers: std::ops::Range<usize>) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).enumerate().map(|(at, (cell, width))| {
            if numbers.contains(&at) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn time(ms: u64) -> String {
    // What is later than any calendar is shown as the last day of this one.
    let ms = ms.min(253_402_300_799_999);
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

/// `1,234,567`.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// What a terminal would obey, or nobody would see, is replaced.
fn clean(text: &str) -> String {
    text.chars().map(|c| if is_shown(c) { c } else { '\u{fffd}' }).collect()
}

fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
