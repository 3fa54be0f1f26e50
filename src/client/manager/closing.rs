//! The end of the client: in good order, or now.

use std::sync::Arc;
use std::time::Instant;

use super::{LinkId, Manager};
use crate::client::ClientError;
use crate::client::call::{Call, Slot};
use crate::client::dial::Dial;
use crate::client::link::Link;

/// The end of the client, in good order.
#[derive(Debug)]
pub(super) struct Closing {
    /// Until this is sent, the session is not over.
    pub(super) bye: Option<Call>,
    pub(super) slots: Vec<Arc<Slot<Result<(), ClientError>>>>,
    pub(super) deadline: Instant,
    /// What went wrong.
    pub(super) failed: Option<ClientError>,
}

impl Manager {
    /// Ends the client once every call has its answer: with BYE if one is given, else with GOAWAY.
    pub fn handle_close(&mut self, bye: Option<Call>, slot: Arc<Slot<Result<(), ClientError>>>, deadline: Instant) {
        let closing =
            self.closing.get_or_insert_with(|| Closing { bye: None, slots: Vec::new(), deadline, failed: None });
        closing.slots.push(slot);
        closing.deadline = closing.deadline.max(deadline);
        if bye.is_some() {
            closing.bye = bye;
        }
    }

    /// Once nothing waits to be sent: says good-bye, or gives up a connection that is not needed.
    pub(super) fn update_closing(&mut self, now: Instant) {
        let Some(closing) = &mut self.closing else { return };
        if !self.queue.is_empty() {
            return;
        }
        if let Some(bye) = closing.bye.take() {
            self.queue.push(bye);
            return self.send_queued(now);
        }
        self.current = None;
        self.leave_all_but(None);
        self.abort_dial();
        self.dial = Dial::Idle;
    }

    pub(super) fn leave_all_but(&mut self, stays: Option<LinkId>) {
        for (_, link) in self.links.iter_mut().filter(|(id, link)| Some(**id) != stays && link.is_ready()) {
            link.send_goaway();
        }
    }

    /// Whether `close` or `bye` has come to its end; tells those who wait for it.
    pub fn is_closed(&mut self) -> bool {
        let done = self.closing.as_ref().is_some_and(|closing| closing.bye.is_none())
            && self.queue.is_empty()
            && self.links.is_empty();
        if done && let Some(closing) = self.closing.take() {
            let result = closing.failed.map_or(Ok(()), Err);
            closing.slots.iter().for_each(|slot| slot.complete(result.clone()));
        }
        done
    }

    /// Ends everything now.
    pub fn abort(&mut self, error: &ClientError, now: Instant) {
        for orphan in std::mem::take(&mut self.links).values_mut().flat_map(Link::take_all) {
            if !orphan.sent {
                orphan.into_unprocessed(self.counters()).complete(Err(error.clone()));
                continue;
            }
            self.counters().unknown.add(1);
            let error = match orphan.call.deadline <= now {
                true => orphan.call.deadline_error(),
                false => ClientError::UnknownOutcome { why: "the client was closed".to_owned() },
            };
            orphan.call.complete(Err(error));
        }
        self.current = None;
        self.dial = Dial::Idle;
        self.queue.fail_all(error);
        for slot in self.first.take().into_iter().chain(self.closing.iter_mut().flat_map(|c| c.slots.drain(..))) {
            slot.complete(Err(error.clone()));
        }
        if let Some(bye) = self.closing.as_mut().and_then(|closing| closing.bye.take()) {
            bye.complete(Err(error.clone()));
        }
    }
}
