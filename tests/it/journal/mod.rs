//! The journal: nothing acknowledged is lost, whatever the disk does.
//!
//! Lives of a log on a simulated disk, random and seeded, with a model beside them that says what has to be there.
//! `SIM_LIVES=1000000` runs more of them; `SIM_SEED=17` runs one again, and prints what happened to it if it fails.

mod bytes;
mod calls;
mod damage;
mod disk;
mod disk_laws;
mod draw;
mod entry;
mod exhaustive;
mod faults;
mod inode;
mod killed;
mod life;
mod model;
mod once_wrong;
mod reopen;
#[cfg(target_os = "linux")]
mod strace;
#[cfg(target_os = "linux")]
mod trace;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use faults::{Call, Counts};
use life::Life;

const LIVES: u64 = 1_000;

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
    "other routes",
    "clock back",
];

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is to be a number, and is {text:?}")))
}

/// One life; what it came to. One that fails is lived once more, and tells its last calls.
fn one(what: &str, begin: &dyn Fn(bool) -> Life, live: &dyn Fn(&mut Life)) -> Counts {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut life = begin(false);
        live(&mut life);
        life.sum()
    }));
    lived.unwrap_or_else(|_| {
        eprintln!("failed: {what}. Its last calls:");
        again(begin, live);
        panic!("{what} failed, and not when it was run again");
    })
}

fn again(begin: &dyn Fn(bool) -> Life, live: &dyn Fn(&mut Life)) {
    let mut life = begin(true);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| live(&mut life))) {
        eprintln!("{}", life.disk.told());
        resume_unwind(panic);
    }
}

/// Lives, of seed after seed; what they came to, if there were enough of them to come to everything.
fn lives(kind: &str, default: u64, live: fn(&mut Life)) -> Option<Counts> {
    if let Some(seed) = setting("SIM_SEED") {
        again(&|tell| Life::new(seed, tell), &live);
        return None;
    }
    let lives = setting("SIM_LIVES").unwrap_or(default);
    let mut sum = Counts::default();
    for seed in 0..lives {
        let what = format!("life {seed}; SIM_SEED={seed} runs it again");
        sum.merge(&one(&what, &|tell| Life::new(seed, tell), &live));
    }
    println!("journal: {lives} {kind}: {}", sum.line());
    (lives >= default).then_some(sum)
}

fn assert_all(sum: Option<Counts>, wanted: &[&str]) {
    let Some(sum) = sum else { return };
    let missing: Vec<_> = wanted.iter().filter(|wanted| sum.of(wanted) == 0).collect();
    assert!(missing.is_empty(), "no life came to {missing:?}");
}

#[test]
fn whatever_the_disk_does_what_was_acknowledged_is_there() {
    assert_all(lives("lives", LIVES, Life::live), EVERYTHING);
}

/// The model's teeth: a log on such a disk can't keep what it promises, and the lives have to show it.
#[test]
fn a_disk_that_lies_is_found_out() {
    for lie in [Call::Sync, Call::SyncNames, Call::Write] {
        let fails = |seed: u64| {
            let mut life = Life::new(seed, false);
            life.disk.state().lies_of = Some(lie);
            life.live();
        };
        let found_out = (0..200).any(|seed| catch_unwind(|| fails(seed)).is_err());
        assert!(found_out, "200 lives have not noticed that {lie:?} did nothing");
    }
}

#[test]
fn a_flipped_bit_is_found_and_named_or_does_no_harm() {
    let wanted = [
        "damage found",
        "damage without harm",
        "damage cut as torn",
        "damage taken back",
        "damage repaired",
        "repair begun again",
    ];
    assert_all(lives("lives with a flipped bit", LIVES, damage::live), &wanted);
}

#[test]
fn a_stop_at_any_system_call_loses_nothing() {
    let sum = exhaustive::each_call(|what, begin| one(what, begin, &exhaustive::live));
    let stopped = ["before", "in", "after"].map(|when| sum.counts.of(&format!("stopped {when} a call")));
    assert!(stopped.iter().all(|n| *n >= sum.calls * 7), "{stopped:?} of {} calls", sum.calls);
    println!("journal: {} lives that stop at each of {} calls: {}", sum.lives, sum.calls, sum.counts.line());
}
