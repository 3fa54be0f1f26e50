//! One call, from the caller's thread to the client's and back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{CallOptions, ClientError, Reply};
use crate::proto::{Command, Extensions, extension_type};

/// Where a result is left by one thread and awaited, until a deadline, by another.
#[derive(Debug)]
pub struct Slot<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    on_wire: AtomicBool,
}

#[derive(Debug)]
enum State<T> {
    Waiting,
    Done(T),
    /// Nobody waits any more.
    Left,
}

impl<T> Slot<T> {
    pub fn new() -> Arc<Slot<T>> {
        Arc::new(Slot { state: Mutex::new(State::Waiting), changed: Condvar::new(), on_wire: AtomicBool::new(false) })
    }

    /// Leaves the result. The first one counts; after the waiter has left, none does.
    pub fn complete(&self, result: T) {
        let mut state = self.lock();
        if matches!(*state, State::Waiting) {
            *state = State::Done(result);
            self.changed.notify_one();
        }
    }

    /// Waits until the result is there (`Some`) or the deadline has passed (`None`).
    pub fn wait(&self, deadline: Instant) -> Option<T> {
        let mut state = self.lock();
        loop {
            if !matches!(*state, State::Waiting) {
                return match std::mem::replace(&mut *state, State::Left) {
                    State::Done(result) => Some(result),
                    _ => None,
                };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                *state = State::Left;
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the waiter gave up or has its result.
    pub fn is_left(&self) -> bool {
        !matches!(*self.lock(), State::Waiting)
    }

    pub fn was_on_wire(&self) -> bool {
        self.on_wire.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a request is put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendKind {
    /// For the first time.
    First = 0,
    /// Again: the server said that it did not process it.
    Unprocessed = 1,
    /// Again: its outcome is unknown, and it is idempotent.
    Unknown = 2,
}

/// A request, and who waits for its answer.
#[derive(Debug)]
pub struct Call {
    pub cmd: Command,
    pub payload: Vec<u8>,
    options: CallOptions,
    pub idempotent: bool,
    pub deadline: Instant,
    after: Duration,
    /// What the next send of it is.
    pub kind: SendKind,
    /// OVERLOADED answers so far.
    pub overloads: u32,
    slot: Arc<Slot<Result<Reply, ClientError>>>,
}

pub type CallSlot = Arc<Slot<Result<Reply, ClientError>>>;

impl Call {
    /// A call that must be over `after` from `now`.
    pub fn new(
        cmd: Command,
        payload: Vec<u8>,
        options: CallOptions,
        retry_unknown: bool,
        (after, now): (Duration, Instant),
    ) -> Call {
        let idempotent = options.is_idempotent(cmd, retry_unknown);
        let deadline = later(now, after);
        let kind = SendKind::First;
        Call { cmd, payload, options, idempotent, deadline, after, kind, overloads: 0, slot: Slot::new() }
    }

    pub fn slot(&self) -> CallSlot {
        Arc::clone(&self.slot)
    }

    pub fn complete(self, result: Result<Reply, ClientError>) {
        self.slot.complete(result);
    }

    /// Whether nobody waits for it any more.
    pub fn is_left(&self) -> bool {
        self.slot.is_left()
    }

    /// The request can't be taken back from here on.
    pub fn mark_on_wire(&self) {
        self.slot.on_wire.store(true, Ordering::Release);
    }

    /// The server did not process it: it never got it, or it said so.
    pub fn mark_unprocessed(&self) {
        self.slot.on_wire.store(false, Ordering::Release);
    }

    /// The extension block, or `None` for a plain frame. A deadline is told as what is left of it.
    pub fn extensions(&self, now: Instant) -> Option<Vec<u8>> {
        let mut block = Vec::new();
        let mut fitted = true;
        if let Some(trace) = self.options.trace {
            fitted &= Extensions::push(&mut block, extension_type::TRACE, &trace.to_bytes());
        }
        if self.options.deadline.is_some() {
            let left = self.deadline.saturating_duration_since(now).as_millis().max(1);
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            fitted &= Extensions::push(&mut block, extension_type::DEADLINE, &left.to_be_bytes());
        }
        if let Some(key) = self.options.idempotency {
            fitted &= Extensions::push(&mut block, extension_type::IDEMPOTENCY, &key);
        }
        debug_assert!(fitted, "27 + 6 + 18 bytes fit");
        (!block.is_empty()).then_some(block)
    }
}

impl Drop for Call {
    /// A call that is dropped without an answer, by a refusal or a panic, must not keep its caller waiting.
    fn drop(&mut self) {
        let why = || "the client was closed".to_owned();
        self.slot.complete(Err(match self.slot.was_on_wire() {
            true => ClientError::UnknownOutcome { why: why() },
            false => ClientError::Closed,
        }));
    }
}

/// `now + after`, or about thirty years on where that has no instant.
pub fn later(now: Instant, after: Duration) -> Instant {
    now.checked_add(after).unwrap_or_else(|| now + Duration::from_secs(1 << 30))
}

/// The error of a call whose slot was still empty at its deadline.
pub fn deadline_error<T>(slot: &Slot<T>, after: Duration, trouble: Option<&ClientError>) -> ClientError {
    ClientError::Deadline { after, sent: slot.was_on_wire(), trouble: trouble.map(ToString::to_string) }
}

impl Call {
    /// The error for this call once its deadline has passed.
    pub fn deadline_error(&self) -> ClientError {
        deadline_error(&self.slot, self.after, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_gives_the_first_result_and_takes_none_once_left() {
        let slot = Slot::new();
        slot.complete(1);
        slot.complete(2);
        assert_eq!(slot.wait(Instant::now()), Some(1), "a result that is there goes before a deadline that is over");
        let slot = Slot::new();
        assert_eq!(slot.wait(Instant::now()), None);
        slot.complete(3);
        assert_eq!((slot.is_left(), slot.wait(Instant::now())), (true, None));
    }

    #[test]
    fn only_a_deadline_of_the_calls_own_goes_over_the_wire_and_as_what_is_left_of_it() {
        let now = Instant::now();
        let after = Duration::from_millis(500);
        let plain = Call::new(Command::ECHO, Vec::new(), CallOptions::default(), false, (after, now));
        assert_eq!(plain.extensions(now), None);
        let options = CallOptions { deadline: Some(after), ..CallOptions::default() };
        let call = Call::new(Command::ECHO, Vec::new(), options, false, (after, now));
        let told = |at| Extensions::validate(&call.extensions(at).unwrap()).unwrap().deadline_ms();
        assert_eq!(told(now), Some(500));
        assert_eq!(told(now + Duration::from_millis(200)), Some(300));
        assert_eq!(told(now + after), Some(1), "0 would be a deadline that has passed");
    }

    #[test]
    fn a_deadline_without_end_is_an_instant() {
        assert!(later(Instant::now(), Duration::MAX) > Instant::now() + Duration::from_secs(1 << 20));
    }
}
