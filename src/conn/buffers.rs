//! The pool of buffers that connections borrow while they have something unfinished.

use std::num::NonZeroU32;

use slab::Slab;

use super::clock::Millis;

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
    /// For output: where the bytes ended at `marked`. Once `done` is there, both are set anew.
    pub mark: usize,
    /// When `mark` was set.
    pub marked: Millis,
    /// Whether it is output.
    pub outbound: bool,
}

impl Buffer {
    /// Output that waits, the first `done` bytes of it gone already.
    pub fn output(bytes: Vec<u8>, done: usize, now: Millis) -> Buffer {
        Buffer { mark: bytes.len(), bytes, done, since: now, marked: now, outbound: true }
    }

    /// `took` more bytes of output are gone, perhaps none, and some are left.
    pub fn advance(&mut self, took: usize, now: Millis) {
        self.done += took;
        if took > 0 {
            self.since = now;
        }
        if self.done >= self.mark {
            (self.mark, self.marked) = (self.bytes.len(), now);
        }
    }

    /// Drops bytes at the front that are done with.
    pub fn drop_front(&mut self, bytes: usize) {
        self.bytes.drain(..bytes);
        self.done -= bytes;
        self.mark -= bytes;
    }

    /// Bytes that wait to be sent.
    fn unsent(&self) -> usize {
        if self.outbound { self.bytes.len().saturating_sub(self.done) } else { 0 }
    }
}

/// One worker's buffers: those lent out, and spare ones.
#[derive(Debug, Default)]
pub struct Buffers {
    lent: Slab<Buffer>,
    /// Bytes of memory in `lent`.
    held: usize,
    /// Bytes in `lent` that wait to be sent.
    unsent: usize,
    spare: Vec<Vec<u8>>,
    /// Spare buffers that are kept.
    keep: usize,
    /// Bytes of each, at most.
    keep_bytes: usize,
}

impl Buffers {
    /// An empty pool. As buffers come back it keeps `keep` of them for reuse, each of `keep_bytes` at
    /// most.
    pub fn new(keep: usize, keep_bytes: usize) -> Buffers {
        Buffers { keep, keep_bytes, ..Buffers::default() }
    }

    /// Changes what [`Buffers::new`] was given.
    pub fn keep(&mut self, keep: usize, keep_bytes: usize) {
        (self.keep, self.keep_bytes) = (keep, keep_bytes);
        self.spare.retain(|bytes| bytes.capacity() <= keep_bytes);
        self.spare.truncate(keep);
    }

    /// Spare buffers kept now.
    pub fn spare(&self) -> usize {
        self.spare.len()
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

    /// Bytes that wait to be sent, of all connections.
    pub fn outbound_bytes(&self) -> usize {
        self.unsent
    }

    /// Takes a vector back, for reuse if it is of a size worth keeping.
    pub(super) fn recycle(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() > 0 && bytes.capacity() <= self.keep_bytes && self.spare.len() < self.keep {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    pub(super) fn lend(&mut self, buffer: Buffer) -> Option<BufferId> {
        self.held += buffer.bytes.capacity();
        self.unsent += buffer.unsent();
        let key = u32::try_from(self.lent.insert(buffer)).ok()?;
        NonZeroU32::new(key.wrapping_add(1)).map(BufferId)
    }

    pub(super) fn get(&self, id: BufferId) -> &Buffer {
        &self.lent[id.key()]
    }

    /// Changes a buffer that is lent out, and keeps the books right if it grows.
    pub(super) fn edit<R>(&mut self, id: BufferId, change: impl FnOnce(&mut Buffer) -> R) -> R {
        let buffer = &mut self.lent[id.key()];
        let (held, unsent) = (buffer.bytes.capacity(), buffer.unsent());
        let result = change(buffer);
        self.held = self.held - held + buffer.bytes.capacity();
        self.unsent = self.unsent - unsent + buffer.unsent();
        result
    }

    pub(super) fn take(&mut self, id: BufferId) -> Buffer {
        let buffer = self.lent.remove(id.key());
        self.held -= buffer.bytes.capacity();
        self.unsent -= buffer.unsent();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_buffers_of_so_many_bytes_are_kept() {
        let mut buffers = Buffers::new(2, 100);
        for capacity in [0, 50, 101, 100, 60] {
            buffers.recycle(Vec::with_capacity(capacity));
        }
        assert_eq!(buffers.spare(), 2, "one has nothing in it, one is too large, one is one too many");
        buffers.keep(2, 50);
        assert_eq!(buffers.spare(), 1);
        buffers.keep(0, 50);
        assert_eq!(buffers.spare(), 0);
        assert_eq!(buffers.vec().capacity(), 0);
    }
}
