//! What workers may be given anew while they run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::Authenticator;
use crate::config::Config;

/// The configuration in effect, and who gets in by it.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub config: Arc<Config>,
    pub auth: Arc<Authenticator>,
}

/// The present [`Live`]. A worker looks at one number a tick, and takes the lock when it has changed.
#[derive(Debug)]
pub(crate) struct LiveCell {
    version: AtomicU64,
    now: Mutex<Live>,
}

impl LiveCell {
    pub fn new(live: Live) -> LiveCell {
        LiveCell { version: AtomicU64::new(0), now: Mutex::new(live) }
    }

    /// What is in effect.
    pub fn get(&self) -> Live {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another into effect; workers take it over at their next tick.
    pub fn put(&self, live: Live) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = live;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The newer one, for whoever has `seen` an older version.
    pub fn newer(&self, seen: &mut u64) -> Option<Live> {
        let version = self.version.load(Ordering::Acquire);
        (version != std::mem::replace(seen, version)).then(|| self.get())
    }
}
