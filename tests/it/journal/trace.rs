//! What strace(1) saw of a server: its system calls, and whether each reply came after its sync.

use std::collections::{BTreeMap, HashMap};

/// What strace is asked for, before `-o FILE` and the program.
pub const STRACE: &[&str] = &[
    // The program stays the process that was started, and strace is not its parent.
    "-D",
    "-f",
    "-tt",
    "-y",
    "-xx",
    "-s",
    "8388608",
    "-e",
    "trace=fsync,fdatasync,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2",
];

/// Marks the body of a message that is looked for: this, and eight characters of its own.
pub const MARK: &[u8] = b"message-";
const MARK_LEN: usize = MARK.len() + 8;

/// One call. Places are lines of the trace: strace writes them in the order in which it let the threads go on.
#[derive(Clone, Debug)]
pub struct Syscall {
    name: String,
    /// What its descriptor is open on.
    on: String,
    data: Vec<u8>,
    result: Option<i64>,
    entered: usize,
    left: usize,
}

/// Reads a trace.
pub fn parse(trace: &str) -> Vec<Syscall> {
    let mut calls: Vec<Syscall> = Vec::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for (at, line) in trace.lines().enumerate() {
        // `PID TIME CALL`; short process ids are followed by more spaces.
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((_time, call)) = rest.trim_start().split_once(' ') else { continue };
        if call.starts_with("<... ") {
            if let Some(index) = unfinished.remove(thread) {
                calls[index].result = result(call);
                calls[index].left = at;
            }
            continue;
        }
        let Some((name, arguments)) = call.split_once('(') else { continue };
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let on = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(on, _)| on);
        let on = String::from_utf8_lossy(&unhex(on)).into_owned();
        let data = arguments.split('"').skip(1).step_by(2).flat_map(unhex).collect();
        let done = !call.ends_with("<unfinished ...>");
        let (result, left) = if done { (result(call), at) } else { (None, usize::MAX) };
        if !done {
            unfinished.insert(thread, calls.len());
        }
        calls.push(Syscall { name: name.to_owned(), on, data, result, entered: at, left });
    }
    calls
}

/// Checks that each reply to SUBMIT left after a sync that began after the message was written. `stored`: the
/// messages' marks and the ids that clients were told. How many replies were checked.
///
/// # Errors
/// Which reply did not wait for what.
pub fn check(calls: &[Syscall], stored: &BTreeMap<u64, Vec<u8>>) -> Result<usize, String> {
    let (writes, replies) = (writes(calls), replies(calls));
    let synced = |call: &Syscall| matches!(call.name.as_str(), "fdatasync" | "fsync") && call.result == Some(0);
    for (id, left) in &replies {
        let mark = stored.get(id).ok_or_else(|| format!("a reply with the id {id}, which no client was told"))?;
        let write = writes.get(mark).ok_or_else(|| format!("message {id} was answered and never written"))?;
        let waited = calls.iter().any(|c| synced(c) && c.on == write.on && write.left < c.entered && c.left < *left);
        if !waited {
            let at = (write.entered + 1, write.left + 1, left + 1);
            return Err(format!(
                "the reply to message {id} left at line {} of the trace, and no sync stands between it and the write at lines {} to {}",
                at.2, at.0, at.1
            ));
        }
    }
    match stored.keys().find(|id| !replies.iter().any(|(replied, _)| replied == *id)) {
        Some(id) => Err(format!("the reply to message {id} is not in the trace")),
        None => Ok(replies.len()),
    }
}

/// The calls that belong to one message: its write, the next sync, and its reply. Lines of the trace.
pub fn excerpt(trace: &str, calls: &[Syscall], id: u64, mark: &[u8]) -> String {
    let Some(from) = writes(calls).get(mark).map(|write| write.entered) else { return String::new() };
    let Some(to) = replies(calls).iter().find(|(replied, _)| *replied == id).map(|(_, left)| *left) else {
        return String::new();
    };
    let short = |line: &str| -> String {
        let mut text = String::new();
        for (n, part) in line.split('"').enumerate() {
            match n % 2 {
                0 => text += &plain(part),
                _ => text += &format!("\"…{} bytes…\"", unhex(part).len()),
            }
        }
        text
    };
    trace.lines().skip(from).take(to + 1 - from).map(short).collect::<Vec<_>>().join("\n")
}

/// A part of a line with its descriptor's name as text.
fn plain(part: &str) -> String {
    match part.split_once('<').and_then(|(before, rest)| Some((before, rest.split_once('>')?))) {
        Some((before, (on, rest))) if on.starts_with("\\x") => {
            format!("{before}<{}>{rest}", String::from_utf8_lossy(&unhex(on)))
        }
        _ => part.to_owned(),
    }
}

/// The first write of each marked message into the journal.
fn writes(calls: &[Syscall]) -> HashMap<Vec<u8>, &Syscall> {
    let mut writes = HashMap::new();
    for call in calls.iter().filter(|call| call.on.contains("/journal/")) {
        let mut data = &call.data[..];
        while let Some(at) = find(data, MARK) {
            if let Some(mark) = data.get(at..at + MARK_LEN) {
                writes.entry(mark.to_vec()).or_insert(call);
            }
            data = &data[at + MARK.len()..];
        }
    }
    writes
}

/// Every reply to SUBMIT: the message's id, and where the write began with which its first byte left.
fn replies(calls: &[Syscall]) -> Vec<(u64, usize)> {
    let mut streams: BTreeMap<&str, Vec<(u8, usize)>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.on.starts_with("socket:")) {
        let sent = usize::try_from(call.result.unwrap_or(0)).unwrap_or(0).min(call.data.len());
        let bytes = call.data[..sent].iter().map(|byte| (*byte, call.entered));
        streams.entry(&call.on).or_default().extend(bytes);
    }
    let mut replies = Vec::new();
    for stream in streams.values() {
        let mut rest = &stream[..];
        // The admin port's sockets speak HTTP.
        while let [(b'M', left), _, high, low, _, _, _, _, (cmd, _), ..] = rest {
            let length = usize::from(high.0) << 8 | usize::from(low.0);
            let body: Vec<u8> = rest.iter().skip(9).take(length).map(|(byte, _)| *byte).collect();
            // In version 2 the extensions stand before the payload.
            let from = if rest[1].0 == 2 { 1 + usize::from(body.first().copied().unwrap_or(0)) } else { 0 };
            if let (0x14, Some([id @ .., _flags])) = (*cmd, body.get(from..from + 9)) {
                replies.push((id.iter().fold(0, |id, byte| id << 8 | u64::from(*byte)), *left));
            }
            rest = rest.get(9 + length..).unwrap_or_default();
        }
    }
    replies
}

fn find(data: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    loop {
        from += data.get(from..)?.iter().position(|byte| *byte == first)?;
        if data[from..].starts_with(wanted) {
            return Some(from);
        }
        from += 1;
    }
}

fn result(call: &str) -> Option<i64> {
    let (_, result) = call.rsplit_once(") ")?;
    result.trim_start().strip_prefix("= ")?.split_whitespace().next()?.parse().ok()
}

/// Bytes written as `\x4d\x01`.
fn unhex(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).filter_map(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok()).collect()
}
