//! The pool of buffers that connections borrow while they have something unfinished.

use std::num::NonZeroU32;

use slab::Slab;

use super::clock::Millis;
use crate::limits::{POOLED_BUFFER_BYTES, POOLED_BUFFERS};

/// A borrowed buffer's name: four bytes in a connection, where a `Vec` would be 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(NonZeroU32);

/// Bytes that wait: an unfinished frame, or output that the socket did not take.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// The bytes. For output, the front is always the start of a frame.
    pub bytes: Vec<u8>,
    /// How many of them are done with.
    pub done: usize,
    /// When the unfinished frame began, or the output last moved.
    pub since: Millis,
}

/// One worker's buffers: those lent out, and spare ones.
#[derive(Debug, Default)]
pub struct Buffers {
    lent: Slab<Buffer>,
    /// Bytes of memory in `lent`.
    held: usize,
    spare: Vec<Vec<u8>>,
}

impl Buffers {
    /// An empty pool; it grows as buffers come back.
    pub fn new() -> Buffers {
        Buffers::default()
    }

    /// Buffers lent out now.
    pub fn lent(&self) -> usize {
        self.lent.len()
    }

    /// Bytes of memory in buffers lent out now.
    pub fn lent_bytes(&self) -> usize {
        self.held
    }

    /// An empty vector, a spare one if there is one.
    pub(super) fn vec(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a vector back, for reuse if it is of a size worth keeping.
    pub(super) fn recycle(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() > 0 && bytes.capacity() <= POOLED_BUFFER_BYTES && self.spare.len() < POOLED_BUFFERS {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    pub(super) fn lend(&mut self, buffer: Buffer) -> Option<BufferId> {
        self.held += buffer.bytes.capacity();
        let key = u32::try_from(self.lent.insert(buffer)).ok()?;
        NonZeroU32::new(key.wrapping_add(1)).map(BufferId)
    }

    pub(super) fn get(&self, id: BufferId) -> &Buffer {
        &self.lent[id.key()]
    }

    /// Changes a buffer that is lent out, and keeps the books right if it grows.
    pub(super) fn edit<R>(&mut self, id: BufferId, change: impl FnOnce(&mut Buffer) -> R) -> R {
        let buffer = &mut self.lent[id.key()];
        let before = buffer.bytes.capacity();
        let result = change(buffer);
        self.held = self.held - before + buffer.bytes.capacity();
        result
    }

    pub(super) fn take(&mut self, id: BufferId) -> Buffer {
        let buffer = self.lent.remove(id.key());
        self.held -= buffer.bytes.capacity();
        buffer
    }

    pub(super) fn give_back(&mut self, id: Option<BufferId>) {
        if let Some(id) = id {
            let buffer = self.take(id);
            self.recycle(buffer.bytes);
        }
    }
}

impl BufferId {
    fn key(self) -> usize {
        self.0.get() as usize - 1
    }
}
