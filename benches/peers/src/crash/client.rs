//! One client: it submits on a topic of its own, one message after the other, puts and echoes, and whatever
//! happens to its connection it comes back, resumes its session and sends again what has no answer, by the
//! same key.

use std::io::{ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tidegate::proto::message::{parse_submitted, session_put_payload, topic_payload};
use tidegate::proto::{AuthReady, Command, ErrorCode, SessionId, extension_type};

use super::judge::{Promised, Verdict};
use super::message::{message, topic};
use super::session::{KEYS, Session, key_name, number_of, value};
use super::wire::{Reply, Wire};

/// Where the clients' server is, and what they are to do.
#[derive(Debug, Default)]
pub struct Site {
    address: Mutex<Option<SocketAddr>>,
    phase: AtomicU8,
    /// Of each client whose topic goes to a sink: the last id acknowledged.
    pub newest: Vec<AtomicU64>,
    /// Messages acknowledged, PUTs acknowledged, other requests answered.
    pub counts: [AtomicU64; 3],
}

/// Of a session that is still to be had.
const NEW: SessionId = [0; 16];
/// What clients are to do.
const RUN: u8 = 0;
const FINISH: u8 = 1;
const GIVE_UP: u8 = 2;

impl Site {
    /// For so many clients.
    pub fn new(clients: usize) -> Site {
        Site { newest: (0..clients).map(|_| AtomicU64::new(0)).collect(), ..Site::default() }
    }

    /// The server is here now; `None`: nowhere.
    pub fn moved(&self, address: Option<SocketAddr>) {
        *self.address.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = address;
    }

    /// Clients end what they have begun, read all their sessions, and leave.
    pub fn finish(&self) {
        self.phase.store(FINISH, Ordering::Relaxed);
    }

    /// Clients leave, whatever is open.
    pub fn give_up(&self) {
        self.phase.store(GIVE_UP, Ordering::Relaxed);
    }

    fn address(&self) -> Option<SocketAddr> {
        *self.address.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn is(&self, phase: u8) -> bool {
        self.phase.load(Ordering::Relaxed) == phase
    }

    fn count(&self, which: usize) {
        self.counts[which].fetch_add(1, Ordering::Relaxed);
    }
}

/// What a client brings back.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// About its messages.
    pub promised: Promised,
    /// About its sessions: PUTs acknowledged, and those lost.
    pub puts: Verdict,
    /// Retries that were answered as duplicates.
    pub recognised: u64,
    /// Connections made.
    pub connections: u64,
    /// Answers that were an ERROR, after which it tried again.
    pub errors: u64,
    /// Times that a session with acknowledged state was not resumed, and a new one given.
    pub turned_away: u64,
    /// Violations that a client sees by itself.
    pub seen: Verdict,
}

/// A request that has no answer yet.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Submit(u64),
    /// A message that was acknowledged with this id: sent again, as by a client that has forgotten.
    Again(u64),
    Put(usize, u64),
    Get(usize),
    Echo(usize),
}

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Decides everything.
    pub seed: u64,
    /// Its topic goes to a sink.
    pub sunk: bool,
    /// Sessions outlive the server.
    pub sessions_last: bool,
    /// The longest wait for an answer.
    pub patience: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Client<'a> {
    site: &'a Site,
    index: u32,
    manner: Manner,
    rng: Rng,
    /// The last one is the one in use.
    sessions: Vec<Session>,
    next_value: u64,
    account: Account,
}

impl<'a> Client<'a> {
    /// The client with this index.
    pub fn new(site: &'a Site, index: u32, manner: Manner) -> Client<'a> {
        let rng = Rng::with_seed(manner.seed ^ 0xC11E ^ (u64::from(index) << 32));
        let promised = Promised { sunk: manner.sunk, ..Promised::default() };
        let account = Account { promised, ..Account::default() };
        Client { site, index, manner, rng, sessions: Vec::new(), next_value: 0, account }
    }

    /// Runs until the site says that it is over.
    pub fn run(mut self) -> Account {
        while !self.is_done() {
            // A broken connection is what all this is about: the next one goes on.
            if self.live().is_err() || self.rng.u8(0..4) == 0 {
                self.pause();
            }
        }
        self.read_all_sessions();
        self.account
    }

    /// All that it ever had, the one in use and those before it.
    fn read_all_sessions(&mut self) {
        let until = Instant::now() + self.manner.patience;
        while !self.site.is(GIVE_UP) && !self.sessions.is_empty() && Instant::now() < until {
            let had = self.sessions.len();
            let there = matches!(self.visit(had - 1), Ok(Some(_))) && self.sessions.len() == had;
            // A new one in its place is of no use now.
            self.sessions.truncate(if there { had - 1 } else { had });
            if !there {
                self.pause();
            }
        }
        for session in self.sessions.iter().filter(|session| session.is_promised()) {
            self.account.puts.lost += session.acknowledged;
            let text =
                format!("client {}: a session with {} acknowledged PUTs is gone", self.index, session.acknowledged);
            self.account.puts.told.push(text);
        }
    }

    fn is_done(&self) -> bool {
        self.site.is(GIVE_UP) || (self.site.is(FINISH) && self.has_all_answers())
    }

    fn has_all_answers(&self) -> bool {
        self.account.promised.sent == self.account.promised.ids.len() as u64
    }

    fn pause(&mut self) {
        std::thread::sleep(Duration::from_micros(self.rng.u64(500..15_000)));
    }

    /// One connection, until it breaks, or after some hundred bursts by itself.
    fn live(&mut self) -> Result<()> {
        // Now and then somebody comes without a session; its old one has to last all the same.
        if !self.sessions.is_empty() && self.rng.u8(0..20) == 0 && self.site.is(RUN) {
            self.sessions.push(Session::new(NEW));
        }
        let Some(mut wire) = self.visit(self.sessions.len().wrapping_sub(1))? else {
            self.pause();
            return Ok(());
        };
        for _ in 0..self.rng.u32(1..2_000) {
            if wire.moving || self.is_done() {
                break;
            }
            self.burst(&mut wire)?;
        }
        Ok(())
    }

    /// Connects with a session of ours, or without one, and reads what it holds. `None`: not let in for now.
    fn visit(&mut self, which: usize) -> Result<Option<Wire>> {
        let Some(address) = self.site.address() else { return Ok(None) };
        let session = self.sessions.get(which);
        let resume = session.map(|session| session.id).filter(|id| *id != NEW);
        let (mut wire, ready) = match Wire::open(address, resume, self.manner.patience)? {
            Ok(open) => open,
            Err((code, text)) => {
                self.refused("AUTH", code, &text);
                return Ok(None);
            }
        };
        self.account.connections += 1;
        let had = self.sessions.len();
        self.came_in(which, &ready);
        let which = if self.sessions.len() > had { had } else { which };
        let mut asked = Vec::new();
        for key in 0..KEYS {
            asked.push((wire.ask(Command::SESSION_GET, None, &key_name(key)), Asked::Get(key)));
        }
        wire.send()?;
        self.collect(&mut wire, asked, which)?;
        Ok(Some(wire))
    }

    /// Compares READY with what was asked for.
    fn came_in(&mut self, which: usize, ready: &AuthReady) {
        let Some(session) = self.sessions.get_mut(which) else {
            return self.sessions.push(Session::new(ready.session));
        };
        if ready.resumed && ready.session == session.id {
            return;
        }
        if session.is_promised() && self.manner.sessions_last {
            // Its state has to be there all the same, for whoever asks again.
            self.account.turned_away += 1;
            return self.sessions.push(Session::new(ready.session));
        }
        self.sessions[which] = Session::new(ready.session);
    }

    /// A few requests at once, at most one message among them, and all their answers.
    fn burst(&mut self, wire: &mut Wire) -> Result<()> {
        let which = self.sessions.len() - 1;
        let mut asked = Vec::new();
        let mut free = [true; KEYS];
        let mut submits = 0;
        for _ in 0..self.rng.usize(1..6) {
            match self.rng.u8(0..100) {
                0..60 if submits == 0 => {
                    submits = 1;
                    asked.push(self.ask_submit(wire));
                }
                0..85 => {
                    let key = self.rng.usize(0..KEYS);
                    if std::mem::replace(&mut free[key], false) {
                        asked.push(self.ask_put(wire, which, key));
                    }
                }
                _ => {
                    let len = self.rng.usize(0..2_000);
                    asked.push((wire.ask(Command::ECHO, None, &vec![len as u8; len]), Asked::Echo(len)));
                }
            }
        }
        if self.site.is(FINISH) && submits == 0 {
            asked.push(self.ask_submit(wire));
        }
        wire.send()?;
        self.collect(wire, asked, which)
    }

    fn ask_submit(&mut self, wire: &mut Wire) -> (u32, Asked) {
        let promised = &mut self.account.promised;
        let acknowledged = promised.ids.len() as u64;
        let all_answered = promised.sent == acknowledged;
        let again = all_answered && acknowledged > 0 && (self.site.is(FINISH) || self.rng.u8(0..20) == 0);
        let n = if again { self.rng.u64(acknowledged.saturating_sub(200)..acknowledged) } else { acknowledged };
        promised.sent = promised.sent.max(n + 1);
        let sent = message(self.manner.seed, self.index, n);
        let payload = topic_payload(topic(self.index, self.manner.sunk).as_bytes(), &sent.body).unwrap_or_default();
        let seq = wire.ask(Command::SUBMIT, Some((extension_type::IDEMPOTENCY, sent.key)), &payload);
        (seq, if again { Asked::Again(n) } else { Asked::Submit(n) })
    }

    fn ask_put(&mut self, wire: &mut Wire, which: usize, key: usize) -> (u32, Asked) {
        let number = self.next_value;
        self.next_value += 1;
        self.sessions[which].sent(key, number);
        let value = value(self.manner.seed ^ u64::from(self.index), number);
        let payload = session_put_payload(&key_name(key), &value).unwrap_or_default();
        (wire.ask(Command::SESSION_PUT, None, &payload), Asked::Put(key, number))
    }

    /// Reads until everything asked has its answer.
    fn collect(&mut self, wire: &mut Wire, mut asked: Vec<(u32, Asked)>, which: usize) -> Result<()> {
        while !asked.is_empty() {
            let reply = wire.reply().inspect_err(|error| {
                // A kill breaks connections; who keeps one and says nothing hangs.
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                    let text = format!("client {}: no answer in time to {asked:?}", self.index);
                    self.account.seen.stranger(text);
                }
            })?;
            let Some(at) = asked.iter().position(|(seq, _)| *seq == reply.seq) else {
                match &reply.what {
                    Err((code, text)) if reply.seq == 0 => self.refused("the connection", *code, text),
                    _ => self.account.seen.stranger(format!("a reply that nobody asked for: {reply:?}")),
                }
                return Err(ErrorKind::ConnectionAborted.into());
            };
            let (_, what) = asked.swap_remove(at);
            self.answered(what, reply, which);
        }
        Ok(())
    }

    fn answered(&mut self, asked: Asked, reply: Reply, which: usize) {
        let payload = match reply.what {
            Ok(payload) => payload,
            Err((code, _)) if matches!(asked, Asked::Get(_)) && code == ErrorCode::NotFound.to_wire() => {
                let Asked::Get(key) = asked else { return };
                return self.check_read(which, key, None);
            }
            Err((code, text)) => return self.refused(&format!("{asked:?}"), code, &text),
        };
        match asked {
            Asked::Submit(n) | Asked::Again(n) => self.submitted(n, &payload),
            Asked::Put(key, number) => {
                self.sessions[which].acknowledged(key, number);
                self.account.puts.acknowledged += 1;
                self.site.count(1);
            }
            Asked::Get(key) => match number_of(self.manner.seed ^ u64::from(self.index), &payload) {
                Ok(number) => self.check_read(which, key, Some(number)),
                Err(why) => self.account.puts.stranger(format!("client {}: {why}", self.index)),
            },
            Asked::Echo(len) => {
                self.site.count(2);
                if payload.len() != len || payload.iter().any(|byte| *byte != len as u8) {
                    self.account.seen.stranger(format!("client {}: another echo than was sent", self.index));
                }
            }
        }
    }

    fn submitted(&mut self, n: u64, payload: &[u8]) {
        let index = self.index;
        let Some((id, duplicate)) = parse_submitted(payload) else {
            return self.account.seen.stranger(format!("client {index}: {} bytes answer SUBMIT", payload.len()));
        };
        self.account.recognised += u64::from(duplicate);
        let ids = &mut self.account.promised.ids;
        match ids.get(n as usize) {
            None => {
                ids.push(id);
                self.site.count(0);
                if self.manner.sunk {
                    self.site.newest[index as usize].store(id, Ordering::Release);
                }
            }
            Some(first) if *first == id && duplicate => {}
            Some(first) => {
                let text = format!(
                    "client {index}: message {n}, acknowledged as {first}, is answered again by {id}, duplicate {duplicate}"
                );
                self.account.seen.duplicated += 1;
                self.account.seen.told.push(text);
            }
        }
    }

    fn check_read(&mut self, which: usize, key: usize, found: Option<u64>) {
        if let Err(why) = self.sessions[which].read(key, found) {
            self.account.puts.lost += 1;
            self.account.puts.told.push(format!("client {}, session {which}: {why}", self.index));
        }
    }

    /// An ERROR: these say that it was not done, or that nobody knows; the others are nobody's due.
    fn refused(&mut self, what: &str, code: u16, text: &str) {
        self.account.errors += 1;
        match ErrorCode::from_wire(code) {
            Some(ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::Draining) => self.pause(),
            Some(ErrorCode::DeadlineExceeded) => {}
            _ => self.account.seen.stranger(format!("client {}: ERROR {code} to {what}: {text}", self.index)),
        }
    }
}
