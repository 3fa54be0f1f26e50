//! Session stores elsewhere, against real servers.

mod faults;
mod gateways;
mod promises;
mod redis_forms;
mod schema;

use std::time::{Duration, SystemTime};

use tidegate::session::store::mysql::{self, MySql};
use tidegate::session::store::redis::{self, Redis};
use tidegate::session::store::remote::{Gateway, Patience};
use tidegate::session::store::{Pairs, SessionStore, StoreKey, Stored, Wanted, Write, WriteOp};

/// As patient as stores are by default.
const PATIENT: Patience =
    Patience { timeout: Duration::from_secs(2), idle: Duration::from_secs(300), lifetime: Duration::from_secs(1_800) };

/// A store of a gateway process of its own.
fn store(url: &str) -> Box<dyn SessionStore> {
    store_of(&Gateway::new().unwrap(), url, PATIENT)
}

fn store_of(gateway: &Gateway, url: &str, patience: Patience) -> Box<dyn SessionStore> {
    if url.starts_with("mysql://") {
        return Box::new(MySql::new(mysql::Options::parse(url).unwrap(), patience, gateway.clone()));
    }
    Box::new(Redis::new(redis::Options::parse(url).unwrap(), patience, gateway.clone()))
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn key(n: u64) -> StoreKey {
    let mut key = [0xA5; 16];
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

fn open(n: u64, state: Pairs) -> Write {
    let op = WriteOp::Open { principal: "alice".into(), ends_ms: now_ms() + 600_000, state };
    Write { key: key(n), fence: 1, op }
}

fn put(n: u64, fence: u64, name: &[u8], value: &[u8]) -> Write {
    Write { key: key(n), fence, op: WriteOp::Put(name.into(), value.into()) }
}

fn pair(name: &[u8], value: &[u8]) -> (Box<[u8]>, Box<[u8]>) {
    (name.into(), value.into())
}

fn claim(store: &mut dyn SessionStore, n: u64) -> Option<Stored> {
    let wanted = Wanted { key: key(n), principal: "alice".into() };
    store.claim(&[wanted], now_ms()).unwrap().pop().unwrap()
}
