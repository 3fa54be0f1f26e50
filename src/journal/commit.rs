//! The commit's writes and syncs, and what becomes of a commit that fails; room, and what gives it back.

use std::io;
use std::mem;
use std::sync::Arc;

use super::batch::Active;
use super::log::Log;
use super::options::{CommitError, NoRoom};
use super::record::MAX_MESSAGE;
use super::retention::Segment;
use super::segment::{DATA_START, file_name};
use super::storage::{File, Storage};

/// Why a commit stops.
pub(super) enum Stop {
    /// There is no room for it.
    NoRoom(io::Error),
    /// The disk has failed, at this.
    Failed(&'static str, io::Error),
}

impl Stop {
    /// A write or the making of a file was refused. A sync that is refused is another matter, whatever it says.
    fn of(doing: &'static str) -> impl FnOnce(io::Error) -> Stop {
        move |error| if is_no_room(&error) { Stop::NoRoom(error) } else { Stop::Failed(doing, error) }
    }
}

/// Whether waiting helps: others may make room.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl<S: Storage> Log<S> {
    /// Deletes what is done, asks for free space, ends being full when there is room. About once a second, and
    /// after progress.
    pub fn tend(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if self.failed.is_some() {
            return;
        }
        self.dedup.expire(now_ms);
        self.reclaim();
        let takes_more = |active: &Active<S::File>| {
            let reserve = (MAX_MESSAGE as u64).min(self.options.segment_bytes / 4);
            u64::from(active.segment.end) + reserve <= self.options.segment_bytes
        };
        let next = if self.active.as_ref().is_some_and(takes_more) { 0 } else { self.options.segment_bytes };
        self.full = self.shortage(next).map(Arc::from);
    }

    /// Why there is no room for so many more bytes of segments.
    pub(super) fn shortage(&mut self, more: u64) -> Option<String> {
        let (mut max, mut least) = (self.options.max_bytes, self.options.min_free_bytes);
        if self.own {
            (max, least) = (max.saturating_mul(2), 0);
        }
        if more > 0 && self.bytes() + more > max {
            self.reclaim();
        }
        let bytes = self.bytes();
        if bytes + more > max {
            return Some(format!(
                "its files take {bytes} bytes, and with another {more} would take more than the {max} of \
                 TIDEGATE_JOURNAL_MAX_BYTES"
            ));
        }
        self.free = self.storage.free().unwrap_or_else(|error| {
            log::debug!("cannot ask how much is free on the journal's disk: {error}");
            None
        });
        let free = self.free?;
        (free < least.saturating_add(more)).then(|| {
            format!(
                "its disk has {free} bytes free, of which it leaves the {least} of TIDEGATE_JOURNAL_MIN_FREE_BYTES{}",
                if more > 0 { format!(" and would take {more}") } else { String::new() }
            )
        })
    }

    /// Makes the segments that are needed, then writes and syncs one part after the other.
    pub(super) fn write_batch(&mut self) -> Result<(), Stop> {
        let routes = self.routes.len();
        for header in self.batch.parts.iter().filter_map(|part| part.header) {
            let (name, bytes) = (file_name(header.number), self.options.segment_bytes);
            let file = self.storage.create(&name, bytes).map_err(Stop::of("make a file of"))?;
            let segment = Segment::new(header, bytes, DATA_START, routes);
            self.made.push(Active { file, segment, synced: DATA_START, touched: false });
            let Some(Active { file, .. }) = self.made.last() else { continue };
            file.write_at(&header.page(), 0).map_err(Stop::of("write to"))?;
            file.sync().map_err(|error| Stop::Failed("sync", error))?;
            self.storage.sync_names().map_err(|error| Stop::Failed("sync the directory of", error))?;
        }
        let mut made = self.made.iter_mut();
        for part in &self.batch.parts {
            let target = if part.header.is_some() { made.next() } else { self.active.as_mut() };
            let Some(target) = target.filter(|_| !part.bytes.is_empty()) else { continue };
            target.touched = true;
            target.file.write_at(&part.bytes, part.start.into()).map_err(Stop::of("write to"))?;
            target.file.sync().map_err(|error| Stop::Failed("sync", error))?;
        }
        Ok(())
    }

    /// All of the batch is on the disk.
    pub(super) fn committed(&mut self) {
        let mut messages = self.batch.messages.iter().peekable();
        let mut made = mem::take(&mut self.made).into_iter();
        for (index, part) in self.batch.parts.iter().enumerate() {
            if part.header.is_some()
                && let Some(next) = made.next()
                && let Some(before) = self.active.replace(next)
            {
                self.older.push_back(before.segment);
            }
            let Some(active) = self.active.as_mut() else { continue };
            active.segment.end = u32::try_from(part.end()).unwrap_or(u32::MAX);
            active.segment.bytes = active.segment.bytes.max(part.end());
            (active.synced, active.touched) = (active.segment.end, false);
            while let Some((_, brief)) = messages.next_if(|(part, _)| *part == index) {
                active.segment.add(*brief);
                self.durable_id = brief.id;
                if let Some(route) = brief.route.and_then(|route| self.routes.get_mut(route)) {
                    route.runs.push(brief.id);
                }
            }
        }
        self.batch.clear();
    }

    /// Nothing of the batch may stay, and none of its ids and keys.
    pub(super) fn not_committed(&mut self, stop: Stop) -> CommitError {
        self.dedup.take_back(self.batch.keys);
        self.batch.clear();
        for (index, route) in self.routes.iter_mut().enumerate() {
            route.dirty = self.options.delivers(index);
        }
        let undone = match stop {
            Stop::NoRoom(why) => self.undo().map(|()| why),
            Stop::Failed(doing, error) => Err((doing, error)),
        };
        match undone {
            Ok(why) => {
                let why: Arc<str> = format!("its disk is full: {why}").into();
                self.full = Some(Arc::clone(&why));
                CommitError::NoRoom(NoRoom(why))
            }
            Err((doing, error)) => {
                self.fail(doing, &error);
                CommitError::Failed(error)
            }
        }
    }

    /// Takes away what was written and made, in an order in which a crash leaves no gap.
    fn undo(&mut self) -> Result<(), (&'static str, io::Error)> {
        while let Some(made) = self.made.pop() {
            self.remove(made.segment.header.number).map_err(|error| ("remove a file of", error))?;
        }
        if let Some(active) = self.active.as_mut().filter(|active| active.touched) {
            let end = active.segment.end;
            active.file.set_len(end.into()).map_err(|error| ("cut a file of", error))?;
            active.file.sync().map_err(|error| ("sync", error))?;
            active.segment.bytes = end.into();
            active.touched = false;
        }
        Ok(())
    }

    /// Removes a segment's file for good.
    pub(super) fn remove(&self, number: u64) -> io::Result<()> {
        match self.storage.remove(&file_name(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.storage.sync_names()
    }

    /// Deletes the oldest segments, as long as they are done. One name after the other is brought to the disk: were
    /// a later one gone and an earlier one back after a crash, messages would seem to be missing.
    fn reclaim(&mut self) {
        while let Some(oldest) = self.older.front() {
            // The newest one knows which ids were given, also when all its messages are done.
            if self.active.is_none() && self.older.len() == 1 {
                return;
            }
            let progress = self.routes.iter().map(|route| &route.progress);
            let now = (self.bytes(), self.now_ms);
            if !oldest.is_done(&self.options, progress, now, self.dedup.oldest_id()) {
                return;
            }
            let name = file_name(oldest.header.number);
            if let Err(error) = self.storage.remove(&name) {
                log::warn!(file = name.as_str(); "cannot remove {name} of the journal, which is done: {error}");
                return;
            }
            self.older.pop_front();
            if let Err(error) = self.storage.sync_names() {
                self.fail("sync the directory of", &error);
                return;
            }
        }
    }

    /// Nothing is assumed of the disk any more.
    pub(super) fn fail(&mut self, doing: &str, error: &io::Error) {
        let why = format!("cannot {doing} the journal: {error}");
        let file = self.newest_file();
        log::error!(file = file.as_str(); "{why}; it takes no messages until a restart");
        self.failed = Some((error.kind(), why));
    }

    /// Refuses when the disk has failed.
    pub(super) fn check(&self) -> Result<(), CommitError> {
        match &self.failed {
            Some((kind, why)) => Err(CommitError::Failed(io::Error::new(*kind, why.clone()))),
            None => Ok(()),
        }
    }
}
