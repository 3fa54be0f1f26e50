//! Tokens that expire under their connection.

use super::about::about;
use super::deadlines::Deadlines;
use super::tick::Reactor;
use super::token::ConnToken;
use crate::config::{AuthExpiry, Config};
use crate::conn::{Departure, Millis};
use crate::limits::{EXPIRY_RECHECK_MS, MAX_TIMER_MS};
use crate::proto::{GoAwayReason, GoAwayStage};

/// How soon a connection is looked at again that can't be told now, because its session is still asked for.
const SOON_MS: u32 = 1_000;
/// In the place of a second: it was told, and is to be ended.
const TOLD: u32 = u32::MAX;

/// When which connection's token expires, by slot. Holds nothing until a token comes that does.
///
/// Tokens expire by the wall clock and timers run by the monotonic one: a timer is set for the
/// distance at AUTH, for [`EXPIRY_RECHECK_MS`] at most, and the wall clock decides when it fires.
#[derive(Debug)]
pub struct Expiries {
    timers: Deadlines,
    /// Seconds from the Unix epoch: from then on the token would not get in any more.
    until: Vec<u32>,
    slots: usize,
    /// How long a connection is served after it was told; `None`: it is not told.
    grace_ms: Option<u32>,
}

impl Expiries {
    /// For connections in so many slots of `worker`.
    pub fn new(config: &Config, worker: usize, slots: usize) -> Expiries {
        let mut expiries = Expiries { timers: Deadlines::default(), until: Vec::new(), slots, grace_ms: None };
        expiries.tune(config, worker);
        expiries
    }

    /// Takes the settings that may be other ones after a reload. Connections that came in while
    /// expiry was not heeded stay.
    pub fn tune(&mut self, config: &Config, worker: usize) {
        let grace_ms = config.auth_expiry_grace.as_millis().min(u128::from(MAX_TIMER_MS)) as u32;
        self.grace_ms = (config.auth_expiry == AuthExpiry::Close).then_some(grace_ms);
        self.timers.set_granularity(config.core(worker).timer_granularity_ms);
    }

    /// A connection came in with a token that expires at `until`, seconds from the Unix epoch.
    /// `wall_ms` is that clock now.
    pub fn set(&mut self, slot: usize, until: u64, wall_ms: u64, now: Millis) {
        // The year 2106 is as good as never.
        let Some(until) = u32::try_from(until).ok().filter(|until| *until != TOLD) else { return };
        if self.grace_ms.is_none() {
            return;
        }
        if self.until.capacity() == 0 {
            // Reserved once and never moved, like the connections: not touched, it costs nothing.
            self.until.reserve_exact(self.slots);
            self.timers.reserve(self.slots);
        }
        if slot >= self.until.len() {
            self.until.resize(slot + 1, 0);
        }
        self.until[slot] = until;
        self.timers.set(slot, Some(now.plus(left(until, wall_ms))));
    }

    /// A slot's connection is gone.
    pub fn clear(&mut self, slot: usize) {
        if slot < self.until.len() {
            self.timers.set(slot, None);
        }
    }

    /// When [`Reactor::expire_tokens`] should be called next.
    pub fn next(&self) -> Option<Millis> {
        self.timers.next()
    }
}

/// Milliseconds to wait for a token's expiry, or for the next look at the wall clock; 0: it has expired.
fn left(until: u32, wall_ms: u64) -> u32 {
    let left = (u64::from(until) * 1_000).saturating_sub(wall_ms);
    left.min(u64::from(EXPIRY_RECHECK_MS)) as u32
}

impl Reactor {
    /// Tells connections whose token has expired to come back with another (GOAWAY stage 0), and
    /// ends those that were told and did not (stage 1).
    pub(super) fn expire_tokens(&mut self) {
        let now = self.now();
        if !self.hub.expiries.next().is_some_and(|next| now.reached(next)) {
            return;
        }
        let mut due = Vec::new();
        self.hub.expiries.timers.expired(now, &mut due);
        let wall_ms = self.services.clock.wall_ms();
        for key in due {
            self.expire_token(key, wall_ms);
        }
    }

    fn expire_token(&mut self, key: usize, wall_ms: u64) {
        let now = self.now();
        let Some(slot) = self.conns.get(key) else { return };
        let token = ConnToken { slot: key as u32, generation: slot.generation };
        // A drain tells everybody, and has a deadline of its own.
        let (Some(grace_ms), false, false) = (self.hub.expiries.grace_ms, self.draining, slot.conn.is_leaving()) else {
            return;
        };
        let was_told = self.hub.expiries.until[key] == TOLD;
        let wait_ms = match (was_told, slot.conn.is_ready()) {
            (_, false) => SOON_MS,
            (true, true) => 0,
            (false, true) => left(self.hub.expiries.until[key], wall_ms),
        };
        if wait_ms > 0 {
            return self.hub.expiries.timers.set(key, Some(now.plus(wait_ms)));
        }
        if !was_told {
            self.wire.stats.auth_expired.add(1);
            about!(Debug, self.about(token, slot), None; "its token has expired: the connection is told to go");
        }
        if was_told || grace_ms == 0 {
            let departure = Departure::because(GoAwayReason::Operator, self.wire.rules.linger_ms);
            return self.step(token, |conn, cx| conn.expire(cx, departure, GoAwayStage::Final));
        }
        self.hub.expiries.until[key] = TOLD;
        self.hub.expiries.timers.set(key, Some(now.plus(grace_ms)));
        let departure = Departure::because(GoAwayReason::Operator, grace_ms);
        self.step(token, |conn, cx| conn.expire(cx, departure, GoAwayStage::Notice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn expiries() -> Expiries {
        Expiries::new(&Config::default(), 0, 1_000)
    }

    fn due(expiries: &mut Expiries, now: Millis) -> Vec<usize> {
        let mut slots = Vec::new();
        expiries.timers.expired(now, &mut slots);
        slots
    }

    #[test]
    fn a_timer_is_set_for_the_distance_on_the_wall_and_looks_at_it_again_within_the_hour() {
        let mut expiries = expiries();
        expiries.set(3, NOW_S + 2, NOW_S * 1_000 + 500, Millis(7));
        assert_eq!(expiries.next(), Some(Millis(1_507)));
        expiries.set(4, NOW_S + 1_000_000_000, NOW_S * 1_000, Millis(7));
        assert_eq!(due(&mut expiries, Millis(1_507)), [3]);
        assert_eq!(expiries.next(), Some(Millis(7 + EXPIRY_RECHECK_MS)));
        assert_eq!((left(10, 9_999), left(10, 10_000), left(10, u64::MAX)), (1, 0, 0));
    }

    #[test]
    fn the_next_connection_in_a_slot_has_nothing_to_do_with_the_one_before() {
        let mut expiries = expiries();
        expiries.set(3, NOW_S + 1, NOW_S * 1_000, Millis(0));
        expiries.clear(3);
        expiries.clear(900);
        assert_eq!(due(&mut expiries, Millis(5_000)), [0; 0]);
    }

    #[test]
    fn where_no_token_expires_nothing_is_held() {
        let mut expiries = expiries();
        expiries.clear(500);
        expiries.set(500, u64::MAX, NOW_S * 1_000, Millis(0));
        let keep = Config { auth_expiry: AuthExpiry::Keep, ..Config::default() };
        let mut kept = Expiries::new(&keep, 0, 1_000);
        kept.set(500, NOW_S, NOW_S * 1_000, Millis(0));
        for expiries in [expiries, kept] {
            assert_eq!((expiries.until.capacity(), expiries.next()), (0, None));
        }
    }
}
