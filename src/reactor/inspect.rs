//! What a worker tells of its connections, and does to one of them, when an operator asks.
//!
//! A list is made in slices, one in each tick: half a million connections are looked through without
//! their requests waiting for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::Sender;
use mio::Waker;

use super::hub::caller;
use super::mailbox::Letter;
use super::tick::{Reactor, Slot};
use super::token::ConnToken;
use super::turn::find;
use crate::conn::{Departure, View};
use crate::proto::{GoAwayReason, SessionId};

/// Slots of the slab that one tick looks at.
const SLOTS_PER_TICK: usize = 2_048;

/// What one connection that is listed costs of these: its peer's address is a system call.
const SLOTS_A_ROW: usize = 8;

/// Which connections are asked for. All workers share it while they answer.
#[derive(Debug)]
pub struct ListQuery {
    principal: Option<String>,
    left: AtomicUsize,
    cancelled: AtomicBool,
}

impl ListQuery {
    /// At most `limit` connections, of this principal or of all.
    pub fn new(principal: Option<String>, limit: usize) -> ListQuery {
        ListQuery { principal, left: AtomicUsize::new(limit), cancelled: AtomicBool::new(false) }
    }

    /// Nobody waits for it any more.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Takes the right to list one more.
    fn take(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// One connection, as its worker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its name on its worker, for as long as it lives.
    pub connection: u64,
    /// Its session, once it has one.
    pub session: Option<SessionId>,
    /// Whom it speaks for, once it has said so.
    pub principal: Option<String>,
    /// The other end.
    pub peer: Option<SocketAddr>,
    /// How it stands.
    pub view: View,
}

/// What one worker has to say to a [`ListQuery`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPart {
    /// Connections that match.
    pub connections: Vec<ConnectionInfo>,
    /// There are more, over the limit.
    pub truncated: bool,
}

/// A connection that was told to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnected {
    /// The connection.
    pub info: ConnectionInfo,
    /// It was on its way out already: nothing was done.
    pub was_leaving: bool,
}

/// Where a worker's answer goes: a channel, and whoever sleeps beside it.
#[derive(Clone, Debug)]
pub struct Back<T> {
    /// Answers, each with its worker.
    pub answers: Sender<(u16, T)>,
    /// Woken behind each answer.
    pub waker: Option<Arc<Waker>>,
}

impl<T> Back<T> {
    fn tell(&self, worker: u16, answer: T) {
        // Who has asked may have given up by now.
        let _ = self.answers.send((worker, answer));
        if let Some(waker) = &self.waker
            && let Err(error) = waker.wake()
        {
            log::warn!(worker = worker; "who asked for an answer can't be woken: {error}");
        }
    }
}

/// A list that a worker is making.
#[derive(Debug)]
pub(super) struct Listing {
    query: Arc<ListQuery>,
    back: Back<ListPart>,
    next: usize,
    part: ListPart,
}

impl Reactor {
    pub(super) fn begin_list(&mut self, query: Arc<ListQuery>, back: Back<ListPart>) {
        self.listings.push_back(Listing { query, back, next: 0, part: ListPart::default() });
    }

    /// A slice of the oldest list that is not complete.
    pub(super) fn go_on_listing(&mut self) {
        let Some(mut listing) = self.listings.pop_front() else { return };
        if listing.query.cancelled.load(Ordering::Relaxed) {
            return;
        }
        let slots = self.slots();
        let mut budget = SLOTS_PER_TICK;
        while listing.next < slots && budget > 0 && !listing.part.truncated {
            let looked_at =
                if self.list_slot(listing.next, &listing.query, &mut listing.part) { SLOTS_A_ROW } else { 1 };
            budget = budget.saturating_sub(looked_at);
            listing.next += 1;
        }
        if listing.next < slots && !listing.part.truncated {
            return self.listings.push_front(listing);
        }
        listing.back.tell(self.hub.worker, listing.part);
    }

    /// Puts the connection in a slot into the list, if there is one and it matches.
    fn list_slot(&self, key: usize, query: &ListQuery, part: &mut ListPart) -> bool {
        let Some(slot) = self.conns.get(key) else { return false };
        if let Some(wanted) = &query.principal {
            let caller = caller(&self.hub.sessions, &self.hub.remotes, slot.session);
            if caller.is_none_or(|caller| **caller.principal() != **wanted) {
                return false;
            }
        }
        if query.take() {
            part.connections.push(self.describe(key, slot));
        } else {
            part.truncated = true;
        }
        true
    }

    fn describe(&self, key: usize, slot: &Slot) -> ConnectionInfo {
        let caller = caller(&self.hub.sessions, &self.hub.remotes, slot.session);
        ConnectionInfo {
            connection: ConnToken { slot: key as u32, generation: slot.generation }.to_u64(),
            session: caller.map(|caller| caller.session()),
            principal: caller.map(|caller| caller.principal().to_string()),
            peer: slot.transport.peer(),
            view: slot.conn.view(self.now(), &self.wire.buffers),
        }
    }

    /// This is the session's home: finds its connection and tells it to go, or has its worker do so.
    pub(super) fn disconnect(&mut self, id: SessionId, back: Back<Option<Disconnected>>) {
        let owner = self.hub.sessions.find(&id).and_then(|key| self.hub.sessions.owner(key));
        match owner {
            None => back.tell(self.hub.worker, None),
            Some(owner) if owner.worker == self.hub.worker => self.dismiss(owner.token, back),
            Some(owner) => self.hub.post_to_surely(owner.worker, Letter::Dismiss { token: owner.token, back }),
        }
    }

    /// GOAWAY stage 1: what it has asked is answered, then it is closed. Its session stays for its
    /// time to live.
    pub(super) fn dismiss(&mut self, token: u64, back: Back<Option<Disconnected>>) {
        let token = ConnToken::from_u64(token);
        let Some(slot) = find(&mut self.conns, token) else { return back.tell(self.hub.worker, None) };
        let was_leaving = slot.conn.is_leaving();
        let info = self.describe(token.slot as usize, &self.conns[token.slot as usize]);
        let deadline_ms = self.wire.rules.linger_ms;
        self.step(token, |conn, cx| conn.finish(cx, Departure::because(GoAwayReason::Operator, deadline_ms)));
        back.tell(self.hub.worker, Some(Disconnected { info, was_leaving }));
    }
}
