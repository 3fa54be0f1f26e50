//! Sessions in Redis: a hash each, which Redis forgets by itself when its time has run out.
//!
//! `principal`, `fence`, `owner` (the process) and `turn` are the store's own fields; those of the state begin
//! with `k:`. Every change is a script that compares the fence, and all of a batch go out in one pipeline.
//!
//! A connection that was given up may have left a command on its way, which the server carries out after a newer
//! one has come by another connection. So each command has a turn, a number that grows in its process, and the
//! scripts refuse one that is older than the last.

mod options;

use std::collections::HashSet;
use std::time::Duration;

use redis::{Script, Value};

pub use self::options::Options;
use super::remote::{Age, Gateway, Patience};
use super::{SessionStore, StoreDown, StoreKey, Stored, Wanted, Write, WriteOp, Written};
use crate::redis_link::{Ask, Deadline, Fault, Link, Reply};

const WRITE: &str = include_str!("write.lua");
const CLAIM: &str = include_str!("claim.lua");
const SCRIPTS: &[&str] = &[WRITE, CLAIM];

/// Before the names of keys of a session's state.
const STATE: &[u8] = b"k:";
/// Bytes that are sent before the replies are read.
const PIPELINE_BYTES: usize = 4 << 20;
/// How often commands are sent that a server sent elsewhere, or did not know.
const TRIES: u32 = 8;
/// The pause before a key that is on its way between servers is asked for again.
const PAUSE: Duration = Duration::from_millis(10);

/// The store: its connections, opened when they are needed.
pub struct Redis {
    options: Options,
    patience: Patience,
    gateway: Gateway,
    write: Script,
    claim: Script,
    link: Option<(Link, Age)>,
}

impl Redis {
    /// Connects to nothing yet.
    pub fn new(options: Options, patience: Patience, gateway: Gateway) -> Redis {
        let (write, claim) = (Script::new(WRITE), Script::new(CLAIM));
        Redis { options, patience, gateway, write, claim, link: None }
    }

    /// Has each of these commands carried out, those about one key in order.
    fn perform(&mut self, keys: &[StoreKey], pack: impl Fn(&Redis, usize) -> Ask) -> Result<Vec<Value>, StoreDown> {
        let deadline = Deadline::after(self.patience.timeout);
        let mut values: Vec<Value> = keys.iter().map(|_| Value::Nil).collect();
        let mut open: Vec<usize> = (0..keys.len()).collect();
        for _ in 0..TRIES {
            let (replies, later) = self.round(&open, &pack, deadline)?;
            // From the first that was not done on, everything about its key is sent again, so that order is kept.
            let mut failed = HashSet::new();
            let mut again = Vec::new();
            for (at, reply) in open.into_iter().zip(replies) {
                let key = keys.get(at).copied().unwrap_or_default();
                match reply {
                    Reply::Value(value) if !failed.contains(&key) => {
                        if let Some(place) = values.get_mut(at) {
                            *place = value;
                        }
                        continue;
                    }
                    Reply::Value(_) => {}
                    Reply::Refused(why) => {
                        self.link = None;
                        return Err(StoreDown(why));
                    }
                    Reply::Again | Reply::Later => drop(failed.insert(key)),
                }
                again.push(at);
            }
            if again.is_empty() {
                return Ok(values);
            }
            if later {
                std::thread::sleep(PAUSE);
            }
            open = again;
        }
        self.link = None;
        Err(StoreDown(format!("commands were sent elsewhere {TRIES} times: the cluster does not settle")))
    }

    /// Sends these commands once. Whether it is better to wait before they are sent again.
    fn round(
        &mut self,
        open: &[usize],
        pack: &impl Fn(&Redis, usize) -> Ask,
        deadline: Deadline,
    ) -> Result<(Vec<Reply>, bool), StoreDown> {
        let mut replies = Vec::with_capacity(open.len());
        while let Some(rest) = open.get(replies.len()..).filter(|rest| !rest.is_empty()) {
            // Taken out: whatever fails in between, a connection in an unknown state is not used again.
            let kept = self.link.take().filter(|(_, age)| !age.is_over(self.patience));
            let was_kept = kept.is_some();
            let url = self.options.url.clone();
            let open = || Ok((Link::open(&url, SCRIPTS, deadline)?, Age::new()));
            let result = kept.map_or_else(open, Ok).and_then(|link| self.exchange(link, rest, pack, deadline));
            replies.extend(match result {
                // The server was started anew since, or is master no more: everything may be sent once more.
                Err(fault) if was_kept && !fault.timeout => {
                    open().and_then(|link| self.exchange(link, rest, pack, deadline)).map_err(down)?
                }
                result => result.map_err(down)?,
            });
        }
        let later = replies.iter().any(|reply| matches!(reply, Reply::Later));
        Ok((replies, later))
    }

    /// Sends the first of these commands, as many as one pipeline takes.
    fn exchange(
        &mut self,
        (mut link, mut age): (Link, Age),
        rest: &[usize],
        pack: &impl Fn(&Redis, usize) -> Ask,
        deadline: Deadline,
    ) -> Result<Vec<Reply>, Fault> {
        let mut asks = Vec::new();
        let mut bytes = 0;
        for at in rest {
            let ask = pack(self, *at);
            bytes += ask.packed.len();
            asks.push(ask);
            if bytes >= PIPELINE_BYTES {
                break;
            }
        }
        let replies = link.exchange(&asks, deadline)?;
        age.used();
        self.link = Some((link, age));
        Ok(replies)
    }

    fn hash(&self, key: &StoreKey) -> Vec<u8> {
        let mut name = self.options.prefix.clone().into_bytes();
        name.extend(crate::hex::hex(key).into_bytes());
        name
    }

    /// The beginning of a command: script, key, process and turn.
    fn command(&self, script: &Script, hash: &[u8]) -> redis::Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(1).arg(hash).arg(&self.gateway.id()[..]).arg(self.gateway.next_turn());
        command
    }

    fn pack_write(&self, write: &Write) -> Ask {
        let hash = self.hash(&write.key);
        let mut command = self.command(&self.write, &hash);
        command.arg(write.fence);
        match &write.op {
            WriteOp::Open { principal, ends_ms, state } => {
                command.arg("open").arg(ends_ms).arg(&**principal);
                for (name, value) in state {
                    command.arg(field(name)).arg(&**value);
                }
            }
            WriteOp::Put(name, value) => drop(command.arg("put").arg(field(name)).arg(&**value)),
            WriteOp::Delete(name) => drop(command.arg("delete").arg(field(name))),
            WriteOp::Touch { ends_ms } => drop(command.arg("touch").arg(ends_ms)),
            WriteOp::End => drop(command.arg("end")),
        }
        Ask { key: hash, packed: command.get_packed_command() }
    }

    fn pack_claim(&self, wanted: &Wanted) -> Ask {
        let hash = self.hash(&wanted.key);
        let packed = self.command(&self.claim, &hash).arg(&*wanted.principal).get_packed_command();
        Ask { key: hash, packed }
    }
}

impl SessionStore for Redis {
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreDown> {
        let keys: Vec<StoreKey> = writes.iter().map(|write| write.key).collect();
        let values = self.perform(&keys, |store, at| store.pack_write(&writes[at]))?;
        values.into_iter().map(read_written).collect()
    }

    fn claim(&mut self, wanted: &[Wanted], _now_ms: u64) -> Result<Vec<Option<Stored>>, StoreDown> {
        let keys: Vec<StoreKey> = wanted.iter().map(|wanted| wanted.key).collect();
        let values = self.perform(&keys, |store, at| store.pack_claim(&wanted[at]))?;
        values.into_iter().map(read_stored).collect()
    }

    /// Redis forgets by itself. Whether it answers is asked all the same: who sweeps wants to know that, too.
    fn sweep(&mut self, _now_ms: u64, _budget: usize) -> Result<usize, StoreDown> {
        let anything = |store: &Redis, _: usize| {
            let key = store.options.prefix.clone().into_bytes();
            Ask { packed: redis::cmd("EXISTS").arg(&key).get_packed_command(), key }
        };
        self.perform(&[StoreKey::default()], anything).map(|_| 0)
    }

    fn rest(&mut self) {
        self.link = self.link.take().filter(|(_, age)| !age.is_over(self.patience));
    }

    /// Every write was answered before its commit returned: only the connections are left to be closed.
    fn close(mut self: Box<Self>) -> Result<(), StoreDown> {
        self.link = None;
        Ok(())
    }
}

fn field(name: &[u8]) -> Vec<u8> {
    [STATE, name].concat()
}

fn read_written(value: Value) -> Result<Written, StoreDown> {
    match value {
        Value::BulkString(word) if word == b"done" => Ok(Written::Done),
        Value::BulkString(word) if word == b"lost" => Ok(Written::Lost),
        Value::BulkString(word) if word == b"gone" => Ok(Written::Gone),
        other => Err(StoreDown(format!("the script answered {other:?}"))),
    }
}

fn read_stored(value: Value) -> Result<Option<Stored>, StoreDown> {
    let strange = || StoreDown("a session's hash is not as tidegate writes it".to_owned());
    let items = match value {
        Value::Nil => return Ok(None),
        Value::Array(items) => items,
        _ => return Err(strange()),
    };
    let mut stored = Stored { fence: 0, state: Vec::new() };
    let mut items = items.into_iter();
    while let (Some(Value::BulkString(field)), Some(Value::BulkString(value))) = (items.next(), items.next()) {
        if let Some(name) = field.strip_prefix(STATE) {
            stored.state.push((name.into(), value.into()));
        } else if field == b"fence" {
            stored.fence = std::str::from_utf8(&value).ok().and_then(|n| n.parse().ok()).ok_or_else(strange)?;
        }
    }
    if stored.fence == 0 { Err(strange()) } else { Ok(Some(stored)) }
}

fn down(fault: Fault) -> StoreDown {
    StoreDown(fault.why)
}
