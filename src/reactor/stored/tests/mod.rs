mod ownership;
mod writes;

use super::*;
use crate::reactor::pending::PendingKey;
use crate::session::store::runner::{Failed, StoreOptions};
use crate::session::store::{WriteOp, Written};
use std::time::Duration;

use crate::session::{IdKey, SECRET_LEN, SessionLimits, StateLimits};

const FAR: Duration = Duration::from_secs(3_600);
const LIMITS: SessionLimits =
    SessionLimits { sessions: 4_096, state: StateLimits { entries: 3, bytes: 20 }, ttl_s: 60 };

/// A worker's sessions, and a test in the place of the store's threads.
struct Bench {
    stored: Stored,
    sessions: Sessions,
    asks: Box<dyn Fn() -> Vec<Ask>>,
    now: Now,
    next: u64,
}

fn bench(touches: bool) -> Bench {
    let (queue, failures, retry) = (1_000, 5, Duration::from_secs(1));
    let options = StoreOptions { kind: "test", threads: 1, touches, queue, timeout: FAR, failures, retry };
    let (courier, asks) = Courier::of_a_test(options);
    let mut sessions = Sessions::new(0, IdKey::new().adopting(), LIMITS);
    sessions.keep(touches);
    let now = Now { tick: Millis(0), s: 100, wall_ms: 5_000_000 };
    Bench { stored: Stored::new(courier), sessions, asks: Box::new(asks), now, next: 0 }
}

fn owner(token: u64) -> Owner {
    Owner { worker: 0, token }
}

impl Bench {
    /// A session that the store does not know yet.
    fn create(&mut self) -> SessionKey {
        self.next += 1;
        let mut secret = [0; SECRET_LEN];
        secret[..8].copy_from_slice(&self.next.to_be_bytes());
        self.sessions.create("alice", owner(self.next), secret).unwrap()
    }

    /// One that it knows.
    fn saved(&mut self) -> SessionKey {
        let key = self.create();
        self.flush();
        self.done();
        assert!(self.sessions.is_saved(key));
        key
    }

    /// The end of a tick: the writes of each message, by their names.
    fn flush(&mut self) -> Vec<String> {
        self.stored.flush(&mut self.sessions, &self.now);
        let named = (self.asks)().into_iter().map(|ask| match ask {
            Ask::Claim { wanted, .. } => format!("claim for {}", wanted.principal),
            Ask::Write { flight, writes } => {
                let names: Vec<String> = writes.iter().map(name).collect();
                format!("{flight}: {}", names.join(", "))
            }
        });
        named.collect()
    }

    /// The ends of a tick, as one line.
    fn sent(&mut self) -> String {
        self.flush().join("; ")
    }

    fn told(&mut self, flight: u32, result: Result<Vec<Written>, Failed>) {
        self.stored.settle(&mut self.sessions, Told::Written { flight, result }, &self.now);
    }

    /// Everything that is under way is done.
    fn done(&mut self) {
        let under_way: Vec<u32> =
            self.stored.flights.iter().filter(|(_, f)| f.out.is_some()).map(|(at, _)| at as u32).collect();
        under_way.into_iter().for_each(|flight| self.told(flight, Ok(vec![Written::Done])));
    }

    /// An operation; its number if it has to wait.
    fn op(&mut self, key: SessionKey, op: StateOp) -> Result<u64, Begun> {
        match self.stored.begin(&self.sessions, key, &op.as_slices()) {
            Begun::Later => {
                self.next += 1;
                let asker = Asker { worker: 0, pending: PendingKey(self.next) };
                self.stored.wait(&self.sessions, key, op, asker);
                Ok(self.next)
            }
            begun => Err(begun),
        }
    }

    fn put(&mut self, key: SessionKey, name: &str, value: &str) -> u64 {
        self.op(key, StateOp::Put(name.as_bytes().into(), value.as_bytes().into())).unwrap()
    }

    fn get(&mut self, key: SessionKey, name: &str) -> Result<u64, Begun> {
        self.op(key, StateOp::Get(name.as_bytes().into()))
    }

    /// Requests that have been answered since the last call.
    fn answers(&mut self) -> Vec<(u64, String)> {
        let answers = self.stored.take_effects().answers.into_iter();
        let answers = answers.map(|(asker, outcome)| {
            let answer = match outcome {
                Outcome::Reply { payload, .. } => String::from_utf8(payload).unwrap(),
                Outcome::Error(failure) => format!("{:?}", failure.code),
                other => panic!("{other:?}"),
            };
            (asker.pending.0, answer)
        });
        answers.collect()
    }

    fn value(&self, key: SessionKey, name: &str) -> Option<&str> {
        self.sessions.get(key, name.as_bytes()).map(|value| std::str::from_utf8(value).unwrap())
    }

    fn waiter(&self, principal: &str, token: u64, until: u32) -> Waiter {
        Waiter { principal: principal.into(), from: owner(token), pending: PendingKey(token), until: Millis(until) }
    }
}

fn name(write: &Write) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let op = match &write.op {
        WriteOp::Open { ends_ms, state, .. } => {
            let pairs: Vec<String> = state.iter().map(|(k, v)| format!("{}={}", text(k), text(v))).collect();
            let ends = if *ends_ms == WITH_ITS_OWNER { "".to_owned() } else { format!(" until {ends_ms}") };
            format!("open[{}]{ends}", pairs.join(" "))
        }
        WriteOp::Put(name, value) => format!("put {}={}", text(name), text(value)),
        WriteOp::Delete(name) => format!("delete {}", text(name)),
        WriteOp::Touch { ends_ms } => format!("touch {ends_ms}"),
        WriteOp::End => "end".to_owned(),
    };
    if write.fence == 1 { op } else { format!("{op} (fence {})", write.fence) }
}

fn ok(n: u64, value: &str) -> (u64, String) {
    (n, value.to_owned())
}

fn unavailable(n: u64) -> (u64, String) {
    (n, "Unavailable".to_owned())
}
