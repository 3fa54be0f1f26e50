//! One short story of a log, and the machine stops at every system call of it.

use std::time::Duration;

use tidegate::journal::{LogOptions, LogRoute, TopicPattern};

use super::disk::{End, SimDisk};
use super::faults::{Counts, When};
use super::inode::Survival;
use super::life::{Fixed, Life, Op};

const SEGMENT: u64 = 16_384;

/// Commits of one and of many, rolling, progress, deleting, a clean end, and a second process.
const STORY: &[Op] = &[
    Op::Stage,
    Op::Stage,
    Op::Commit,
    Op::Stage,
    Op::Commit,
    Op::Mark,
    Op::Stage,
    Op::Stage,
    Op::Commit,
    Op::Stage,
    Op::Commit,
    Op::Report,
    Op::Stage,
    Op::Stage,
    Op::Commit,
    Op::Mark,
    Op::Stage,
    Op::Stage,
    Op::Commit,
    Op::Report,
    Op::Clock,
    Op::Clock,
    Op::Clock,
    Op::Tend,
    Op::Stage,
    Op::Commit,
    Op::Close,
    Op::Stage,
    Op::Stage,
    Op::Commit,
    Op::Stage,
    Op::Commit,
    Op::Report,
    Op::Commit,
    Op::Stage,
    Op::Stage,
    Op::Commit,
    Op::Clock,
    Op::Clock,
    Op::Clock,
    Op::Report,
    Op::Tend,
    Op::Mark,
    Op::Stage,
    Op::Commit,
    Op::Tend,
    Op::Stage,
    Op::Commit,
];

fn options() -> LogOptions {
    let route = |pattern: &str, keeps| LogRoute { pattern: TopicPattern::parse(pattern).expect("a pattern"), keeps };
    LogOptions {
        segment_bytes: SEGMENT,
        max_bytes: 100 * SEGMENT,
        min_free_bytes: 0,
        retain: Duration::from_millis(40),
        retain_bytes: 100 * SEGMENT,
        dedup_window: Duration::from_millis(500),
        dedup_max: 100,
        routes: vec![route("orders/#", false), route("audit", false), route("*", true)],
    }
}

/// A machine that will stop at a call, and perhaps once more soon after.
fn begin(told: bool, seed: u64, stop: Option<(u64, When)>, fixed: Fixed) -> Life {
    let disk = SimDisk::new(seed, told);
    disk.state().stop_at = stop;
    Life::with(disk, 5, options(), 3_000, Some(fixed))
}

/// The story up to where the machine stops; whether it did.
fn tell(life: &mut Life) -> bool {
    life.has_stopped() || STORY.iter().any(|op| life.run(*op))
}

/// The story, and then a good end.
pub fn live(life: &mut Life) {
    // After a power cut there may be fewer calls than after a kill: then it does not stop.
    tell(life);
    life.end_well();
}

/// What all stories together came to.
#[derive(Default)]
pub struct Sum {
    pub calls: u64,
    pub lives: u64,
    pub counts: Counts,
}

/// Stops at every call, before it, in it and after it, and leaves of it all that may be left.
pub fn each_call(run: impl Fn(&str, &dyn Fn(bool) -> Life) -> Counts) -> Sum {
    let mut whole = begin(false, 0, None, Fixed { end: End::Killed, again: None });
    assert!(!tell(&mut whole));
    let calls = whole.disk.state().calls;
    let mut sum = Sum { calls, ..Sum::default() };
    let ends: Vec<End> = Survival::EACH.into_iter().map(End::PowerCut).chain([End::Killed]).collect();
    let mut run = |seed: u64, stop: (u64, When), fixed: Fixed| {
        let what = format!("stopped at {stop:?}, {fixed:?}");
        sum.counts.merge(&run(&what, &|told| begin(told, seed, Some(stop), fixed)));
        sum.lives += 1;
    };
    for call in 0..calls {
        for when in [When::Before, When::During, When::After] {
            for (n, end) in ends.iter().enumerate() {
                run(call * 31 + n as u64, (call, when), Fixed { end: *end, again: None });
            }
        }
        // And in the recovery from it.
        for again in 0..12 {
            let seed = call * 12 + again;
            let end = ends[seed as usize % ends.len()];
            let when = [When::During, When::After][(call + again) as usize % 2];
            run(seed, (call, When::During), Fixed { end, again: Some((again, when)) });
        }
    }
    sum
}
