//! A session store in the test's memory: several servers may share it, and it fails as a test wants it to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate::session::store::{
    MakeStore, SessionStore, StoreDown, StoreKey, Stored, WITH_ITS_OWNER, Wanted, Write, WriteOp, Written,
};

use super::PATIENCE;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Up,
    /// Every operation fails, and nothing is done.
    Down,
    /// Every operation hangs until that changes.
    Hangs,
    /// Writes are done, and fail all the same.
    Forgetful,
}

/// All clones are of the same store.
#[derive(Clone)]
pub struct SharedStore(Arc<(Mutex<State>, Condvar)>);

struct State {
    manner: Manner,
    sessions: HashMap<StoreKey, Session>,
    commits: usize,
    made: usize,
    closed: usize,
}

struct Session {
    principal: Box<str>,
    fence: u64,
    ends_ms: u64,
    state: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

impl SharedStore {
    pub fn new() -> SharedStore {
        let state = State { manner: Manner::Up, sessions: HashMap::new(), commits: 0, made: 0, closed: 0 };
        SharedStore(Arc::new((Mutex::new(state), Condvar::new())))
    }

    /// What a server makes its stores with.
    pub fn maker(&self) -> MakeStore {
        let store = self.clone();
        Arc::new(move || {
            store.state().made += 1;
            Ok(Box::new(store.clone()) as Box<dyn SessionStore>)
        })
    }

    pub fn be(&self, manner: Manner) {
        self.state().manner = manner;
        self.0.1.notify_all();
    }

    /// Sessions in it, and how many of them hold something.
    pub fn sessions(&self) -> (usize, usize) {
        let state = self.state();
        (state.sessions.len(), state.sessions.values().filter(|session| !session.state.is_empty()).count())
    }

    /// When each session ends, soonest first.
    pub fn ends(&self) -> Vec<u64> {
        let mut ends: Vec<u64> = self.state().sessions.values().map(|session| session.ends_ms).collect();
        ends.sort_unstable();
        ends
    }

    /// Loses everything that it has.
    pub fn lose_all(&self) {
        self.state().sessions.clear();
    }

    pub fn commits(&self) -> usize {
        self.state().commits
    }

    /// How many of those that were made have been closed, and how many not.
    pub fn closed(&self) -> (usize, usize) {
        let state = self.state();
        (state.closed, state.made - state.closed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while it hangs.
    fn answer(&self) -> Result<MutexGuard<'_, State>, StoreDown> {
        let (_, changed) = &*self.0;
        let hangs = |state: &mut State| state.manner == Manner::Hangs;
        let (state, _) = changed.wait_timeout_while(self.state(), PATIENCE + Duration::from_secs(10), hangs).unwrap();
        if state.manner == Manner::Down { Err(StoreDown("a test wants it so".to_owned())) } else { Ok(state) }
    }
}

impl SessionStore for SharedStore {
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreDown> {
        let mut state = self.answer()?;
        state.commits += 1;
        let written = writes.iter().map(|write| state.write(write)).collect();
        if state.manner == Manner::Forgetful { Err(StoreDown("it has forgotten".to_owned())) } else { Ok(written) }
    }

    fn claim(&mut self, wanted: &[Wanted], now_ms: u64) -> Result<Vec<Option<Stored>>, StoreDown> {
        let mut state = self.answer()?;
        Ok(wanted.iter().map(|wanted| state.claim(wanted, now_ms)).collect())
    }

    fn sweep(&mut self, now_ms: u64, _budget: usize) -> Result<usize, StoreDown> {
        let mut state = self.answer()?;
        let before = state.sessions.len();
        state.sessions.retain(|_, session| session.ends_ms > now_ms);
        Ok(before - state.sessions.len())
    }

    fn close(self: Box<Self>) -> Result<(), StoreDown> {
        self.state().closed += 1;
        Ok(())
    }
}

impl State {
    fn write(&mut self, write: &Write) -> Written {
        let there = self.sessions.get_mut(&write.key);
        if there.as_ref().is_some_and(|session| session.fence > write.fence) {
            return Written::Lost;
        }
        match (&write.op, there) {
            (WriteOp::Open { principal, ends_ms, state }, _) => {
                assert_ne!(*ends_ms, WITH_ITS_OWNER, "it can't tell when a process ends");
                let state = state.iter().cloned().collect();
                let session = Session { principal: principal.clone(), fence: write.fence, ends_ms: *ends_ms, state };
                self.sessions.insert(write.key, session);
            }
            (WriteOp::End, _) => drop(self.sessions.remove(&write.key)),
            (_, None) => return Written::Gone,
            (op, Some(session)) => {
                session.fence = write.fence;
                match op {
                    WriteOp::Put(name, value) => drop(session.state.insert(name.clone(), value.clone())),
                    WriteOp::Delete(name) => drop(session.state.remove(name)),
                    WriteOp::Touch { ends_ms } => session.ends_ms = *ends_ms,
                    WriteOp::Open { .. } | WriteOp::End => {}
                }
            }
        }
        Written::Done
    }

    fn claim(&mut self, wanted: &Wanted, now_ms: u64) -> Option<Stored> {
        let session = self.sessions.get_mut(&wanted.key)?;
        if session.principal != wanted.principal || session.ends_ms <= now_ms {
            return None;
        }
        session.fence += 1;
        let state = session.state.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(Stored { fence: session.fence, state })
    }
}
