//! epoll, with slots as tokens.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, Result};
use rustix::time::Timespec;

/// What a source is watched for, by edges: once registered it is never registered again.
pub const EDGES: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// Bits of an event after which a read must go on until EOF.
const READ_ENDS: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

/// One epoll descriptor and room for its events.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

/// One event, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The slot that the source was added with.
    pub slot: usize,
    /// There may be something to read, or an EOF, or an error.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The peer has ended its side: no further edge will tell of the EOF.
    pub ends: bool,
}

impl Poller {
    /// A poller that takes at most `events` events at a time.
    ///
    /// # Errors
    /// The system gives no descriptor.
    pub fn new(events: usize) -> Result<Poller> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(events) })
    }

    /// Watches a source.
    ///
    /// # Errors
    /// The system refuses.
    pub fn add(&self, source: impl AsFd, slot: usize, flags: EventFlags) -> Result<()> {
        epoll::add(&self.epoll, source, EventData::new_u64(slot as u64), flags)
    }

    /// Waits for events, `None`: for ever, and gives how many there are. Zero: looks, and does not sleep.
    ///
    /// # Errors
    /// The system refuses; an interruption is no error.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<usize> {
        self.events.clear();
        let timeout = timeout.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: i64::from(t.subsec_nanos()) });
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Err(Errno::INTR) => Ok(0),
            done => done,
        }
    }

    /// The event at `index` of the last [`Poller::wait`].
    pub fn ready(&self, index: usize) -> Ready {
        let event = self.events[index];
        let flags = event.flags;
        let ends = flags.intersects(READ_ENDS);
        Ready {
            slot: event.data.u64() as usize,
            readable: ends || flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            ends,
        }
    }
}
