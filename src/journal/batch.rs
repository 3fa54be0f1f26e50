//! What is staged for the next commit, already as it will lie on the disk.

use super::record::Stamp;
use super::retention::{Brief, Segment};
use super::segment::{DATA_START, Header};

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Active<F> {
    pub file: F,
    pub segment: Segment,
    /// Up to here all was synced before the next write.
    pub synced: u32,
    /// A write of the commit under way has gone to it.
    pub touched: bool,
}

/// One write: what goes to one segment.
#[derive(Debug)]
pub(super) struct Part {
    /// The segment, if it is to be made.
    pub header: Option<Header>,
    pub seed: u32,
    pub start: u32,
    pub synced: u32,
    pub bytes: Vec<u8>,
}

impl Part {
    /// The next write to the segment that is there.
    pub fn of<F>(active: &Active<F>, bytes: Vec<u8>) -> Part {
        let segment = &active.segment;
        Part { header: None, seed: segment.header.seed(), start: segment.end, synced: active.synced, bytes }
    }

    /// The first write to a new one.
    pub fn new(header: Header) -> Part {
        let seed = header.seed();
        Part { header: Some(header), seed, start: DATA_START, synced: DATA_START, bytes: Vec::new() }
    }

    /// Where its records end.
    pub fn end(&self) -> u64 {
        u64::from(self.start) + self.bytes.len() as u64
    }

    pub fn stamp(&self, batch: u64) -> Stamp {
        Stamp { seed: self.seed, batch, synced: self.synced }
    }
}

/// All that is staged.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub parts: Vec<Part>,
    /// The messages, each with the index of its part.
    pub messages: Vec<(usize, Brief)>,
    /// How many of them have a new key.
    pub keys: usize,
    /// An empty buffer, for the next first part.
    pub spare: Vec<u8>,
}

/// Memory that an empty batch keeps. Bytes.
const SPARE: usize = 1 << 20;

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.bytes.is_empty())
    }

    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }

    /// Nothing is staged any more.
    pub fn clear(&mut self) {
        let spare = self.parts.drain(..).map(|part| part.bytes).max_by_key(Vec::capacity);
        if let Some(mut spare) = spare {
            spare.clear();
            spare.shrink_to(SPARE);
            self.spare = spare;
        }
        self.messages.clear();
        self.messages.shrink_to(SPARE / size_of::<(usize, Brief)>());
        self.keys = 0;
    }
}
