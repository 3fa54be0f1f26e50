//! A record: what it looks like in a segment. Numbers are big-endian.
//!
//! | at | bytes | what |
//! |---:|---:|---|
//! | 0 | 4 | CRC32C over the journal's identity, the segment's number, and all that follows in the record |
//! | 4 | 4 | length of the record, these eight bytes included |
//! | 8 | 8 | id; of a record that is no message, that of the next message |
//! | 16 | 8 | batch: the number of the commit that it was part of; none has it twice |
//! | 24 | 8 | time: milliseconds since 1970 |
//! | 32 | 4 | synced: all before this byte of the segment was on the disk when the record was written |
//! | 36 | 1 | kind: 1 message, 2 mark, 3 progress, 4 table, 5 lost |
//! | 37 | 1 | flags: 1 has a key, 2 has a trace, 4 has a session |
//! | 38 | 1 | length of the topic; of progress, that of the route's pattern |
//! | 39 | 2 | length of the principal |
//! | 41 | 16, 25, 16 | key, trace (id, span, flags), session: each only if the flags say so |
//! | | | topic, principal, and to the end of the record the body |
//!
//! A **mark** has no body: its `synced` is its own offset, which says that what is before it was acknowledged.
//!
//! **Progress** of one route has in its body `upto` (8), how many ids follow (4), and these ids (8 each).
//!
//! A **table** is the first record of each segment: all routes and how far they are, so that no older segment is
//! needed for that. Its body has for each route: flags (1; bit 0: keeps), the length of the pattern (1), the pattern, and
//! the same as the body of progress.
//!
//! **Lost** stands where a repair found no valid record: it is as long as what it replaces, and its body is zeros.

use crate::journal::options::{LogRoute, Progress};
use crate::journal::{Draft, Message, TopicPattern};
use crate::proto::{MAX_BODY, Trace};

/// Bytes of a record's fixed part, and of a mark.
pub(super) const HEAD: usize = 41;

/// No record is longer. Bytes.
pub(super) const MAX_RECORD: usize = 256 * 1024;

/// Longest principal. Bytes: four for each character of a name.
const MAX_PRINCIPAL: usize = 4 * crate::limits::MAX_NAME_CHARS;

/// No message's record is longer. Bytes.
pub(super) const MAX_MESSAGE: usize = HEAD + 57 + 255 + MAX_PRINCIPAL + MAX_BODY;

const _: () = assert!(MAX_MESSAGE < MAX_RECORD);
const _: () = assert!((MAX_RECORD + MAX_MESSAGE) as u64 + 4096 < crate::limits::MIN_SEGMENT_BYTES / 2);

/// Bytes of a table that ids beyond the routes' `upto` may take; the patterns take less than the rest.
const TABLE_IDS: usize = MAX_RECORD - HEAD - crate::limits::MAX_SINK_ROUTES * (2 + 255 + 12);

const KEY: u8 = 1;
const TRACE: u8 = 2;
const SESSION: u8 = 4;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Message = 1,
    Mark = 2,
    Progress = 3,
    Table = 4,
    Lost = 5,
}

/// What the records of one write have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// The segment's: [`super::segment::seed`].
    pub seed: u32,
    pub batch: u64,
    pub synced: u32,
}

/// Bytes of a message's record; `None`: it is longer than any may be.
pub(super) fn message_len(draft: &Draft<'_>) -> Option<usize> {
    let fits = (1..=255).contains(&draft.topic.len())
        && draft.principal.len() <= MAX_PRINCIPAL
        && draft.body.len() <= MAX_BODY;
    let options =
        draft.key.map_or(0, |k| k.len()) + draft.trace.map_or(0, |_| Trace::LEN) + draft.session.map_or(0, |s| s.len());
    fits.then(|| HEAD + options + draft.topic.len() + draft.principal.len() + draft.body.len())
}

/// Appends a message, of which [`message_len`] gave the length.
pub(super) fn put_message(out: &mut Vec<u8>, stamp: Stamp, id: u64, time_ms: u64, draft: &Draft<'_>) {
    let flags = (u8::from(draft.key.is_some()) * KEY)
        | (u8::from(draft.trace.is_some()) * TRACE)
        | (u8::from(draft.session.is_some()) * SESSION);
    let start = begin(out, stamp, Kind::Message, id, time_ms);
    out.extend_from_slice(&[flags, draft.topic.len() as u8]);
    out.extend_from_slice(&(draft.principal.len() as u16).to_be_bytes());
    out.extend_from_slice(draft.key.as_ref().map_or(&[][..], |k| k));
    out.extend_from_slice(draft.trace.map(Trace::to_bytes).as_ref().map_or(&[][..], |t| t));
    out.extend_from_slice(draft.session.as_ref().map_or(&[][..], |s| s));
    out.extend_from_slice(draft.topic.as_bytes());
    out.extend_from_slice(draft.principal.as_bytes());
    out.extend_from_slice(draft.body);
    end(out, start, stamp.seed);
}

/// Appends a mark.
pub(super) fn put_mark(out: &mut Vec<u8>, stamp: Stamp, next_id: u64, time_ms: u64) {
    let start = begin(out, stamp, Kind::Mark, next_id, time_ms);
    out.extend_from_slice(&[0; 4]);
    end(out, start, stamp.seed);
}

/// Appends the progress of one of `routes` routes.
pub(super) fn put_progress(
    out: &mut Vec<u8>,
    stamp: Stamp,
    next_id: u64,
    (pattern, routes): (&TopicPattern, usize),
    progress: &Progress,
) {
    let start = begin(out, stamp, Kind::Progress, next_id, 0);
    out.extend_from_slice(&[0, pattern.as_str().len() as u8, 0, 0]);
    out.extend_from_slice(pattern.as_str().as_bytes());
    put_ids(out, progress, routes);
    end(out, start, stamp.seed);
}

/// Appends the table of all routes.
pub(super) fn put_table<'a>(
    out: &mut Vec<u8>,
    stamp: Stamp,
    next_id: u64,
    routes: impl ExactSizeIterator<Item = (&'a LogRoute, &'a Progress)>,
) {
    let start = begin(out, stamp, Kind::Table, next_id, 0);
    out.extend_from_slice(&[0; 4]);
    let count = routes.len();
    for (route, progress) in routes {
        let pattern = route.pattern.as_str();
        out.extend_from_slice(&[route.keeps.into(), pattern.len() as u8]);
        out.extend_from_slice(pattern.as_bytes());
        put_ids(out, progress, count);
    }
    end(out, start, stamp.seed);
}

/// Appends records that say of so many bytes, at least [`HEAD`], that they are lost.
pub(super) fn put_lost(out: &mut Vec<u8>, stamp: Stamp, id: u64, bytes: usize) {
    let mut left = bytes;
    while left >= HEAD {
        // What is left over has to be long enough for another.
        let len = if left <= MAX_RECORD { left } else { (MAX_RECORD / 2).min(left - HEAD) };
        let start = begin(out, stamp, Kind::Lost, id, 0);
        out.resize(start + len, 0);
        end(out, start, stamp.seed);
        left -= len;
    }
}

/// The most that a record of progress takes, with this many ids. Bytes.
pub(super) fn progress_len(pattern: &TopicPattern, routes: usize, progress: &Progress) -> usize {
    HEAD + pattern.as_str().len() + 12 + 8 * progress.beyond.len().min(most_ids(routes))
}

fn most_ids(routes: usize) -> usize {
    TABLE_IDS / 8 / routes.max(1)
}

fn put_ids(out: &mut Vec<u8>, progress: &Progress, routes: usize) {
    let ids = progress.beyond.len().min(most_ids(routes));
    out.extend_from_slice(&progress.upto.to_be_bytes());
    out.extend_from_slice(&(ids as u32).to_be_bytes());
    progress.beyond.iter().take(ids).for_each(|id| out.extend_from_slice(&id.to_be_bytes()));
}

fn begin(out: &mut Vec<u8>, stamp: Stamp, kind: Kind, id: u64, time_ms: u64) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&stamp.batch.to_be_bytes());
    out.extend_from_slice(&time_ms.to_be_bytes());
    out.extend_from_slice(&stamp.synced.to_be_bytes());
    out.push(kind as u8);
    start
}

fn end(out: &mut [u8], start: usize, seed: u32) {
    let record = &mut out[start..];
    let len = record.len() as u32;
    record[4..8].copy_from_slice(&len.to_be_bytes());
    let crc = crc32c::crc32c_append(seed, &record[4..]);
    record[..4].copy_from_slice(&crc.to_be_bytes());
}

/// What stands at one place of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parsed<'a> {
    /// A whole record.
    Record(View<'a>),
    /// So many bytes are needed to tell.
    Needs(usize),
    /// No record, and why not.
    Invalid(&'static str),
}

/// A valid record, where it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub kind: Kind,
    pub id: u64,
    pub batch: u64,
    pub time_ms: u64,
    pub synced: u32,
    /// All of it.
    pub bytes: &'a [u8],
    flags: u8,
    topic: (usize, usize),
    principal_end: usize,
}

impl<'a> View<'a> {
    /// Looks at the beginning of `bytes`. `plausible` may refuse it before its checksum is computed.
    pub fn parse(bytes: &'a [u8], seed: u32, plausible: impl FnOnce(&View<'a>) -> bool) -> Parsed<'a> {
        let (view, len) = match View::head(bytes) {
            Ok(head) => head,
            Err(other) => return other,
        };
        if !plausible(&view) {
            return Parsed::Invalid("it is out of order");
        }
        let Some(bytes) = bytes.get(..len) else { return Parsed::Needs(len) };
        if crc32c::crc32c_append(seed, &bytes[4..]) != be32(bytes, 0) {
            return Parsed::Invalid("its checksum is wrong");
        }
        Parsed::Record(View { bytes, ..view })
    }

    /// What the fixed part says, with the record's length. Until that many bytes are there and their checksum is right,
    /// only numbers may be asked of it.
    pub fn head(bytes: &'a [u8]) -> Result<(View<'a>, usize), Parsed<'a>> {
        let Some(head) = bytes.first_chunk::<HEAD>() else { return Err(Parsed::Needs(HEAD)) };
        let len = be32(head, 4) as usize;
        if !(HEAD..=MAX_RECORD).contains(&len) {
            return Err(Parsed::Invalid("its length is none"));
        }
        let kind = match head[36] {
            1 => Kind::Message,
            2 => Kind::Mark,
            3 => Kind::Progress,
            4 => Kind::Table,
            5 => Kind::Lost,
            _ => return Err(Parsed::Invalid("its kind is none")),
        };
        let flags = head[37];
        let options = [(KEY, 16), (TRACE, Trace::LEN), (SESSION, 16)];
        let topic = HEAD + options.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, len)| len).sum::<usize>();
        let topic = (topic, topic + usize::from(head[38]));
        let principal_end = topic.1 + usize::from(u16::from_be_bytes([head[39], head[40]]));
        if flags > KEY | TRACE | SESSION || principal_end > len {
            return Err(Parsed::Invalid("its parts are longer than it is"));
        }
        let (id, batch, time_ms) = (be64(head, 8), be64(head, 16), be64(head, 24));
        let synced = be32(head, 32);
        Ok((View { kind, id, batch, time_ms, synced, bytes, flags, topic, principal_end }, len))
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The topic, or the pattern. What is no text was never written.
    pub fn topic(&self) -> &'a str {
        std::str::from_utf8(&self.bytes[self.topic.0..self.topic.1]).unwrap_or_default()
    }

    pub fn principal(&self) -> &'a str {
        std::str::from_utf8(&self.bytes[self.topic.1..self.principal_end]).unwrap_or_default()
    }

    pub fn body(&self) -> &'a [u8] {
        &self.bytes[self.principal_end..]
    }

    pub fn key(&self) -> Option<[u8; 16]> {
        self.option(KEY)
    }

    pub fn trace(&self) -> Option<Trace> {
        let bytes = self.option::<{ Trace::LEN }>(TRACE)?;
        let (trace_id, rest) = bytes.split_first_chunk()?;
        let (span_id, flags) = rest.split_first_chunk()?;
        Some(Trace { trace_id: *trace_id, span_id: *span_id, flags: *flags.first()? })
    }

    pub fn session(&self) -> Option<[u8; 16]> {
        self.option(SESSION)
    }

    fn option<const N: usize>(&self, bit: u8) -> Option<[u8; N]> {
        if self.flags & bit == 0 {
            return None;
        }
        let before = [(KEY, 16), (TRACE, Trace::LEN)].iter().filter(|(b, _)| *b < bit && self.flags & b != 0);
        let at = HEAD + before.map(|(_, len)| len).sum::<usize>();
        self.bytes.get(at..)?.first_chunk().copied()
    }

    /// The message in it, copied.
    pub fn message(&self) -> Message {
        Message {
            id: self.id,
            time_ms: self.time_ms,
            topic: self.topic().to_owned(),
            principal: self.principal().to_owned(),
            key: self.key(),
            trace: self.trace(),
            session: self.session(),
            body: self.body().to_owned(),
        }
    }

    /// The progress in it, and whose; `None`: it has another form.
    pub fn progress(&self) -> Option<(&'a str, Progress)> {
        let (progress, rest) = get_ids(self.body())?;
        rest.is_empty().then_some((self.topic(), progress))
    }

    /// The routes in it; `None`: it has another form.
    pub fn table(&self) -> Option<Vec<(LogRoute, Progress)>> {
        let mut rest = self.body();
        let mut routes = Vec::new();
        while let [keeps, len, tail @ ..] = rest {
            let (pattern, tail) = tail.split_at_checked(usize::from(*len))?;
            let pattern = TopicPattern::parse(std::str::from_utf8(pattern).ok()?).ok()?;
            let (progress, tail) = get_ids(tail)?;
            routes.push((LogRoute { pattern, keeps: keeps & 1 != 0 }, progress));
            rest = tail;
        }
        rest.is_empty().then_some(routes)
    }

    /// Whether a segment may begin with it.
    pub fn begins(&self) -> bool {
        matches!(self.kind, Kind::Table | Kind::Lost)
    }
}

fn get_ids(bytes: &[u8]) -> Option<(Progress, &[u8])> {
    let (upto, rest) = bytes.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let ids = (u32::from_be_bytes(*count) as usize).checked_mul(8)?;
    let (ids, rest) = rest.split_at_checked(ids)?;
    let beyond = ids.chunks_exact(8).map(|id| be64(id, 0)).collect();
    Some((Progress { upto: u64::from_be_bytes(*upto), beyond }, rest))
}

/// The number at `at`; 0 where `bytes` ends before it.
pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_be_bytes(*b))
}

/// The number at `at`; 0 where `bytes` ends before it.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b))
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
