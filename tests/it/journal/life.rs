//! A life of a log: what is done with it, and the model beside it.

use std::sync::Arc;
use std::time::Duration;

use tidegate::journal::{CommitError, Log, LogOptions, LogRoute, Message, OpenError, Reader, TopicPattern};

use super::disk::{End, SimDisk, draw_survival};
use super::faults::{Counts, Weather, When};
use super::model::{Made, Model, Standing, Tally};
use crate::sim::Dice;

pub const TOPICS: &[&str] = &["orders/eu", "orders/us", "audit", "logs/a", "other"];
/// The capacity of a disk that is never full.
const ROOMY: u64 = u64::MAX / 2;
const PRINCIPALS: &[&str] = &["ann", "bob"];

/// What can be done with a log.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Stage,
    Commit,
    Mark,
    Tend,
    /// A route's runner has done some more.
    Report,
    Clock,
    /// Reads on.
    Read,
    /// Reads everything.
    Check,
    /// Closes it, and opens it again.
    Close,
    End(End),
    /// Others take room of the disk, or give it back.
    Room,
    Weather,
}

pub struct Life {
    pub disk: SimDisk,
    pub log: Option<Log<SimDisk>>,
    pub model: Model,
    pub options: LogOptions,
    pub now: u64,
    pub dice: Dice<'static>,
    largest: usize,
    keys: Vec<([u8; 16], usize)>,
    reader: Reader<SimDisk>,
    poisoned: bool,
    /// Errors that the disk has given when this process began.
    faults: u64,
    /// What the last commit was, and whether the file says that it was synced.
    pub last_batch: Vec<u64>,
    pub marked: bool,
    /// The disk has had little room since this process began.
    scarce: bool,
    fixed: Option<Fixed>,
}

/// How the machine stops where chance does not decide it.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    pub end: End,
    /// After that it stops again, so many calls later.
    pub again: Option<(u64, When)>,
}

impl Life {
    pub fn new(seed: u64, tell: bool) -> Life {
        let mut dice = Dice::seeded(seed);
        let (options, largest) = draw_options(&mut dice);
        let disk = SimDisk::new(seed, tell);
        Life::with(disk, seed, options, largest, None)
    }

    pub fn with(disk: SimDisk, seed: u64, options: LogOptions, largest: usize, fixed: Option<Fixed>) -> Life {
        disk.tell(|| format!("{options:?}"));
        let mut life = Life {
            reader: Reader::new(Arc::new(disk.clone()), 0),
            disk,
            log: None,
            model: Model::new(options.clone()),
            options,
            now: 1_700_000_000_000,
            dice: Dice::seeded(seed.wrapping_add(1 << 63)),
            largest,
            keys: Vec::new(),
            poisoned: false,
            faults: 0,
            last_batch: Vec::new(),
            marked: true,
            scarce: false,
            fixed,
        };
        life.open();
        life
    }

    /// Steps until enough crashes are over; then one in fair weather, in which all is well.
    pub fn live(&mut self) {
        let (steps, ends) = (self.dice.between(20, 250), self.dice.between(1, 6));
        let mut ended = 0;
        for _ in 0..steps {
            let op = self.draw_op();
            ended += usize::from(matches!(op, Op::End(_)));
            ended += usize::from(self.run(op));
            if ended > ends {
                break;
            }
        }
        self.end_well();
    }

    /// Fair weather and room: everything that was promised is there, and more can be stored.
    pub fn end_well(&mut self) {
        self.calm();
        if self.poisoned || self.dice.chance(50) {
            let end = self.draw_end();
            self.restart(end);
        }
        self.run(Op::Check);
        for route in 0..self.options.routes.len() {
            let progress = self.model.report(route, |_| true);
            self.log().stage_progress(route, &progress);
        }
        self.now += self.options.retain.as_millis() as u64 + 1;
        self.run(Op::Commit);
        for _ in 0..2 {
            self.run(Op::Tend);
            self.run(Op::Stage);
            self.run(Op::Commit);
        }
        assert!(self.log().full().is_none(), "there is room, and it does not see it: {:?}", self.log().full());
        let before = self.model.highest;
        self.stage(None);
        self.run(Op::Commit);
        assert!(self.model.highest > before, "there is room, and nothing is stored");
        self.run(Op::Close);
        self.restart(End::PowerCut(super::inode::Survival::Nothing));
        self.run(Op::Check);
    }

    /// Whether the machine has stopped, at any time.
    pub fn has_stopped(&self) -> bool {
        self.disk.state().counts.0.keys().any(|what| what.starts_with("stopped"))
    }

    /// What has happened in it.
    pub fn sum(&self) -> Counts {
        let mut counts = self.disk.state().counts.clone();
        let Tally { stored, duplicates, deleted, found, lost, refused } = self.model.tally;
        for (what, n) in [
            ("stored", stored),
            ("duplicates", duplicates),
            ("deleted", deleted),
            ("unacknowledged found", found),
            ("unacknowledged lost", lost),
            ("refused", refused),
        ] {
            *counts.0.entry(what).or_default() += n;
        }
        counts
    }

    pub fn calm(&mut self) {
        let mut state = self.disk.state();
        state.weather = Weather::default();
        state.stop_at = None;
        state.capacity = ROOMY;
    }

    pub fn log(&mut self) -> &mut Log<SimDisk> {
        self.log.as_mut().expect("a life has a log but while it is opened")
    }

    /// Does one thing; whether the machine stopped in it.
    pub fn run(&mut self, op: Op) -> bool {
        self.disk.tell(|| format!("  {op:?}"));
        match op {
            Op::Stage => {
                let n = self.dice.pick(&[1, 1, 2, 5, 20]);
                (0..n).for_each(|_| self.stage(None));
            }
            Op::Commit => self.commit(),
            Op::Mark => {
                self.log().mark_synced();
                self.marked = true;
            }
            Op::Tend => self.tend(),
            Op::Report => self.report(),
            Op::Clock => self.now += self.dice.pick(&[1, 50, 500, 3_000, 70_000]),
            Op::Read => self.read(),
            Op::Check => self.check(),
            Op::Close => self.close(),
            Op::End(end) => self.restart(end),
            Op::Room => self.room(),
            Op::Weather => {
                let mut state = self.disk.state();
                let weather = Weather::draw(&mut state.dice);
                state.weather = weather;
            }
        }
        let stopped = self.disk.stopped();
        if stopped {
            let end = self.draw_end();
            self.restart(end);
        }
        stopped
    }

    fn draw_op(&mut self) -> Op {
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

    fn make(&mut self, key: Option<([u8; 16], usize)>) -> Made {
        let dice = &mut self.dice;
        let key = match key {
            None if dice.chance(20) && !self.keys.is_empty() => {
                let recent = dice.below(self.keys.len().min(12));
                Some(self.keys[self.keys.len() - 1 - recent])
            }
            None if dice.chance(50) => {
                let key = (dice.bytes(16).try_into().expect("16 bytes"), dice.below(PRINCIPALS.len()));
                self.keys.push(key);
                Some(key)
            }
            key => key,
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
        let trace = tidegate::proto::Trace { trace_id: [first; 16], span_id: [2; 8], flags: 1 };
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

    pub fn stage(&mut self, key: Option<([u8; 16], usize)>) {
        let made = self.make(key);
        let log = self.log.as_mut().expect("open");
        match log.stage(&made.draft(), self.now) {
            Ok(staged) => self.model.staged(made, staged),
            Err(why) => self.may_lack_room(&why.0),
        }
    }

    pub fn commit(&mut self) {
        let batch = self.model.waiting();
        let faults = self.disk.state().faults;
        match self.log().commit() {
            Ok(()) => {
                assert!(!self.poisoned, "it has failed, and stores");
                self.model.committed();
                if !batch.is_empty() {
                    self.last_batch = batch;
                    self.marked = false;
                }
                let (durable, highest) = (self.log().durable_id(), self.model.highest);
                assert!(durable >= highest, "{highest} is acknowledged and {durable} is durable");
            }
            Err(CommitError::NoRoom(why)) => {
                self.model.refused();
                self.may_lack_room(&why.0);
            }
            // What comes after the failure is refused for good; of what met with it, nothing is known.
            Err(CommitError::Failed(_)) if self.poisoned => self.model.refused(),
            Err(CommitError::Failed(error)) => {
                let now = self.disk.state().faults;
                assert!(now > self.faults, "the disk is well, and the log has failed: {error} ({faults})");
                self.model.doubted();
                self.poisoned = true;
            }
        }
    }

    fn may_lack_room(&mut self, why: &str) {
        let (bytes, max) = (self.log().bytes(), self.options.max_bytes);
        let scarce = self.scarce || self.disk.state().faults > self.faults;
        let near = bytes + 2 * self.options.segment_bytes + (self.largest as u64 + 1_000) * 100 > max;
        assert!(scarce || near || self.poisoned, "there is room ({bytes} of {max} are used): {why}");
    }

    fn tend(&mut self) {
        let (now, before) = (self.now, self.log().bytes());
        self.log().tend(now);
        if !self.disk.stopped() {
            let by_size = before > self.options.retain_bytes;
            let first = self.log().first_id();
            self.model.begins_with(first, now, by_size);
        }
    }

    fn report(&mut self) {
        let route = self.dice.below(self.options.routes.len());
        if self.options.routes[route].keeps {
            return;
        }
        let (upto, percent) = (self.model.highest - self.dice.below(10).min(self.model.highest as usize) as u64, self.dice.pick(&[0, 0, 30]));
        let dice = &mut self.dice;
        let progress = self.model.report(route, |id| id <= upto || dice.chance(percent));
        self.log().stage_progress(route, &progress);
        assert_eq!(self.log().progress(route), &progress);
        let waits = self.model.unfinished(route);
        assert_eq!(self.log().unfinished(route), waits, "unfinished of route {route} with {progress:?}");
    }

    /// Reads on where this process' reader is.
    fn read(&mut self) {
        let upto = self.log().durable_id();
        for _ in 0..self.dice.below(30) {
            let (after, faults) = (self.reader.position(), self.disk.state().faults);
            match self.reader.next(upto) {
                Ok(Some(message)) => {
                    self.model.read(after, message.id);
                    self.model.holds(&message);
                }
                Ok(None) => {
                    self.model.read(after, upto + 1);
                    break;
                }
                Err(error) => {
                    assert!(self.disk.state().faults > faults, "nothing is wrong, and a reader can't go on: {error}");
                    break;
                }
            }
        }
    }

    fn check(&mut self) {
        let (found, by_size) = (self.found(), self.too_big());
        self.model.check(&found, self.now, by_size);
        for route in 0..self.options.routes.len() {
            let waits = self.model.unfinished(route);
            assert_eq!(self.log().unfinished(route), waits, "unfinished of route {route}");
        }
    }

    /// Everything that is stored, read in fair weather.
    pub fn found(&mut self) -> Vec<Message> {
        let weather = std::mem::take(&mut self.disk.state().weather);
        let stop_at = self.disk.state().stop_at.take();
        let upto = self.log().durable_id();
        let mut reader = Reader::new(Arc::new(self.disk.clone()), 0);
        let mut found = Vec::new();
        while let Some(message) = reader.next(upto).unwrap_or_else(|error| panic!("it can't be read: {error}")) {
            found.push(message);
        }
        let mut state = self.disk.state();
        (state.weather, state.stop_at) = (weather, stop_at);
        found
    }

    /// Whether the oldest may have been deleted because of the log's size.
    fn too_big(&mut self) -> bool {
        let bytes: usize = self.disk.files().iter().map(|(_, len)| len).sum();
        bytes as u64 + 2 * self.options.segment_bytes > self.options.retain_bytes
    }

    fn close(&mut self) {
        let Some(log) = self.log.take() else { return };
        let faults = self.disk.state().faults;
        match log.close() {
            Ok(()) => {
                assert!(!self.poisoned, "it has failed, and closes well");
                self.model.committed();
                self.marked = true;
            }
            Err(error) => {
                let now = self.disk.state().faults;
                assert!(self.poisoned || now > self.faults || !self.roomy, "{error}: {faults} {now}");
                if self.poisoned { self.model.refused() } else { self.model.doubted() }
            }
        }
        if !self.disk.stopped() {
            let end = if self.dice.chance(50) { End::Killed } else { self.draw_end() };
            self.restart(end);
        }
    }

    pub fn restart(&mut self, end: End) {
        // A process that is killed runs none of its code.
        self.disk.state().stop();
        drop(self.log.take());
        if self.poisoned { self.model.refused() } else { self.model.doubted() }
        if let End::PowerCut(_) = end {
            self.marked = false;
        }
        self.begin_again(end);
        self.open();
    }

    /// The next process, which may have been told when to stop.
    fn begin_again(&mut self, end: End) {
        self.disk = self.disk.restart(end);
        if let Some((calls, when)) = self.fixed.as_mut().and_then(|fixed| fixed.again.take()) {
            let mut state = self.disk.state();
            state.stop_at = Some((state.calls + calls, when));
        }
    }

    /// Opens it, however often the disk stands in the way.
    pub fn open(&mut self) {
        for attempt in 0.. {
            if attempt == 8 {
                self.disk.state().weather = Weather::default();
            }
            let faults = self.disk.state().faults;
            let storage = Arc::new(self.disk.clone());
            match Log::open(storage, self.options.clone(), self.now) {
                Ok((log, recovery)) => {
                    self.log = Some(log);
                    assert!(!self.disk.stopped(), "the machine is off, and the log is open");
                    self.opened(recovery.messages, &recovery.unfinished);
                    return;
                }
                Err(error) => {
                    let now = self.disk.state().faults;
                    assert!(now > faults, "nothing is wrong with the disk: {error}");
                    assert!(matches!(error, OpenError::Io { .. }), "an error of the disk is no damage: {error}");
                    if self.disk.stopped() {
                        let end = self.draw_end();
                        self.begin_again(end);
                    }
                }
            }
        }
    }

    fn opened(&mut self, messages: u64, unfinished: &[u64]) {
        self.poisoned = false;
        self.faults = self.disk.state().faults;
        self.scarce = self.disk.state().capacity < ROOMY;
        let (found, by_size) = (self.found(), self.too_big());
        assert_eq!(messages, found.len() as u64, "what it says that it found");
        self.model.opened(&found, self.now, by_size);
        for route in 0..self.options.routes.len() {
            let progress = self.log().progress(route).clone();
            self.model.recovered(route, &progress);
            let waits = self.model.unfinished(route);
            assert_eq!((self.log().unfinished(route), unfinished[route]), (waits, waits), "unfinished of {route}");
        }
        let position = self.reader.position().min(self.model.highest);
        self.reader = Reader::new(Arc::new(self.disk.clone()), position);
    }

    fn room(&mut self) {
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
}

fn draw_options(dice: &mut Dice<'_>) -> (LogOptions, usize) {
    let segment_bytes = [4_096, 8_192, 32_768, 262_144][dice.weighted(&[40, 40, 18, 2])];
    let largest = if segment_bytes == 262_144 { 65_535 } else { segment_bytes as usize / 4 };
    let route = |pattern: &str, keeps| {
        let pattern = TopicPattern::parse(pattern).expect("a pattern");
        LogRoute { pattern, keeps }
    };
    let mut routes = vec![route("orders/#", false), route("audit", false), route("logs/+", true)];
    if dice.chance(50) {
        routes.push(route("*", dice.chance(50)));
    }
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

/// Whether a message has to be there.
pub fn has_to_be_there(model: &Model, id: u64) -> bool {
    model.entries.get(&id).is_some_and(|entry| entry.standing == Standing::Stored && !entry.deleted)
}
