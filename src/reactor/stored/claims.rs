//! Sessions that the store is asked for. PURE.

use std::collections::{HashMap, VecDeque};

use crate::conn::Millis;
use crate::proto::SessionId;
use crate::reactor::pending::PendingKey;
use crate::session::{Owner, Principal};

/// An AUTH that waits for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Who wants it.
    pub principal: Principal,
    /// The connection that wants it.
    pub from: Owner,
    /// The AUTH.
    pub pending: PendingKey,
    /// It waits no longer than this.
    pub until: Millis,
}

/// The sessions that are asked for, and who waits for each.
#[derive(Debug, Default)]
pub(super) struct Claims {
    asked: HashMap<SessionId, Asked>,
    /// One for each waiter, the soonest first: all wait equally long.
    due: VecDeque<(Millis, SessionId)>,
}

#[derive(Debug)]
struct Asked {
    principal: Principal,
    waiters: Vec<Waiter>,
}

impl Claims {
    /// One more waits. Returns whether the store has to be asked.
    pub fn join(&mut self, id: SessionId, waiter: Waiter) -> bool {
        self.due.push_back((waiter.until, id));
        if let Some(asked) = self.asked.get_mut(&id) {
            asked.waiters.push(waiter);
            return false;
        }
        self.asked.insert(id, Asked { principal: waiter.principal.clone(), waiters: vec![waiter] });
        true
    }

    /// One waits for something else than the store's answer to a claim, and no longer than it may.
    pub fn note_due(&mut self, id: SessionId, until: Millis) {
        self.due.push_back((until, id));
    }

    /// Whether the store is asked for it.
    pub fn has(&self, id: &SessionId) -> bool {
        self.asked.contains_key(id)
    }

    /// The store has answered: for whom it was asked, and who waits.
    pub fn take(&mut self, id: &SessionId) -> Option<(Principal, Vec<Waiter>)> {
        self.asked.remove(id).map(|asked| (asked.principal, asked.waiters))
    }

    /// A connection does not wait any more.
    pub fn give_up(&mut self, id: &SessionId, owner: Owner) {
        if let Some(asked) = self.asked.get_mut(id) {
            asked.waiters.retain(|waiter| waiter.from != owner);
        }
    }

    /// When [`Claims::expired`] has something to do.
    pub fn next_due(&self) -> Option<Millis> {
        self.due.front().map(|(due, _)| *due)
    }

    /// The next session for which somebody has waited long enough.
    pub fn next_expired(&mut self, now: Millis) -> Option<SessionId> {
        let due = self.due.front().is_some_and(|(due, _)| now.reached(*due));
        if due { self.due.pop_front().map(|(_, id)| id) } else { None }
    }

    /// Those who have waited long enough for it. The store's answer is awaited all the same.
    pub fn expired(&mut self, id: &SessionId, now: Millis) -> Vec<Waiter> {
        let asked = self.asked.get_mut(id);
        asked.map_or_else(Vec::new, |asked| waited_until(&mut asked.waiters, now))
    }
}

/// Takes those out who have waited long enough.
pub(super) fn waited_until(waiters: &mut Vec<Waiter>, now: Millis) -> Vec<Waiter> {
    waiters.extract_if(.., |waiter| now.reached(waiter.until)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = [1; 16];

    fn waiter(n: u64, until: u32) -> Waiter {
        let from = Owner { worker: 0, token: n };
        Waiter { principal: "alice".into(), from, pending: PendingKey(n), until: Millis(until) }
    }

    #[test]
    fn the_store_is_asked_once_for_all_who_wait_and_each_waits_no_longer_than_it_may() {
        let mut claims = Claims::default();
        assert!(claims.join(ID, waiter(1, 100)));
        assert!(!claims.join(ID, waiter(2, 150)) && !claims.join(ID, waiter(3, 200)));
        assert_eq!(claims.next_due(), Some(Millis(100)));
        assert_eq!(claims.next_expired(Millis(99)), None);
        assert_eq!((claims.next_expired(Millis(100)), claims.next_expired(Millis(100))), (Some(ID), None));
        assert_eq!(claims.expired(&ID, Millis(100)), [waiter(1, 100)]);
        claims.give_up(&ID, waiter(2, 0).from);
        assert_eq!(claims.expired(&ID, Millis(160)), []);
        assert!(claims.has(&ID));
        assert_eq!(claims.take(&ID), Some(("alice".into(), vec![waiter(3, 200)])));
        assert!(!claims.has(&ID) && claims.take(&ID).is_none());
        while claims.next_expired(Millis(300)).is_some() {}
        assert_eq!((claims.expired(&ID, Millis(300)), claims.next_due()), (vec![], None));
    }
}
