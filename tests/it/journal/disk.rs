//! A disk in memory that does everything a real one may: seeded, so that it does it again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate::journal::storage::{File, Storage};

use super::faults::{Call, Counts, Fate, Weather, When, eio, enospc, kind, off};
use super::inode::{Inode, Survival};
use crate::sim::Dice;

/// Calls that are told of a life that failed.
const TOLD: usize = 60;

/// How a process ends that does not end well.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// kill -9: what was written is still to be read, synced or not.
    Killed,
    PowerCut(Survival),
}

/// A change of names that is not yet on the platter.
#[derive(Clone, Debug)]
enum NameOp {
    Link(String, usize),
    Unlink(String, usize),
    Rename(String, String, usize),
}

pub struct State {
    /// Processes that have used it.
    epoch: u32,
    stopped: bool,
    /// System calls so far.
    pub calls: u64,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending: Vec<NameOp>,
    pub dice: Dice<'static>,
    pub weather: Weather,
    /// The machine stops at this call.
    pub stop_at: Option<(u64, When)>,
    pub capacity: u64,
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
    disk: SimDisk,
    ino: usize,
}

impl SimDisk {
    pub fn new(seed: u64, tell: bool) -> SimDisk {
        let state = State {
            epoch: 0,
            stopped: false,
            calls: 0,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            dice: Dice::seeded(seed),
            weather: Weather::default(),
            stop_at: None,
            capacity: u64::MAX / 2,
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

    pub fn stopped(&self) -> bool {
        self.state().stopped
    }

    /// The process is gone, and another one begins on what it has left.
    pub fn restart(&self, end: End) -> SimDisk {
        let mut state = self.state();
        let state = &mut *state;
        state.epoch += 1;
        state.stopped = false;
        state.stop_at = None;
        state.tell(|| format!("-- {end:?} --"));
        match end {
            End::Killed => {
                state.counts.add("kill -9");
                state.inodes.iter_mut().for_each(|inode| inode.handles = 0);
            }
            End::PowerCut(survival) => {
                state.counts.add("power cut");
                state.settle_names(survival);
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
    fn begin(&self, call: Call, what: impl Fn() -> String) -> io::Result<(MutexGuard<'_, State>, Fate)> {
        let mut state = self.state();
        if state.stopped || state.epoch != self.epoch {
            return Err(off());
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

    /// A call that happens, or does not.
    fn whole<T>(
        &self,
        call: Call,
        what: impl Fn() -> String,
        run: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let (mut state, fate) = self.begin(call, what)?;
        match fate {
            Fate::Stops(when) => {
                let done = (when == When::After || state.dice.chance(50)).then(|| run(&mut state));
                state.stopped = true;
                // A file that was opened wants the lock when it goes.
                drop(state);
                drop(done);
                Err(off())
            }
            Fate::NoRoom => Err(enospc()),
            Fate::Error | Fate::Short => Err(eio()),
            Fate::Fine => run(&mut state),
        }
    }

    fn file(&self, state: &mut State, ino: usize) -> SimFile {
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

    fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// What was done to names and not synced is on the platter, or it is not: each change by itself.
    fn settle_names(&mut self, survival: Survival) {
        for op in std::mem::take(&mut self.pending) {
            if survival.spares(&mut self.dice) {
                self.make_durable(op);
            }
        }
    }

    fn make_durable(&mut self, op: NameOp) {
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

impl Storage for SimDisk {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.whole(Call::List, String::new, |state| {
            // A directory has no order.
            let mut names: Vec<String> = state.names.keys().cloned().collect();
            let turn = state.dice.below(names.len());
            names.rotate_left(turn);
            Ok(names)
        })
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<SimFile> {
        self.whole(
            Call::Create,
            || format!("{name} {bytes}"),
            |state| {
                if state.names.contains_key(name) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                if bytes > state.room() {
                    state.counts.add("disk full on create");
                    return Err(enospc());
                }
                let ino = state.inodes.len();
                state.inodes.push(Inode::new(bytes as usize));
                state.names.insert(name.to_owned(), ino);
                state.pending.push(NameOp::Link(name.to_owned(), ino));
                Ok(self.file(state, ino))
            },
        )
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        self.whole(
            Call::Open,
            || name.to_owned(),
            |state| {
                let ino = state.find(name)?;
                Ok(self.file(state, ino))
            },
        )
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.whole(
            Call::Remove,
            || name.to_owned(),
            |state| {
                let ino = state.find(name)?;
                state.names.remove(name);
                state.pending.push(NameOp::Unlink(name.to_owned(), ino));
                Ok(())
            },
        )
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.whole(
            Call::Rename,
            || format!("{from} {to}"),
            |state| {
                let ino = state.find(from)?;
                state.names.remove(from);
                state.names.insert(to.to_owned(), ino);
                state.pending.push(NameOp::Rename(from.to_owned(), to.to_owned(), ino));
                Ok(())
            },
        )
    }

    fn sync_names(&self) -> io::Result<()> {
        let (mut state, fate) = self.begin(Call::SyncNames, String::new)?;
        match fate {
            Fate::Fine | Fate::Stops(When::After) => {
                std::mem::take(&mut state.pending).into_iter().for_each(|op| state.make_durable(op));
            }
            _ => {
                let survival = draw_survival(&mut state.dice);
                state.settle_names(survival);
            }
        }
        finish(&mut state, fate)
    }

    fn free(&self) -> io::Result<Option<u64>> {
        self.whole(Call::Free, String::new, |state| Ok(Some(state.room())))
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let what = || format!("#{} {} at {offset}", self.ino, buffer.len());
        let (mut state, fate) = self.disk.begin(Call::Read, what)?;
        finish(&mut state, fate)?;
        Ok(state.inodes[self.ino].read(buffer, offset as usize))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let what = || format!("#{} {} at {offset}", self.ino, bytes.len());
        let (mut state, fate) = self.disk.begin(Call::Write, what)?;
        let state = &mut *state;
        let offset = offset as usize;
        let (ino, room) = (self.ino, state.room() as usize);
        let grows = (offset + bytes.len()).saturating_sub(state.inodes[ino].view.len());
        if grows > room {
            state.counts.add("disk full in a write");
            let fits = bytes.len().saturating_sub(grows - room);
            state.inodes[ino].write(&bytes[..fits], offset);
            return Err(enospc());
        }
        match fate {
            Fate::Fine | Fate::Stops(When::After) => state.inodes[ino].write(bytes, offset),
            Fate::Short | Fate::NoRoom => {
                let n = state.dice.below(bytes.len());
                state.inodes[ino].write(&bytes[..n], offset);
            }
            _ => {
                let (inode, dice) = (&mut state.inodes[ino], &mut state.dice);
                let percent = dice.pick(&[0, 50, 90, 100]);
                inode.write_some(bytes, offset, || dice.chance(percent));
            }
        }
        finish(state, fate)
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, fate) = self.disk.begin(Call::Sync, || format!("#{}", self.ino))?;
        let state = &mut *state;
        let inode = &mut state.inodes[self.ino];
        match fate {
            Fate::Fine | Fate::Stops(When::After) => inode.sync(),
            Fate::Stops(_) => {}
            _ => {
                let (survival, forget) = (draw_survival(&mut state.dice), state.dice.chance(30));
                inode.fail_sync(survival, &mut state.dice, forget);
                state.failed_syncs += 1;
            }
        }
        finish(state, fate)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.whole(
            Call::SetLen,
            || format!("#{} {bytes}", self.ino),
            |state| {
                let grows = bytes.saturating_sub(state.inodes[self.ino].view.len() as u64);
                if grows > state.room() {
                    return Err(enospc());
                }
                state.inodes[self.ino].set_len(bytes as usize);
                Ok(())
            },
        )
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.whole(Call::Len, || format!("#{}", self.ino), |state| Ok(state.inodes[self.ino].view.len() as u64))
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

fn finish(state: &mut State, fate: Fate) -> io::Result<()> {
    match fate {
        Fate::Fine => Ok(()),
        Fate::Stops(_) => {
            state.stopped = true;
            Err(off())
        }
        Fate::NoRoom => Err(enospc()),
        Fate::Error | Fate::Short => Err(eio()),
    }
}
