//! A life of a log: what is done with it, and the model beside it.

use std::sync::Arc;

use tidegate::journal::{CommitError, Log, LogOptions, Reader};

use super::disk::{End, SimDisk};
use super::draw::{self, Sender};
use super::faults::{Counts, Weather, When};
use super::inode::Survival;
use super::model::{Model, Tally};
use crate::sim::Dice;

/// The capacity of a disk that is never full.
pub const ROOMY: u64 = u64::MAX / 2;

const EPOCH: u64 = 1_700_000_000_000;

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
    /// The latest time that it ever was: the clock may go back.
    pub latest: u64,
    pub dice: Dice<'static>,
    pub largest: usize,
    pub keys: Vec<Sender>,
    pub reader: Reader<SimDisk>,
    /// A commit has failed: nothing is stored any more.
    pub poisoned: bool,
    /// Errors that the disk had given when this process began.
    pub faults: u64,
    /// What the last commit was, and whether the file says that it was synced.
    pub last_batch: Vec<u64>,
    pub mark: Mark,
    /// The disk has had little room since this process began.
    pub scarce: bool,
    pub fixed: Option<Fixed>,
}

/// Whether the file says that the last commit was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    None,
    /// It does, and a power cut may take that away.
    Written,
    Synced,
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
        let (options, largest) = draw::options(&mut Dice::seeded(seed));
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
            now: EPOCH,
            latest: EPOCH,
            dice: Dice::seeded(seed.wrapping_add(1 << 63)),
            largest,
            keys: Vec::new(),
            poisoned: false,
            faults: 0,
            last_batch: Vec::new(),
            mark: Mark::Synced,
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
        self.run(Op::Weather);
        for _ in 0..steps {
            // Who is told that the disk has failed starts it anew, sooner or later.
            let anew = self.poisoned && self.dice.chance(20);
            let op = if anew { Op::End(self.draw_end()) } else { self.draw_op() };
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
            if self.options.routes[route].keeps {
                continue;
            }
            let before = self.log().progress(route).upto;
            let progress = self.model.report(route, before, |_| true);
            self.log().stage_progress(route, &progress);
        }
        // A segment stays while retries of what is in it may come.
        self.now = self.latest + (self.options.retain + self.options.dedup_window).as_millis() as u64 + 1;
        self.latest = self.now;
        self.run(Op::Commit);
        for _ in 0..2 {
            self.run(Op::Tend);
            self.run(Op::Stage);
            self.run(Op::Commit);
        }
        assert!(self.log().full().is_none(), "there is room, and it does not see it: {:?}", self.log().full());
        let before = self.model.highest;
        // Some are retries, of which nothing is stored.
        (0..20).for_each(|_| self.stage());
        self.run(Op::Commit);
        assert!(self.model.highest > before, "there is room, and nothing is stored");
        self.run(Op::Close);
        self.restart(End::PowerCut(Survival::Nothing));
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

    /// Of a life that is not just being opened.
    pub fn log(&mut self) -> &mut Log<SimDisk> {
        self.log.as_mut().expect("a life has a log but while it is opened")
    }

    /// Does one thing; whether the machine stopped in it.
    pub fn run(&mut self, op: Op) -> bool {
        self.disk.tell(|| format!("  {op:?}"));
        let (bytes, epoch) = (self.log().bytes(), self.disk.epoch());
        match op {
            Op::Stage => {
                let n = self.dice.pick(&[1, 1, 2, 5, 20]);
                (0..n).for_each(|_| self.stage());
            }
            Op::Commit => self.commit(),
            Op::Mark => {
                // Where something is staged, or the segment is full, there is no place for one.
                let calls = self.disk.state().calls;
                self.log().mark_synced();
                if self.mark == Mark::None && self.disk.state().calls > calls {
                    self.mark = Mark::Written;
                }
            }
            Op::Tend => {
                let now = self.now;
                self.log().tend(now);
            }
            Op::Report => self.report(),
            Op::Clock => self.tick(),
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
        if !stopped && epoch == self.disk.epoch() {
            self.follow(bytes);
        }
        if stopped {
            let end = self.draw_end();
            self.restart(end);
        }
        stopped
    }

    pub fn stage(&mut self) {
        let made = self.make();
        let now = self.now;
        let staged = self.log().stage(&made.draft(), now);
        match staged {
            // The disk failed before, or in this very call: the commit will say so.
            Ok(_) if self.log().failed().is_some() => {}
            Ok(staged) => {
                let done = self.log().progress(staged.route).has(staged.id);
                assert!(staged.duplicate || !done, "{} is done before it is there", staged.id);
                self.model.staged(made, staged, self.latest);
            }
            Err(why) => self.may_lack_room(&why.0),
        }
    }

    pub fn commit(&mut self) {
        let batch = self.model.waiting();
        let faults = self.disk.state().faults;
        match self.log().commit() {
            Ok(()) => {
                assert!(!self.poisoned, "it has failed, and stores");
                let full = self.log().full().is_some();
                self.model.committed(full);
                if !batch.is_empty() {
                    self.last_batch = batch;
                    self.mark = Mark::None;
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

    /// What may have happened in any call: the disk has failed, old segments were deleted.
    fn follow(&mut self, bytes: u64) {
        let now = self.latest;
        let Some(log) = &self.log else { return };
        let by_size = bytes > self.options.retain_bytes;
        self.model.begins_with(log.first_id(), now, by_size);
        if log.failed().is_some() && !self.poisoned {
            assert!(self.disk.state().faults > self.faults, "the disk is well, and the log is poisoned");
            self.poisoned = true;
        }
    }

    fn report(&mut self) {
        let route = self.dice.below(self.options.routes.len());
        if self.options.routes[route].keeps {
            return;
        }
        let (upto, percent) = (
            self.model.highest - self.dice.below(10).min(self.model.highest as usize) as u64,
            self.dice.pick(&[0, 0, 30]),
        );
        let before = self.log().progress(route).upto;
        let dice = &mut self.dice;
        let progress = self.model.report(route, before, |id| id <= upto || dice.chance(percent));
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
        self.model.check(&found, self.latest, by_size);
        for route in 0..self.options.routes.len() {
            let waits = self.model.unfinished(route);
            assert_eq!(self.log().unfinished(route), waits, "unfinished of route {route}");
        }
        // Who does not know what is durable sees that, and at most what a failed commit has left behind it.
        let seen = self.read_up_to(u64::MAX);
        assert!(seen.starts_with(&found) && (self.poisoned || seen.len() == found.len()), "{}", seen.len());
        self.model.holds_all(&seen);
        let report = self.verified();
        assert!(report.is_sound(), "{report:?}");
        if !self.poisoned {
            assert_eq!(report.segments.iter().map(|segment| segment.messages).sum::<u64>(), found.len() as u64);
        }
    }

    fn close(&mut self) {
        self.shut();
        if !self.disk.stopped() {
            let end = if self.dice.chance(50) { End::Killed } else { self.draw_end() };
            self.restart(end);
        }
    }

    /// A clean end, or an attempt at it.
    pub fn shut(&mut self) {
        let Some(log) = self.log.take() else { return };
        // It may only see in closing that there is no room for progress.
        let was_full = log.full().is_some();
        let near = log.bytes() + 2 * self.options.segment_bytes > self.options.max_bytes;
        let full = was_full || near || self.scarce;
        let faults = self.disk.state().faults;
        match log.close() {
            Ok(()) => {
                assert!(!self.poisoned, "it has failed, and closes well");
                self.model.committed(full);
                self.model.perhaps_settled_routes();
                // Where there is no room for a segment there is none for a mark.
                self.mark = if was_full { Mark::None } else { Mark::Synced };
            }
            Err(error) => {
                let now = self.disk.state().faults;
                assert!(self.poisoned || now > self.faults || self.scarce, "{error}: {faults} {now}");
                if self.poisoned { self.model.refused() } else { self.model.doubted() }
            }
        }
    }
}
