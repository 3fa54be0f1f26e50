//! The decisions: which connection takes requests, when the next is made, what becomes of calls
//! whose connection ends. PURE: the engine tells what happened and when, and performs [`Action`]s.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::backoff::Backoff;
use crate::client::call::{Call, Slot, later};
use crate::client::dial::{Dial, Targets};
use crate::client::link::Link;
use crate::client::queue::Queue;
use crate::client::stats::{Counters, Status};
use crate::client::{ClientError, ClientOptions, Token};
use crate::proto::{Extensions, extension_type};

mod closing;
mod server;

use closing::Closing;

/// Names one connection, for the engine and here. Never used twice.
pub type LinkId = usize;

/// The longest wait for the server's half-close past the deadline that its final GOAWAY tells.
const HALF_CLOSE_GRACE: Duration = Duration::from_secs(5);
/// That deadline where the GOAWAY tells none.
const DEFAULT_FINAL: Duration = Duration::from_secs(60);

/// What the engine is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to this address; tell with `handle_connected` or `handle_connect_failed`.
    Connect(String),
    /// Forget the address that was to be connected.
    Abort,
    /// Close this connection's socket.
    Close(LinkId),
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// The server half-closed.
    Eof,
    /// The socket failed, or nobody is there.
    Lost(String),
    /// The server broke the protocol.
    Violation(String),
}

/// See the module.
#[derive(Debug)]
pub struct Manager {
    options: ClientOptions,
    status: Arc<Status>,
    links: BTreeMap<LinkId, Link>,
    /// The one that takes requests.
    current: Option<LinkId>,
    dial: Dial,
    targets: Targets,
    backoff: Backoff,
    queue: Queue,
    /// Who waits for the first READY.
    first: Option<Arc<Slot<Result<(), ClientError>>>>,
    /// AUTH was refused for good.
    refused: Option<ClientError>,
    /// What the connection that is being made will present, or has presented.
    token: Token,
    /// A token that was refused, after others had been good: it is not presented again.
    stale: Option<(Token, ClientError)>,
    closing: Option<Closing>,
    actions: VecDeque<Action>,
    first_seq: u32,
}

impl Manager {
    /// Nothing is connected yet; the first attempt is due at once.
    pub fn new(options: ClientOptions, status: Arc<Status>, rng: fastrand::Rng, now: Instant) -> Manager {
        let mut backoff = Backoff::new(options.backoff_base, options.backoff_max, rng);
        let targets = Targets::new(options.addresses.clone(), &mut backoff);
        status.known().session = options.session;
        Manager {
            options,
            status,
            links: BTreeMap::new(),
            current: None,
            dial: Dial::At(now),
            targets,
            backoff,
            queue: Queue::default(),
            first: None,
            refused: None,
            token: Token::new([]),
            stale: None,
            closing: None,
            actions: VecDeque::new(),
            first_seq: 1,
        }
    }

    /// Leaves word in `slot` of the first READY, or that there will be none.
    pub fn tell_first_ready(&mut self, slot: Arc<Slot<Result<(), ClientError>>>) {
        self.first = Some(slot);
    }

    /// The first `seq` of each connection; 1 otherwise.
    #[cfg(test)]
    pub fn begin_at_seq(&mut self, seq: u32) {
        self.first_seq = seq;
    }

    /// Takes a call.
    pub fn handle_call(&mut self, call: Call) {
        self.queue.push(call);
    }

    /// The transport is there: says who we are. The engine knows the connection as `id` from here on.
    pub fn handle_connected(&mut self, id: LinkId, now: Instant) {
        let mut block = Vec::new();
        let mut fitted = true;
        if let Some(session) = self.status.known().session.filter(|_| self.options.resume || self.first.is_some()) {
            fitted &= Extensions::push(&mut block, extension_type::RESUME, &session);
        }
        if let Some(wish) = self.options.heartbeat {
            let ms = u32::try_from(wish.as_millis()).unwrap_or(u32::MAX);
            fitted &= Extensions::push(&mut block, extension_type::HEARTBEAT, &ms.to_be_bytes());
        }
        debug_assert!(fitted, "18 + 6 bytes fit");
        self.links.insert(id, Link::new(self.token.expose(), &block, self.first_seq, now));
        self.counters().auths.add(1);
        let give_up = match self.dial {
            Dial::Connecting { give_up } => give_up,
            _ => later(now, self.options.connect_timeout),
        };
        self.dial = Dial::Authenticating { link: id, give_up };
    }

    /// The transport could not be connected.
    pub fn handle_connect_failed(&mut self, error: ClientError, now: Instant) {
        if matches!(self.dial, Dial::Connecting { .. }) {
            self.dial_failed(error, Duration::ZERO, now);
        }
    }

    /// The socket of `id` read `bytes`. Returns whether the connection goes on.
    pub fn handle_input(&mut self, id: LinkId, bytes: &[u8], now: Instant) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let mut events = Vec::new();
        let result = link.handle_input(bytes, now, &self.status.counters, &mut events);
        for event in events {
            self.handle_event(id, event, now);
        }
        if let Err(text) = result {
            self.handle_end(id, End::Violation(text), now);
        }
        self.links.contains_key(&id)
    }

    /// The connection is over.
    pub fn handle_end(&mut self, id: LinkId, end: End, now: Instant) {
        self.judge_backoff(id, now);
        let Some(mut link) = self.drop_link(id) else { return };
        let clean = matches!(end, End::Eof) && !link.has_calls();
        let said = link.last_error().map(|error| format!("{error}; ")).unwrap_or_default();
        let (why, violation) = match end {
            End::Eof => (format!("{said}the server closed it"), false),
            End::Lost(why) => (format!("{said}{why}"), false),
            End::Violation(text) => (text, true),
        };
        let counters = &self.status.counters;
        let repeats = link.take_all().into_iter().filter_map(|orphan| orphan.into_repeat(counters, &why)).collect();
        self.queue.push_front(repeats);
        if matches!(self.dial, Dial::Authenticating { link, .. } if link == id) {
            let error = match violation {
                true => ClientError::Protocol { text: why },
                false => ClientError::Io { kind: std::io::ErrorKind::ConnectionAborted, text: why },
            };
            return self.dial_failed(error, Duration::ZERO, now);
        }
        if let Some(closing) = &mut self.closing
            && link.leaving
            && !clean
        {
            let text = format!("the connection was not closed in good order: {why}");
            closing.failed = Some(ClientError::Io { kind: std::io::ErrorKind::ConnectionAborted, text });
        }
        if self.current == Some(id) {
            self.current = None;
            log::debug!(peer:% = self.targets.current(); "connection lost: {why}");
            self.set_trouble(format!("the connection was lost: {why}"));
        }
    }

    fn dial_failed(&mut self, error: ClientError, at_least: Duration, now: Instant) {
        log::debug!(peer:% = self.targets.current(); "no connection to {}: {error}", self.targets.current());
        self.targets.handle_failure();
        let delay = self.backoff.next_delay();
        // What the server asks for is not shortened, and not kept to the millisecond by everybody.
        let delay = if at_least.is_zero() { delay } else { delay.max(at_least + self.backoff.jitter(at_least / 4)) };
        self.dial = Dial::At(later(now, delay));
        if self.current.is_none() {
            self.status.known().trouble = Some(error);
        }
    }

    /// A connection that held gives the next attempts a fresh start; one that did not must not.
    fn judge_backoff(&mut self, id: LinkId, now: Instant) {
        if self.links.get(&id).is_some_and(|link| link.age(now) >= self.backoff.max()) {
            self.backoff.reset();
        }
    }

    fn begin_dial(&mut self, now: Instant) {
        let token = self.options.token.as_ref().map_or_else(|| Ok(Token::new([])), Token::now);
        let error = match (token, &self.stale) {
            (Ok(token), Some((stale, error))) if token.expose() == stale.expose() => error.clone(),
            (Ok(token), _) => {
                self.token = token;
                self.dial = Dial::Connecting { give_up: later(now, self.options.connect_timeout) };
                return self.actions.push_back(Action::Connect(self.targets.current()));
            }
            (Err(text), _) => ClientError::Io { kind: std::io::ErrorKind::NotFound, text },
        };
        // The server is not asked: what is missing is here.
        self.dial = Dial::At(later(now, self.backoff.next_delay()));
        if self.current.is_none() {
            self.status.known().trouble = Some(error);
        }
    }

    fn abort_dial(&mut self) {
        match self.dial {
            Dial::Authenticating { link, .. } => drop(self.drop_link(link)),
            Dial::Connecting { .. } => self.actions.push_back(Action::Abort),
            Dial::Idle | Dial::At(_) => {}
        }
    }

    /// Does what is due.
    pub fn handle_timers(&mut self, now: Instant) {
        match self.dial {
            Dial::At(at) if at <= now => self.begin_dial(now),
            Dial::Connecting { give_up } | Dial::Authenticating { give_up, .. } if give_up <= now => {
                self.abort_dial();
                let text = format!("{}: no READY within {:?}", self.targets.current(), self.options.connect_timeout);
                self.dial_failed(ClientError::Io { kind: std::io::ErrorKind::TimedOut, text }, Duration::ZERO, now);
            }
            _ => {}
        }
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        for id in ids {
            let due = self.links.get_mut(&id).map(|link| link.handle_timer(now, &self.status.counters));
            if let Some(Err(why)) = due {
                self.handle_end(id, End::Lost(why), now);
            }
        }
        if let Some(closing) = self.closing.as_mut().filter(|closing| closing.deadline <= now) {
            // Their own deadline tells those who wait for the end.
            closing.slots.clear();
            self.abort(&ClientError::Closed, now);
        }
        self.update(now);
    }

    /// Sends what can be sent, and arranges for a connection if there is none.
    pub fn update(&mut self, now: Instant) {
        self.queue.update(now);
        self.send_queued(now);
        if self.closing.is_some() {
            self.update_closing(now);
        }
        if self.current.is_some() {
            return;
        }
        if let Some(error) = &self.refused {
            self.queue.fail_all(error);
        } else if self.dial == Dial::Idle && (self.closing.is_none() || !self.queue.is_empty()) {
            self.dial = Dial::At(now + self.backoff.next_delay());
        }
    }

    fn send_queued(&mut self, now: Instant) {
        let Some(link) = self.current.and_then(|id| self.links.get_mut(&id)) else { return };
        while link.can_take()
            && let Some(call) = self.queue.pop()
        {
            if call.deadline <= now {
                let error = call.deadline_error();
                call.complete(Err(error));
            } else {
                link.send(call, now, &self.status.counters);
            }
        }
        if !link.takes_requests() {
            self.current = None;
        }
    }

    fn drop_link(&mut self, id: LinkId) -> Option<Link> {
        let link = self.links.remove(&id)?;
        self.actions.push_back(Action::Close(id));
        Some(link)
    }

    /// The next thing for the engine to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The connections that have something to write.
    pub fn writable(&self) -> Vec<LinkId> {
        self.links.iter().filter(|(_, link)| !link.output().is_empty()).map(|(id, _)| *id).collect()
    }

    /// What the socket of `id` should write.
    pub fn output(&self, id: LinkId) -> &[u8] {
        self.links.get(&id).map_or(&[], Link::output)
    }

    /// The socket of `id` took `n` bytes.
    pub fn handle_written(&mut self, id: LinkId, n: usize) {
        if let Some(link) = self.links.get_mut(&id) {
            link.handle_written(n);
        }
    }

    /// Callers have given up: what only they needed is freed.
    pub fn forget_left(&mut self) {
        self.links.values_mut().for_each(Link::forget_left);
    }

    /// When [`Manager::handle_timers`] has something to do.
    pub fn next_timer(&self) -> Option<Instant> {
        let dial = match self.dial {
            Dial::Idle => None,
            Dial::At(at) | Dial::Connecting { give_up: at } | Dial::Authenticating { give_up: at, .. } => Some(at),
        };
        let links = self.links.values().filter_map(Link::next_timer);
        let closing = self.closing.as_ref().map(|closing| closing.deadline);
        links.chain(dial).chain(closing).chain(self.queue.next_timer()).min()
    }

    fn set_trouble(&self, text: String) {
        self.status.known().trouble = Some(ClientError::Io { kind: std::io::ErrorKind::NotConnected, text });
    }

    fn counters(&self) -> &Counters {
        &self.status.counters
    }
}
