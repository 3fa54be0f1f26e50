//! The log: what is staged, one write, one sync.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::Draft;
use super::batch::{Active, Batch, Part};
use super::commit::is_no_room;
use super::dedup::Dedup;
use super::options::{CommitError, LogOptions, NoRoom, OpenError, Progress, Recovery, Staged};
use super::record::{self, Stamp};
use super::recovery;
use super::retention::{Brief, Runs, Segment};
use super::segment::{Header, file_name};
use super::storage::{File, Storage};

/// The log of all messages, with one writer: whoever has it.
///
/// Its calls that write or sync block. There is no thread in it and no clock: `now_ms` is the wall clock's time,
/// in milliseconds since 1970.
#[derive(Debug)]
pub struct Log<S: Storage> {
    pub(super) storage: Arc<S>,
    pub(super) options: LogOptions,
    pub(super) identity: [u8; 16],
    /// The segment that is written to; none while there is no room for one.
    pub(super) active: Option<Active<S::File>>,
    /// Those before it, oldest first.
    pub(super) older: VecDeque<Segment>,
    pub(super) batch: Batch,
    /// Segments made for the commit under way.
    pub(super) made: Vec<Active<S::File>>,
    pub(super) routes: Vec<Route>,
    pub(super) dedup: Dedup,
    pub(super) next_id: u64,
    pub(super) durable_id: u64,
    pub(super) next_batch: u64,
    pub(super) next_number: u64,
    pub(super) full: Option<Arc<str>>,
    /// What is staged is the server's own, for which there is a reserve.
    pub(super) own: bool,
    pub(super) failed: Option<(io::ErrorKind, String)>,
    pub(super) free: Option<u64>,
    pub(super) now_ms: u64,
}

/// What the log knows of one route.
#[derive(Debug, Default)]
pub(super) struct Route {
    pub progress: Progress,
    /// Its progress goes with the next commit.
    pub dirty: bool,
    pub runs: Runs,
}

impl<S: Storage> Log<S> {
    /// Verifies what is there, cuts a torn tail, and begins a new segment. A log that has no room for one
    /// opens nevertheless, and is [`Log::full`].
    ///
    /// # Errors
    /// Damage that is more than a torn tail; the system refuses.
    pub fn open(storage: Arc<S>, options: LogOptions, now_ms: u64) -> Result<(Log<S>, Recovery), OpenError> {
        recovery::open(storage, options, now_ms)
    }

    /// Puts a message into the next commit, or finds that it is there already.
    ///
    /// # Errors
    /// There is no room. After the disk has failed it is the commit that says so.
    pub fn stage(&mut self, draft: &Draft<'_>, now_ms: u64) -> Result<Staged, NoRoom> {
        self.now_ms = now_ms;
        let route = self.options.route_of(draft.topic);
        let digest = draft.key.as_ref().map(|key| self.dedup.digest(draft.principal, key));
        if let Some(id) = digest.and_then(|digest| self.dedup.find(&digest, now_ms)) {
            return Ok(Staged { id, route, duplicate: true });
        }
        if self.failed.is_some() {
            return Ok(Staged { id: self.next_id, route, duplicate: false });
        }
        if let Some(why) = self.full.as_ref().filter(|_| !self.own) {
            return Err(NoRoom(Arc::clone(why)));
        }
        let len = record::message_len(draft).ok_or_else(|| NoRoom("the message is too long".into()))?;
        self.make_room(len)?;
        let (id, batch) = (self.next_id, self.next_batch);
        let index = self.batch.parts.len().saturating_sub(1);
        if let Some(part) = self.batch.parts.last_mut() {
            let stamp = part.stamp(batch);
            record::put_message(&mut part.bytes, stamp, id, now_ms, draft);
        }
        self.next_id += 1;
        let delivers = self.options.delivers(route).then_some(route);
        self.batch.messages.push((
            index,
            Brief { id, time_ms: now_ms, route: delivers, kept: delivers.is_none(), keyed: digest.is_some() },
        ));
        if let Some(digest) = digest {
            self.dedup.insert(digest, id, now_ms, now_ms);
            self.batch.keys += 1;
        }
        Ok(Staged { id, route, duplicate: false })
    }

    /// [`Log::stage`] of a message of the server's own: it may take what is left free of the disk, and the log grow to
    /// twice its size. A log full of messages that a sink refuses would else have no room for the dead letters that let
    /// them go; and these are larger than what they tell of.
    ///
    /// # Errors
    /// Those of [`Log::stage`].
    pub fn stage_own(&mut self, draft: &Draft<'_>, now_ms: u64) -> Result<Staged, NoRoom> {
        self.own = true;
        let staged = self.stage(draft, now_ms);
        self.own = false;
        staged
    }

    /// A route is so far: stored with the next commit. Of several before a commit, the last is stored; progress
    /// that goes back is none.
    pub fn stage_progress(&mut self, route: usize, progress: &Progress) {
        let delivers = self.options.delivers(route);
        let Some(known) = self.routes.get_mut(route).filter(|_| delivers) else { return };
        if progress.upto < known.progress.upto || progress.upto >= self.next_id || *progress == known.progress {
            return;
        }
        known.progress.clone_from(progress);
        known.runs.finish(progress.upto);
        known.dirty = true;
    }

    /// Stores all that is staged: one write, one sync; two of each where a segment ends. Progress that finds no
    /// room waits for a later commit, and is no error. Nothing staged: nothing is done.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn commit(&mut self) -> Result<(), CommitError> {
        self.check()?;
        self.put_progress();
        self.check()?;
        if self.batch.is_empty() {
            self.batch.clear();
            return Ok(());
        }
        let written = self.write_batch();
        self.next_batch += 1;
        match written {
            Ok(()) => self.committed(),
            Err(stop) => return Err(self.not_committed(stop)),
        }
        Ok(())
    }

    /// Says in the file, without a sync, that what is before was synced: a damaged record can be told
    /// from a torn one. For a writer that has nothing else to do; when that was said already, nothing is done.
    pub fn mark_synced(&mut self) {
        if self.failed.is_some() || !self.batch.is_empty() {
            return;
        }
        self.batch.clear();
        let Some(active) = self.active.as_mut() else { return };
        let end = active.segment.end;
        if active.synced < end {
            return;
        }
        let mut bytes = std::mem::take(&mut self.batch.spare);
        let stamp = Stamp { seed: active.segment.header.seed(), batch: self.next_batch, synced: end };
        record::put_mark(&mut bytes, stamp, self.next_id, self.now_ms);
        self.next_batch += 1;
        match active.file.write_at(&bytes, end.into()) {
            Ok(()) => active.segment.end += bytes.len() as u32,
            // Nobody waits for it.
            Err(error) if is_no_room(&error) => {}
            Err(error) => self.fail("write to", &error),
        }
        bytes.clear();
        self.batch.spare = bytes;
    }

    /// A clean end: what is staged is stored, and the last segment's unused room given back.
    ///
    /// # Errors
    /// The disk has failed, now or before; there was no room for what was staged.
    pub fn close(mut self) -> io::Result<()> {
        self.commit().map_err(|error| match error {
            CommitError::Failed(error) => error,
            CommitError::NoRoom(why) => io::Error::new(io::ErrorKind::StorageFull, why),
        })?;
        self.mark_synced();
        self.check().map_err(|error| io::Error::other(error.to_string()))?;
        let Some(active) = &self.active else { return Ok(()) };
        active.file.set_len(active.segment.end.into())?;
        active.file.sync()
    }

    /// Why there is no room; `None`: there is.
    pub fn full(&self) -> Option<&str> {
        self.full.as_deref()
    }

    /// How the disk has failed; `None`: it has not.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_ref().map(|(_, why)| why.as_str())
    }

    /// The id of the oldest message; 0: there is none.
    pub fn first_id(&self) -> u64 {
        let active = self.active.iter().map(|active| &active.segment);
        self.older.iter().chain(active).find_map(Segment::first_id).unwrap_or(0)
    }

    /// The id of the newest message on the disk, or of the last that there was; 0: there was none.
    pub fn durable_id(&self) -> u64 {
        self.durable_id
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        let active = self.active.iter().map(|active| &active.segment);
        self.older.iter().chain(active).map(|segment| segment.bytes).sum()
    }

    /// How many there are.
    pub fn segments(&self) -> u64 {
        self.older.len() as u64 + u64::from(self.active.is_some())
    }

    /// Bytes staged for the next commit.
    pub fn staged_bytes(&self) -> u64 {
        self.batch.bytes()
    }

    /// Bytes free on the disk, when last asked; `None`: not known.
    pub fn free(&self) -> Option<u64> {
        self.free
    }

    /// Idempotency keys remembered.
    pub fn keys(&self) -> u64 {
        self.dedup.len()
    }

    /// Keys that were forgotten within their time, for want of room.
    pub fn keys_forgotten(&self) -> u64 {
        self.dedup.forgotten()
    }

    /// How far a route is, as of the last [`Log::stage_progress`].
    pub fn progress(&self, route: usize) -> &Progress {
        const NONE: &Progress = &Progress { upto: 0, beyond: Vec::new() };
        self.routes.get(route).map_or(NONE, |route| &route.progress)
    }

    /// Stored messages of a route that are still to be delivered. Exact, unless thousands of runs of them
    /// alternate with other routes' messages.
    pub fn unfinished(&self, route: usize) -> u64 {
        self.routes.get(route).map_or(0, |route| route.runs.count().saturating_sub(route.progress.beyond.len() as u64))
    }

    /// Makes the last part one that takes a record of `len` bytes.
    fn make_room(&mut self, len: usize) -> Result<(), NoRoom> {
        if let (true, Some(active)) = (self.batch.parts.is_empty(), &self.active) {
            let bytes = std::mem::take(&mut self.batch.spare);
            self.batch.parts.push(Part::of(active, bytes));
        }
        // A mark always finds room behind: without one, a damaged last record would be taken for a torn one.
        let fits = |part: &Part| part.end() + (len + record::HEAD) as u64 <= self.options.segment_bytes;
        if self.batch.parts.last().is_some_and(fits) { Ok(()) } else { self.turn_over() }
    }

    /// What follows goes to a new segment, which begins with the table of all routes.
    pub(super) fn turn_over(&mut self) -> Result<(), NoRoom> {
        let segment_bytes = self.options.segment_bytes;
        let planned = self.batch.parts.iter().filter(|part| part.header.is_some()).count() as u64;
        if let Some(why) = self.shortage((planned + 1) * segment_bytes) {
            let why: Arc<str> = why.into();
            self.full = Some(Arc::clone(&why));
            return Err(NoRoom(why));
        }
        let (previous, previous_end) = self.last_end();
        let header = Header {
            identity: self.identity,
            number: self.next_number,
            first_id: self.next_id,
            previous,
            previous_end: u32::try_from(previous_end).unwrap_or(u32::MAX),
        };
        self.next_number += 1;
        let mut part = Part::new(header);
        let stamp = part.stamp(self.next_batch);
        let table = self.options.routes.iter().zip(self.routes.iter().map(|route| &route.progress));
        record::put_table(&mut part.bytes, stamp, self.next_id, table);
        self.routes.iter_mut().for_each(|route| route.dirty = false);
        self.batch.parts.push(part);
        Ok(())
    }

    /// The segment that the next one follows, and where its records end; 0: there is none.
    fn last_end(&self) -> (u64, u64) {
        let active = self.active.as_ref().map(|active| &active.segment);
        let written = active.or(self.older.back()).map_or((0, 0), |s| (s.header.number, s.end.into()));
        match self.batch.parts.last() {
            // Nothing is written to it any more: a mark at its end will never be synced.
            Some(part) if part.header.is_none() && part.bytes.is_empty() => (written.0, part.synced.into()),
            Some(part) => (part.header.map_or(written.0, |header| header.number), part.end()),
            None => written,
        }
    }

    /// Progress that is to be stored rides along, if there is room for it.
    fn put_progress(&mut self) {
        for index in 0..self.routes.len() {
            let (Some(route), Some(options)) = (self.routes.get(index), self.options.routes.get(index)) else { return };
            if !route.dirty {
                continue;
            }
            let len = record::progress_len(&options.pattern, self.routes.len(), &route.progress);
            if self.make_room(len).is_err() {
                return;
            }
            // A new segment may have been begun: all progress is in its table.
            if !self.routes.get(index).is_some_and(|route| route.dirty) {
                return;
            }
            let (count, batch, next_id) = (self.routes.len(), self.next_batch, self.next_id);
            let (Some(route), Some(options)) = (self.routes.get_mut(index), self.options.routes.get(index)) else {
                return;
            };
            if let Some(part) = self.batch.parts.last_mut() {
                let stamp = part.stamp(batch);
                record::put_progress(&mut part.bytes, stamp, next_id, (&options.pattern, count), &route.progress);
                route.dirty = false;
            }
        }
    }

    /// The file that is written to, or was. For messages about it.
    pub(super) fn newest_file(&self) -> String {
        let newest = self.active.as_ref().map(|active| &active.segment).or(self.older.back());
        newest.map_or_else(String::new, |segment| file_name(segment.header.number))
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
