//! The blocking client: a connection that outlives the servers it is made to.
//!
//! ```no_run
//! use tidegate::client::{Client, ClientOptions};
//!
//! let client = Client::connect(ClientOptions::new(["127.0.0.1:7400"]))?;
//! assert_eq!(client.echo(b"hello")?, b"hello");
//! client.close()?;
//! # Ok::<(), tidegate::client::ClientError>(())
//! ```
//!
//! A [`Client`] is cheap to clone and may be used by many threads at once: their requests are
//! pipelined on one connection. One background thread owns the connection, answers heartbeats,
//! reconnects and follows GOAWAY; a call only waits, and never longer than its deadline, whatever
//! the server does.
//!
//! # What is sent again, and when
//!
//! A restart of the server, a drain or a move is latency to a caller and not an error, as far as
//! that is safe. Every retry stays within the call's deadline.
//!
//! | what happens | what becomes of the request |
//! |---|---|
//! | no connection, connection refused, OVERLOADED or DRAINING instead of READY | it waits; attempts to connect go on, with exponential backoff and full jitter |
//! | GOAWAY notice | nothing: it is answered on the old connection, while a new one is made when the server's slot comes; requests after that go to the new one. While no server can be reached the old connection serves |
//! | final GOAWAY | up to `last seq` it is awaited on the old connection, beyond it is sent again on the new one |
//! | ERROR DRAINING | not processed: sent again on another connection |
//! | ERROR OVERLOADED | not processed: sent again after `retry-after` and a random time more; if that would be past the deadline the ERROR is returned at once |
//! | connection lost before the whole request was handed to the system | it can't have been processed: sent again |
//! | connection lost after that | if idempotent, sent again; otherwise [`ClientError::UnknownOutcome`] |
//! | any other ERROR | returned: [`ClientError::Server`] |
//! | AUTH_FAILED | final, for this and every later call: [`ClientError::AuthFailed`]; but where the token is asked for ([`Token::from_fn`]) and one was good before, another one is waited for |
//!
//! Idempotent are ECHO, PING, SESSION_GET, SESSION_PUT, SESSION_DELETE, SUBMIT with an IDEMPOTENCY
//! key (which [`Client::submit`] always has), and what [`CallOptions::idempotent`] or [`ClientOptions::retry_unknown`] says is. Requests
//! that are under way at the same time have no order among them: a SESSION_PUT that is sent again
//! may be processed after one that another thread called later.
//!
//! The connection counts as lost, too, when nothing was heard for three heartbeat intervals (after
//! two the client asks, with PING), and when the server breaks the protocol. With
//! [`ClientOptions::resume`] a new connection goes on with the session of the one before, if it is
//! still alive; [`Client::resumed`] tells.

pub(crate) mod backoff;
mod call;
mod dial;
mod engine;
mod error;
mod link;
mod manager;
mod options;
mod queue;
mod stats;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use call::{Call, Slot, later};
use engine::{Engine, Request, Shared};
use manager::Manager;
use stats::Status;

use crate::journal::is_topic;
use crate::proto::message::{parse_submitted, session_put_payload, topic_payload};
use crate::proto::{Command, ErrorCode, Fallback, MAX_BODY, MAX_PING, SessionId};

pub use error::{ClientError, ServerError};
pub use options::{CallOptions, ClientOptions, Token, read_token};
pub use stats::ClientStats;

/// A request's reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// What the handler answered.
    pub payload: Vec<u8>,
    /// Set if a fallback answered in its place.
    pub fallback: Option<Fallback>,
}

/// What became of a SUBMIT: the message is on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The message's id: higher than those of all messages before it.
    pub id: u64,
    /// An earlier try had stored it already; the id is that one's.
    pub duplicate: bool,
}

/// A client. Clones share one connection and one session. When the last one is dropped, the
/// connection is closed at once, and the session lives on at the server until its ttl; see
/// [`Client::close`] and [`Client::bye`] for better ends.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    options: ClientOptions,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Client {
    /// Connects, and returns once the server is READY.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for wrong options, [`ClientError::AuthFailed`]; and after
    /// [`ClientOptions::connect_timeout`], in which it tries again and again, how the last attempt
    /// failed: [`ClientError::Io`], [`ClientError::Server`] or [`ClientError::Protocol`].
    pub fn connect(options: ClientOptions) -> Result<Client, ClientError> {
        options.validate()?;
        let now = Instant::now();
        let status = Arc::new(Status::default());
        let mut manager = Manager::new(options.clone(), Arc::clone(&status), fastrand::Rng::new(), now);
        let first = Slot::new();
        manager.tell_first_ready(Arc::clone(&first));
        let start = |error: io::Error| ClientError::io("the client's thread could not be started", &error);
        let engine = Engine::new(status, manager).map_err(start)?;
        let shared = engine.shared();
        let builder = std::thread::Builder::new().name("tidegate-client".to_owned());
        let thread = builder.spawn(move || engine.run()).map_err(start)?;
        let timeout = options.connect_timeout;
        let client = Client(Arc::new(Inner { shared, options, thread: Mutex::new(Some(thread)) }));
        match first.wait(later(now, timeout)) {
            Some(result) => result.map(|()| client),
            None => Err(client.trouble().unwrap_or_else(|| ClientError::Io {
                kind: io::ErrorKind::TimedOut,
                text: format!("no READY from {:?} within {} ms", client.0.options.addresses, timeout.as_millis()),
            })),
        }
    }

    /// Sends a request and waits for its reply, with the defaults.
    ///
    /// # Errors
    /// See [`Client::call_with`].
    pub fn call(&self, cmd: Command, payload: impl Into<Vec<u8>>) -> Result<Reply, ClientError> {
        self.call_with(cmd, payload, &CallOptions::default())
    }

    /// Sends a request and waits for its reply. `cmd` is PING or from 0x10 up.
    ///
    /// # Errors
    /// Every [`ClientError`] but `Protocol` and `Io`; each says what may have become of the request.
    pub fn call_with(
        &self,
        cmd: Command,
        payload: impl Into<Vec<u8>>,
        options: &CallOptions,
    ) -> Result<Reply, ClientError> {
        if cmd.is_control() && cmd != Command::PING {
            return Err(ClientError::Invalid(format!("{cmd} is not a request that a program may send")));
        }
        let payload = payload.into();
        let max = if cmd == Command::PING { MAX_PING } else { MAX_BODY };
        if payload.len() > max {
            return Err(ClientError::TooLarge { size: payload.len(), max });
        }
        let after = options.deadline.unwrap_or(self.0.options.deadline);
        let retry_unknown = self.0.options.retry_unknown;
        let call = Call::new(cmd, payload, options.clone(), retry_unknown, (after, Instant::now()));
        let (slot, deadline) = (call.slot(), call.deadline);
        if !self.0.shared.submit(Request::Call(call)) {
            return Err(ClientError::Closed);
        }
        slot.wait(deadline).unwrap_or_else(|| {
            self.0.shared.submit(Request::CallerLeft);
            Err(call::deadline_error(&slot, after, self.trouble().as_ref()))
        })
    }

    /// ECHO: the payload, back from the server.
    ///
    /// # Errors
    /// See [`Client::call_with`].
    pub fn echo(&self, payload: &[u8]) -> Result<Vec<u8>, ClientError> {
        self.call(Command::ECHO, payload).map(|reply| reply.payload)
    }

    /// SESSION_GET: a key's value in this client's session, or `None` if it has none.
    ///
    /// # Errors
    /// See [`Client::call_with`].
    pub fn session_get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
        absent_is_none(self.call(Command::SESSION_GET, key)).map(|reply| reply.map(|reply| reply.payload))
    }

    /// SESSION_PUT: sets a key of 1–255 bytes. Once this returns, the value is in the server's store.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a wrong key; see [`Client::call_with`].
    pub fn session_put(&self, key: &[u8], value: &[u8]) -> Result<(), ClientError> {
        let payload = session_put_payload(key, value)
            .ok_or_else(|| ClientError::Invalid(format!("a key has 1 to 255 bytes, this one {}", key.len())))?;
        self.call(Command::SESSION_PUT, payload).map(drop)
    }

    /// SESSION_DELETE: removes a key. It is no error if there is none.
    ///
    /// # Errors
    /// See [`Client::call_with`].
    pub fn session_delete(&self, key: &[u8]) -> Result<(), ClientError> {
        absent_is_none(self.call(Command::SESSION_DELETE, key)).map(drop)
    }

    /// SUBMIT: has a message stored and delivered. Once this returns, the message survives whatever happens to the
    /// server. The call has a random idempotency key, so that what is sent again after a lost connection is stored once.
    ///
    /// # Errors
    /// See [`Client::submit_with`].
    pub fn submit(&self, topic: &str, body: &[u8]) -> Result<Submitted, ClientError> {
        self.submit_with(topic, body, &CallOptions::default())
    }

    /// The same, with options. With a key of the caller's own ([`CallOptions::idempotency`]) a call that failed can be
    /// made again, also by another process and after a restart: within the server's window
    /// (`TIDEGATE_DEDUP_WINDOW_S`) the message is stored once. Messages that are to keep an order are
    /// submitted one after the other.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a topic that is not 1 to 255 bytes without control characters,
    /// [`ClientError::Io`] if there are no random bytes for a key, [`ClientError::Protocol`] for a reply that is none;
    /// otherwise see [`Client::call_with`]. After
    /// [`ClientError::Deadline`] and UNAVAILABLE the message may have been stored.
    pub fn submit_with(&self, topic: &str, body: &[u8], options: &CallOptions) -> Result<Submitted, ClientError> {
        let payload = is_topic(topic.as_bytes()).and_then(|topic| topic_payload(topic.as_bytes(), body));
        let payload = payload.ok_or_else(|| {
            ClientError::Invalid("a topic has 1 to 255 bytes of UTF-8 without control characters".to_owned())
        })?;
        let key = match options.idempotency {
            Some(key) => key,
            None => random_key()?,
        };
        let options = CallOptions { idempotency: Some(key), ..options.clone() };
        let reply = self.call_with(Command::SUBMIT, payload, &options)?;
        match parse_submitted(&reply.payload) {
            Some((id, duplicate)) => Ok(Submitted { id, duplicate }),
            None => Err(ClientError::Protocol { text: "a reply to SUBMIT without an id".to_owned() }),
        }
    }

    /// PING: how long the server took to answer, a reconnect on the way included.
    ///
    /// # Errors
    /// See [`Client::call_with`].
    pub fn ping(&self) -> Result<Duration, ClientError> {
        let begun = Instant::now();
        self.call(Command::PING, Vec::new()).map(|_| begun.elapsed())
    }

    /// The session of the last READY.
    pub fn session_id(&self) -> SessionId {
        self.0.shared.status.known().session.unwrap_or_default()
    }

    /// Whether that READY went on with the session that was asked for.
    pub fn resumed(&self) -> bool {
        self.0.shared.status.known().resumed
    }

    /// What was sent, answered and sent again so far.
    pub fn stats(&self) -> ClientStats {
        self.0.shared.status.counters.snapshot()
    }

    /// Ends the client in good order and keeps the session until its ttl: calls under way are
    /// finished, the server is told GOAWAY, and its half-close is awaited. Later calls, on any
    /// clone, get [`ClientError::Closed`].
    ///
    /// # Errors
    /// [`ClientError::Deadline`] if that took longer than [`ClientOptions::deadline`],
    /// [`ClientError::Io`] if the connection was lost on the way, [`ClientError::Closed`] if the
    /// client was closed before.
    pub fn close(&self) -> Result<(), ClientError> {
        self.end(None, Instant::now())
    }

    /// As [`Client::close`], but ends the session, too: the server forgets its state. Returns once
    /// the server has said so.
    ///
    /// # Errors
    /// As [`Client::close`], and those of [`Client::call_with`].
    pub fn bye(&self) -> Result<(), ClientError> {
        let now = Instant::now();
        let options = CallOptions { idempotent: Some(true), ..CallOptions::default() };
        let bye = Call::new(Command::BYE, Vec::new(), options, false, (self.0.options.deadline, now));
        let slot = bye.slot();
        let deadline = bye.deadline;
        let ended = self.end(Some(bye), now);
        // The reply came before the end, if it came.
        match slot.wait(Instant::now().min(deadline)) {
            Some(Err(ClientError::Closed)) | None => ended.and(Err(ClientError::Closed)),
            Some(reply) => reply.map(drop),
        }
    }

    fn end(&self, bye: Option<Call>, now: Instant) -> Result<(), ClientError> {
        let after = self.0.options.deadline;
        let deadline = later(now, after);
        let slot = Slot::new();
        if !self.0.shared.submit(Request::Close { bye, slot: Arc::clone(&slot), deadline }) {
            return Err(ClientError::Closed);
        }
        match slot.wait(deadline) {
            None => Err(call::deadline_error(&slot, after, self.trouble().as_ref())),
            Some(result) => result,
        }
    }

    fn trouble(&self) -> Option<ClientError> {
        self.0.shared.status.known().trouble.clone()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.submit(Request::Shutdown);
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // It never blocks but in poll, and that was woken.
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!("the client's thread had panicked");
        }
    }
}

fn random_key() -> Result<[u8; 16], ClientError> {
    let mut key = [0; 16];
    match getrandom::fill(&mut key) {
        Ok(()) => Ok(key),
        Err(error) => Err(ClientError::Io {
            kind: io::ErrorKind::Other,
            text: format!("no random bytes for an idempotency key: {error}"),
        }),
    }
}

fn absent_is_none(result: Result<Reply, ClientError>) -> Result<Option<Reply>, ClientError> {
    match result {
        Err(ClientError::Server(error)) if error.known_code() == Some(ErrorCode::NotFound) => Ok(None),
        result => result.map(Some),
    }
}
