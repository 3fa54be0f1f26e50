//! Where a worker's time goes.
//!
//! Waiting and working are told apart exactly, by two looks at the clock in a tick. What work there
//! was is looked at closely in one tick of [`SAMPLED`] only, or after a while, since it takes a look at the clock
//! at every step of every connection; the time of the ticks between goes the same ways in the same shares.

use std::time::{Duration, Instant};

use crate::stats::{Step, WorkerStats};

/// Ticks of which one is looked at closely.
const SAMPLED: u32 = 64;
/// After this long the next tick is looked at in any case. Nanoseconds.
const OVERDUE_NS: u64 = 100_000_000;
/// How often the CPU time is asked for, a system call, and the account checked. Nanoseconds.
const SLOWLY_NS: u64 = 1_000_000_000;

/// A worker's time, as it goes.
#[derive(Debug)]
pub struct StepClock {
    /// When the poll returned, or was entered. Nanoseconds on the worker's clock.
    turned: u64,
    /// Work that is not shared out among its steps yet.
    unshared: u64,
    /// Ticks until the next close look.
    until_sample: u32,
    /// When the last one was, and the last slow look.
    sampled: u64,
    slow: u64,
    /// Within a close look: when the present step began.
    lap: Option<Instant>,
    /// What it has seen: nanoseconds by the step's index.
    seen: [u64; 5],
}

impl StepClock {
    /// A clock that begins now.
    pub fn new(now: Duration) -> StepClock {
        let now = nanos(now);
        StepClock { turned: now, unshared: 0, until_sample: 0, sampled: now, slow: now, lap: None, seen: [0; 5] }
    }

    /// The worker was not running until now.
    pub fn restart(&mut self, now: Duration) {
        *self = StepClock::new(now);
    }

    /// The worker goes to its poll.
    pub fn rest(&mut self, now: Duration, stats: &WorkerStats) {
        let now = nanos(now);
        let worked = now.saturating_sub(self.turned);
        stats.ticks_took.observe_ns(worked);
        self.unshared += worked;
        self.turned = now;
        if self.lap.is_some() {
            self.lap(Step::Other);
            self.lap = None;
            self.share_out(stats);
            self.sampled = now;
        }
    }

    /// The worker's poll has returned.
    pub fn work(&mut self, now: Duration, stats: &WorkerStats) {
        let now = nanos(now);
        stats.steps_ns.of(Step::Poll).add(now.saturating_sub(self.turned));
        self.turned = now;
        if self.until_sample == 0 || now - self.sampled >= OVERDUE_NS {
            self.until_sample = SAMPLED;
            self.lap = Some(Instant::now());
            self.seen = [0; 5];
        }
        self.until_sample -= 1;
    }

    /// A step has ended; what comes now is of another.
    #[inline]
    pub fn lap(&mut self, step: Step) {
        if let Some(began) = self.lap {
            let now = Instant::now();
            self.seen[step as usize] += nanos(now - began);
            self.lap = Some(now);
        }
    }

    /// Once a second: what is too dear for every tick.
    pub fn slowly(&mut self, stats: &WorkerStats) {
        if self.turned - self.slow < SLOWLY_NS {
            return;
        }
        self.slow = self.turned;
        stats.check_balance();
        publish_cpu_time(stats);
    }

    fn share_out(&mut self, stats: &WorkerStats) {
        let total: u64 = self.seen.iter().sum();
        let mut rest = self.unshared;
        for step in [Step::Read, Step::Handle, Step::Flush] {
            let part = u128::from(self.unshared) * u128::from(self.seen[step as usize]) / u128::from(total.max(1));
            let part = (part as u64).min(rest);
            stats.steps_ns.of(step).add(part);
            rest -= part;
        }
        stats.steps_ns.of(Step::Other).add(rest);
        self.unshared = 0;
    }
}

/// Only on the worker's own thread.
#[cfg(any(target_os = "linux", target_os = "freebsd", target_os = "macos"))]
pub fn publish_cpu_time(stats: &WorkerStats) {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    stats
        .cpu_ns
        .set(u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0));
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd", target_os = "macos")))]
pub fn publish_cpu_time(_: &WorkerStats) {}

fn nanos(time: Duration) -> u64 {
    time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Label;

    fn told(stats: &WorkerStats) -> Vec<u64> {
        stats.steps_ns.each().map(|(_, ns)| ns / 1_000_000).collect()
    }

    #[test]
    fn waiting_and_working_add_up_to_all_the_time_there_was() {
        let (stats, ms) = (WorkerStats::default(), Duration::from_millis);
        let mut clock = StepClock::new(ms(0));
        clock.rest(ms(1), &stats);
        for tick in 0..1_000 {
            clock.work(ms(tick * 10 + 4), &stats);
            clock.lap(Step::Read);
            clock.rest(ms(tick * 10 + 11), &stats);
        }
        let told = told(&stats);
        assert_eq!(Step::ALL[0], Step::Poll);
        assert_eq!(told[0], 3_000, "exactly what was waited");
        let took = stats.ticks_took.read();
        assert_eq!((took.count(), took.sum_ns), (1_001, 7_001_000_000), "and each tick that worked");
        let working: u64 = told[1..].iter().sum();
        assert!((6_900..=7_001).contains(&working), "all but what the next close look shares out: {working}");
        assert_eq!((told[2], told[3]), (0, 0), "nothing was handled or flushed");
    }

    #[test]
    fn work_is_shared_out_as_the_close_look_saw_it() {
        let stats = WorkerStats::default();
        let mut clock = StepClock::new(Duration::ZERO);
        clock.unshared = 1_000;
        clock.seen = [0, 30, 50, 10, 10];
        clock.share_out(&stats);
        let shares: Vec<u64> = stats.steps_ns.each().map(|(_, ns)| ns).collect();
        assert_eq!(shares, [0, 300, 500, 100, 100]);
        clock.unshared = 7;
        clock.seen = [0; 5];
        clock.share_out(&stats);
        assert_eq!(stats.steps_ns.of(Step::Other).get(), 107);
    }

    #[test]
    fn most_ticks_are_not_looked_at_closely() {
        let stats = WorkerStats::default();
        let mut clock = StepClock::new(Duration::ZERO);
        let mut close = 0;
        for tick in 0..640 {
            clock.work(Duration::from_micros(tick * 10), &stats);
            close += u32::from(clock.lap.is_some());
            clock.rest(Duration::from_micros(tick * 10 + 5), &stats);
        }
        assert_eq!(close, 10);
    }
}
