//! What a handler sees of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::proto::{Command, Extensions, SessionId, Trace};
use crate::session::Principal;

/// Set once, when a server cuts what is left at the end of a drain.
#[derive(Clone, Debug, Default)]
pub struct CutFlag(Arc<AtomicBool>);

impl CutFlag {
    /// Sets it.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is set.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A request, as its handler sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub(crate) cmd: Command,
    pub(crate) payload: &'a [u8],
    pub(crate) extensions: Extensions<'a>,
    pub(crate) principal: &'a Principal,
    pub(crate) session: SessionId,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cut: &'a CutFlag,
}

impl<'a> Request<'a> {
    /// The command that led here.
    pub fn command(&self) -> Command {
        self.cmd
    }

    /// The payload, at most [`crate::config::Config::max_payload`] bytes.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Who asks. Cheap to clone.
    pub fn principal(&self) -> &'a Principal {
        self.principal
    }

    /// The session that it is asked in.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The client's trace context.
    pub fn trace(&self) -> Option<Trace> {
        self.extensions.trace()
    }

    /// The client's idempotency key.
    pub fn idempotency_key(&self) -> Option<[u8; 16]> {
        self.extensions.idempotency()
    }

    /// When the client stops caring. The server answers DEADLINE_EXCEEDED by itself then.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether an answer can no longer reach anybody: the deadline has passed, or a drain has come
    /// to its end. A handler that works for long should look from time to time, and stop.
    pub fn is_cancelled(&self) -> bool {
        self.cut.is_raised() || self.deadline.is_some_and(|at| Instant::now() >= at)
    }

    /// A copy that can go to another thread.
    pub fn to_owned(&self) -> OwnedRequest {
        let mut extensions = Vec::new();
        for (kind, value) in self.extensions.iter() {
            let fitted = Extensions::push(&mut extensions, kind, value);
            debug_assert!(fitted, "it came from such a block");
        }
        OwnedRequest {
            cmd: self.cmd,
            payload: self.payload.to_vec(),
            extensions,
            principal: Arc::clone(self.principal),
            session: self.session,
            deadline: self.deadline,
            cut: self.cut.clone(),
        }
    }
}

/// A request with its bytes.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    cmd: Command,
    payload: Vec<u8>,
    extensions: Vec<u8>,
    principal: Principal,
    session: SessionId,
    deadline: Option<Instant>,
    cut: CutFlag,
}

impl OwnedRequest {
    /// The request as handlers take it.
    pub fn as_request(&self) -> Request<'_> {
        Request {
            cmd: self.cmd,
            payload: &self.payload,
            extensions: Extensions::validate(&self.extensions).unwrap_or_default(),
            principal: &self.principal,
            session: self.session,
            deadline: self.deadline,
            cut: &self.cut,
        }
    }
}
