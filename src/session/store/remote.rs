//! What stores elsewhere have in common: who writes, how long an operation may take, and how old a connection becomes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
#[cfg(feature = "redis")]
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[cfg(feature = "mysql")]
use super::StoreDown;
use crate::config::Config;

/// This process, as its stores know it; clones are of the same process.
///
/// A store that fails over may forget a claim and give its fence once more: of two processes with one fence the
/// owner is the one that the store names.
#[derive(Clone, Debug)]
pub struct Gateway {
    id: [u8; 8],
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    turn: Arc<AtomicU64>,
}

impl Gateway {
    /// A process that no store has met.
    ///
    /// # Errors
    /// The operating system has no random bytes, and why.
    pub fn new() -> Result<Gateway, String> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|e| format!("the operating system gives no random bytes: {e}"))?;
        Ok(Gateway { id, turn: Arc::default() })
    }

    /// Its name: random, so that a process started anew is another.
    pub(super) fn id(&self) -> [u8; 8] {
        self.id
    }

    /// A number that grows with every write of this process, on whichever thread.
    #[cfg(feature = "redis")]
    pub(super) fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// How patient a store is with its server.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long one operation may take, connecting included.
    pub timeout: Duration,
    /// How long a connection may be idle until it is not used any more.
    pub idle: Duration,
    /// How old a connection may become.
    pub lifetime: Duration,
}

impl Patience {
    /// As the settings say.
    pub fn of(config: &Config) -> Patience {
        Patience {
            timeout: config.session_store_timeout,
            idle: config.session_store_idle,
            lifetime: config.session_store_lifetime,
        }
    }
}

/// When an operation must have ended.
#[cfg(feature = "mysql")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    end: Instant,
    timeout: Duration,
}

#[cfg(feature = "mysql")]
impl Deadline {
    /// From now on.
    pub fn of(patience: Patience) -> Deadline {
        Deadline { end: Instant::now() + patience.timeout, timeout: patience.timeout }
    }

    /// What is left, never zero.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn left(&self) -> Result<Duration, StoreDown> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.over()) } else { Ok(left) }
    }

    /// Whether less than half is left.
    pub fn is_past_half(&self) -> bool {
        self.end.saturating_duration_since(Instant::now()) < self.timeout / 2
    }

    /// What is said when there was no answer in time.
    pub fn over(&self) -> StoreDown {
        StoreDown(format!("no answer within {} ms (TIDEGATE_SESSION_STORE_TIMEOUT_MS)", self.timeout.as_millis()))
    }
}

/// How old a connection is, and how long unused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    opened: Instant,
    used: Instant,
}

impl Age {
    /// Of a new one.
    pub fn new() -> Age {
        let now = Instant::now();
        Age { opened: now, used: now }
    }

    /// It was of use now.
    pub fn used(&mut self) {
        self.used = Instant::now();
    }

    /// Whether it is to be closed.
    pub fn is_over(&self, patience: Patience) -> bool {
        self.opened.elapsed() >= patience.lifetime || self.used.elapsed() >= patience.idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_over_when_it_is_old_or_has_been_idle() {
        let patience = |idle, lifetime| Patience { timeout: Duration::ZERO, idle, lifetime };
        let (none, long) = (Duration::ZERO, Duration::from_secs(1_000));
        let age = Age::new();
        assert!(!age.is_over(patience(long, long)));
        assert!(age.is_over(patience(none, long)));
        assert!(age.is_over(patience(long, none)));
    }

    #[test]
    fn two_processes_have_two_names() {
        assert_ne!(Gateway::new().unwrap().id(), Gateway::new().unwrap().id());
    }
}
