//! Sessions in one file of the data directory, by redb: `TIDEGATE_SESSION_STORE=embedded`.
//!
//! | table | key | value |
//! |---|---|---|
//! | `about` | `format`, `run` | a number: the format of this file, the number of the last run |
//! | `runs` | a run's number | when it ended; while it runs, and until the next start after a crash, nothing |
//! | `sessions` | [`StoreKey`] | fence 8, run 8, end 8, principal |
//! | `state` | [`StoreKey`], then the key of the state | the value |
//!
//! A *run* is one process's time with the file. A session that lived in a run's memory has no end of its own
//! but [`WITH_ITS_OWNER`]: it ends a time to live after that run did, which is one line in `runs` and not a
//! write for each of a million sessions. Numbers are big-endian.
//!
//! A commit is one fdatasync. After a crash redb looks through the whole file for what was torn: about 150 ms
//! for a million sessions without state, where the file is in the page cache.

mod error;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{Database, ReadableDatabase, ReadableTable, StorageError, Table, TableDefinition};

pub use error::OpenError;

use super::{
    MakeStore, Pairs, SessionStore, StoreDown, StoreKey, Stored, WITH_ITS_OWNER, Wanted, Write, WriteOp, Written,
};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "sessions.redb";

const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
const RUNS: TableDefinition<'_, u64, u64> = TableDefinition::new("runs");
const SESSIONS: TableDefinition<'_, &StoreKey, &[u8]> = TableDefinition::new("sessions");
const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");

const FORMAT: u64 = 1;
/// Bytes of the file that are kept in memory. The kernel keeps the rest.
const CACHE: usize = 64 << 20;
/// Sessions looked at for each one that a sweep may forget.
const LOOKED_AT_FOR_EACH: usize = 4;

/// The sessions in a file.
#[derive(Debug)]
pub struct Embedded {
    database: Database,
    run: Arc<Run>,
    clock: fn() -> u64,
    /// Where the sweep goes on.
    swept_to: StoreKey,
}

/// One process's time with the file.
#[derive(Debug)]
struct Run {
    number: u64,
    ttl_ms: u64,
    /// When those before it ended.
    ended: HashMap<u64, u64>,
}

/// A session's row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    fence: u64,
    run: u64,
    ends_ms: u64,
    principal: Box<[u8]>,
}

/// What makes an [`Embedded`] in this directory, once for each error: all of them are one run. `ttl` is a
/// session's time to live.
pub fn maker(dir: &Path, ttl: Duration) -> MakeStore {
    let (path, run) = (dir.join(FILE_NAME), OnceLock::new());
    let ttl_ms = ttl.as_millis() as u64;
    Arc::new(move || Ok(Box::new(Embedded::open(&path, ttl_ms, &run, wall_ms)?) as Box<dyn SessionStore>))
}

impl Embedded {
    fn open(path: &Path, ttl_ms: u64, run: &OnceLock<Arc<Run>>, clock: fn() -> u64) -> Result<Embedded, OpenError> {
        let io = |error: io::Error| OpenError::Io { path: path.to_owned(), why: error.to_string() };
        // What sessions hold is nobody else's business.
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(io)?;
        if let Some(dir) = path.parent() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        }
        let builder = &mut Database::builder();
        // A damaged file is told from a good one here, and not by a panic later.
        let database = builder.set_cache_size(CACHE).set_check_integrity_on_open(true).create(path);
        let database = database.map_err(|error| OpenError::of_database(path, error))?;
        let run = match run.get() {
            Some(run) => Arc::clone(run),
            None => {
                let begun = begin_run(&database, ttl_ms, clock()).map_err(|error| match error {
                    Begin::Newer(format) => OpenError::Newer { path: path.to_owned(), format },
                    Begin::Failed(error) => OpenError::of(path, error),
                })?;
                Arc::clone(run.get_or_init(|| Arc::new(begun)))
            }
        };
        Ok(Embedded { database, run, clock, swept_to: [0; 16] })
    }

    /// Does something within a transaction, and commits it.
    fn change<T>(&mut self, act: impl FnOnce(&Run, &mut Tables<'_>) -> Result<T, redb::Error>) -> Result<T, StoreDown> {
        let change = || -> Result<T, redb::Error> {
            let transaction = self.database.begin_write()?;
            let mut tables =
                Tables { sessions: transaction.open_table(SESSIONS)?, state: transaction.open_table(STATE)? };
            let done = act(&self.run, &mut tables)?;
            drop(tables);
            transaction.commit()?;
            Ok(done)
        };
        change().map_err(|error| down(&error))
    }

    /// The next sessions, from where the sweep is: those whose time has run out. At the end it starts anew.
    fn ended(&mut self, now_ms: u64, budget: usize) -> Result<Vec<StoreKey>, redb::Error> {
        let sessions = self.database.begin_read()?.open_table(SESSIONS)?;
        let mut ended = Vec::new();
        let mut rows = sessions.range::<&StoreKey>(&self.swept_to..)?;
        for _ in 0..budget.saturating_mul(LOOKED_AT_FOR_EACH) {
            let Some(row) = rows.next() else {
                self.swept_to = [0; 16];
                return Ok(ended);
            };
            let (key, row) = row?;
            self.swept_to = *key.value();
            if Row::decode(row.value()).is_none_or(|row| self.run.end_of(&row) <= now_ms) {
                ended.push(*key.value());
                if ended.len() >= budget {
                    break;
                }
            }
        }
        Ok(ended)
    }
}

impl SessionStore for Embedded {
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreDown> {
        self.change(|run, tables| writes.iter().map(|write| tables.write(run, write)).collect())
    }

    fn claim(&mut self, wanted: &[Wanted], now_ms: u64) -> Result<Vec<Option<Stored>>, StoreDown> {
        self.change(|run, tables| wanted.iter().map(|wanted| tables.claim(run, wanted, now_ms)).collect())
    }

    fn sweep(&mut self, now_ms: u64, budget: usize) -> Result<usize, StoreDown> {
        let ended = self.ended(now_ms, budget).map_err(|error| down(&error))?;
        if !ended.is_empty() {
            self.change(|_, tables| ended.iter().try_for_each(|key| tables.forget(key)))?;
        }
        Ok(ended.len())
    }

    fn close(self: Box<Self>) -> Result<(), StoreDown> {
        let Embedded { database, run, clock, .. } = *self;
        let close = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            transaction.open_table(RUNS)?.insert(run.number, clock())?;
            transaction.commit()?;
            Ok(())
        };
        close().map_err(|error| down(&error))?;
        database.close().map_err(|error| down(&error.into()))
    }
}

/// The tables, open in one transaction.
struct Tables<'t> {
    sessions: Table<'t, &'static StoreKey, &'static [u8]>,
    state: Table<'t, &'static [u8], &'static [u8]>,
}

impl Tables<'_> {
    fn write(&mut self, run: &Run, write: &Write) -> Result<Written, redb::Error> {
        let (key, fence) = (&write.key, write.fence);
        let row = self.row(key)?;
        if row.as_ref().is_some_and(|row| row.fence > fence) {
            return Ok(Written::Lost);
        }
        let there = row.is_some();
        match (&write.op, row) {
            (WriteOp::Open { principal, ends_ms, state }, _) => {
                if there {
                    self.forget_state(key)?;
                }
                let row = Row { fence, run: run.number, ends_ms: *ends_ms, principal: principal.as_bytes().into() };
                self.sessions.insert(key, &row.encode()[..])?;
                for (name, value) in state {
                    self.state.insert(&state_key(key, name)[..], &value[..])?;
                }
            }
            (WriteOp::End, _) => {
                if there {
                    self.forget(key)?;
                }
            }
            (_, None) => return Ok(Written::Gone),
            (WriteOp::Put(name, value), Some(row)) => {
                self.state.insert(&state_key(key, name)[..], &value[..])?;
                self.raise(key, row, fence)?;
            }
            (WriteOp::Delete(name), Some(row)) => {
                self.state.remove(&state_key(key, name)[..])?;
                self.raise(key, row, fence)?;
            }
            (WriteOp::Touch { ends_ms }, Some(row)) => {
                let row = Row { fence, run: run.number, ends_ms: *ends_ms, ..row };
                self.sessions.insert(key, &row.encode()[..])?;
            }
        }
        Ok(Written::Done)
    }

    fn claim(&mut self, run: &Run, wanted: &Wanted, now_ms: u64) -> Result<Option<Stored>, redb::Error> {
        let Some(row) = self.row(&wanted.key)? else { return Ok(None) };
        if *row.principal != *wanted.principal.as_bytes() || run.end_of(&row) <= now_ms {
            return Ok(None);
        }
        // It lives in this run's memory from here on, and nobody has to touch it.
        let row = Row { fence: row.fence + 1, run: run.number, ends_ms: WITH_ITS_OWNER, ..row };
        self.sessions.insert(&wanted.key, &row.encode()[..])?;
        let (from, to) = state_range(&wanted.key);
        let pairs = self.state.range::<&[u8]>(&from[..]..=&to[..])?.map(|pair| {
            let (key, value) = pair?;
            Ok((key.value()[size_of::<StoreKey>()..].into(), value.value().into()))
        });
        let state = pairs.collect::<Result<Pairs, StorageError>>()?;
        Ok(Some(Stored { fence: row.fence, state }))
    }

    fn row(&self, key: &StoreKey) -> Result<Option<Row>, redb::Error> {
        Ok(self.sessions.get(key)?.and_then(|row| Row::decode(row.value())))
    }

    /// Leaves the greater fence of a write there.
    fn raise(&mut self, key: &StoreKey, row: Row, fence: u64) -> Result<(), redb::Error> {
        if row.fence < fence {
            self.sessions.insert(key, &Row { fence, ..row }.encode()[..])?;
        }
        Ok(())
    }

    fn forget(&mut self, key: &StoreKey) -> Result<(), redb::Error> {
        self.sessions.remove(key)?;
        self.forget_state(key)
    }

    fn forget_state(&mut self, key: &StoreKey) -> Result<(), redb::Error> {
        let (from, to) = state_range(key);
        Ok(self.state.retain_in::<&[u8], _>(&from[..]..=&to[..], |_, _| false)?)
    }
}

impl Run {
    /// When a session ends that nobody touches. Milliseconds since 1970.
    fn end_of(&self, row: &Row) -> u64 {
        match row.ends_ms {
            WITH_ITS_OWNER if row.run == self.number => WITH_ITS_OWNER,
            // A run that is not known any more ended longer ago than any session lives.
            WITH_ITS_OWNER => self.ended.get(&row.run).map_or(0, |ended| ended.saturating_add(self.ttl_ms)),
            ends_ms => ends_ms,
        }
    }
}

impl Row {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24 + self.principal.len());
        for number in [self.fence, self.run, self.ends_ms] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.principal);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Row> {
        let (fence, rest) = bytes.split_first_chunk()?;
        let (run, rest) = rest.split_first_chunk()?;
        let (ends_ms, principal) = rest.split_first_chunk()?;
        let [fence, run, ends_ms] = [fence, run, ends_ms].map(|bytes| u64::from_be_bytes(*bytes));
        Some(Row { fence, run, ends_ms, principal: principal.into() })
    }
}

/// Why a run could not begin.
enum Begin {
    Newer(u64),
    Failed(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Begin {
    fn from(error: E) -> Begin {
        Begin::Failed(error.into())
    }
}

/// Takes the next run's number; whatever has not ended by itself has ended now.
fn begin_run(database: &Database, ttl_ms: u64, now_ms: u64) -> Result<Run, Begin> {
    let transaction = database.begin_write()?;
    let (number, ended) = {
        let mut about = transaction.open_table(ABOUT)?;
        let format = about.get("format")?.map(|format| format.value());
        if let Some(format) = format.filter(|format| *format > FORMAT) {
            return Err(Begin::Newer(format));
        }
        let last = about.get("run")?.map_or(0, |run| run.value());
        about.insert("format", FORMAT)?;
        about.insert("run", last + 1)?;
        let mut runs = transaction.open_table(RUNS)?;
        if last > 0 && runs.get(last)?.is_none() {
            runs.insert(last, now_ms)?;
        }
        runs.retain(|_, ended| ended.saturating_add(ttl_ms) > now_ms)?;
        let pairs = runs.iter()?.map(|run| run.map(|(run, ended)| (run.value(), ended.value())));
        (last + 1, pairs.collect::<Result<HashMap<_, _>, _>>()?)
    };
    // They are to be there: what only reads does not make them.
    transaction.open_table(SESSIONS)?;
    transaction.open_table(STATE)?;
    transaction.commit()?;
    Ok(Run { number, ttl_ms, ended })
}

fn down(error: &redb::Error) -> StoreDown {
    StoreDown(format!("{FILE_NAME} can't be written or read: {error}"))
}

fn state_key(key: &StoreKey, name: &[u8]) -> Vec<u8> {
    [key, name].concat()
}

/// The first and the last key that a session's state may have.
fn state_range(key: &StoreKey) -> (Vec<u8>, Vec<u8>) {
    (key.to_vec(), state_key(key, &[0xFF; 255]))
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
