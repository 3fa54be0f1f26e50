//! Runs workloads: for a clock, or for a counter of instructions.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Something to be measured.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, here and in the baseline.
    pub name: &'static str,
    /// Makes it, in the same state each time.
    pub make: fn() -> Box<dyn Work>,
}

/// A workload, a batch at a time.
pub trait Work {
    /// Before each batch: not measured.
    fn prepare(&mut self);
    /// One batch. Returns of how many frames (or slots, letters, sessions) it was.
    fn run(&mut self) -> u64;
}

/// A workload of a state and two closures on it.
pub fn work<S: 'static>(
    state: S,
    prepare: impl FnMut(&mut S) + 'static,
    run: impl FnMut(&mut S) -> u64 + 'static,
) -> Box<dyn Work> {
    Box::new(Steps { state, prepare, run })
}

/// Batches before the first that counts: tables have grown, buffers are pooled.
const WARM_UP: usize = 3;
/// Batches that are counted: enough that what happens only now and then happens.
const COUNTED: usize = 16;
/// Time for each workload under the clock, and the fewest batches.
const TIMED: Duration = Duration::from_millis(300);
const FEWEST: usize = 30;

struct Steps<S, P, R> {
    state: S,
    prepare: P,
    run: R,
}

impl<S, P: FnMut(&mut S), R: FnMut(&mut S) -> u64> Work for Steps<S, P, R> {
    fn prepare(&mut self) {
        (self.prepare)(&mut self.state);
    }

    fn run(&mut self) -> u64 {
        (self.run)(&mut self.state)
    }
}

/// Nanoseconds a frame: the median of the batches, and the best, which a busy host disturbs least.
pub fn time(cases: &[&Case]) {
    println!("{:<24} {:>10} {:>10} {:>9}", "ns a frame", "median", "min", "batches");
    for case in cases {
        let mut work = warm(case);
        let mut each = Vec::new();
        let began = Instant::now();
        while began.elapsed() < TIMED || each.len() < FEWEST {
            work.prepare();
            let start = Instant::now();
            let frames = measured_batch(&mut *work);
            each.push(start.elapsed().as_nanos() as f64 / frames as f64);
        }
        each.sort_by(f64::total_cmp);
        println!("{:<24} {:>10.2} {:>10.2} {:>9}", case.name, each[each.len() / 2], each[0], each.len());
    }
}

/// Runs a fixed number of batches, for an instrument that looks at [`measured_batch`] alone, and says
/// how many frames they were of.
pub fn count(case: &Case) {
    let mut work = warm(case);
    let mut frames = 0;
    for _ in 0..COUNTED {
        work.prepare();
        frames += measured_batch(&mut *work);
    }
    println!("{frames}");
}

fn warm(case: &Case) -> Box<dyn Work> {
    let mut work = (case.make)();
    for _ in 0..WARM_UP {
        work.prepare();
        assert!(work.run() > 0, "{} does nothing", case.name);
    }
    work
}

/// scripts/instructions.sh knows this name, and counts from its entry to its return.
#[inline(never)]
fn measured_batch(work: &mut dyn Work) -> u64 {
    black_box(work.run())
}
