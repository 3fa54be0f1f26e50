//! Failed logins: told at once, told later, or not looked at.

use std::collections::HashMap;

use super::about::about;
use super::serve::Services;
use super::tick::{Reactor, Slot};
use super::token::ConnToken;
use super::turn::find;
use crate::auth::Refused;
use crate::auth::failures::FailureRules;
use crate::config::Config;
use crate::conn::{Millis, Refusal};
use crate::proto::ErrorCode;

/// Connections whose AUTH has failed and whose answer is put off. Few, and mostly none at all.
#[derive(Debug)]
pub struct Held {
    due: HashMap<ConnToken, Millis>,
    /// No answer is due before this; `None`: none is.
    next: Option<Millis>,
    /// How long answers are put off.
    rules: FailureRules,
    /// Connections whose answer is put off at the same time.
    limit: usize,
    /// By how much an answer may be later still. Milliseconds.
    granularity_ms: u32,
}

impl Held {
    /// By the settings of `worker`.
    pub fn new(config: &Config, worker: usize) -> Held {
        let rules = FailureRules::from(config);
        let mut held = Held { due: HashMap::new(), next: None, rules, limit: 0, granularity_ms: 0 };
        held.tune(config, worker);
        held
    }

    /// Takes the settings that may be other ones after a reload.
    pub fn tune(&mut self, config: &Config, worker: usize) {
        let core = config.core(worker);
        self.rules = FailureRules::from(config);
        self.limit = core.auth_held;
        self.granularity_ms = core.timer_granularity_ms;
    }

    /// Puts an answer off. Returns false, and does not, if too many wait already.
    fn insert(&mut self, token: ConnToken, at: Millis) -> bool {
        if self.due.len() >= self.limit {
            return false;
        }
        self.due.insert(token, at);
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
        true
    }

    /// Forgets a connection. Returns whether it was held.
    pub fn remove(&mut self, token: ConnToken) -> bool {
        !self.due.is_empty() && self.due.remove(&token).is_some()
    }

    /// When [`Held::take_due`] should be called next.
    pub fn next(&self) -> Option<Millis> {
        self.next
    }

    /// Takes out the connections whose time has come.
    fn take_due(&mut self, now: Millis) -> Vec<ConnToken> {
        if !self.next.is_some_and(|next| now.reached(next)) {
            return Vec::new();
        }
        let due: Vec<ConnToken> = self.due.extract_if(|_, at| now.reached(*at)).map(|(token, _)| token).collect();
        let earliest = now.plus(self.granularity_ms);
        let next = self.due.values().copied().reduce(Millis::min);
        self.next = next.map(|next| if next.reached(earliest) { next } else { earliest });
        due
    }
}

/// If the token of a connection that has not said AUTH yet will not be looked at: the milliseconds
/// until it would be.
pub(super) fn unchecked_for(services: &Services, held: &Held, slot: &Slot) -> Option<u32> {
    if !services.failures.refuses_any() || !slot.conn.awaits_auth() {
        return None;
    }
    services.failures.refuses(&held.rules, slot.transport.peer()?.ip(), services.clock.monotonic_ms())
}

impl Reactor {
    /// A connection's token was refused: it is told so, at once or when its source's debt allows.
    pub(super) fn refuse_auth(&mut self, token: ConnToken, why: Refused) {
        let Some(slot) = self.conns.get(token.slot as usize) else { return };
        about!(Debug, self.about(token, slot), None; "AUTH refused because {why}");
        let Some(peer) = slot.transport.peer() else {
            return self.tell_auth_failed(token); // it has gone already: there is nobody to be slowed
        };
        let (services, rules) = (&self.services, &self.held.rules);
        let delay_ms = services.failures.note(rules, peer.ip(), services.clock.monotonic_ms());
        if delay_ms > 0 && self.held.insert(token, self.hub.now.plus(delay_ms)) {
            return self.wire.stats.auth_slowed.add(1);
        }
        self.tell_auth_failed(token);
    }

    /// Tells those whose time has come.
    pub(super) fn answer_held(&mut self) {
        for token in self.held.take_due(self.now()) {
            self.tell_auth_failed(token);
        }
    }

    /// The auth timer is an answer's last moment, however long it was to be put off. Returns whether
    /// there was one.
    pub(super) fn answer_in_time(&mut self, token: ConnToken) -> bool {
        let now = self.now();
        let deadline =
            find(&mut self.conns, token).and_then(|slot| slot.conn.next_deadline(&self.wire.rules, &self.wire.buffers));
        let due = deadline.is_some_and(|at| now.reached(at)) && self.held.remove(token);
        if due {
            self.tell_auth_failed(token);
        }
        due
    }

    /// Unless it was told something else meanwhile: DRAINING.
    fn tell_auth_failed(&mut self, token: ConnToken) {
        let refusal = Refusal { code: ErrorCode::AuthFailed, retry_after_ms: 0 };
        self.step(token, |conn, cx| {
            conn.refuse(cx, refusal);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Core;

    fn held(limit: usize) -> Held {
        let core = Core { auth_held: limit, ..Core::default() };
        Held::new(&Config { core, ..Config::default() }, 0)
    }

    fn token(slot: u32) -> ConnToken {
        ConnToken { slot, generation: 1 }
    }

    #[test]
    fn answers_come_when_they_are_due_and_only_for_those_that_are_still_there() {
        let mut held = held(8);
        assert!(held.insert(token(1), Millis(300)) && held.insert(token(2), Millis(100)));
        assert!(held.insert(token(3), Millis(100)));
        held.remove(token(3));
        assert_eq!(held.next(), Some(Millis(100)));
        assert_eq!(held.take_due(Millis(99)), []);
        assert_eq!(held.take_due(Millis(100)), [token(2)]);
        assert_eq!(held.next(), Some(Millis(300)));
        assert_eq!(held.take_due(Millis(300)), [token(1)]);
        assert_eq!(held.next(), None);
    }

    #[test]
    fn no_more_are_held_than_there_is_room_for() {
        let mut one = held(1);
        assert!(one.insert(token(1), Millis(1)) && !one.insert(token(2), Millis(1)));
        one.remove(token(1));
        assert!(one.insert(token(2), Millis(1)));
        assert!(!held(0).insert(token(1), Millis(1)));
    }
}
