//! Sessions: the identity that survives reconnects. PURE core; a worker's memory, which a [`store`] may follow.
//!
//! A session lives in the table of the worker that created it, from its first READY until BYE or
//! until its time to live has run out after its last connection. Its connection may be on any
//! worker: the id says where the session lives, and workers ask each other by message. No lock, and
//! no map: the id leads to the slot, the secret in it proves the id.
//!
//! ```text
//! AUTH + RESUME on worker 2 ──Claim──► worker 0 (the session's home) ──Granted──► worker 2
//!                                         └──Evict──► worker 1 (its older connection: `replaced`)
//! ```

mod id;
mod keeping;
mod principals;
mod state;
pub mod store;

use std::collections::{HashSet, VecDeque};

use slab::Slab;
use subtle::ConstantTimeEq;

pub use id::{IdKey, Locator, SECRET_LEN, Secret, Secrets, log_name};
pub use keeping::Ended;
pub use principals::{Principal, PrincipalId, Principals};
pub use state::{State, StateFull, StateLimits};

use crate::proto::SessionId;

/// The connection that a session is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its worker.
    pub worker: u16,
    /// Its token on that worker.
    pub token: u64,
}

/// A session's slot in its home's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey(pub u32);

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The session is the claimant's now; `previous` was on it, and is replaced.
    Granted {
        /// Its slot.
        key: SessionKey,
        /// The connection that it was on.
        previous: Option<Owner>,
    },
    /// Unknown, expired, or another principal's: there is nothing to resume.
    Unknown,
}

/// The table has all the sessions it may have, and none that nobody would miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionsFull;

/// How large a table, and each session in it, may grow.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Sessions.
    pub sessions: usize,
    /// Each session's state.
    pub state: StateLimits,
    /// Seconds that a session outlives its connection.
    pub ttl_s: u32,
}

/// The sessions that live on one worker.
#[derive(Debug)]
pub struct Sessions {
    worker: u16,
    ids: IdKey,
    limits: SessionLimits,
    slots: Slab<Session>,
    states: Slab<State>,
    principals: Principals,
    /// Sessions without a connection, soonest end first: all have the same time to live, so the
    /// order of leaving is the order of ending. An entry whose session came back in between is
    /// stale and skipped.
    leaving: VecDeque<(u32, SessionKey)>,
    unowned: usize,
    /// For the store that they are kept in, if there is one.
    keeping: Option<Box<keeping::Keeping>>,
}

/// Whose request it is. The id of a session is made from its place and its secret only when it is
/// asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller<'a> {
    /// The session is in this table.
    Here(&'a Sessions, SessionKey),
    /// It is in another worker's.
    Elsewhere(&'a SessionId, &'a Principal),
}

impl<'a> Caller<'a> {
    /// The session's id.
    pub fn session(self) -> SessionId {
        match self {
            Caller::Here(sessions, key) => sessions.id(key),
            Caller::Elsewhere(id, _) => *id,
        }
    }

    /// The session's principal.
    pub fn principal(self) -> &'a Principal {
        match self {
            Caller::Here(sessions, key) => sessions.principal(key),
            Caller::Elsewhere(_, principal) => principal,
        }
    }
}

/// 32 bytes: half of what one idle client costs.
#[derive(Debug)]
struct Session {
    secret: Secret,
    /// [`UNOWNED`], or the worker of its connection.
    worker: u16,
    /// What [`keeping`] has to know.
    flags: u8,
    /// The token of its connection, or the second at which it ends.
    token_or_end: u64,
    principal: PrincipalId,
    /// Key into `states`, or [`NO_STATE`].
    state: u32,
}

const UNOWNED: u16 = u16::MAX;
const NO_STATE: u32 = u32::MAX;
/// Sessions looked at for one that nobody would miss, when the table is full.
const EVICTION_TRIES: usize = 64;

const _: () = assert!(size_of::<Session>() == 32 && size_of::<Option<Session>>() == 32);
const _: () = assert!(crate::limits::MAX_WORKERS < UNOWNED as usize);

impl Sessions {
    /// An empty table for one worker.
    pub fn new(worker: u16, ids: IdKey, limits: SessionLimits) -> Sessions {
        Sessions {
            worker,
            ids,
            limits,
            // Reserved once and never moved, like connections; pages that are not touched cost nothing.
            slots: Slab::with_capacity(limits.sessions),
            states: Slab::new(),
            principals: Principals::default(),
            leaving: VecDeque::new(),
            unowned: 0,
            keeping: None,
        }
    }

    /// Creates a session for a connection. `secret` must come from the operating system's generator.
    pub fn create(&mut self, principal: &str, owner: Owner, secret: Secret) -> Result<SessionKey, SessionsFull> {
        self.make_room()?;
        let principal = self.principals.hold(principal);
        let (worker, token_or_end) = (owner.worker, owner.token);
        let session = Session { secret, worker, flags: 0, token_or_end, principal, state: NO_STATE };
        let key = SessionKey(self.slots.insert(session) as u32);
        self.note_begin(key);
        Ok(key)
    }

    /// Gives the session with this id, if it is this principal's, to a connection.
    pub fn claim(&mut self, id: &SessionId, principal: &str, owner: Owner, now_s: u32) -> Claim {
        let Some(key) = self.find(id) else { return Claim::Unknown };
        if !self.is_for(key, principal, now_s) {
            return Claim::Unknown;
        }
        let session = &mut self.slots[key.0 as usize];
        let previous = session.owner();
        if previous.is_none() {
            self.unowned -= 1;
        }
        session.worker = owner.worker;
        session.token_or_end = owner.token;
        if previous.is_none() {
            self.note_use(key);
        }
        Claim::Granted { key, previous: previous.filter(|previous| *previous != owner) }
    }

    /// Whether the session is this principal's, and its time has not run out: the sweep may only not have come by.
    pub fn is_for(&self, key: SessionKey, principal: &str, now_s: u32) -> bool {
        self.slots.get(key.0 as usize).is_some_and(|session| {
            let lives = session.worker != UNOWNED || u64::from(now_s) < session.token_or_end;
            lives && **self.principals.name(session.principal) == *principal
        })
    }

    /// The session with this id, whoever has it.
    pub fn find(&self, id: &SessionId) -> Option<SessionKey> {
        let (locator, secret) = self.ids.decode(id);
        let own = self.slots.get(locator.slot as usize).filter(|_| locator.worker == self.worker);
        let own = own.filter(|session| bool::from(session.secret.ct_eq(&secret)));
        own.map(|_| SessionKey(locator.slot)).or_else(|| self.find_adopted(id))
    }

    /// The session's id.
    pub fn id(&self, key: SessionKey) -> SessionId {
        if let Some(id) = self.adopted_id(key) {
            return id;
        }
        let locator = Locator { worker: self.worker, slot: key.0 };
        self.ids.encode(locator, &self.slots[key.0 as usize].secret)
    }

    /// The session's principal.
    pub fn principal(&self, key: SessionKey) -> &Principal {
        self.principals.name(self.slots[key.0 as usize].principal)
    }

    /// The connection that the session is on.
    pub fn owner(&self, key: SessionKey) -> Option<Owner> {
        self.slots.get(key.0 as usize).and_then(Session::owner)
    }

    /// The session's connection is gone: its time to live begins. Does nothing if the session is on
    /// another connection by now.
    pub fn release(&mut self, key: SessionKey, owner: Owner, now_s: u32) {
        let Some(session) = self.slots.get_mut(key.0 as usize) else { return };
        if session.owner() != Some(owner) {
            return;
        }
        let end = now_s.saturating_add(self.limits.ttl_s);
        session.worker = UNOWNED;
        session.token_or_end = u64::from(end);
        self.unowned += 1;
        self.leaving.push_back((end, key));
        self.note_use(key);
        if self.leaving.len() > 2 * self.unowned + 1024 {
            let slots = &self.slots;
            let mut seen = HashSet::new();
            self.leaving.retain(|(end, key)| is_leaving(slots, *key, *end) && seen.insert(*key));
        }
    }

    /// Ends the session, if it is on this connection.
    pub fn end(&mut self, key: SessionKey, owner: Owner) {
        if self.owner(key) == Some(owner) {
            self.remove(key);
        }
    }

    /// Every session on a connection of `worker` is without one: that worker has lost them all.
    /// Looks at the whole table.
    pub fn release_all_of(&mut self, worker: u16, now_s: u32) {
        let lost: Vec<_> = self
            .slots
            .iter()
            .filter_map(|(key, session)| Some((SessionKey(key as u32), session.owner()?)))
            .filter(|(_, owner)| owner.worker == worker)
            .collect();
        lost.into_iter().for_each(|(key, owner)| self.release(key, owner, now_s));
    }

    /// Forgets sessions whose time has run out, at most `budget` at once. Returns how many.
    pub fn sweep(&mut self, now_s: u32, budget: usize) -> usize {
        let mut ended = 0;
        for _ in 0..budget {
            let Some(&(end, key)) = self.leaving.front() else { break };
            let live = is_leaving(&self.slots, key, end);
            if live && end > now_s {
                break;
            }
            self.leaving.pop_front();
            if live {
                self.remove(key);
                ended += 1;
            }
        }
        ended
    }

    /// The second at which [`Sessions::sweep`] has something to do.
    pub fn next_end(&self) -> Option<u32> {
        self.leaving.front().map(|(end, _)| *end)
    }

    /// The value of a key of the session's state.
    pub fn get(&self, key: SessionKey, name: &[u8]) -> Option<&[u8]> {
        self.states.get(self.slots.get(key.0 as usize)?.state as usize)?.get(name)
    }

    /// Sets a key of the session's state.
    pub fn put(&mut self, key: SessionKey, name: &[u8], value: &[u8]) -> Result<(), StateFull> {
        let Some(session) = self.slots.get_mut(key.0 as usize) else { return Ok(()) };
        if session.state == NO_STATE {
            session.state = self.states.insert(State::default()) as u32;
        }
        let result = self.states[session.state as usize].put(name, value, self.limits.state);
        self.drop_empty_state(key);
        result
    }

    /// Sets a key of the session's state, whose limits were asked before.
    pub fn put_surely(&mut self, key: SessionKey, name: &[u8], value: &[u8]) {
        let Some(session) = self.slots.get_mut(key.0 as usize) else { return };
        if session.state == NO_STATE {
            session.state = self.states.insert(State::default()) as u32;
        }
        let any = StateLimits { entries: usize::MAX, bytes: usize::MAX };
        // Nothing goes over these.
        let _ = self.states[session.state as usize].put(name, value, any);
    }

    /// Removes a key of the session's state, if it is there.
    pub fn delete(&mut self, key: SessionKey, name: &[u8]) {
        let Some(session) = self.slots.get(key.0 as usize) else { return };
        if let Some(state) = self.states.get_mut(session.state as usize) {
            state.delete(name);
            self.drop_empty_state(key);
        }
    }

    /// Sessions alive, connected or not.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Each session's limits.
    pub fn limits(&self) -> SessionLimits {
        self.limits
    }

    fn drop_empty_state(&mut self, key: SessionKey) {
        let session = &mut self.slots[key.0 as usize];
        if self.states.get(session.state as usize).is_some_and(State::is_empty) {
            self.states.remove(session.state as usize);
            session.state = NO_STATE;
        }
    }

    fn remove(&mut self, key: SessionKey) {
        self.note_end(key);
        self.discard(key);
    }

    fn discard(&mut self, key: SessionKey) {
        let session = self.slots.remove(key.0 as usize);
        self.note_gone(key, session.flags);
        self.principals.let_go(session.principal);
        if session.worker == UNOWNED {
            self.unowned -= 1;
        }
        if session.state != NO_STATE {
            self.states.remove(session.state as usize);
        }
    }

    fn make_room(&mut self) -> Result<(), SessionsFull> {
        if self.slots.len() >= self.limits.sessions && !self.evict_one() {
            return Err(SessionsFull);
        }
        Ok(())
    }

    /// Makes room by forgetting the session nearest its end that holds no state: nothing that was
    /// acknowledged goes with it.
    fn evict_one(&mut self) -> bool {
        let slots = &self.slots;
        let candidate = self
            .leaving
            .iter()
            .take(EVICTION_TRIES)
            .find(|(end, key)| is_leaving(slots, *key, *end) && slots[key.0 as usize].state == NO_STATE);
        let Some(&(_, key)) = candidate else { return false };
        self.remove(key);
        // The entry goes stale; those at the front are dropped now, so that they do not pile up
        // in front of the ones that the next eviction looks for.
        while let Some(&(end, key)) = self.leaving.front() {
            if is_leaving(&self.slots, key, end) {
                break;
            }
            self.leaving.pop_front();
        }
        true
    }
}

impl Session {
    fn owner(&self) -> Option<Owner> {
        (self.worker != UNOWNED).then_some(Owner { worker: self.worker, token: self.token_or_end })
    }
}

fn is_leaving(slots: &Slab<Session>, key: SessionKey, end: u32) -> bool {
    slots.get(key.0 as usize).is_some_and(|s| s.worker == UNOWNED && s.token_or_end == u64::from(end))
}

#[cfg(test)]
mod tests;
