//! When a store is taken for down. PURE.

use std::time::{Duration, Instant};

/// Counts failures in a row; after so many the store is left alone for a while.
#[derive(Debug)]
pub(super) struct Breaker {
    limit: u32,
    rest: Duration,
    failures: u32,
    /// Why it is taken for down, since its failures were too many and until something succeeds again.
    down: Option<String>,
    /// It is not asked before.
    until: Option<Instant>,
}

/// What one more outcome has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// It is taken for down from here on.
    Broke,
    /// It is back.
    Mended,
}

impl Breaker {
    /// Breaks after `limit` failures in a row, each time for `rest`.
    pub fn new(limit: u32, rest: Duration) -> Breaker {
        Breaker { limit: limit.max(1), rest, failures: 0, down: None, until: None }
    }

    /// Why the store is taken for down.
    pub fn down(&self) -> Option<&str> {
        self.down.as_deref()
    }

    /// Until when it is not to be asked.
    pub fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// Whether it may be asked. After a rest, one who asks is let through, and the others have to wait for how
    /// that ends, or for another rest.
    pub fn admits(&mut self, now: Instant) -> bool {
        if self.down.is_none() {
            return true;
        }
        if self.rests_until(now).is_some() {
            return false;
        }
        self.until = Some(now + self.rest);
        true
    }

    /// Something has succeeded.
    pub fn succeeded(&mut self) -> Change {
        self.failures = 0;
        self.until = None;
        if self.down.take().is_some() { Change::Mended } else { Change::None }
    }

    /// Something has failed.
    pub fn failed(&mut self, why: &str, now: Instant) -> Change {
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.limit {
            return Change::None;
        }
        self.until = Some(now + self.rest);
        let broke = self.down.replace(why.to_owned()).is_none();
        if broke { Change::Broke } else { Change::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_it_rests_and_one_try_at_a_time_finds_out_whether_it_is_back() {
        let (start, rest) = (Instant::now(), Duration::from_secs(1));
        let at = |ms| start + Duration::from_millis(ms);
        let mut breaker = Breaker::new(3, rest);
        assert_eq!((breaker.failed("a", at(0)), breaker.failed("b", at(1))), (Change::None, Change::None));
        assert_eq!(breaker.succeeded(), Change::None, "not in a row");
        for _ in 0..2 {
            assert_eq!(breaker.failed("c", at(2)), Change::None);
            assert!(breaker.admits(at(2)) && breaker.down().is_none());
        }
        assert_eq!(breaker.failed("d", at(3)), Change::Broke);
        assert_eq!((breaker.down(), breaker.rests_until(at(3))), (Some("d"), Some(at(1_003))));
        assert!(!breaker.admits(at(1_002)));
        assert!(breaker.admits(at(1_003)), "one tries");
        assert!(!breaker.admits(at(1_004)), "and nobody else meanwhile");
        assert_eq!(breaker.failed("e", at(1_500)), Change::None, "that is told once");
        assert_eq!(breaker.rests_until(at(1_501)), Some(at(2_500)));
        assert!(breaker.admits(at(2_500)));
        assert_eq!(breaker.succeeded(), Change::Mended);
        assert!(breaker.admits(at(2_501)) && breaker.down().is_none());
    }
}
