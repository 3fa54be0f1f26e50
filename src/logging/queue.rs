//! Between whoever logs and the thread that prints: nobody waits for standard error but that thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use crate::limits::MAX_LOG_QUEUE_BYTES;

/// The side of whoever logs. Never blocks.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: Sender<Item>,
    state: Arc<State>,
}

/// The side of the thread that prints.
#[derive(Debug)]
pub(super) struct Outlet {
    receiver: Receiver<Item>,
    state: Arc<State>,
}

/// What comes out.
#[derive(Debug)]
pub(super) enum Next {
    /// A line to be printed.
    Line(Vec<u8>),
    /// Everything before this was taken out. To be dropped when it is printed.
    Flush(Ack),
    /// Nothing within the time.
    Nothing,
    /// There is nobody who could log any more.
    End,
}

/// Dropped, it tells a [`Queue::flush`] that its lines are out.
#[derive(Debug)]
pub(super) struct Ack(#[allow(dead_code)] Sender<()>);

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    Flush(Ack),
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of the lines that wait, and of what keeping them takes.
    bytes: AtomicUsize,
    /// Lines that there was no room for, and that nobody was told of.
    dropped: AtomicU64,
}

/// What a line costs beside its text.
const OVERHEAD: usize = 64;

/// A queue and its other end.
pub(super) fn queue() -> (Queue, Outlet) {
    // Not bounded by lines, but by their bytes.
    let (sender, receiver) = unbounded();
    let state = Arc::<State>::default();
    (Queue { sender, state: Arc::clone(&state) }, Outlet { receiver, state })
}

impl Queue {
    /// Whether there is room for a line; if not, it is counted as dropped.
    pub fn has_room(&self) -> bool {
        let room = self.state.bytes.load(Relaxed) < MAX_LOG_QUEUE_BYTES;
        if !room {
            self.state.dropped.fetch_add(1, Relaxed);
        }
        room
    }

    /// Waits until everything logged before is printed, at most for `patience`. Whether it was.
    pub fn flush(&self, patience: Duration) -> bool {
        let (ack, done) = bounded(0);
        let sent = self.sender.send(Item::Flush(Ack(ack)));
        // Nothing is ever sent back: it is dropped, here if there is nobody to print.
        drop(sent);
        done.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

/// One call, one line: what the formatter hands over.
impl io::Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.state.bytes.fetch_add(line.len() + OVERHEAD, Relaxed);
        // The printing thread lives as long as the process.
        let _ = self.sender.send(Item::Line(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outlet {
    /// What comes next; until then it waits, at most until `until`.
    pub fn next(&self, until: Option<Instant>) -> Next {
        let item = match until {
            None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self.receiver.recv_deadline(until),
        };
        match item {
            Ok(Item::Line(line)) => Next::Line(line),
            Ok(Item::Flush(ack)) => Next::Flush(ack),
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    /// A line that came out is printed, or lost.
    pub fn done(&self, line: &[u8]) {
        self.state.bytes.fetch_sub(line.len() + OVERHEAD, Relaxed);
    }

    /// How many lines there was no room for since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.state.dropped.swap(0, Relaxed)
    }
}
