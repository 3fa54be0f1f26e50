//! Sessions in MySQL or MariaDB.
//!
//! Three tables (`schema.sql`): sessions, their keys and values, and the version of the tables. A batch of
//! writes is one transaction: it locks the rows of its sessions, compares fences, and writes each row once. A
//! claim locks the row of its session too, so that one of two claimers comes after the other. Nothing takes
//! effect before COMMIT, and at COMMIT the locks are held: a transaction that the server carries out late, after
//! its connection was given up, can't overwrite what a later one wrote.

mod link;
mod plan;

use std::collections::HashMap;
use std::time::Duration;

use mysql::{Opts, Value};

use self::link::{Fault, Link, Shape};
use self::plan::{Row, plan};
use super::remote::{Deadline, Gateway, Patience};
use super::{Pairs, SessionStore, StoreDown, StoreKey, Stored, Wanted, Write, Written};

/// How often an operation is tried that another transaction was in the way of, or whose connection was lost
/// while it was idle.
const TRIES: u32 = 5;
/// The mean pause before it is tried again, times the number of the try.
const PAUSE: Duration = Duration::from_millis(4);

const FORM: &str = "mysql://USER:PASSWORD@HOST:PORT/DATABASE";

const LOCK: Shape = Shape {
    head: "SELECT id, principal, fence, owner, ends FROM tidegate_sessions WHERE id IN (",
    row: "?",
    between: ",",
    tail: ") FOR UPDATE",
};
const INSERT: Shape = Shape {
    head: "INSERT INTO tidegate_sessions (id, principal, fence, owner, ends) VALUES ",
    row: "(?,?,?,?,?)",
    between: ",",
    tail: "",
};
/// Rows that are there and locked: what looks like an insert is the way to update many at once.
const UPDATE: Shape = Shape {
    tail: " ON DUPLICATE KEY UPDATE principal = VALUES(principal), fence = VALUES(fence), owner = VALUES(owner), \
           ends = VALUES(ends)",
    ..INSERT
};
const END: Shape = Shape { head: "DELETE FROM tidegate_sessions WHERE id IN (", row: "?", between: ",", tail: ")" };
const CLEAR: Shape = Shape { head: "DELETE FROM tidegate_state WHERE id IN (", ..END };
const PUT: Shape = Shape {
    head: "INSERT INTO tidegate_state (id, name, value) VALUES ",
    row: "(?,?,?)",
    between: ",",
    tail: " ON DUPLICATE KEY UPDATE value = VALUES(value)",
};
const DELETE: Shape =
    Shape { head: "DELETE FROM tidegate_state WHERE ", row: "(id = ? AND name = ?)", between: " OR ", tail: "" };
const STATE: Shape =
    Shape { head: "SELECT id, name, value FROM tidegate_state WHERE id IN (", row: "?", between: ",", tail: ")" };
const SWEEP: Shape = Shape {
    head: "DELETE FROM tidegate_sessions WHERE ends <= ? ORDER BY ends LIMIT ?",
    row: "",
    between: "",
    tail: "",
};

/// Where the server is, from its URL.
#[derive(Clone)]
pub struct Options(Opts);

impl Options {
    /// Reads `mysql://USER:PASSWORD@HOST:PORT/DATABASE`.
    ///
    /// # Errors
    /// What is wrong with it, without its password.
    pub fn parse(url: &str) -> Result<Options, String> {
        if url.contains('?') {
            return Err(format!("{FORM} is followed by nothing"));
        }
        let opts = Opts::from_url(url).map_err(|_| format!("it is to be {FORM}"))?;
        let missing = match (opts.get_user(), opts.get_db_name()) {
            (None, _) => "a user",
            (_, None) => "a database",
            _ => return Ok(Options(opts)),
        };
        Err(format!("{missing} is missing: {FORM}"))
    }
}

/// The store: one connection, opened when it is needed.
pub struct MySql {
    options: Options,
    patience: Patience,
    gateway: Gateway,
    link: Option<Link>,
}

impl MySql {
    /// Connects to nothing yet.
    pub fn new(options: Options, patience: Patience, gateway: Gateway) -> MySql {
        MySql { options, patience, gateway, link: None }
    }

    /// Carries out one transaction, again if another was in its way.
    fn transact<T>(
        &mut self,
        mut what: impl FnMut(&mut Link, &Gateway, &Deadline) -> Result<T, Fault>,
    ) -> Result<T, StoreDown> {
        let deadline = Deadline::of(self.patience);
        let mut tries = 1;
        loop {
            let result = self.try_once(&deadline, &mut what);
            let (Err(Fault::InTheWay(why)) | Err(Fault::Stale(why))) = result else {
                return result.map_err(|fault| match fault {
                    Fault::Down(why) | Fault::InTheWay(why) | Fault::Stale(why) => StoreDown(why),
                });
            };
            if tries == TRIES || deadline.is_past_half() {
                return Err(StoreDown(why));
            }
            std::thread::sleep(PAUSE * tries * fastrand::u32(50..150) / 100);
            tries += 1;
        }
    }

    fn try_once<T>(
        &mut self,
        deadline: &Deadline,
        what: &mut impl FnMut(&mut Link, &Gateway, &Deadline) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        // Taken out: whatever fails in between, a connection in an unknown state is not used again.
        let kept = self.link.take().filter(|link| !link.age.is_over(self.patience));
        let mut link = match kept {
            Some(link) => link,
            None => Link::open(&self.options.0, self.patience, deadline)?,
        };
        link.begin(deadline)?;
        let result = what(&mut link, &self.gateway, deadline).and_then(|value| {
            link.commit(deadline)?;
            Ok(value)
        });
        match &result {
            Ok(_) => {}
            Err(Fault::InTheWay(_)) => link.rollback(deadline)?,
            Err(_) => return result,
        }
        link.age.used();
        self.link = Some(link);
        result
    }
}

impl SessionStore for MySql {
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreDown> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let keys = sorted(writes.iter().map(|write| write.key));
        self.transact(|link, gateway, deadline| {
            let plan = plan(writes, lock(link, &keys, deadline)?, gateway.id());
            let row = |(key, row): &(StoreKey, Row)| row_values(key, row);
            link.each(END, &plan.ended, deadline, |key| vec![bytes(key)])?;
            link.each(INSERT, &plan.inserted, deadline, row)?;
            link.each(UPDATE, &plan.updated, deadline, row)?;
            link.each(CLEAR, &plan.cleared, deadline, |key| vec![bytes(key)])?;
            link.each(DELETE, &plan.deleted, deadline, |(key, name)| vec![bytes(key), bytes(name)])?;
            link.each(PUT, &plan.put, deadline, |(key, name, value)| vec![bytes(key), bytes(name), bytes(value)])?;
            Ok(plan.results)
        })
    }

    fn claim(&mut self, wanted: &[Wanted], now_ms: u64) -> Result<Vec<Option<Stored>>, StoreDown> {
        let keys = sorted(wanted.iter().map(|wanted| wanted.key));
        self.transact(|link, gateway, deadline| {
            let mut rows: HashMap<StoreKey, Row> = lock(link, &keys, deadline)?.into_iter().collect();
            let mut fences = Vec::with_capacity(wanted.len());
            for Wanted { key, principal } in wanted {
                let row = rows.get_mut(key).filter(|row| row.principal == *principal && row.ends_ms > now_ms);
                fences.push(row.map(|row| {
                    (row.fence, row.owner) = (row.fence.saturating_add(1), gateway.id());
                    row.fence
                }));
            }
            let ours = sorted(wanted.iter().zip(&fences).filter(|(_, fence)| fence.is_some()).map(|(w, _)| w.key));
            let changed: Vec<_> = ours.iter().filter_map(|key| Some((*key, rows.remove(key)?))).collect();
            link.each(UPDATE, &changed, deadline, |(key, row)| row_values(key, row))?;
            let mut states: HashMap<StoreKey, Pairs> = HashMap::new();
            let pairs: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> =
                link.select(STATE, &ours, deadline, |key| vec![bytes(key)])?;
            for (key, name, value) in pairs {
                let key = key.try_into().map_err(|_| strange())?;
                states.entry(key).or_default().push((name.into(), value.into()));
            }
            let stored = |(wanted, fence): (&Wanted, Option<u64>)| {
                Some(Stored { fence: fence?, state: states.get(&wanted.key).cloned().unwrap_or_default() })
            };
            Ok(wanted.iter().zip(fences).map(stored).collect())
        })
    }

    fn sweep(&mut self, now_ms: u64, budget: usize) -> Result<usize, StoreDown> {
        let budget = u64::try_from(budget).unwrap_or(u64::MAX);
        self.transact(|link, _, deadline| {
            link.each(SWEEP, &[()], deadline, |()| vec![Value::UInt(now_ms), Value::UInt(budget)])?;
            Ok(link.affected())
        })
    }

    fn rest(&mut self) {
        self.link = self.link.take().filter(|link| !link.age.is_over(self.patience));
    }

    /// Every transaction has ended before its operation returned: only the connection is left to be closed.
    fn close(mut self: Box<Self>) -> Result<(), StoreDown> {
        self.link = None;
        Ok(())
    }
}

/// The rows of these sessions, locked until the transaction ends.
fn lock(link: &mut Link, keys: &[StoreKey], deadline: &Deadline) -> Result<Vec<(StoreKey, Row)>, Fault> {
    type Raw = (Vec<u8>, Vec<u8>, u64, Vec<u8>, u64);
    let rows: Vec<Raw> = link.select(LOCK, keys, deadline, |key| vec![bytes(key)])?;
    rows.into_iter().map(|row| read(row).ok_or_else(strange)).collect()
}

/// Each once, in one order everywhere, so that two transactions do not wait for each other.
fn sorted(keys: impl Iterator<Item = StoreKey>) -> Vec<StoreKey> {
    let mut keys: Vec<StoreKey> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn strange() -> Fault {
    Fault::Down("a row of the tables is not as tidegate writes it".to_owned())
}

fn read((id, principal, fence, owner, ends_ms): (Vec<u8>, Vec<u8>, u64, Vec<u8>, u64)) -> Option<(StoreKey, Row)> {
    let principal = String::from_utf8(principal).ok()?.into_boxed_str();
    Some((id.try_into().ok()?, Row { principal, fence, owner: owner.try_into().ok()?, ends_ms }))
}

fn row_values(key: &StoreKey, row: &Row) -> Vec<Value> {
    vec![
        bytes(key),
        bytes(row.principal.as_bytes()),
        Value::UInt(row.fence),
        bytes(&row.owner),
        Value::UInt(row.ends_ms),
    ]
}

fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_user_and_database_and_nothing_else() {
        assert!(Options::parse("mysql://gate:s%40cret@[::1]:3307/sessions").is_ok());
        for wrong in [
            "mysql://h/d",
            "mysql://u@h",
            "mysql://u@h/",
            "mysql://u:secret@h/d?pool_max=3",
            "mysql://u:secret@h:99999/d",
            "mysql:d",
        ] {
            let error = Options::parse(wrong).err().unwrap();
            assert!(error.contains(FORM) && !error.contains("secret"), "{error}");
        }
    }
}
