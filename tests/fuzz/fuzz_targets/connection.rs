//! A script of chunks, time, server events and verdicts drives a whole connection.
//!
//! The bytes are the choices of a simulated life (`tests/it/sim`), with the same shadow and the
//! same laws after every step.
#![no_main]

// The seeds and the statistics are the tests' own.
#[allow(dead_code)]
#[path = "../../it/sim/mod.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    sim::World::new(sim::Dice::Scripted(script), false).live();
});
