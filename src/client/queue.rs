//! Calls that wait to be sent, for the first time or again. PURE.

use std::collections::VecDeque;
use std::time::Instant;

use crate::client::ClientError;
use crate::client::call::Call;

/// Calls in the order in which they are to be sent, and those that must wait until an instant.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Call>,
    delayed: Vec<(Instant, Call)>,
}

impl Queue {
    pub fn push(&mut self, call: Call) {
        self.waiting.push_back(call);
    }

    /// Puts calls that were sent before in front of those that were not, in their order.
    pub fn push_front(&mut self, calls: Vec<Call>) {
        calls.into_iter().rev().for_each(|call| self.waiting.push_front(call));
    }

    /// Keeps a call back until `at`.
    pub fn delay(&mut self, at: Instant, call: Call) {
        self.delayed.push((at, call));
    }

    /// Lets go of calls for which nobody waits any more, and makes those ready whose time has come.
    pub fn update(&mut self, now: Instant) {
        self.waiting.retain(|call| !call.is_left());
        self.delayed.retain(|(_, call)| !call.is_left());
        let mut due: Vec<_> = self.delayed.extract_if(.., |(at, _)| *at <= now).collect();
        due.sort_by_key(|(at, _)| *at);
        self.waiting.extend(due.into_iter().map(|(_, call)| call));
    }

    /// The next call to send.
    pub fn pop(&mut self) -> Option<Call> {
        self.waiting.pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.delayed.is_empty()
    }

    /// When the next call that is kept back may go.
    pub fn next_timer(&self) -> Option<Instant> {
        self.delayed.iter().map(|(at, _)| *at).min()
    }

    pub fn fail_all(&mut self, error: &ClientError) {
        let delayed = self.delayed.drain(..).map(|(_, call)| call);
        self.waiting.drain(..).chain(delayed).for_each(|call| call.complete(Err(error.clone())));
    }
}
