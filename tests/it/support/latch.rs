//! Holds handlers up until a test lets them go.

use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;

/// Closed at first; counts who has come to it.
#[derive(Clone, Default)]
pub struct Latch(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    open: bool,
    arrived: usize,
}

impl Latch {
    /// A closed one.
    pub fn new() -> Latch {
        Latch::default()
    }

    /// In a handler: waits until it is open.
    pub fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.arrived += 1;
        changed.notify_all();
        // Past this the test has failed elsewhere; the handler's thread must not outlive it.
        drop(changed.wait_timeout_while(state, 2 * PATIENCE, |state| !state.open).unwrap());
    }

    /// In a test: waits until this many have come.
    pub fn wait_for(&self, arrived: usize) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let (state, timeout) = changed.wait_timeout_while(state, PATIENCE, |state| state.arrived < arrived).unwrap();
        assert!(!timeout.timed_out(), "{} of {arrived} requests reached their handler", state.arrived);
    }

    /// How many have come.
    pub fn arrived(&self) -> usize {
        self.0.0.lock().unwrap().arrived
    }

    /// Holds up those who come from here on.
    pub fn close(&self) {
        self.0.0.lock().unwrap().open = false;
    }

    /// Lets all through, now and later.
    pub fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }
}
