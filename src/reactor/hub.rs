//! What a worker's connections share beside sockets and buffers: sessions, requests in flight, and
//! the way to the other workers.

use std::collections::VecDeque;
use std::sync::Arc;

use slab::Slab;

use super::about::About;
use super::access::{Access, Finished};
use super::expiry::Expiries;
use super::mailbox::{Letter, Mailbox};
use super::pending::PendingTable;
use super::stored::Stored;
use super::token::ConnToken;
use crate::auth::Refused;
use crate::conn::{Millis, Refusal, Welcome};
use crate::journal::Inlet;
use crate::proto::{Command, ErrorCode, SessionId, Trace};
use crate::session::{Caller, Claim, IdKey, Owner, Principal, Secrets, SessionKey, SessionLimits, Sessions};
use crate::stats::WorkerStats;

/// A connection's way to its session: four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRef(u32);

/// A session that lives on another worker.
#[derive(Debug)]
pub struct Remote {
    /// Its id.
    pub id: SessionId,
    /// Its principal.
    pub principal: Principal,
}

/// What a [`SessionRef`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionPlace {
    /// It has none, yet or any more.
    Nowhere,
    /// On this worker.
    Here(SessionKey),
    /// On another one; a key into [`Hub::remotes`].
    Elsewhere(usize),
}

impl SessionRef {
    /// No session.
    pub const NONE: SessionRef = SessionRef(u32::MAX);
    const ELSEWHERE: u32 = 1 << 31;

    pub(super) fn here(key: SessionKey) -> SessionRef {
        SessionRef(key.0)
    }

    fn elsewhere(key: usize) -> SessionRef {
        SessionRef(key as u32 | SessionRef::ELSEWHERE)
    }

    /// Where it leads.
    pub fn place(self) -> SessionPlace {
        match self {
            SessionRef::NONE => SessionPlace::Nowhere,
            SessionRef(bits) if bits & SessionRef::ELSEWHERE != 0 => {
                SessionPlace::Elsewhere((bits & !SessionRef::ELSEWHERE) as usize)
            }
            SessionRef(bits) => SessionPlace::Here(SessionKey(bits)),
        }
    }
}

/// A handler that gave no answer by itself.
#[derive(Debug)]
pub struct HandlerFailed {
    /// Its command.
    pub cmd: Command,
    /// The request's.
    pub seq: u32,
    /// The request's.
    pub trace: Option<Trace>,
    /// What it panicked with, if it did.
    pub panic: Option<String>,
    /// It panicked when it had answered, or had put its request off.
    pub answered: bool,
}

/// Who a connection's session belongs to, wherever that lives.
pub(super) fn caller<'h>(sessions: &'h Sessions, remotes: &'h Slab<Remote>, session: SessionRef) -> Option<Caller<'h>> {
    match session.place() {
        SessionPlace::Nowhere => None,
        SessionPlace::Here(key) => Some(Caller::Here(sessions, key)),
        SessionPlace::Elsewhere(key) => remotes.get(key).map(|remote| Caller::Elsewhere(&remote.id, &remote.principal)),
    }
}

/// What the connections of one worker share, sockets and buffers apart.
#[derive(Debug)]
pub struct Hub {
    /// This worker.
    pub worker: u16,
    /// The sessions that live here.
    pub sessions: Sessions,
    /// The sessions of our connections that live elsewhere.
    pub remotes: Slab<Remote>,
    /// Requests in flight.
    pub pending: PendingTable,
    /// All workers' mailboxes, this one's included.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// Letters that a full mailbox did not take and that must not be lost.
    pub outbox: VecDeque<(u16, Letter)>,
    /// Connections whose session is on a newer one.
    pub evicted: Vec<ConnToken>,
    /// Which requests get an access line.
    pub access: Access,
    /// Handlers that failed in the turn of a connection, to be logged at its end.
    pub failures: Vec<HandlerFailed>,
    /// How long a request waits for the worker that its session lives on. Milliseconds.
    pub hop_timeout_ms: u32,
    /// Why the AUTH that was just handled was refused, if it was and nobody has been told.
    pub refused: Option<Refused>,
    /// When tokens expire.
    pub expiries: Expiries,
    /// The store that the sessions which live here are kept in, unless that is this memory.
    pub stored: Option<Box<Stored>>,
    /// The way into the journal, where there is one.
    pub journal: Option<Inlet>,
    ids: IdKey,
    secrets: Secrets,
    pub(super) stats: Arc<WorkerStats>,
    /// The tick's time.
    pub now: Millis,
    /// The tick's time, for the slow clock of sessions.
    pub now_s: u32,
}

impl Hub {
    /// The hub of one worker.
    pub fn new(
        worker: u16,
        sessions: Sessions,
        ids: IdKey,
        mailboxes: Vec<Arc<Mailbox>>,
        max_pending: usize,
        stats: Arc<WorkerStats>,
        expiries: Expiries,
    ) -> Hub {
        Hub {
            worker,
            sessions,
            remotes: Slab::new(),
            pending: PendingTable::new(max_pending),
            mailboxes,
            outbox: VecDeque::new(),
            evicted: Vec::new(),
            access: Access::default(),
            failures: Vec::new(),
            hop_timeout_ms: 0,
            refused: None,
            expiries,
            stored: None,
            journal: None,
            ids,
            secrets: Secrets::new(|bytes| getrandom::fill(bytes).is_ok()),
            stats,
            now: Millis(0),
            now_s: 0,
        }
    }

    /// Logs a request that was chosen. `now` is whom it is about by now, where that is known.
    pub(super) fn log_access(&mut self, finished: Finished, now: Option<About>) {
        self.access.log(finished, now, self.stats.accepted.get());
    }

    /// Whether a connection's turn has left something to be logged.
    pub(super) fn has_notes(&self) -> bool {
        !self.failures.is_empty() || self.access.has_finished()
    }

    /// This worker's connection as the owner of a session.
    pub fn owner(&self, token: ConnToken) -> Owner {
        Owner { worker: self.worker, token: token.to_u64() }
    }

    /// A connection is gone: its session's time to live begins.
    pub fn release(&mut self, session: SessionRef, token: ConnToken) {
        let owner = self.owner(token);
        match session.place() {
            SessionPlace::Nowhere => {}
            SessionPlace::Here(key) => self.sessions.release(key, owner, self.now_s),
            SessionPlace::Elsewhere(key) => {
                let id = self.remotes.remove(key).id;
                self.post_surely(&id, |id| Letter::Release { id, owner });
            }
        }
    }

    /// The session of a connection was given to a newer one.
    pub fn forget(&mut self, session: &mut SessionRef) {
        if let SessionPlace::Elsewhere(key) = std::mem::replace(session, SessionRef::NONE).place() {
            self.remotes.remove(key);
        }
    }

    /// A claim was granted by the session's home: the connection's session is elsewhere.
    pub fn adopt(&mut self, id: SessionId, principal: &str) -> SessionRef {
        SessionRef::elsewhere(self.remotes.insert(Remote { id, principal: Principal::from(principal) }))
    }

    /// A fresh session for an authenticated connection.
    pub fn open_session(&mut self, principal: &str, token: ConnToken) -> Result<(SessionRef, Welcome), Refusal> {
        let Some(secret) = self.secrets.draw() else {
            log::error!(
                worker = self.worker, principal = principal;
                "the operating system gives no random bytes: no session can be created, clients are told UNAVAILABLE"
            );
            return Err(Refusal { code: ErrorCode::Unavailable, retry_after_ms: 1_000 });
        };
        let owner = self.owner(token);
        let Ok(key) = self.sessions.create(principal, owner, secret) else {
            self.stats.overloaded.add(1);
            return Err(Refusal { code: ErrorCode::Overloaded, retry_after_ms: 1_000 });
        };
        // Another session may have had to go for it.
        self.note_ends();
        let welcome = Welcome { session: self.sessions.id(key), resumed: false };
        Ok((SessionRef::here(key), welcome))
    }

    /// The worker ends: all sessions that live here.
    pub(super) fn take_sessions(&mut self) -> Sessions {
        let none =
            Sessions::new(self.worker, self.ids.clone(), SessionLimits { sessions: 0, ..self.sessions.limits() });
        std::mem::replace(&mut self.sessions, none)
    }

    /// Resumes a session that lives here, for a connection that may be anywhere. The connection
    /// that had it is told.
    pub fn claim(&mut self, id: &SessionId, principal: &str, owner: Owner) -> Option<SessionKey> {
        let Claim::Granted { key, previous } = self.sessions.claim(id, principal, owner, self.now_s) else {
            return None;
        };
        self.stats.sessions_resumed.add(1);
        if let Some(previous) = previous {
            if previous.worker == self.worker {
                self.evicted.push(ConnToken::from_u64(previous.token));
            } else {
                self.post_to_surely(previous.worker, Letter::Evict { token: previous.token });
            }
        }
        Some(key)
    }

    /// Tries again to send what full mailboxes did not take.
    pub fn empty_outbox(&mut self) {
        let mut full = Vec::new();
        for _ in 0..self.outbox.len() {
            let Some((worker, letter)) = self.outbox.pop_front() else { break };
            if full.contains(&worker) {
                self.outbox.push_back((worker, letter)); // behind the one before it
            } else if let Err(letter) = self.mailboxes[usize::from(worker)].send(letter) {
                full.push(worker);
                self.outbox.push_back((worker, letter));
            }
        }
    }

    /// The worker on which a session with this id would live, if there is such a worker.
    pub(super) fn home(&self, id: &SessionId) -> Option<u16> {
        self.ids.home(id, self.mailboxes.len())
    }

    pub(super) fn post_surely(&mut self, id: &SessionId, letter: impl FnOnce(SessionId) -> Letter) {
        if let Some(home) = self.home(id) {
            self.post_to_surely(home, letter(*id));
        }
    }

    /// Letters that the books of another worker depend on wait here for room; there are at most as
    /// many of them as there were connections.
    pub fn post_to_surely(&mut self, worker: u16, letter: Letter) {
        if !self.outbox.is_empty() {
            return self.outbox.push_back((worker, letter)); // letters keep their order
        }
        if let Err(letter) = self.mailboxes[usize::from(worker)].send(letter) {
            self.stats.mailbox_refused.add(1);
            self.outbox.push_back((worker, letter));
        }
    }
}
