//! What a connection needs while it has something in hand: buffers, and its requests in flight. PURE.

use std::collections::VecDeque;

/// Kind of the request AUTH; what is below [`BYE`] is an entry of the mix.
pub const AUTH: u16 = u16::MAX;
/// Kind of the request BYE.
pub const BYE: u16 = u16::MAX - 1;
/// Kind of a SESSION_GET that is not of the mix: whether a value is still what was acknowledged.
pub const CHECK: u16 = u16::MAX - 2;

/// Given-back ones that are kept.
const MAX_POOL: usize = 1_024;
/// Bytes of a buffer that is kept.
const KEEP: usize = 64 * 1024;

/// What connections have given back. A connection keeps the box, so only its pointer moves.
#[allow(clippy::vec_box)]
pub type Pool = Vec<Box<Work>>;

/// A request without an answer. Its `seq` follows from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it was (or should have been) sent, ns since the run began.
    pub at: u64,
    /// Where in the stream it ends.
    pub end: u64,
    /// Of SUBMIT and of the SESSION commands: its own number, also when it is sent again.
    pub number: u32,
    /// Which entry of the mix, or [`AUTH`], [`BYE`] or [`CHECK`].
    pub kind: u16,
    /// Bytes; see [`super::mix::Mix::pick`].
    pub len: u16,
    /// An answer came, but not to one before it.
    pub answered: bool,
    /// Nobody can say whether an earlier try of it was processed.
    pub unknown: bool,
}

/// See the module. Empty, it can be used by any connection.
#[derive(Debug, Default)]
pub struct Work {
    /// Bytes for the socket.
    pub out: Vec<u8>,
    /// Bytes of `out` that it has taken.
    taken: usize,
    /// Bytes that it has taken in all.
    pub written: u64,
    /// The beginning of a frame.
    pub tail: Vec<u8>,
    /// In the order of their `seq`, without gaps; the first is unanswered.
    pub flight: VecDeque<Request>,
    /// How many of them are unanswered.
    pub open: usize,
    /// Are to be sent, in their order, before anything else: they were not processed, or had to wait.
    pub again: VecDeque<Request>,
}

impl Request {
    /// One that is not in the stream yet.
    pub fn new(at: u64, kind: u16, len: u16) -> Request {
        Request { at, end: 0, number: 0, kind, len, answered: false, unknown: false }
    }

    /// Whether it belongs to the workload, and not to the connection's own life.
    #[inline]
    pub fn is_work(&self) -> bool {
        self.kind < BYE
    }
}

impl Work {
    /// Its bytes are in `out`.
    #[inline]
    pub fn note(&mut self, request: Request) {
        let end = self.written + self.unwritten() as u64;
        self.flight.push_back(Request { end, ..request });
        self.open += 1;
    }

    /// The request with this `seq`, marked as answered; `None` if it is not open. `next_seq` is the
    /// connection's.
    #[inline]
    pub fn settle(&mut self, next_seq: u32, seq: u32) -> Option<Request> {
        let first = next_seq.wrapping_sub(self.flight.len() as u32);
        let request = self.flight.get_mut(seq.wrapping_sub(first) as usize)?;
        if request.answered {
            return None;
        }
        request.answered = true;
        let settled = *request;
        self.open -= 1;
        while self.flight.front().is_some_and(|request| request.answered) {
            self.flight.pop_front();
        }
        Some(settled)
    }

    /// Bytes that the socket has not taken.
    #[inline]
    pub fn unwritten(&self) -> usize {
        self.out.len() - self.taken
    }

    /// These bytes.
    #[inline]
    pub fn output(&self) -> &[u8] {
        self.out.get(self.taken..).unwrap_or(&[])
    }

    /// The socket took `n` of them.
    #[inline]
    pub fn handle_written(&mut self, n: usize) {
        self.taken += n;
        self.written += n as u64;
        if self.taken >= self.out.len() {
            self.drop_output();
        }
    }

    /// What was not written will not be.
    pub fn drop_output(&mut self) {
        self.out.clear();
        self.taken = 0;
    }

    /// Whether its connection has nothing in hand.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.flight.is_empty() && self.unwritten() == 0 && self.tail.is_empty() && self.again.is_empty()
    }

    /// Its connection is gone, its requests have been accounted for.
    pub fn reset(&mut self) {
        self.drop_output();
        self.tail.clear();
        self.flight.clear();
        (self.open, self.written) = (0, 0);
    }

    /// To the others that wait for a connection with something to do.
    pub fn give_back(mut self: Box<Work>, pool: &mut Pool) {
        if pool.len() < MAX_POOL {
            self.reset();
            self.out.shrink_to(KEEP);
            self.tail.shrink_to(KEEP);
            self.flight.shrink_to(KEEP / size_of::<Request>());
            pool.push(self);
        }
    }
}

/// The connection's own, or one from the pool.
#[inline]
pub fn take_work<'a>(own: &'a mut Option<Box<Work>>, pool: &mut Pool) -> &'a mut Work {
    own.get_or_insert_with(|| pool.pop().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_any_order_settle_their_own_request_and_each_only_once() {
        let mut work = Work::default();
        (0..4).for_each(|at| work.note(Request::new(at, 0, 0)));
        // The connection's next seq is 2: these have 4294967294 to 1.
        assert_eq!(work.settle(2, 0).map(|request| request.at), Some(2));
        assert_eq!(work.settle(2, 0), None);
        assert_eq!((work.settle(2, 2), work.settle(2, u32::MAX - 2)), (None, None));
        assert_eq!(work.settle(2, u32::MAX - 1).map(|request| request.at), Some(0));
        assert_eq!((work.open, work.flight.len()), (2, 3));
        assert_eq!(work.settle(2, u32::MAX).map(|request| request.at), Some(1));
        assert_eq!((work.open, work.flight.len()), (1, 1));
        assert_eq!(work.settle(2, 1).map(|request| request.at), Some(3));
        assert!(work.is_idle());
    }

    #[test]
    fn a_request_ends_where_its_last_byte_is_in_the_stream() {
        let mut work = Work::default();
        work.out.extend_from_slice(&[0; 10]);
        work.note(Request::new(0, 0, 0));
        work.handle_written(4);
        work.out.extend_from_slice(&[0; 5]);
        work.note(Request::new(0, 0, 0));
        work.handle_written(11);
        assert!(work.output().is_empty() && work.written == 15);
        work.out.push(0);
        work.note(Request::new(0, 0, 0));
        assert_eq!(work.flight.iter().map(|request| request.end).collect::<Vec<_>>(), [10, 15, 16]);
    }
}
