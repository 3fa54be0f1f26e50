//! Requests in flight: accepted, and to be answered by somebody else.

use std::time::Instant;

use slab::Slab;

use super::access::Chosen;
use super::deadlines::Deadlines;
use super::token::ConnToken;
use crate::conn::Millis;
use crate::proto::Trace;
pub use crate::service::PendingKey;
use crate::service::ReplyTo;

/// One request in flight.
#[derive(Debug)]
pub struct Pending {
    /// Its connection; may be gone by now.
    pub token: ConnToken,
    /// What a reply needs to know.
    pub(crate) to: ReplyTo,
    /// What is waited for.
    pub wait: Wait,
    /// When the handler was called; nothing for what waits for a session's home.
    pub since: Option<Instant>,
    /// The client's trace context.
    pub trace: Option<Trace>,
    /// It gets an access line.
    pub chosen: Option<Box<Chosen>>,
    generation: u32,
}

/// What a request in flight waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A handler.
    Handler,
    /// A session's home, for an operation on its state; not past the deadline that is ours.
    State,
    /// The session store, for an operation on a session's state; not past the deadline that is ours.
    Stored,
    /// One of the two, but the deadline is the client's own.
    StateByDeadline,
    /// A session's home, or the session store, to resume it.
    Claim,
    /// The journal.
    Journal,
    /// The delivery of a message that the journal has.
    Kept,
}

/// The requests in flight of one worker.
#[derive(Debug)]
pub struct PendingTable {
    entries: Slab<Pending>,
    deadlines: Deadlines,
    capacity: usize,
    generation: u32,
    /// The request that is being served, if it gets an access line: it goes with the next one in.
    pub chosen: Option<Box<Chosen>>,
}

impl PendingTable {
    /// A table for at most `capacity` requests.
    pub fn new(capacity: usize) -> PendingTable {
        PendingTable { entries: Slab::new(), deadlines: Deadlines::default(), capacity, generation: 0, chosen: None }
    }

    /// By how much deadlines may be late. Milliseconds.
    pub fn set_granularity(&mut self, ms: u32) {
        self.deadlines.set_granularity(ms);
    }

    /// Puts a request in; `None` if the table is full.
    pub(crate) fn insert(
        &mut self,
        token: ConnToken,
        to: ReplyTo,
        wait: Wait,
        deadline: Option<Millis>,
        since: Option<Instant>,
        trace: Option<Trace>,
    ) -> Option<PendingKey> {
        if self.entries.len() >= self.capacity {
            return None;
        }
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let chosen = self.chosen.take();
        let slot = self.entries.insert(Pending { token, to, wait, since, trace, chosen, generation });
        self.deadlines.set(slot, deadline);
        Some(PendingKey(u64::from(generation) << 32 | slot as u64))
    }

    /// Takes a request out; `None` if it has been answered already.
    pub fn take(&mut self, key: PendingKey) -> Option<Pending> {
        let slot = key.0 as u32 as usize;
        if self.entries.get(slot)?.generation != (key.0 >> 32) as u32 {
            return None;
        }
        self.deadlines.set(slot, None);
        Some(self.entries.remove(slot))
    }

    /// A request's message is in the journal, and its answer waits for the delivery.
    pub fn keep(&mut self, key: PendingKey) {
        let entry = self.entries.get_mut(key.0 as u32 as usize);
        if let Some(pending) = entry.filter(|pending| pending.generation == (key.0 >> 32) as u32) {
            pending.wait = Wait::Kept;
        }
    }

    /// Takes out the request that was put in last: it is not in flight after all.
    pub fn take_back(&mut self, key: PendingKey) {
        self.chosen = self.take(key).and_then(|pending| pending.chosen);
    }

    /// Takes out the requests whose deadline has passed.
    pub fn take_expired(&mut self, now: Millis) -> Vec<Pending> {
        let mut slots = Vec::new();
        self.deadlines.expired(now, &mut slots);
        slots.into_iter().filter_map(|slot| self.entries.try_remove(slot)).collect()
    }

    /// Takes out all.
    pub fn take_all(&mut self) -> Vec<Pending> {
        let slots: Vec<usize> = self.entries.iter().map(|(slot, _)| slot).collect();
        slots.iter().for_each(|slot| self.deadlines.set(*slot, None));
        self.entries.drain().collect()
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.next()
    }

    /// Requests in flight.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Command, Version};

    #[test]
    fn a_request_is_taken_once_and_a_late_answer_meets_nobody() {
        let mut table = PendingTable::new(1);
        let token = ConnToken { slot: 1, generation: 1 };
        let to = ReplyTo { seq: 1, cmd: Command(0x20), version: Version::Plain };
        let first = table.insert(token, to, Wait::Handler, Some(Millis(100)), None, None).unwrap();
        assert!(table.insert(token, to, Wait::Handler, None, None, None).is_none(), "full");
        assert_eq!(table.take_expired(Millis(100)).len(), 1);
        assert!(table.take(first).is_none());
        let second = table.insert(token, to, Wait::Handler, None, None, None).unwrap();
        assert!(table.take(first).is_none(), "the slot is another's by now");
        assert!(table.take(second).is_some());
        assert_eq!(table.len(), 0);
    }
}
