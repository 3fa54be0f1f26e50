//! A disk in memory that does everything a real one may: seeded, so that it does it again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::faults::{Call, Counts, Fate, Weather, When, kind, off};
use super::inode::{Inode, Survival};
use crate::sim::Dice;

/// Calls that are told of a life that failed.
const TOLD: usize = 120;

/// How a process ends that does not end well.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// kill -9: what was written is still to be read, synced or not.
    Killed,
    PowerCut(Survival),
}

/// A change of names that is not yet on the platter.
#[derive(Clone, Debug)]
pub enum NameOp {
    Link(String, usize),
    Unlink(String, usize),
    Rename(String, String, usize),
}

pub struct State {
    /// Processes that have used it.
    epoch: u32,
    pub stopped: bool,
    /// System calls so far.
    pub calls: u64,
    /// The calls are the test's own: they always succeed, and are not counted.
    pub watched: bool,
    pub inodes: Vec<Inode>,
    pub names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pub pending: Vec<NameOp>,
    pub dice: Dice<'static>,
    pub weather: Weather,
    /// The machine stops at this call.
    pub stop_at: Option<(u64, When)>,
    pub capacity: u64,
    /// It says that this was done, and did nothing: what no log survives.
    pub lies_of: Option<Call>,
    pub counts: Counts,
    /// Errors of any kind that were given since this was last cleared.
    pub faults: u64,
    /// Of those, failed syncs of files.
    pub failed_syncs: u64,
    told: Option<VecDeque<String>>,
}

/// One process' view of the disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    epoch: u32,
}

pub struct SimFile {
    pub disk: SimDisk,
    pub ino: usize,
}

impl SimDisk {
    pub fn new(seed: u64, tell: bool) -> SimDisk {
        let state = State {
            epoch: 0,
            stopped: false,
            calls: 0,
            watched: false,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            dice: Dice::seeded(seed),
            weather: Weather::default(),
            stop_at: None,
            capacity: u64::MAX / 2,
            lies_of: None,
            counts: Counts::default(),
            faults: 0,
            failed_syncs: 0,
            told: tell.then(VecDeque::new),
        };
        SimDisk { state: Arc::new(Mutex::new(state)), epoch: 0 }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many processes there were before this one.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    pub fn stopped(&self) -> bool {
        self.state().stopped
    }

    /// The process is gone, and another one begins on what it has left.
    pub fn restart(&self, end: End) -> SimDisk {
        let mut state = self.state();
        let state = &mut *state;
        state.epoch += 1;
        state.stopped = false;
        state.stop_at = state.stop_at.filter(|(at, _)| *at >= state.calls);
        state.tell(|| format!("-- {end:?} --"));
        match end {
            End::Killed => {
                state.counts.add("kill -9");
                state.inodes.iter_mut().for_each(|inode| inode.handles = 0);
            }
            End::PowerCut(survival) => {
                state.counts.add("power cut");
                state.settle_names(survival);
                state.pending.clear();
                state.names.clone_from(&state.durable_names);
                for inode in &mut state.inodes {
                    inode.power_cut(survival, &mut state.dice);
                }
            }
        }
        SimDisk { state: self.state.clone(), epoch: state.epoch }
    }

    /// Names and lengths of what is there.
    pub fn files(&self) -> Vec<(String, usize)> {
        let state = self.state();
        state.names.iter().map(|(name, ino)| (name.clone(), state.inodes[*ino].view.len())).collect()
    }

    /// The bytes that a file has.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.inodes[state.names[name]].view.clone()
    }

    /// Changes a byte where nobody is to notice but by its checksum.
    pub fn damage(&self, name: &str, at: usize, by: u8) {
        let mut state = self.state();
        state.counts.add("flipped bit");
        state.tell(|| format!("damage {name} at {at} by {by:#x}"));
        let ino = state.names[name];
        state.inodes[ino].damage(at, by);
    }

    /// The last calls, one a line.
    pub fn told(&self) -> String {
        let state = self.state();
        let lines: Vec<String> = state.told.iter().flatten().cloned().collect();
        lines.join("\n")
    }

    pub fn tell(&self, what: impl FnOnce() -> String) {
        self.state().tell(what);
    }

    /// Begins a system call; what it meets with that lets it go on.
    pub fn begin(&self, call: Call, what: impl Fn() -> String) -> io::Result<(MutexGuard<'_, State>, Fate)> {
        let mut state = self.state();
        if state.stopped || state.epoch != self.epoch {
            return Err(off());
        }
        if state.watched {
            return Ok((state, Fate::Fine));
        }
        let number = state.calls;
        state.calls += 1;
        let fate = match state.stop_at {
            Some((at, when)) if at == number => Fate::Stops(when),
            _ => {
                let weather = state.weather;
                weather.fate(call, &mut state.dice)
            }
        };
        state.tell(|| match fate {
            Fate::Fine => format!("{number} {call:?} {}", what()),
            _ => format!("{number} {call:?} {} -> {fate:?}", what()),
        });
        if fate != Fate::Fine {
            state.counts.add(kind(call, fate));
            state.faults += 1;
        }
        match fate {
            Fate::Stops(When::Before) => {
                state.stopped = true;
                Err(off())
            }
            fate => Ok((state, fate)),
        }
    }

    pub fn file(&self, state: &mut State, ino: usize) -> SimFile {
        state.inodes[ino].handles += 1;
        SimFile { disk: self.clone(), ino }
    }
}

impl State {
    /// Nothing works any more, until the restart.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            if told.len() == TOLD {
                told.pop_front();
            }
            told.push_back(what());
        }
    }

    pub fn used(&self) -> u64 {
        let mut linked = vec![false; self.inodes.len()];
        self.names.values().for_each(|ino| linked[*ino] = true);
        let kept = |(inode, linked): (&Inode, bool)| (linked || inode.handles > 0).then_some(inode.view.len() as u64);
        self.inodes.iter().zip(linked).filter_map(kept).sum()
    }

    pub fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    pub fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// What was done to names and not synced is on the platter, or it is not: each change by itself.
    pub fn settle_names(&mut self, survival: Survival) {
        for op in std::mem::take(&mut self.pending) {
            if survival.spares(&mut self.dice) {
                self.make_durable(op);
            } else {
                self.pending.push(op);
            }
        }
    }

    pub fn make_durable(&mut self, op: NameOp) {
        let names = &mut self.durable_names;
        match op {
            NameOp::Link(name, ino) => {
                names.insert(name, ino);
            }
            NameOp::Unlink(name, ino) => {
                if names.get(&name) == Some(&ino) {
                    names.remove(&name);
                }
            }
            NameOp::Rename(from, to, ino) => {
                if names.get(&from) == Some(&ino) {
                    names.remove(&from);
                }
                names.insert(to, ino);
            }
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.epoch == self.disk.epoch {
            let inode = &mut state.inodes[self.ino];
            inode.handles = inode.handles.saturating_sub(1);
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile #{}", self.ino)
    }
}

pub fn draw_survival(dice: &mut Dice<'_>) -> Survival {
    dice.pick(&Survival::EACH)
}
