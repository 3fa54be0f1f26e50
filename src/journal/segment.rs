//! A segment: a file of the log, and what it looks like. Numbers are big-endian.
//!
//! A segment's file is named for its number, `0000000000000001.log` and up: no number is used twice. Its room is
//! taken from the disk when it is made, so that it ends in zeros until it is full.
//!
//! | at | bytes | what |
//! |---:|---:|---|
//! | 0 | 64 | the header |
//! | 2048 | 64 | the header again: without it no record of the segment can be told from others |
//! | 4096 | | records, one after the other: see `record`; the first is a table |
//!
//! | at | bytes | what in the header |
//! |---:|---:|---|
//! | 0 | 8 | `TIDELOG\n` |
//! | 8 | 4 | version of the format: 1 |
//! | 12 | 16 | the journal's identity: random, the same in all its segments |
//! | 28 | 8 | the segment's number |
//! | 36 | 8 | no message before it has this id or a higher one, and none in it a lower one |
//! | 44 | 8 | number of the segment before it; 0: there was none |
//! | 52 | 4 | where the records of that one end |
//! | 56 | 4 | reserved, 0 |
//! | 60 | 4 | CRC32C over the 60 bytes before |
//!
//! # What follows from the order of writes
//! - The header is on the disk before anything else of a segment is written, and a segment's name is before the last
//!   records of the one before it are. So only the last segment with records may end where it should not.
//! - A write goes out only after the sync of the one before it has returned. Each record says up to where all was
//!   synced when it was written: a record found behind a broken one tells whether that one had been on
//!   the disk, and is damaged, or had not, and is torn.

use std::io;

use super::record::{HEAD, MAX_RECORD, Parsed, View, be32, be64};
use super::storage::File;

/// Where records begin. Bytes.
pub(super) const DATA_START: u32 = 4096;

/// Where the header stands a second time. Bytes.
const COPY: usize = 2048;

const HEADER: usize = 64;
const MAGIC: &[u8; 8] = b"TIDELOG\n";
const VERSION: u32 = 1;

/// The file of a segment.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:016}.log")
}

/// The segment of a file; `None`: it is none.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (number > 0 && file_name(number) == name).then_some(number)
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub identity: [u8; 16],
    pub number: u64,
    pub first_id: u64,
    pub previous: u64,
    pub previous_end: u32,
}

/// What a segment's first page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Header and copy are there.
    Whole(Header),
    /// One of them is; the offset of the other.
    Half(Header, u64),
    /// Neither is.
    None,
    /// It is of a format of this version, which is not known here.
    Version(u32),
}

impl Page {
    /// The header, if one is whole.
    pub fn header(&self) -> Option<Header> {
        match self {
            Page::Whole(header) | Page::Half(header, _) => Some(*header),
            Page::None | Page::Version(_) => None,
        }
    }
}

impl Header {
    /// The segment's first page.
    pub fn page(&self) -> Vec<u8> {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_be_bytes());
        header[12..28].copy_from_slice(&self.identity);
        header[28..36].copy_from_slice(&self.number.to_be_bytes());
        header[36..44].copy_from_slice(&self.first_id.to_be_bytes());
        header[44..52].copy_from_slice(&self.previous.to_be_bytes());
        header[52..56].copy_from_slice(&self.previous_end.to_be_bytes());
        let crc = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&crc.to_be_bytes());
        let mut page = vec![0; DATA_START as usize];
        page[..HEADER].copy_from_slice(&header);
        page[COPY..COPY + HEADER].copy_from_slice(&header);
        page
    }

    /// Reads the first page of the segment with this number.
    ///
    /// # Errors
    /// The system refuses.
    pub fn read(file: &impl File, number: u64) -> io::Result<Page> {
        let mut page = [0; COPY + HEADER];
        file.read_at(&mut page, 0)?;
        let (first, copy) = (Header::decode(&page, number), Header::decode(&page[COPY..], number));
        Ok(match (first, copy) {
            (Ok(first), Ok(copy)) if first == copy => Page::Whole(first),
            (Ok(first), _) => Page::Half(first, COPY as u64),
            (_, Ok(copy)) => Page::Half(copy, 0),
            (Err(Some(version)), _) | (_, Err(Some(version))) => Page::Version(version),
            (Err(None), Err(None)) => Page::None,
        })
    }

    /// The seed of its records' checksums. Who does not know the identity can't make a body that looks like a record.
    pub fn seed(&self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.identity), &self.number.to_be_bytes())
    }

    fn decode(bytes: &[u8], number: u64) -> Result<Header, Option<u32>> {
        let header = bytes.first_chunk::<HEADER>().ok_or(None)?;
        if !header.starts_with(MAGIC) || crc32c::crc32c(&header[..60]) != be32(header, 60) {
            return Err(None);
        }
        if be32(header, 8) != VERSION {
            return Err(Some(be32(header, 8)));
        }
        let mut identity = [0; 16];
        identity.copy_from_slice(&header[12..28]);
        let decoded = Header {
            identity,
            number: be64(header, 28),
            first_id: be64(header, 36),
            previous: be64(header, 44),
            previous_end: be32(header, 52),
        };
        if decoded.number == number { Ok(decoded) } else { Err(None) }
    }
}

/// Reads records one after the other, with one buffer.
#[derive(Debug)]
pub(super) struct Scanner<F> {
    file: F,
    seed: u32,
    /// Where the next record begins.
    position: u32,
    /// Bytes read at a time.
    chunk: usize,
    buffer: Vec<u8>,
    /// The next record's place in the buffer, and where what was read ends.
    at: usize,
    filled: usize,
}

/// What a scanner meets.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// A record, and where it begins.
    Record(u32, View<'a>),
    /// No record, and why not. The scanner stays.
    Invalid(&'static str),
}

impl<F: File> Scanner<F> {
    /// Begins at `position`, which is that of a record, and reads `chunk` bytes at a time.
    pub fn new(file: F, seed: u32, position: u32, chunk: usize) -> Scanner<F> {
        Scanner { file, seed, position, chunk, buffer: Vec::new(), at: 0, filled: 0 }
    }

    /// The next record.
    ///
    /// # Errors
    /// The system refuses; the scanner stays.
    pub fn next(&mut self) -> io::Result<Step<'_>> {
        let len = loop {
            let bytes = self.buffer.get(self.at..self.filled).unwrap_or_default();
            match View::parse(bytes, self.seed, |_| true) {
                Parsed::Record(view) => break view.len(),
                Parsed::Needs(more) => {
                    if !self.fill(more)? {
                        return Ok(Step::Invalid("the file ends"));
                    }
                }
                Parsed::Invalid(_) if bytes.iter().take(HEAD).all(|b| *b == 0) => {
                    return Ok(Step::Invalid("there are zeros where a record should begin"));
                }
                Parsed::Invalid(why) => return Ok(Step::Invalid(why)),
            }
        };
        let (start, position) = (self.at, self.position);
        self.at += len;
        self.position = self.position.saturating_add(len as u32);
        // The same bytes again, now that nothing is to be read into the buffer any more; they are verified.
        match View::head(&self.buffer[start..start + len]) {
            Ok((view, _)) => Ok(Step::Record(position, view)),
            Err(_) => Ok(Step::Invalid("its length is none")),
        }
    }

    /// Where the next record begins.
    pub fn position(&self) -> u32 {
        self.position
    }

    pub fn file(&self) -> &F {
        &self.file
    }

    /// What was read ahead is read again: it may have been written since.
    pub fn forget(&mut self) {
        (self.at, self.filled) = (0, 0);
    }

    /// Goes back to, or on to, another place.
    pub fn seek(&mut self, position: u32) {
        self.position = position;
        self.forget();
    }

    /// The record that was read last is the next once more; it began at `position`.
    pub fn back_to(&mut self, position: u32) {
        self.at = self.at.saturating_sub(self.position.saturating_sub(position) as usize);
        self.position = position;
    }

    /// Reads until there are `needed` bytes; `false`: the file ends before.
    fn fill(&mut self, needed: usize) -> io::Result<bool> {
        self.buffer.copy_within(self.at..self.filled, 0);
        (self.at, self.filled) = (0, self.filled - self.at);
        let room = needed.max(self.chunk);
        if self.buffer.len() < room {
            // Faster than to resize it, where nothing is optimised.
            let mut buffer = vec![0; room];
            buffer[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
            self.buffer = buffer;
        }
        let from = u64::from(self.position) + self.filled as u64;
        self.filled += self.file.read_at(&mut self.buffer[self.filled..], from)?;
        Ok(self.filled >= needed)
    }
}

/// What [`search`] has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The first valid record that was wanted.
    pub record: Option<u32>,
    /// Where the last byte that is not zero ends; what was searched begins there, if there is none. Only if no
    /// record was found.
    pub end: u32,
}

/// Looks at every byte from `from` on for the beginning of a valid record that is `wanted`: asked before the
/// checksum is computed, with its offset.
///
/// # Errors
/// The system refuses.
pub(super) fn search(
    file: &impl File,
    seed: u32,
    from: u32,
    mut wanted: impl FnMut(u32, &View<'_>) -> bool,
) -> io::Result<Found> {
    const WINDOW: usize = 1 << 20;
    let mut buffer = vec![0; WINDOW + MAX_RECORD];
    let mut found = Found { record: None, end: from };
    let mut base = from;
    loop {
        let filled = file.read_at(&mut buffer, u64::from(base))?;
        let bytes = &buffer[..filled];
        let mut at = 0;
        while at < bytes.len().min(WINDOW) {
            let Some(skip) = zeros(&bytes[at..]) else { break };
            if skip > 7 {
                // No record begins with more: four in its checksum, three in its length.
                at += skip - 7;
                continue;
            }
            let offset = base.saturating_add(at as u32);
            if let Parsed::Record(_) = View::parse(&bytes[at..], seed, |view| wanted(offset, view)) {
                found.record = Some(offset);
                return Ok(found);
            }
            at += 1;
        }
        if let Some(last) = zeros(bytes).and_then(|_| bytes.iter().rposition(|b| *b != 0)) {
            found.end = base.saturating_add(last as u32 + 1);
        }
        if filled < buffer.len() {
            return Ok(found);
        }
        base = base.saturating_add(WINDOW as u32);
    }
}

/// How many zeros there are before the first other byte; `None`: no other follows.
fn zeros(bytes: &[u8]) -> Option<usize> {
    let (blocks, rest) = bytes.as_chunks::<16>();
    let whole = blocks.iter().position(|block| u128::from_ne_bytes(*block) != 0);
    match whole {
        Some(block) => bytes[block * 16..].iter().position(|b| *b != 0).map(|at| block * 16 + at),
        None => rest.iter().position(|b| *b != 0).map(|at| blocks.len() * 16 + at),
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
