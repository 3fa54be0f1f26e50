//! The journal: nothing acknowledged is lost, whatever the disk does.
//!
//! Lives of a log on a simulated disk, random and seeded, with a model beside them that says what has to be there.
//! `SIM_LIVES=1000000` runs more of them; `SIM_SEED=17` runs one again, and prints what happened to it if it fails.

mod disk;
mod exhaustive;
mod faults;
mod inode;
mod life;
mod model;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use faults::Counts;
use life::Life;

const LIVES: u64 = 3_000;

/// What a run of lives has to come to: a simulation that never gets there proves nothing.
const EVERYTHING: &[&str] = &[
    "stopped before a call",
    "stopped in a call",
    "stopped after a call",
    "power cut",
    "kill -9",
    "short write",
    "ENOSPC on create",
    "ENOSPC in a write",
    "EIO on read",
    "EIO on write",
    "EIO on names",
    "failed fsync",
    "failed fsync of the directory",
    "free room not known",
    "disk full on create",
    "stored",
    "duplicates",
    "deleted",
    "unacknowledged found",
    "unacknowledged lost",
    "refused",
];

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is to be a number, and is {text:?}")))
}

/// A whole life; what it came to.
fn live(seed: u64) -> Counts {
    let mut life = Life::new(seed, false);
    life.live();
    life.sum()
}

/// The same, telling its last calls if it fails.
fn tell(seed: u64) {
    let mut told = String::new();
    let again = || {
        let mut life = Life::new(seed, true);
        let lived = catch_unwind(AssertUnwindSafe(|| life.live()));
        told = life.disk.told();
        if let Err(panic) = lived {
            resume_unwind(panic);
        }
    };
    let lived = catch_unwind(AssertUnwindSafe(again));
    if let Err(panic) = lived {
        eprintln!("{told}");
        resume_unwind(panic);
    }
}

#[test]
fn whatever_the_disk_does_what_was_acknowledged_is_there() {
    if let Some(seed) = setting("SIM_SEED") {
        return tell(seed);
    }
    let lives = setting("SIM_LIVES").unwrap_or(LIVES);
    let mut sum = Counts::default();
    for seed in 0..lives {
        match catch_unwind(|| live(seed)) {
            Ok(counts) => sum.merge(&counts),
            Err(_) => {
                eprintln!("life {seed} failed; SIM_SEED={seed} runs it again. Its last calls:");
                tell(seed);
                panic!("life {seed} failed, and not when it was run again");
            }
        }
    }
    println!("journal: {lives} lives: {}", sum.line());
    if lives >= LIVES {
        for wanted in EVERYTHING {
            assert!(sum.of(wanted) > 0, "no life came to {wanted:?}");
        }
    }
}

#[test]
fn a_stop_at_any_system_call_loses_nothing() {
    let sum = exhaustive::each_call(|what, story| {
        eprintln!("{what}:");
        story(true);
        panic!("{what}, and not when it was run again");
    });
    println!("journal: {} lives that stop at each of {} calls: {}", sum.lives, sum.calls, sum.counts.line());
}
