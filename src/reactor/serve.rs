//! How a connection's requests are served on its worker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::about::About;
use super::clock::Clock;
use super::hub::{HandlerFailed, Hub, SessionPlace, SessionRef, caller};
use super::mailbox::{Letter, Mailbox, StateOp};
use super::pending::{PendingKey, PendingTable, Wait};
use super::token::ConnToken;
use crate::auth::failures::Failures;
use crate::auth::{Authenticator, Identity};
use crate::conn::{AuthRequest, AuthVerdict, Dispatched, Host, Millis, Refusal, Welcome};
use crate::limits::MAX_TIMER_MS;
use crate::proto::message::parse_session_put;
use crate::proto::{Command, ErrorCode, Extensions, Frame, SessionId, Version};
use crate::service::{
    Context, CutFlag, Defer, Deferred, Failure, InPlaceOutcome, Job, Place, PoolSender, ReplyTo, Request, Responder,
    Route, Router, panic_message,
};
use crate::session::{Principal, SessionKey, Sessions, StateFull};
use crate::stats::WorkerStats;

/// How long a client should wait before it tries again what was OVERLOADED.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What all workers of a server share.
#[derive(Clone)]
pub struct Services {
    pub(crate) router: Arc<Router>,
    pub(crate) pool: PoolSender,
    pub(crate) auth: Arc<Authenticator>,
    pub(crate) failures: Arc<Failures>,
    pub(crate) clock: Clock,
    pub(crate) cut: CutFlag,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("router", &self.router).finish_non_exhaustive()
    }
}

/// One connection's view of the hub, for the time of its turn.
pub struct Turn<'a> {
    /// The worker's hub.
    pub hub: &'a mut Hub,
    /// What serves.
    pub services: &'a Services,
    /// The connection.
    pub token: ConnToken,
    /// Its session.
    pub session: &'a mut SessionRef,
    /// If its token is not to be looked at: the milliseconds until it would be.
    pub unchecked_ms: Option<u32>,
}

impl Host for Turn<'_> {
    fn authenticate(&mut self, auth: AuthRequest<'_>) -> AuthVerdict {
        let principal = match self.identify(auth.token) {
            Ok(principal) => principal,
            Err(verdict) => return verdict,
        };
        if let Some(id) = auth.resume
            && let Some(home) = self.hub.home(&id)
        {
            if home != self.hub.worker {
                return self.claim_elsewhere(home, id, principal);
            }
            if self.hub.asks_store(&id) {
                return self.claim_stored(id, principal);
            }
            let owner = self.hub.owner(self.token);
            if let Some(key) = self.hub.claim(&id, &principal, owner) {
                *self.session = SessionRef::here(key);
                return AuthVerdict::Welcome(Welcome { session: id, resumed: true });
            }
        }
        self.open_session(&principal)
    }

    fn dispatch(&mut self, request: &Frame<'_>, out: &mut Vec<u8>) -> Dispatched {
        match request.cmd {
            Command::SESSION_GET | Command::SESSION_PUT | Command::SESSION_DELETE => self.session_state(request, out),
            Command::SUBMIT => self.submit(request, out),
            cmd => match self.services.router.find(cmd) {
                None => reply_to(request).encode_failure(out, &Failure::of(ErrorCode::UnknownCommand)),
                Some(route) => self.application(route, request, out),
            },
        }
    }

    fn end_session(&mut self) {
        let owner = self.hub.owner(self.token);
        match std::mem::replace(self.session, SessionRef::NONE).place() {
            SessionPlace::Nowhere => {}
            SessionPlace::Here(key) => self.hub.end(key, owner),
            SessionPlace::Elsewhere(key) => {
                let id = self.hub.remotes.remove(key).id;
                self.hub.post_surely(&id, |id| Letter::End { id, owner });
            }
        }
    }
}

impl Turn<'_> {
    /// Whose turn it is.
    pub(super) fn about(&self) -> About {
        let caller = caller(&self.hub.sessions, &self.hub.remotes, *self.session);
        About::new(self.hub.worker, self.token, caller)
    }

    /// Whose token this is. The error is what becomes of AUTH.
    fn identify(&mut self, token: &[u8]) -> Result<Principal, AuthVerdict> {
        let (stats, services) = (&self.hub.stats, self.services);
        if let Some(retry_after_ms) = self.unchecked_ms {
            stats.auth_refused_unchecked.add(1);
            return Err(AuthVerdict::Refused(Refusal { code: ErrorCode::RateLimited, retry_after_ms }));
        }
        match services.auth.authenticate(token, || services.clock.wall()) {
            Ok(Identity { principal, expires }) => {
                if let Some(until) = expires {
                    let (slot, now) = (self.token.slot as usize, self.hub.now);
                    self.hub.expiries.set(slot, until, services.clock.wall_ms(), now);
                }
                Ok(principal)
            }
            Err(why) => {
                stats.auth_failures.add(1);
                // Where it came from is not known here: the reactor tells, once this turn is over.
                self.hub.refused = Some(why);
                Err(AuthVerdict::Later)
            }
        }
    }

    pub(super) fn open_session(&mut self, principal: &str) -> AuthVerdict {
        match self.hub.open_session(principal, self.token) {
            Err(refusal) => AuthVerdict::Refused(refusal),
            Ok((session, welcome)) => {
                *self.session = session;
                AuthVerdict::Welcome(welcome)
            }
        }
    }

    fn claim_elsewhere(&mut self, home: u16, id: SessionId, principal: Principal) -> AuthVerdict {
        let Some(pending) = self.put_claim_in_flight(id, &principal) else {
            return AuthVerdict::Refused(Refusal { code: ErrorCode::Overloaded, retry_after_ms: 100 });
        };
        let from = self.hub.owner(self.token);
        self.hub.post_to_surely(home, Letter::Claim { id, principal, from, pending });
        AuthVerdict::Later
    }

    /// Has AUTH wait for a session. The slot is taken now, and becomes the connection's session if the claim
    /// is granted.
    pub(super) fn put_claim_in_flight(&mut self, id: SessionId, principal: &str) -> Option<PendingKey> {
        let to = ReplyTo { seq: 0, cmd: Command::AUTH, version: Version::Plain };
        let wait_ms = self.hub.hop_timeout_ms.saturating_add(self.hub.store_timeout_ms()).min(MAX_TIMER_MS);
        let deadline = Some(self.hub.now.plus(wait_ms));
        let pending = self.hub.pending.insert(self.token, to, Wait::Claim, deadline, None, None);
        match pending {
            Some(_) => *self.session = self.hub.adopt(id, principal),
            None => self.hub.stats.overloaded.add(1),
        }
        pending
    }

    fn session_state(&mut self, request: &Frame<'_>, out: &mut Vec<u8>) -> Dispatched {
        let to = reply_to(request);
        let Some(op) = parse_state_op(request) else {
            let text = "a key of 1 to 255 bytes is wanted; SESSION_PUT: its length, the key, the value";
            return to.encode_failure(out, &Failure::new(ErrorCode::BadRequest, text));
        };
        match self.session.place() {
            SessionPlace::Nowhere => to.encode_failure(out, &session_is_gone()),
            SessionPlace::Here(key) if self.hub.stored.is_some() => self.stored_state(key, to, op, request, out),
            SessionPlace::Here(key) => match run_state_op(&mut self.hub.sessions, key, &op) {
                Ok(value) => to.encode_reply(out, value, None),
                Err(failure) => to.encode_failure(out, &failure),
            },
            SessionPlace::Elsewhere(key) => self.state_elsewhere(key, to, op, request, out),
        }
    }

    fn state_elsewhere(
        &mut self,
        key: usize,
        to: ReplyTo,
        op: StateSlices<'_>,
        request: &Frame<'_>,
        out: &mut Vec<u8>,
    ) -> Dispatched {
        let hub = &mut *self.hub;
        let (wait, wait_ms) = match op {
            StateSlices::Put(..) | StateSlices::Delete(_) if hub.stored.is_some() => {
                (Wait::Stored, hub.store_timeout_ms())
            }
            _ => (Wait::State, hub.hop_timeout_ms),
        };
        let (wait, wait_ms) = match request.extensions.deadline_ms() {
            Some(ms) if ms <= wait_ms => (Wait::StateByDeadline, ms),
            _ => (wait, wait_ms),
        };
        let id = hub.remotes[key].id;
        let Some(home) = hub.home(&id) else { return to.encode_failure(out, &session_is_gone()) };
        let deadline = Some(hub.now.plus(wait_ms));
        let trace = request.extensions.trace();
        let Some(pending) = hub.pending.insert(self.token, to, wait, deadline, None, trace) else {
            hub.stats.overloaded.add(1);
            return to.encode_failure(out, &Failure::overloaded(RETRY_AFTER));
        };
        let letter = Letter::State { id, from: hub.worker, pending, op: op.to_owned() };
        if hub.mailboxes[usize::from(home)].send(letter).is_err() {
            hub.pending.take_back(pending);
            hub.stats.mailbox_refused.add(1);
            hub.stats.overloaded.add(1);
            return to.encode_failure(out, &Failure::overloaded(RETRY_AFTER));
        }
        Dispatched::InFlight
    }

    fn application(&mut self, route: &Route, incoming: &Frame<'_>, out: &mut Vec<u8>) -> Dispatched {
        let to = reply_to(incoming);
        let deadline_ms = incoming.extensions.deadline_ms().map(|ms| ms.min(MAX_TIMER_MS));
        // Apart from each other, so that a handler may see who asks while its request is put in flight.
        let Hub { sessions, remotes, pending, failures, mailboxes, stats, worker, now, .. } = &mut *self.hub;
        let Some(caller) = caller(sessions, remotes, *self.session) else {
            return to.encode_failure(out, &session_is_gone());
        };
        let began = Instant::now();
        let until = deadline_ms.map(|ms| began + Duration::from_millis(u64::from(ms)));
        let context = Context { caller, deadline: until, cut: &self.services.cut };
        let request = Request::new(incoming, &context);
        let deadline = deadline_ms.map(|ms| now.plus(ms));
        let own = &mailboxes[usize::from(*worker)];
        let (pool, extensions) = (&self.services.pool, incoming.extensions);
        let mut later = Later { pending, failures, own, stats, pool, token: self.token, deadline, began, extensions };
        match route.place {
            Place::Worker => later.run_in_place(route, &request, to, out),
            Place::Pool => later.run_on_pool(route, &request, to, out),
        }
    }
}

/// Puts a request of one connection in flight.
struct Later<'a> {
    pending: &'a mut PendingTable,
    failures: &'a mut Vec<HandlerFailed>,
    own: &'a Arc<Mailbox>,
    stats: &'a WorkerStats,
    pool: &'a PoolSender,
    token: ConnToken,
    deadline: Option<Millis>,
    /// When the handler is called.
    began: Instant,
    extensions: Extensions<'a>,
}

impl Defer for Later<'_> {
    fn defer(&mut self, to: ReplyTo) -> Option<Deferred> {
        let (began, trace) = (Some(self.began), self.extensions.trace());
        let Some(pending) = self.pending.insert(self.token, to, Wait::Handler, self.deadline, began, trace) else {
            self.stats.overloaded.add(1);
            return None;
        };
        let own = Arc::clone(self.own);
        Some(Deferred::new(to, pending, own))
    }
}

impl Later<'_> {
    fn run_in_place(&mut self, route: &Route, request: &Request<'_>, to: ReplyTo, out: &mut Vec<u8>) -> Dispatched {
        let mut done = InPlaceOutcome::Pending;
        let stats = self.stats;
        // The responder is dropped by the unwinding, and answers INTERNAL.
        let handle = || route.handler.handle(request, Responder::in_place(to, out, &mut done, self));
        let panic = catch_unwind(AssertUnwindSafe(handle)).err().map(|panic| panic_message(&*panic));
        let panicked = panic.is_some();
        // One that had put its request off has dropped it by panicking, and is counted by that answer.
        if panicked && done != InPlaceOutcome::Done(Dispatched::InFlight) {
            stats.handler_panics.add(1);
        }
        if panicked || matches!(done, InPlaceOutcome::Dropped | InPlaceOutcome::Pending) {
            let answered = matches!(done, InPlaceOutcome::Done(_));
            let trace = self.extensions.trace();
            self.failures.push(HandlerFailed { cmd: to.cmd, seq: to.seq, trace, panic, answered });
        }
        if done != InPlaceOutcome::Done(Dispatched::InFlight)
            && let Some(latency) = stats.handlers.get(route.index)
        {
            latency.observe(self.began.elapsed());
        }
        match done {
            InPlaceOutcome::Done(dispatched) => dispatched,
            InPlaceOutcome::Dropped => {
                if !panicked {
                    stats.responders_dropped.add(1);
                }
                Dispatched::Failed(ErrorCode::Internal)
            }
            // A responder that was leaked (mem::forget) can't be answered by its drop.
            InPlaceOutcome::Pending => {
                stats.responders_dropped.add(1);
                to.encode_failure(out, &Failure::of(ErrorCode::Internal))
            }
        }
    }

    fn run_on_pool(&mut self, route: &Route, request: &Request<'_>, to: ReplyTo, out: &mut Vec<u8>) -> Dispatched {
        let Some(responder) = self.defer(to) else {
            return to.encode_failure(out, &Failure::overloaded(RETRY_AFTER));
        };
        let job = Job { handler: Arc::clone(&route.handler), request: request.to_owned(), responder };
        if let Err(responder) = self.pool.submit(job) {
            self.pending.take_back(responder.disarm());
            self.stats.overloaded.add(1);
            return to.encode_failure(out, &Failure::overloaded(RETRY_AFTER));
        }
        Dispatched::InFlight
    }
}

/// An operation on a session's state, its bytes borrowed.
#[derive(Clone, Copy, Debug)]
pub enum StateSlices<'a> {
    /// SESSION_GET.
    Get(&'a [u8]),
    /// SESSION_PUT.
    Put(&'a [u8], &'a [u8]),
    /// SESSION_DELETE.
    Delete(&'a [u8]),
}

impl StateSlices<'_> {
    /// With bytes of its own.
    pub fn to_owned(self) -> StateOp {
        match self {
            StateSlices::Get(key) => StateOp::Get(key.into()),
            StateSlices::Put(key, value) => StateOp::Put(key.into(), value.into()),
            StateSlices::Delete(key) => StateOp::Delete(key.into()),
        }
    }
}

impl StateOp {
    /// With its bytes borrowed.
    pub fn as_slices(&self) -> StateSlices<'_> {
        match self {
            StateOp::Get(key) => StateSlices::Get(key),
            StateOp::Put(key, value) => StateSlices::Put(key, value),
            StateOp::Delete(key) => StateSlices::Delete(key),
        }
    }
}

/// Runs an operation on a session that lives here; gives the reply's payload.
pub(super) fn run_state_op<'s>(
    sessions: &'s mut Sessions,
    key: SessionKey,
    op: &StateSlices<'_>,
) -> Result<&'s [u8], Failure> {
    match *op {
        StateSlices::Get(name) => sessions.get(key, name).ok_or_else(|| Failure::of(ErrorCode::NotFound)),
        StateSlices::Put(name, value) => match sessions.put(key, name, value) {
            Ok(()) => Ok(&[]),
            Err(full) => Err(state_is_full(full, sessions)),
        },
        StateSlices::Delete(name) => {
            sessions.delete(key, name);
            Ok(&[])
        }
    }
}

/// The session was ended, or has expired, under a connection that was replaced.
pub(super) fn session_is_gone() -> Failure {
    Failure::new(ErrorCode::Unavailable, "the session of this connection has ended")
}

pub(super) fn state_is_full(full: StateFull, sessions: &Sessions) -> Failure {
    let limits = sessions.limits().state;
    let text = match full {
        StateFull::Entries => format!("a session holds at most {} keys: delete one first", limits.entries),
        StateFull::Bytes => format!("a session holds at most {} bytes of keys and values", limits.bytes),
    };
    Failure::new(ErrorCode::BadRequest, text)
}

fn parse_state_op<'a>(request: &Frame<'a>) -> Option<StateSlices<'a>> {
    let key = Some(request.payload).filter(|key| (1..=255).contains(&key.len()));
    match request.cmd {
        Command::SESSION_GET => key.map(StateSlices::Get),
        Command::SESSION_DELETE => key.map(StateSlices::Delete),
        _ => parse_session_put(request.payload).map(|(key, value)| StateSlices::Put(key, value)),
    }
}

pub(super) fn reply_to(request: &Frame<'_>) -> ReplyTo {
    ReplyTo { seq: request.seq, cmd: request.cmd, version: request.version }
}
