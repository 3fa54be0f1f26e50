//! The log: what is staged, one write, one sync.

use std::io;
use std::sync::Arc;

use super::Draft;
use super::options::{CommitError, LogOptions, NoRoom, OpenError, Progress, Recovery, Staged};
use super::storage::Storage;

/// The log of all messages, with one writer: whoever has it.
#[derive(Debug)]
pub struct Log<S: Storage> {
    storage: Arc<S>,
}

impl<S: Storage> Log<S> {
    /// Verifies what is there, cuts a torn tail, and begins a new segment.
    ///
    /// # Errors
    /// Damage that is more than a torn tail; the system refuses.
    pub fn open(storage: Arc<S>, options: LogOptions, now_ms: u64) -> Result<(Log<S>, Recovery), OpenError> {
        let _ = (storage, options, now_ms);
        unimplemented!()
    }

    /// Puts a message into the next commit, or finds that it is there already.
    ///
    /// # Errors
    /// There is no room. After the disk has failed it is the commit that says so.
    pub fn stage(&mut self, draft: &Draft<'_>, now_ms: u64) -> Result<Staged, NoRoom> {
        let _ = (draft, now_ms);
        unimplemented!()
    }

    /// A route is so far: stored with the next commit. Of several before a commit, the last is stored.
    pub fn stage_progress(&mut self, route: usize, progress: &Progress) {
        let _ = (route, progress);
        unimplemented!()
    }

    /// Stores all that is staged: one write, one sync. Nothing staged: nothing is done.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn commit(&mut self) -> Result<(), CommitError> {
        unimplemented!()
    }

    /// Says in the file, without a sync, that what is before was synced: a damaged record can be told
    /// from a torn one. For a writer that has nothing else to do.
    pub fn mark_synced(&mut self) {
        unimplemented!()
    }

    /// Deletes what is done, asks for free space, ends being full when there is room. About once a second, and
    /// after progress.
    pub fn tend(&mut self, now_ms: u64) {
        let _ = now_ms;
        unimplemented!()
    }

    /// A clean end: what is staged is stored, and the last segment's unused room given back.
    ///
    /// # Errors
    /// The disk has failed, now or before.
    pub fn close(self) -> io::Result<()> {
        unimplemented!()
    }

    /// Why there is no room; `None`: there is.
    pub fn full(&self) -> Option<&str> {
        unimplemented!()
    }

    /// How the disk has failed; `None`: it has not.
    pub fn failed(&self) -> Option<&str> {
        unimplemented!()
    }

    /// The id of the oldest message; 0: there is none.
    pub fn first_id(&self) -> u64 {
        unimplemented!()
    }

    /// The id up to which all messages are on the disk; 0: there was none.
    pub fn durable_id(&self) -> u64 {
        unimplemented!()
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        unimplemented!()
    }

    /// How many there are.
    pub fn segments(&self) -> u64 {
        unimplemented!()
    }

    /// Bytes staged for the next commit.
    pub fn staged_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Bytes free on the disk, when last asked; `None`: not known.
    pub fn free(&self) -> Option<u64> {
        unimplemented!()
    }

    /// Idempotency keys remembered.
    pub fn keys(&self) -> u64 {
        unimplemented!()
    }

    /// Keys that were forgotten within their time, for want of room.
    pub fn keys_forgotten(&self) -> u64 {
        unimplemented!()
    }

    /// How far a route is, as of the last [`Log::stage_progress`].
    pub fn progress(&self, route: usize) -> &Progress {
        let _ = (route, &self.storage);
        unimplemented!()
    }

    /// Stored messages of a route that are still to be delivered. Exact, unless thousands of runs of them
    /// alternate with other routes' messages.
    pub fn unfinished(&self, route: usize) -> u64 {
        let _ = route;
        unimplemented!()
    }
}
