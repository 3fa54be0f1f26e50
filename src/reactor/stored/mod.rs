//! The sessions of one worker that a store is to know of. PURE: what goes to the store's threads leaves with a
//! [`Courier`], what they tell comes in by [`Stored::settle`].
//!
//! | what | when the store is told | who waits |
//! |---|---|---|
//! | a session begins | soon, some hundreds together | nobody |
//! | SESSION_PUT, SESSION_DELETE | at the end of the tick | the request, until it is committed |
//! | SESSION_GET | never | behind a write of the same key that is not committed |
//! | AUTH with RESUME of a session that is not here | at the end of the tick | the AUTH |
//! | a session ends | soon | nobody |
//! | it is used, or no longer | soon, and again in a third of its time to live; the embedded store: never | nobody |

mod claims;
mod close;
mod flight;
mod settle;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use slab::Slab;

pub use claims::Waiter;
pub(crate) use close::Leftover;
pub use flight::Asker;

use self::claims::{Claims, waited_until};
use self::flight::Flight;
use super::mailbox::StateOp;
use super::serve::{StateSlices, state_is_full};
use crate::conn::Millis;
use crate::limits::{MAX_STORE_SAVING, MAX_TIMER_MS};
use crate::proto::{ErrorCode, SessionId};
use crate::service::{Failure, Outcome};
use crate::session::store::runner::{Ask, Courier, Told};
use crate::session::store::{StoreKey, WITH_ITS_OWNER, Wanted, Write, store_key};
use crate::session::{Owner, SessionKey, Sessions};

/// How long a step lasts in which sessions in use are touched, unless there are only few. Milliseconds.
const ROLL_STEP_MS: u64 = 1_000;

/// The time, by all the clocks that this needs.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The tick's.
    pub tick: Millis,
    /// The slow clock of sessions.
    pub s: u32,
    /// The wall's, milliseconds since 1970.
    pub wall_ms: u64,
}

/// How an operation on a session's state begins.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// It can be answered from the copy.
    Now,
    /// It has to wait: [`Stored::wait`] is to be called for it, or [`Stored::refrain`].
    Later,
    /// It can't be done.
    Refused(Failure),
}

/// What is to be done for others.
#[derive(Debug, Default)]
pub struct Effects {
    /// Requests that have their answers.
    pub answers: Vec<(Asker, Outcome)>,
    /// AUTHs for which the store was asked, and the session, if that is here now.
    pub claimed: Vec<(Waiter, Option<SessionId>)>,
    /// AUTHs for which the store has not said whether it has their session: to be given another one would lose
    /// them what is in it.
    pub unknown: Vec<Waiter>,
    /// Connections whose sessions another gateway has taken over.
    pub evicted: Vec<Owner>,
}

/// One worker's.
#[derive(Debug)]
pub struct Stored {
    courier: Courier,
    flights: Slab<Flight>,
    by_session: HashMap<SessionKey, usize>,
    /// Flights with something that waits to be sent.
    ready: Vec<usize>,
    ends: Ends,
    claims: Claims,
    /// Messages under way that nobody waits for.
    saving: usize,
    /// As many as there may be.
    saving_limit: usize,
    /// After a failure nothing is saved before this.
    rests_until: Option<Millis>,
    /// The server ends: what is written is when sessions end without it.
    closing: bool,
    roll: Roll,
    effects: Effects,
}

/// Sessions that have ended here and may be in the store.
#[derive(Debug, Default)]
struct Ends {
    waiting: VecDeque<(StoreKey, u64)>,
    /// Those, and those whose end is under way.
    all: HashSet<StoreKey>,
}

/// How far the sessions in use have been touched.
#[derive(Debug)]
struct Roll {
    /// When it last went on.
    at: Millis,
    /// When it goes on.
    due: Option<Millis>,
    next: usize,
    slots: usize,
}

impl Stored {
    /// With the way to the store.
    pub fn new(courier: Courier) -> Stored {
        Stored {
            courier,
            flights: Slab::new(),
            by_session: HashMap::new(),
            ready: Vec::new(),
            ends: Ends::default(),
            claims: Claims::default(),
            saving: 0,
            saving_limit: MAX_STORE_SAVING,
            rests_until: None,
            closing: false,
            roll: Roll { at: Millis(0), due: None, next: 0, slots: 0 },
            effects: Effects::default(),
        }
    }

    /// How long an operation may take. Milliseconds.
    pub fn timeout_ms(&self) -> u32 {
        self.courier.options().timeout.as_millis().min(u128::from(MAX_TIMER_MS)) as u32
    }

    /// Whether an operation can be done now, has to wait, or can't be done.
    pub fn begin(&mut self, sessions: &Sessions, key: SessionKey, op: &StateSlices<'_>) -> Begun {
        let flight = self.by_session.get(&key).and_then(|flight| self.flights.get(*flight));
        if let StateSlices::Get(name) = op
            && !flight.is_some_and(|flight| flight.writes(name))
        {
            return Begun::Now;
        }
        let (copy, limits) = (sessions.state(key), sessions.limits().state);
        let fits = match flight {
            Some(flight) if flight.unsure.len() > limits.entries => return Begun::Refused(is_down()),
            Some(flight) => flight.check(copy, op, limits),
            None => Flight::new([0; 16], 0, None).check(copy, op, limits),
        };
        match fits {
            Err(full) => Begun::Refused(state_is_full(full, sessions)),
            Ok(()) if !self.courier.enter() => {
                let text = "too many operations wait for the session store";
                Begun::Refused(Failure { retry_after_ms: 1_000, ..Failure::new(ErrorCode::Unavailable, text) })
            }
            Ok(()) => Begun::Later,
        }
    }

    /// An operation that has to wait, waits.
    pub fn wait(&mut self, sessions: &Sessions, key: SessionKey, op: StateOp, asker: Asker) {
        let flight = self.flight_of(sessions, key);
        self.flights[flight].push(sessions.state(key), op, asker);
        self.ready.push(flight);
    }

    /// An operation that was to wait does not.
    pub fn refrain(&mut self) {
        self.courier.leave(1);
    }

    /// A session is to end, once what waits for the store is answered. `false`: nothing does.
    pub fn end_later(&mut self, key: SessionKey, owner: Owner) -> bool {
        let flight = self.by_session.get(&key).and_then(|flight| self.flights.get_mut(*flight));
        let Some(flight) = flight.filter(|flight| !flight.queue.is_empty()) else { return false };
        flight.ending = Some(owner);
        true
    }

    /// Sessions have ended since the last call: their slots may be others' soon.
    pub fn note_ends(&mut self, sessions: &mut Sessions) {
        for ended in sessions.take_ended() {
            self.session_ended(ended);
        }
    }

    /// Asks the store for a session that is not here. `false`: it is not to be had.
    pub fn ask(&mut self, id: &SessionId, waiter: Waiter) -> bool {
        let key = store_key(id);
        if self.ends.all.contains(&key) || (!self.claims.has(id) && !self.courier.enter()) {
            return false;
        }
        let principal = (*waiter.principal).into();
        if self.claims.join(*id, waiter) {
            let until = Instant::now() + self.courier.options().timeout;
            self.courier.put(&key, Ask::Claim { id: *id, wanted: Wanted { key, principal }, until });
        }
        true
    }

    /// Whether another gateway may have taken over what is here, so that it is to be verified before somebody
    /// resumes it.
    pub fn verifies(&self) -> bool {
        self.courier.options().touches
    }

    /// A session that is here is to be resumed, once the store has said that it is ours still.
    pub fn verify(&mut self, sessions: &mut Sessions, key: SessionKey, waiter: Waiter) {
        self.claims.note_due(sessions.id(key), waiter.until);
        let flight = self.flight_of(sessions, key);
        self.flights[flight].verifying.push(waiter);
        self.ready.push(flight);
    }

    /// A connection does not wait for a session any more.
    pub fn give_up(&mut self, sessions: &Sessions, id: &SessionId, owner: Owner) {
        self.claims.give_up(id, owner);
        if let Some(flight) = self.flight_with(sessions, id) {
            let verifying = std::mem::take(&mut flight.verifying);
            let before = flight.out.map_or(0, |out| out.verifies);
            let gone_before = verifying.iter().take(before).filter(|waiter| waiter.from == owner).count();
            flight.verifying = verifying.into_iter().filter(|waiter| waiter.from != owner).collect();
            if let Some(out) = &mut flight.out {
                out.verifies -= gone_before;
            }
        }
    }

    fn flight_with(&mut self, sessions: &Sessions, id: &SessionId) -> Option<&mut Flight> {
        let flight = *self.by_session.get(&sessions.find(id)?)?;
        self.flights.get_mut(flight)
    }

    /// Lets those go who have waited for a session long enough.
    pub fn expire(&mut self, sessions: &Sessions, now: &Now) {
        while let Some(id) = self.claims.next_expired(now.tick) {
            let claiming = self.claims.expired(&id, now.tick);
            self.effects.unknown.extend(claiming);
            // What is here is resumed without the store's word: that is as good as it gets while it is silent.
            let Some(flight) = self.flight_with(sessions, &id) else { continue };
            let sent = flight.out.map_or(0, |out| out.verifies);
            let before = flight.verifying.iter().take(sent).filter(|waiter| now.tick.reached(waiter.until)).count();
            if let Some(out) = &mut flight.out {
                out.verifies -= before;
            }
            let verifying = waited_until(&mut flight.verifying, now.tick);
            self.effects.claimed.extend(verifying.into_iter().map(|waiter| (waiter, Some(id))));
        }
    }

    /// What is to be done for others, since the last call.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Takes what the threads have told. Waits for it until then, if that is told.
    pub fn take_told(&self, until: Option<Instant>) -> Option<Vec<Told>> {
        self.courier.take_told(until)
    }

    /// The end of a tick: sends what there is to be sent.
    pub fn flush(&mut self, sessions: &mut Sessions, now: &Now) {
        self.note_ends(sessions);
        for flight in std::mem::take(&mut self.ready) {
            self.depart(sessions, flight, false, now);
        }
        self.roll(sessions, now);
        if self.rests_until.is_none_or(|until| now.tick.reached(until)) {
            self.rests_until = None;
            while self.saving < self.saving_limit
                && let Some((key, fence)) = self.ends.waiting.pop_front()
            {
                let flight = self.flights.insert(Flight::new(key, fence, None));
                let writes = self.flights[flight].end();
                self.send(flight, writes, true);
            }
            while self.saving < self.saving_limit
                && let Some(key) = sessions.next_changed()
            {
                let flight = self.flight_of(sessions, key);
                self.flights[flight].again |= self.flights[flight].out.is_some();
                self.depart(sessions, flight, true, now);
            }
        }
        self.courier.send();
        if let Some(counters) = self.courier.counters() {
            counters.unsaved.set(sessions.unsaved() as u64);
        }
    }

    /// When [`Stored::expire`] or [`Stored::flush`] has something to do.
    pub fn next(&self, sessions: &Sessions, now: Millis) -> Option<Millis> {
        let waits = sessions.has_changed() || !self.ends.waiting.is_empty();
        let save = (waits && self.saving < self.saving_limit).then(|| self.rests_until.unwrap_or(now));
        let ready = (!self.ready.is_empty() || sessions.has_ended()).then_some(now);
        [save, ready, self.roll.due, self.claims.next_due()].into_iter().flatten().reduce(Millis::min)
    }

    /// Whether nothing waits for the store any more, and nothing is to be told it.
    pub fn is_idle(&self, sessions: &Sessions) -> bool {
        let told = !sessions.has_changed() && !sessions.has_ended() && self.ends.all.is_empty();
        told && self.ready.is_empty() && self.flights.iter().all(|(_, flight)| flight.out.is_none())
    }

    fn flight_of(&mut self, sessions: &Sessions, key: SessionKey) -> usize {
        *self.by_session.entry(key).or_insert_with(|| {
            let (store, fence) = (store_key(&sessions.id(key)), sessions.fence(key));
            self.flights.insert(Flight::new(store, fence, Some(key)))
        })
    }

    /// Sends a flight's next message, if it has something to say and none is under way.
    fn depart(&mut self, sessions: &mut Sessions, index: usize, saving: bool, now: &Now) {
        let Some(flight) = self.flights.get_mut(index) else { return };
        let (None, Some(key)) = (flight.out, flight.session) else { return };
        let touch = sessions.take_touch(key) || !flight.verifying.is_empty();
        let ends_ms = match sessions.end_s(key) {
            _ if !self.courier.options().touches && !self.closing => WITH_ITS_OWNER,
            None => now.wall_ms.saturating_add(u64::from(sessions.limits().ttl_s) * 1_000),
            Some(end_s) => now.wall_ms.saturating_add(u64::from(end_s.saturating_sub(now.s)) * 1_000),
        };
        let writes = if sessions.is_saved(key) {
            flight.each(sessions.state(key), touch.then_some(ends_ms), saving)
        } else {
            flight.whole(sessions.state(key), sessions.principal(key), ends_ms, saving)
        };
        if writes.is_empty() {
            return self.land(sessions, index, now);
        }
        self.send(index, writes, saving);
    }

    fn send(&mut self, index: usize, writes: Vec<Write>, saving: bool) {
        self.saving += usize::from(saving);
        let key = self.flights[index].key;
        self.courier.put(&key, Ask::Write { flight: index as u32, writes });
    }

    /// Nothing is under way for it: on with what waits, or it is over.
    fn land(&mut self, sessions: &mut Sessions, index: usize, now: &Now) {
        let Some(flight) = self.flights.get_mut(index) else { return };
        let Some(key) = flight.session else {
            let (key, fence) = (flight.key, flight.fence);
            self.flights.remove(index);
            self.ends.waiting.push_back((key, fence));
            return;
        };
        if flight.queue.is_empty()
            && let Some(owner) = flight.ending.take()
        {
            sessions.end(key, owner);
            self.note_ends(sessions);
            if !self.by_session.contains_key(&key) {
                return;
            }
        }
        let Some(flight) = self.flights.get_mut(index) else { return };
        if std::mem::take(&mut flight.again) || !flight.unsure.is_empty() {
            sessions.note_change(key);
        }
        if !flight.queue.is_empty() || !flight.verifying.is_empty() {
            self.depart(sessions, index, false, now);
        } else if flight.unsure.is_empty() {
            self.flights.remove(index);
            self.by_session.remove(&key);
        }
    }

    /// Sessions in use are touched in a third of their time to live, some of them in each step: so their time
    /// does not run out, and whoever has lost one learns it.
    fn roll(&mut self, sessions: &mut Sessions, now: &Now) {
        let due = self.roll.due.is_none_or(|due| now.tick.reached(due));
        if !due || !self.courier.options().touches || self.closing {
            return;
        }
        let third_ms = (u64::from(sessions.limits().ttl_s) * 1_000 / 3).max(1);
        let passed = u64::from(now.tick.since(self.roll.at));
        let share = (self.roll.slots as u64 * passed).div_ceil(third_ms);
        let end = (self.roll.next + share as usize).min(self.roll.slots);
        self.roll.slots = sessions.note_connected(self.roll.next..end);
        self.roll.next = if end >= self.roll.slots { 0 } else { end };
        let step = third_ms.div_ceil(self.roll.slots.max(1) as u64);
        let step = step.clamp((third_ms / 4).clamp(1, ROLL_STEP_MS), MAX_TIMER_MS.into());
        self.roll.at = now.tick;
        self.roll.due = Some(now.tick.plus(step as u32));
    }
}

fn got(sessions: &Sessions, key: SessionKey, name: &[u8]) -> Outcome {
    match sessions.get(key, name) {
        Some(value) => reply(value.to_vec()),
        None => Outcome::Error(Failure::of(ErrorCode::NotFound)),
    }
}

fn reply(payload: Vec<u8>) -> Outcome {
    Outcome::Reply { payload, fallback: None }
}

fn is_down() -> Failure {
    let text = "the session store does not answer: it is not known to hold this";
    Failure { retry_after_ms: 1_000, ..Failure::new(ErrorCode::Unavailable, text) }
}
