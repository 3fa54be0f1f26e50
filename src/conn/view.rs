//! What a connection can say of itself, to whoever watches.

use super::{Buffers, Connection, Flags, Millis, State};

/// A connection at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Where it stands: `auth`, `claiming`, `ready`, `finishing`, `flushing`, `lingering` or `closed`.
    pub state: &'static str,
    /// Milliseconds since its last whole frame came in, or since it was accepted.
    pub idle_ms: u32,
    /// Requests accepted and not yet answered.
    pub in_flight: u16,
    /// Bytes that wait to be sent.
    pub queued: usize,
    /// Bytes that came in and are not yet a whole frame, or not yet parsed.
    pub unparsed: usize,
    /// The heartbeat interval that it was granted, milliseconds; 0 before READY.
    pub heartbeat_ms: u32,
    /// It was told to move: GOAWAY stage 0 went out.
    pub noticed: bool,
    /// It is not read for now: too much is in flight, or waits to be sent.
    pub paused: bool,
}

impl Connection {
    /// How it stands at `now`. Changes nothing.
    pub fn view(&self, now: Millis, buffers: &Buffers) -> View {
        let left = |id| {
            let buffer = buffers.get(id);
            buffer.bytes.len() - buffer.done
        };
        View {
            state: match self.state {
                State::Auth => "auth",
                State::Claiming => "claiming",
                State::Ready => "ready",
                State::Finishing => "finishing",
                State::Flushing => "flushing",
                State::Lingering => "lingering",
                State::Closed => "closed",
            },
            idle_ms: now.since(self.heard),
            in_flight: self.in_flight,
            queued: self.queue.map_or(0, left),
            unparsed: self.tail.map_or(0, left),
            heartbeat_ms: self.heartbeat_ms,
            noticed: self.noticed.is_some(),
            paused: self.flags.has(Flags::PAUSED),
        }
    }
}
