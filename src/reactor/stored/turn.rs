//! How a worker's requests and ticks meet the session store.

use super::{Asker, Begun, Now, Stored, Waiter};
use crate::conn::{AuthVerdict, Dispatched, Millis};
use crate::limits::MAX_TIMER_MS;
use crate::proto::{Frame, SessionId};
use crate::reactor::hub::{Hub, SessionPlace, SessionRef};
use crate::reactor::mailbox::StateOp;
use crate::reactor::pending::{PendingKey, Wait};
use crate::reactor::serve::{RETRY_AFTER, StateSlices, Turn, run_state_op};
use crate::reactor::tick::Reactor;
use crate::reactor::token::ConnToken;
use crate::service::{AnswerSink, Failure, Outcome, ReplyTo};
use crate::session::store::runner::Courier;
use crate::session::{Owner, Principal, SessionKey};

impl Reactor {
    /// What the store's threads have told is taken in, and what this tick has for them is sent.
    pub(in crate::reactor) fn turn_stored(&mut self) {
        if self.hub.stored.is_none() {
            return;
        }
        self.hub.note_ends();
        let now = self.hub.stored_now(self.services.clock.wall_ms());
        let Some(stored) = &mut self.hub.stored else { return };
        while let Some(told) = stored.take_told(None) {
            told.into_iter().for_each(|told| stored.settle(&mut self.hub.sessions, told, &now));
        }
        stored.expire(&self.hub.sessions, &now);
        let effects = stored.take_effects();
        for owner in effects.evicted {
            self.hub.replace(owner);
        }
        for (waiter, id) in effects.claimed {
            let Waiter { principal, from, pending, .. } = waiter;
            let granted = id.is_some_and(|id| self.hub.claim(&id, &principal, from).is_some());
            self.answer(Asker { worker: from.worker, pending }, Outcome::Claimed(granted));
        }
        for Waiter { from, pending, .. } in effects.unknown {
            self.answer(Asker { worker: from.worker, pending }, Outcome::Unclaimed);
        }
        for (asker, outcome) in effects.answers {
            self.answer(asker, outcome);
        }
        self.hub.flush_stored(&now);
    }

    /// From here on the sessions that live here are kept in a store.
    pub(crate) fn keep_sessions(&mut self, courier: Courier) {
        self.hub.sessions.keep(courier.options().touches);
        self.hub.stored = Some(Box::new(Stored::new(courier)));
    }

    fn answer(&mut self, asker: Asker, outcome: Outcome) {
        if asker.worker == self.hub.worker {
            self.handle_answer(asker.pending, outcome);
        } else if let Some(mailbox) = self.hub.mailboxes.get(usize::from(asker.worker)) {
            mailbox.deliver(asker.pending, outcome);
        }
    }
}

impl Hub {
    /// How long an operation of the session store may take; 0 where there is none. Milliseconds.
    pub(in crate::reactor) fn store_timeout_ms(&self) -> u32 {
        self.stored.as_ref().map_or(0, |stored| stored.timeout_ms())
    }

    /// When the store is to be told something, or somebody has waited for it long enough.
    pub(in crate::reactor) fn next_stored(&self, now: Millis) -> Option<Millis> {
        self.stored.as_ref().and_then(|stored| stored.next(&self.sessions, now))
    }

    /// Whether the store has to be asked before somebody resumes a session that may live here.
    pub(in crate::reactor) fn asks_store(&self, id: &SessionId) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.verifies() || self.sessions.find(id).is_none())
    }

    /// The session with this id, which may live here, for a connection anywhere. `None`: the store is asked,
    /// and the answer follows.
    pub(in crate::reactor) fn claim_for(
        &mut self,
        id: &SessionId,
        principal: &Principal,
        from: Owner,
        pending: PendingKey,
    ) -> Option<bool> {
        if !self.asks_store(id) {
            return Some(self.claim(id, principal, from).is_some());
        }
        let until = self.now.plus(self.store_timeout_ms());
        let waiter = Waiter { principal: principal.clone(), from, pending, until };
        let stored = self.stored.as_mut()?;
        match self.sessions.find(id) {
            Some(key) if !self.sessions.is_for(key, principal, self.now_s) => Some(false),
            Some(key) => {
                stored.verify(&mut self.sessions, key, waiter);
                None
            }
            None => (!stored.ask(id, waiter)).then_some(false),
        }
    }

    /// BYE, of a connection anywhere: the session ends when what was asked of it before is answered.
    pub(in crate::reactor) fn end(&mut self, key: SessionKey, owner: Owner) {
        if !self.stored.as_mut().is_some_and(|stored| stored.end_later(key, owner)) {
            self.sessions.end(key, owner);
            self.note_ends();
        }
    }

    /// Sessions have ended, or may have: nothing under way to the store is theirs any more, before somebody else
    /// has their slots.
    pub(in crate::reactor) fn note_ends(&mut self) {
        if let Some(stored) = &mut self.stored {
            stored.note_ends(&mut self.sessions);
        }
    }

    /// A session that was claimed lives here after all: the way to it is short.
    pub(in crate::reactor) fn bring_home(&mut self, session: &mut SessionRef) {
        if let SessionPlace::Elsewhere(remote) = session.place()
            && let Some(id) = self.remotes.get(remote).map(|remote| remote.id)
            && self.home(&id) == Some(self.worker)
            && let Some(key) = self.sessions.find(&id)
        {
            self.remotes.remove(remote);
            *session = SessionRef::here(key);
        }
    }

    /// An operation on the state of a session that lives here, for a connection on another worker.
    pub(in crate::reactor) fn state_for(&mut self, key: SessionKey, op: StateOp, asker: Asker) {
        let Hub { sessions, stored: Some(stored), .. } = self else { return };
        let outcome = match stored.begin(sessions, key, &op.as_slices()) {
            Begun::Later => return stored.wait(sessions, key, op, asker),
            Begun::Refused(failure) => Outcome::Error(failure),
            Begun::Now => match run_state_op(sessions, key, &op.as_slices()) {
                Ok(value) => Outcome::Reply { payload: value.to_vec(), fallback: None },
                Err(failure) => Outcome::Error(failure),
            },
        };
        if let Some(mailbox) = self.mailboxes.get(usize::from(asker.worker)) {
            mailbox.deliver(asker.pending, outcome);
        }
    }

    fn replace(&mut self, owner: Owner) {
        if owner.worker == self.worker {
            self.evicted.push(ConnToken::from_u64(owner.token));
        } else {
            self.post_to_surely(owner.worker, crate::reactor::Letter::Evict { token: owner.token });
        }
    }

    fn stored_now(&self, wall_ms: u64) -> Now {
        Now { tick: self.now, s: self.now_s, wall_ms }
    }

    fn flush_stored(&mut self, now: &Now) {
        if let Some(stored) = &mut self.stored {
            stored.flush(&mut self.sessions, now);
        }
    }
}

impl Turn<'_> {
    /// AUTH waits for the store, which may have the session that it wants to resume.
    pub(in crate::reactor) fn claim_stored(&mut self, id: SessionId, principal: Principal) -> AuthVerdict {
        let Some(pending) = self.put_claim_in_flight(id, &principal) else {
            // AUTH works without the store: that session is not to be had now.
            return self.open_session(&principal);
        };
        let from = self.hub.owner(self.token);
        if self.hub.claim_for(&id, &principal, from, pending).is_none() {
            return AuthVerdict::Later;
        }
        self.hub.pending.take_back(pending);
        self.hub.forget(self.session);
        self.open_session(&principal)
    }

    /// An operation on the state of a session that lives here.
    pub(in crate::reactor) fn stored_state(
        &mut self,
        key: SessionKey,
        to: ReplyTo,
        op: StateSlices<'_>,
        request: &Frame<'_>,
        out: &mut Vec<u8>,
    ) -> Dispatched {
        let hub = &mut *self.hub;
        let Some(stored) = &mut hub.stored else { return Dispatched::InFlight };
        match stored.begin(&hub.sessions, key, &op) {
            Begun::Refused(failure) => return to.encode_failure(out, &failure),
            Begun::Now => {
                return match run_state_op(&mut hub.sessions, key, &op) {
                    Ok(value) => to.encode_reply(out, value, None),
                    Err(failure) => to.encode_failure(out, &failure),
                };
            }
            Begun::Later => {}
        }
        let store_ms = stored.timeout_ms();
        let (wait, wait_ms) = match request.extensions.deadline_ms() {
            Some(ms) if ms <= store_ms => (Wait::StateByDeadline, ms),
            _ => (Wait::Stored, store_ms),
        };
        let deadline = Some(hub.now.plus(wait_ms.min(MAX_TIMER_MS)));
        let trace = request.extensions.trace();
        let Some(pending) = hub.pending.insert(self.token, to, wait, deadline, None, trace) else {
            stored.refrain();
            hub.stats.overloaded.add(1);
            return to.encode_failure(out, &Failure::overloaded(RETRY_AFTER));
        };
        stored.wait(&hub.sessions, key, op.to_owned(), Asker { worker: hub.worker, pending });
        Dispatched::InFlight
    }
}
