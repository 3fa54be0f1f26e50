//! One file of the simulated disk: what programs see of it, what is on the platter, and what lies between.

use std::collections::BTreeMap;

use crate::sim::Dice;

/// What a disk writes at once, or not at all.
pub const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

/// What a power cut leaves of what was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    Nothing,
    Everything,
    /// Each sector, length and name by itself, as it was at any time since the last sync, in this percentage.
    Some(usize),
    /// All but one in this many, roughly.
    AllBut(usize),
    /// What is before a point of the file, and nothing beyond: written in order.
    Front,
    /// What is beyond a point of the file, and nothing before: written in the worst order.
    Back,
}

impl Survival {
    pub const EACH: [Survival; 7] = [
        Survival::Nothing,
        Survival::Everything,
        Survival::Some(50),
        Survival::Some(90),
        Survival::AllBut(4),
        Survival::Front,
        Survival::Back,
    ];

    /// Whether one thing survives that has no place in a file.
    pub fn spares(self, dice: &mut Dice<'_>) -> bool {
        match self {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Some(percent) => dice.chance(percent),
            Survival::AllBut(n) => dice.below(n) > 0,
            Survival::Front | Survival::Back => dice.chance(50),
        }
    }
}

/// A file.
#[derive(Clone, Debug, Default)]
pub struct Inode {
    /// What reads give.
    pub view: Vec<u8>,
    /// What is on the platter.
    durable: Vec<u8>,
    /// Sectors that were written since the last sync: every state that they had.
    dirty: BTreeMap<usize, Vec<Sector>>,
    /// Lengths that it had since then.
    lengths: Vec<usize>,
    /// Open files.
    pub handles: usize,
}

impl Inode {
    pub fn new(len: usize) -> Inode {
        Inode { view: vec![0; len], lengths: vec![len], ..Inode::default() }
    }

    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.lengths.is_empty()
    }

    pub fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let from = self.view.get(offset..).unwrap_or_default();
        let n = from.len().min(buffer.len());
        buffer[..n].copy_from_slice(&from[..n]);
        n
    }

    pub fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if end > self.view.len() {
            self.set_len(end);
        }
        self.view[offset..end].copy_from_slice(bytes);
        self.touch(offset, end);
    }

    /// The part of a write that falls into sectors which `take` takes.
    pub fn write_some(&mut self, bytes: &[u8], offset: usize, mut take: impl FnMut() -> bool) {
        let mut at = offset;
        while at < offset + bytes.len() {
            let end = ((at / SECTOR + 1) * SECTOR).min(offset + bytes.len());
            if take() {
                self.write(&bytes[at - offset..end - offset], at);
            }
            at = end;
        }
    }

    pub fn set_len(&mut self, len: usize) {
        let old = self.view.len();
        resize(&mut self.view, len);
        self.lengths.push(len);
        // What is cut off reads as zeros if the file grows again.
        self.touch(len, old);
    }

    /// What was written is on the platter.
    pub fn sync(&mut self) {
        resize(&mut self.durable, self.view.len());
        for sector in std::mem::take(&mut self.dirty).into_keys() {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(self.view.len());
            if from < to {
                self.durable[from..to].copy_from_slice(&self.view[from..to]);
            }
        }
        self.lengths.clear();
    }

    /// What was written is on the platter, or is not; and in either case the kernel takes it for written.
    /// With `forget`, what is read from now on is what the platter has.
    pub fn fail_sync(&mut self, survival: Survival, dice: &mut Dice<'_>, forget: bool) {
        self.durable = self.survive(survival, dice);
        self.dirty.clear();
        self.lengths.clear();
        if forget {
            self.view.clone_from(&self.durable);
        } else if self.durable.len() != self.view.len() {
            // The length that programs see is the file's, and no sync has brought it to the disk.
            self.lengths.push(self.view.len());
        }
    }

    /// The power is cut: what is left.
    pub fn power_cut(&mut self, survival: Survival, dice: &mut Dice<'_>) {
        if self.is_dirty() || self.view != self.durable {
            *self = Inode::at_rest(self.survive(survival, dice));
        }
        self.handles = 0;
    }

    /// Changes a byte, on the platter and for all who read it.
    pub fn damage(&mut self, at: usize, by: u8) {
        self.view[at] ^= by;
        if let Some(byte) = self.durable.get_mut(at) {
            *byte ^= by;
        }
    }

    fn at_rest(bytes: Vec<u8>) -> Inode {
        Inode { view: bytes.clone(), durable: bytes, ..Inode::default() }
    }

    fn touch(&mut self, from: usize, to: usize) {
        if from >= to {
            return;
        }
        for sector in from / SECTOR..=(to - 1) / SECTOR {
            let mut state = [0; SECTOR];
            self.read(&mut state, sector * SECTOR);
            self.dirty.entry(sector).or_default().push(state);
        }
    }

    fn survive(&self, survival: Survival, dice: &mut Dice<'_>) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let any = |dice: &mut Dice<'_>, n: usize| if dice.chance(70) { n - 1 } else { dice.below(n) };
        if !self.lengths.is_empty() && survival.spares(dice) {
            let len = match survival {
                Survival::Everything => self.view.len(),
                _ => self.lengths[any(dice, self.lengths.len())],
            };
            resize(&mut bytes, len);
        }
        let middle = self.dirty.keys().nth(dice.below(self.dirty.len())).copied().unwrap_or(0);
        for (sector, states) in &self.dirty {
            let (kept, state) = match survival {
                Survival::Front => (*sector < middle, states.len() - 1),
                Survival::Back => (*sector >= middle, states.len() - 1),
                Survival::Everything => (true, states.len() - 1),
                _ => (survival.spares(dice), any(dice, states.len())),
            };
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(bytes.len());
            if kept && from < to {
                bytes[from..to].copy_from_slice(&states[state][..to - from]);
            }
        }
        bytes
    }
}

/// As [`Vec::resize`], with zeros, which is slow where nothing is optimised.
fn resize(bytes: &mut Vec<u8>, len: usize) {
    let old = bytes.len();
    if len <= old {
        return bytes.truncate(len);
    }
    let mut grown = vec![0; len];
    grown[..old].copy_from_slice(bytes);
    *bytes = grown;
}
