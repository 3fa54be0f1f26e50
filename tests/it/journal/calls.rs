//! The simulated disk's system calls.

use std::io;

use tidegate::journal::storage::{File, Storage};

use super::disk::{NameOp, SimDisk, SimFile, State, draw_survival};
use super::faults::{Call, Fate, When, eio, enospc, off};
use super::inode::Inode;

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
            _ if state.lies_of == Some(Call::SyncNames) => {}
            Fate::Fine | Fate::Stops(When::After) => {
                std::mem::take(&mut state.pending).into_iter().for_each(|op| state.make_durable(op));
            }
            // Unlike a file's pages, names are not forgotten: file systems keep them in a log of their own, and stop
            // when that fails. A later sync that succeeds brings all of them to the disk.
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
            // Not even every write: a log that reads nothing back would not begin.
            _ if state.lies_of == Some(Call::Write) && state.dice.chance(5) => {}
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
            _ if state.lies_of == Some(Call::Sync) => {}
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

impl SimDisk {
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
