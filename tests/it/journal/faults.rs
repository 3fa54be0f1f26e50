//! What may go wrong at a system call, how often, and what has gone wrong so far.

use std::collections::BTreeMap;
use std::io;

use crate::sim::Dice;

/// System calls, as far as they differ in how they fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    List,
    Create,
    Open,
    Remove,
    Rename,
    SyncNames,
    Free,
    Read,
    Write,
    Sync,
    SetLen,
    Len,
}

/// When within a system call the machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing of the call has happened.
    Before,
    /// Any part of it.
    During,
    /// All of it, and nobody was told.
    After,
}

/// What a call meets with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Fine,
    Stops(When),
    /// EIO: nothing has happened, or, in a write, any sectors of it.
    Error,
    /// A write that did its first bytes, and then EIO.
    Short,
    /// ENOSPC: nothing has happened, or, in a write, its first bytes.
    NoRoom,
}

/// How often each thing goes wrong, in 10,000 calls that could.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// The machine, or the process, stops.
    pub stop: usize,
    pub read: usize,
    pub write: usize,
    pub short: usize,
    /// No room for a new file.
    pub room: usize,
    /// No room in the middle of a write, even into room that was taken before: some file systems copy.
    pub room_in_write: usize,
    pub sync: usize,
    /// Names can't be made, changed, removed, read or brought to the disk.
    pub names: usize,
    /// Nobody knows how much room there is.
    pub free: usize,
}

impl Weather {
    /// One of the days that a disk has.
    pub fn draw(dice: &mut Dice<'_>) -> Weather {
        let crashes = Weather { stop: dice.pick(&[20, 60, 200]), ..Weather::default() };
        match dice.weighted(&[25, 15, 20, 15, 10, 15]) {
            0 => crashes,
            1 => Weather { sync: dice.pick(&[100, 800]), ..crashes },
            2 => Weather { room: 1_000, room_in_write: 200, free: 300, ..crashes },
            3 => Weather { write: 100, short: 100, names: 100, ..crashes },
            4 => Weather { read: 100, names: 200, free: 1_000, ..crashes },
            _ => Weather {
                read: 30,
                write: 30,
                short: 30,
                room: 300,
                room_in_write: 60,
                sync: 30,
                names: 30,
                free: 100,
                ..crashes
            },
        }
    }

    /// What this call meets with.
    pub fn fate(&self, call: Call, dice: &mut Dice<'_>) -> Fate {
        let mut happens = |often: usize| often > 0 && dice.below(10_000) < often;
        if happens(self.stop) {
            return Fate::Stops(dice.pick(&[When::Before, When::During, When::After]));
        }
        let (often, fate): (&[usize], &[Fate]) = match call {
            Call::Read => (&[self.read], &[Fate::Error]),
            Call::Write => (&[self.write, self.short, self.room_in_write], &[Fate::Error, Fate::Short, Fate::NoRoom]),
            Call::Sync => (&[self.sync], &[Fate::Error]),
            Call::Create => (&[self.room, self.names], &[Fate::NoRoom, Fate::Error]),
            Call::SetLen => (&[self.write], &[Fate::Error]),
            Call::Free => (&[self.free], &[Fate::Error]),
            Call::List | Call::Open | Call::Remove | Call::Rename | Call::SyncNames | Call::Len => {
                (&[self.names], &[Fate::Error])
            }
        };
        often.iter().zip(fate).find(|(often, _)| happens(**often)).map_or(Fate::Fine, |(_, fate)| *fate)
    }
}

/// How often what has happened.
#[derive(Clone, Debug, Default)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

impl Counts {
    pub fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Counts) {
        for (what, n) in &other.0 {
            *self.0.entry(what).or_default() += n;
        }
    }

    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// One line of everything.
    pub fn line(&self) -> String {
        self.0.iter().map(|(what, n)| format!("{what} {n}")).collect::<Vec<_>>().join(", ")
    }
}

/// What a fault is counted as.
pub fn kind(call: Call, fate: Fate) -> &'static str {
    match (fate, call) {
        (Fate::Fine, _) => "fine",
        (Fate::Stops(When::Before), _) => "stopped before a call",
        (Fate::Stops(When::During), _) => "stopped in a call",
        (Fate::Stops(When::After), _) => "stopped after a call",
        (Fate::Short, _) => "short write",
        (Fate::NoRoom, Call::Create) => "ENOSPC on create",
        (Fate::NoRoom, _) => "ENOSPC in a write",
        (Fate::Error, Call::Read) => "EIO on read",
        (Fate::Error, Call::Write | Call::SetLen) => "EIO on write",
        (Fate::Error, Call::Sync) => "failed fsync",
        (Fate::Error, Call::SyncNames) => "failed fsync of the directory",
        (Fate::Error, Call::Free) => "free room not known",
        (Fate::Error, _) => "EIO on names",
    }
}

pub fn eio() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

pub fn enospc() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())
}

/// What everybody gets from a machine that stands still.
pub fn off() -> io::Error {
    io::Error::other("the machine is off")
}
