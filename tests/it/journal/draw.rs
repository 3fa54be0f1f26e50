//! What chance decides in a life.

use std::time::Duration;

use tidegate::journal::{Key, LogOptions, LogRoute, TopicPattern};
use tidegate::proto::Trace;

use super::disk::{End, draw_survival};
use super::entry::Made;
use super::life::{Life, Op, ROOMY};
use crate::sim::Dice;

const TOPICS: &[&str] = &["orders/eu", "orders/us", "audit", "logs/a", "other"];
const PRINCIPALS: &[&str] = &["ann", "bob"];

/// A key and the index of its principal.
pub type Sender = (Key, usize);

impl Life {
    pub fn draw_op(&mut self) -> Op {
        match self.dice.weighted(&[34, 26, 8, 8, 6, 4, 6, 1, 2, 2, 2, 1]) {
            0 => Op::Stage,
            1 => Op::Commit,
            2 => Op::Mark,
            3 => Op::Tend,
            4 => Op::Report,
            5 => Op::Clock,
            6 => Op::Read,
            7 => Op::Check,
            8 => Op::Close,
            9 => Op::End(self.draw_end()),
            10 => Op::Room,
            _ => Op::Weather,
        }
    }

    pub fn draw_end(&mut self) -> End {
        if let Some(fixed) = self.fixed {
            return fixed.end;
        }
        if self.dice.chance(30) { End::Killed } else { End::PowerCut(draw_survival(&mut self.dice)) }
    }

    /// Time goes on, or back a little.
    pub fn tick(&mut self) {
        if self.dice.chance(15) {
            // By less than any key's time.
            self.now = self.latest - self.dice.below(900) as u64;
            self.disk.state().counts.add("clock back");
        } else {
            self.now += self.dice.pick(&[1, 50, 500, 3_000, 70_000]);
        }
        self.latest = self.latest.max(self.now);
    }

    /// Others take room of the disk, or give it back.
    pub fn room(&mut self) {
        let mut state = self.disk.state();
        let (used, segment) = (state.used(), self.options.segment_bytes);
        state.capacity = match self.dice.below(4) {
            0 => ROOMY,
            1 => used,
            2 => used + segment,
            _ => used + segment * 4 + self.options.min_free_bytes,
        };
        self.scarce |= state.capacity < ROOMY;
    }

    /// A message; a retry of an earlier one, perhaps.
    pub fn make(&mut self) -> Made {
        let dice = &mut self.dice;
        let key = if dice.chance(20) && !self.keys.is_empty() {
            let recent = dice.below(self.keys.len().min(12));
            Some(self.keys[self.keys.len() - 1 - recent])
        } else if dice.chance(50) {
            let key = (dice.bytes(16).try_into().expect("16 bytes"), dice.below(PRINCIPALS.len()));
            self.keys.push(key);
            Some(key)
        } else {
            None
        };
        let len = match dice.weighted(&[10, 60, 25, 5]) {
            0 => 0,
            1 => dice.below(200),
            2 => dice.below(self.largest / 4 + 1),
            _ => dice.below(self.largest + 1),
        };
        let first = dice.byte();
        // Bodies of zeros look like room that was never written.
        let body = if dice.chance(10) { vec![0; len] } else { (0..len).map(|i| first.wrapping_add(i as u8)).collect() };
        let trace = Trace { trace_id: [first; 16], span_id: [2; 8], flags: 1 };
        Made {
            time_ms: self.now,
            topic: dice.pick(TOPICS),
            principal: key.map_or("ann", |(_, principal)| PRINCIPALS[principal]),
            key: key.map(|(key, _)| key),
            trace: dice.chance(30).then_some(trace),
            session: dice.chance(30).then_some([first ^ 1; 16]),
            body,
        }
    }
}

/// Options, and the longest body.
pub fn options(dice: &mut Dice<'_>) -> (LogOptions, usize) {
    let (segment_bytes, largest) =
        [(16_384, 2_000), (24_576, 3_000), (65_536, 12_000), (524_288, 65_535)][dice.weighted(&[50, 30, 18, 2])];
    let routes = routes(dice);
    let options = LogOptions {
        segment_bytes,
        max_bytes: segment_bytes * dice.pick(&[4, 8, 1_000]),
        min_free_bytes: dice.pick(&[0, segment_bytes]),
        retain: Duration::from_millis(dice.pick(&[1_000, 60_000, 3_600_000])),
        retain_bytes: segment_bytes * dice.pick(&[0, 3, 1_000]),
        dedup_window: Duration::from_millis(dice.pick(&[1_000, 30_000, 600_000])),
        dedup_max: dice.pick(&[3, 30, 10_000]),
        routes,
    };
    (options, largest)
}

/// Where messages go: the first route that matches.
pub fn routes(dice: &mut Dice<'_>) -> Vec<LogRoute> {
    let sets: [&[(&str, bool)]; 5] = [
        &[("orders/#", false), ("audit", false), ("logs/+", true)],
        &[("orders/#", false), ("audit", false), ("logs/+", true), ("*", false)],
        &[("audit", true), ("orders/eu", false), ("orders/#", false), ("*", true)],
        &[("*", false)],
        &[("logs/+", false), ("orders/#", false), ("audit", false)],
    ];
    let set = sets[dice.weighted(&[30, 30, 20, 10, 10])].iter();
    set.map(|(pattern, keeps)| LogRoute { pattern: TopicPattern::parse(pattern).expect("a pattern"), keeps: *keeps })
        .collect()
}
