//! How long to wait before the next attempt. PURE: the random numbers come in by the constructor.

use std::time::Duration;

/// Exponential backoff with full jitter: each delay is drawn evenly from 0 to a ceiling that
/// doubles with every attempt, so that clients which failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    attempt: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    /// The first ceiling is `base`, the last is `max`. One seed gives one sequence of delays.
    pub fn new(base: Duration, max: Duration, rng: fastrand::Rng) -> Backoff {
        Backoff { base: base.min(max), max, attempt: 0, rng }
    }

    /// The delay before the next attempt, which counts as failed until [`Backoff::reset`].
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceiling(self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        self.jitter(ceiling)
    }

    /// Begins again at `base`.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The largest delay.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The largest delay after `attempt` failures.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }

    /// A duration drawn evenly from 0 to `ceiling`.
    pub fn jitter(&mut self, ceiling: Duration) -> Duration {
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.u64(0..=nanos))
    }

    /// An index below `len`, or 0.
    pub fn pick(&mut self, len: usize) -> usize {
        if len == 0 { 0 } else { self.rng.usize(0..len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded(seed: u64) -> Backoff {
        Backoff::new(Duration::from_millis(50), Duration::from_secs(2), fastrand::Rng::with_seed(seed))
    }

    #[test]
    fn ceilings_double_from_base_to_max_and_stay_there() {
        let backoff = seeded(1);
        let ceilings: Vec<u128> = (0..8).map(|n| backoff.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(backoff.ceiling(u32::MAX), Duration::from_secs(2));
    }

    #[test]
    fn delays_fill_the_whole_range_below_the_ceiling_and_never_pass_it() {
        let (mut low, mut high) = (0, 0);
        for seed in 0..500 {
            let mut backoff = seeded(seed);
            for attempt in 0..10 {
                let ceiling = backoff.ceiling(attempt);
                let delay = backoff.next_delay();
                assert!(delay <= ceiling, "attempt {attempt}: {delay:?} over {ceiling:?}");
                low += u32::from(delay < ceiling / 10);
                high += u32::from(delay > ceiling * 9 / 10);
            }
        }
        assert!(low > 300 && high > 300, "of 5000 draws {low} in the lowest tenth, {high} in the highest");
    }

    #[test]
    fn one_seed_gives_one_sequence_and_reset_begins_again_at_base() {
        let delays = |seed| {
            let mut backoff = seeded(seed);
            (0..5).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
        let mut backoff = seeded(3);
        assert!((0..9).map(|_| backoff.next_delay()).any(|delay| delay > Duration::from_millis(50)));
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(50));
    }
}
