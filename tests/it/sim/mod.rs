//! Simulated lives of a connection: random, seeded, checked after every step.
//!
//! `SIM_LIVES=1000000` runs more of them; `SIM_SEED=17` runs one again, and
//! prints what happened to it if it fails.

mod client;
mod clock;
mod dice;
mod expect;
mod host;
mod laws;
mod model;
mod socket;
mod turns;
mod world;

pub use dice::Dice;
pub use world::World;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::laws::Life;
    use super::{Dice, World};

    const LIVES: u64 = 50_000;

    /// Ends that a run of lives has to come to: a simulation that never gets there proves nothing.
    const EVERYTHING: &[&str] = &[
        "bye",
        "goaway 0",
        "goaway 1",
        "goaway 3",
        "goaway 4",
        "goaway 5",
        "silent",
        "reset",
        "cut",
        "lost",
        "stalled",
        "error 1",
        "error 2",
        "error 3",
        "error 5",
        "error 6",
        "error 7",
        "error 9",
        "error 12",
        "error 13",
        "error 14",
        "error 20",
        "undelivered",
        "pings",
        "no force",
    ];

    fn setting(name: &str) -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name} is to be a number, and is {text:?}")))
    }

    #[test]
    fn a_script_of_bytes_lives_as_a_seed_does() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..1_000 {
            let script: Vec<u8> = (0..rng.usize(..600)).map(|_| rng.u8(..)).collect();
            World::new(Dice::Scripted(&script), false).live();
        }
    }

    #[test]
    fn every_life_keeps_the_protocol_the_ledger_and_the_clock() {
        if let Some(seed) = setting("SIM_SEED") {
            World::new(Dice::seeded(seed), true).live();
            return;
        }
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        let lives = setting("SIM_LIVES").unwrap_or(LIVES);
        for seed in 0..lives {
            let life = || World::new(Dice::seeded(seed), false).live();
            match catch_unwind(AssertUnwindSafe(life)) {
                Ok(life) => count(&mut seen, life),
                Err(panic) => {
                    eprintln!("life {seed} failed; SIM_SEED={seed} runs it again. Its last events:");
                    let again = || World::new(Dice::seeded(seed), true).live();
                    let _ = catch_unwind(AssertUnwindSafe(again));
                    resume_unwind(panic);
                }
            }
        }
        println!("{seen:#?}");
        if lives >= LIVES {
            for wanted in EVERYTHING {
                assert!(seen.get(*wanted).is_some_and(|n| *n > 0), "no life came to {wanted:?}");
            }
        }
    }

    fn count(seen: &mut BTreeMap<String, u64>, life: Life) {
        let sums = [("accepted", life.accepted), ("undelivered", life.undelivered), ("pings", life.pings)];
        sums.into_iter().for_each(|(name, n)| *seen.entry(name.to_owned()).or_default() += n);
        *seen.entry(life.ending).or_default() += 1;
        *seen.entry(life.force.to_owned()).or_default() += 1;
    }
}
