//! What the micro benchmarks reach of a worker's insides. No part of the API: it changes with them.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use mio::{Poll, Waker};

use super::clock::Clock;
use super::expiry::Expiries;
use super::hub::{Hub, SessionRef, caller};
use super::mailbox::{Inbox, Letter, mailbox};
use super::pending::Wait;
use super::serve::{Services, Turn};
use super::tick::Wire;
use super::token::{ConnToken, WAKER};
use crate::auth::Authenticator;
use crate::config::Config;
use crate::conn::{Action, Buffers, Connection, Cx, Rules, Sink, Written};
use crate::proto::{Command, Version};
use crate::service::{CutFlag, Deferred, Pool, ReplyTo, Router};
use crate::session::{IdKey, SessionLimits, Sessions, StateLimits};
use crate::stats::WorkerStats;

/// A worker without its loop and its sockets: what it is given comes from memory, what it sends goes
/// nowhere.
#[derive(Debug)]
pub struct Worker {
    hub: Hub,
    services: Services,
    inbox: Inbox,
    wire: Wire,
    next_slot: u32,
    /// The waker's other side.
    _poll: Poll,
}

/// One connection of a [`Worker`].
#[derive(Debug)]
pub struct Accepted {
    conn: Connection,
    token: ConnToken,
    session: SessionRef,
}

/// A socket that takes everything.
struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> Written {
        Written::Took(black_box(bytes).len())
    }
}

impl Worker {
    /// A worker with the handlers of `router`.
    ///
    /// # Errors
    /// The system gives no poll, or the configuration's tokens file can't be used.
    pub fn new(config: &Config, router: Router) -> Result<Worker, Box<dyn Error>> {
        let poll = Poll::new()?;
        let (mailbox, inbox) = mailbox(config.core.mailbox, Waker::new(poll.registry(), WAKER)?);
        let stats = Arc::new(WorkerStats::for_routes(router.routes().len()));
        let ids = IdKey::new();
        let state = StateLimits { entries: config.session_max_entries, bytes: config.session_max_bytes };
        let ttl_s = config.session_ttl.as_secs() as u32;
        let limits = SessionLimits { sessions: config.core.max_sessions, state, ttl_s };
        let sessions = Sessions::new(0, ids.clone(), limits);
        let expiries = Expiries::new(config, 0, config.core.max_connections);
        let max_pending = config.core.max_pending;
        Ok(Worker {
            hub: Hub::new(0, sessions, ids, vec![mailbox], max_pending, Arc::clone(&stats), expiries),
            services: Services {
                router: Arc::new(router),
                pool: Pool::start(0, 1)?.sender(),
                auth: Arc::new(Authenticator::new(config)?),
                failures: Arc::default(),
                clock: Clock::default(),
                cut: CutFlag::default(),
            },
            inbox,
            wire: Wire {
                rules: Rules::of(config, 0),
                stats,
                buffers: Buffers::new(config.core.pooled_buffers, config.core.pooled_buffer_bytes),
                out: Vec::new(),
            },
            next_slot: 0,
            _poll: poll,
        })
    }

    /// The worker's counters.
    pub fn stats(&self) -> &WorkerStats {
        &self.wire.stats
    }

    /// Lets time pass. Milliseconds.
    pub fn wait(&mut self, ms: u32) {
        self.hub.now = self.hub.now.plus(ms);
    }

    /// A connection that has sent nothing yet.
    pub fn accept(&mut self) -> Accepted {
        self.next_slot += 1;
        let token = ConnToken { slot: self.next_slot, generation: 1 };
        Accepted { conn: Connection::new(self.hub.now), token, session: SessionRef::NONE }
    }

    /// A connection's turn: what it sent is served, and the answers leave in one write.
    pub fn receive(&mut self, to: &mut Accepted, bytes: &[u8]) -> Action {
        let mut cx = self.wire.cx(self.hub.now);
        let session = &mut to.session;
        let (hub, services, token) = (&mut self.hub, &self.services, to.token);
        let mut host = Turn { hub, services, token, session, unchecked_ms: None };
        to.conn.handle_input(&mut cx, &mut host, bytes);
        to.conn.flush(&mut cx, &mut Nowhere)
    }

    /// Does something to a connection, and writes what follows from it.
    pub fn step(&mut self, to: &mut Accepted, act: impl FnOnce(&mut Connection, &mut Cx<'_>)) -> Action {
        let mut cx = self.wire.cx(self.hub.now);
        act(&mut to.conn, &mut cx);
        to.conn.flush(&mut cx, &mut Nowhere)
    }

    /// The end of a connection, however it came.
    pub fn end(&mut self, mut ended: Accepted) {
        let _ = self.step(&mut ended, |conn, cx| conn.abandon(cx));
        self.hub.release(ended.session, ended.token);
    }

    /// Forgets all sessions that have no connection, as if their time had run out.
    pub fn forget_sessions(&mut self) {
        self.hub.now_s += self.hub.sessions.limits().ttl_s;
        self.hub.sessions.sweep(self.hub.now_s, usize::MAX);
    }

    /// The id of a connection's session.
    pub fn session_id(&self, of: &Accepted) -> Option<[u8; 16]> {
        caller(&self.hub.sessions, &self.hub.remotes, of.session).map(|caller| caller.session())
    }

    /// Puts this many letters into the worker's mailbox; returns how many it took.
    pub fn post(&mut self, letters: u64) -> u64 {
        let mailbox = &self.hub.mailboxes[0];
        (0..letters).filter(|token| mailbox.send(Letter::Evict { token: *token }).is_ok()).count() as u64
    }

    /// Puts this many requests in flight, and has each answered as from another thread.
    pub fn answer(&mut self, requests: u32, payload: &[u8]) {
        let began = Instant::now();
        for seq in 0..requests {
            let to = ReplyTo { seq, cmd: Command::FIRST_APPLICATION, version: Version::Plain };
            let token = ConnToken { slot: 0, generation: 0 };
            let deadline = Some(self.hub.now.plus(1_000));
            let Some(pending) = self.hub.pending.insert(token, to, Wait::Handler, deadline, Some(began), None) else {
                return;
            };
            Deferred::new(to, pending, Arc::clone(&self.hub.mailboxes[0]) as _).reply(payload);
        }
    }

    /// Empties the mailbox; returns how many letters and answers were in it.
    pub fn read_mail(&mut self) -> u64 {
        let mut taken = 0;
        if !self.hub.mailboxes[0].opened() {
            return taken;
        }
        loop {
            if let Ok(answer) = self.inbox.answers.try_recv() {
                taken += u64::from(self.hub.pending.take(answer.pending).is_some());
                black_box(answer.outcome);
            } else if let Ok(letter) = self.inbox.letters.try_recv() {
                taken += 1;
                black_box(letter);
            } else {
                return taken;
            }
        }
    }
}

impl Accepted {
    /// The connection's state machine.
    pub fn connection(&self) -> &Connection {
        &self.conn
    }
}
