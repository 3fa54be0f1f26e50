//! What a handler sees of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::proto::{Command, Extensions, Frame, SessionId, Trace};
use crate::session::{Caller, Principal};

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
pub struct Request<'a>(Source<'a>);

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    /// On the worker: everything where it lies anyway.
    Frame(&'a Frame<'a>, &'a Context<'a>),
    /// Elsewhere: a copy.
    Copy(&'a OwnedRequest),
}

/// What belongs to a request that is not in its frame.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub caller: Caller<'a>,
    pub deadline: Option<Instant>,
    pub cut: &'a CutFlag,
}

impl<'a> Request<'a> {
    pub(crate) fn new(frame: &'a Frame<'a>, context: &'a Context<'a>) -> Request<'a> {
        Request(Source::Frame(frame, context))
    }

    /// The command that led here.
    pub fn command(&self) -> Command {
        match self.0 {
            Source::Frame(frame, _) => frame.cmd,
            Source::Copy(copy) => copy.cmd,
        }
    }

    /// The payload, at most [`crate::config::Config::max_payload`] bytes.
    pub fn payload(&self) -> &'a [u8] {
        match self.0 {
            Source::Frame(frame, _) => frame.payload,
            Source::Copy(copy) => &copy.payload,
        }
    }

    /// Who asks. Cheap to clone.
    pub fn principal(&self) -> &'a Principal {
        match self.0 {
            Source::Frame(_, context) => context.caller.principal(),
            Source::Copy(copy) => &copy.principal,
        }
    }

    /// The session that it is asked in.
    pub fn session(&self) -> SessionId {
        match self.0 {
            Source::Frame(_, context) => context.caller.session(),
            Source::Copy(copy) => copy.session,
        }
    }

    /// The client's trace context.
    pub fn trace(&self) -> Option<Trace> {
        self.extensions().trace()
    }

    /// The client's idempotency key.
    pub fn idempotency_key(&self) -> Option<[u8; 16]> {
        self.extensions().idempotency()
    }

    /// When the client stops caring. The server answers DEADLINE_EXCEEDED by itself then.
    pub fn deadline(&self) -> Option<Instant> {
        match self.0 {
            Source::Frame(_, context) => context.deadline,
            Source::Copy(copy) => copy.deadline,
        }
    }

    /// Whether an answer can no longer reach anybody: the deadline has passed, or a drain has come
    /// to its end. A handler that works for long should look from time to time, and stop.
    pub fn is_cancelled(&self) -> bool {
        self.cut().is_raised() || self.deadline().is_some_and(|at| Instant::now() >= at)
    }

    /// A copy that can go to another thread.
    pub fn to_owned(&self) -> OwnedRequest {
        let mut extensions = Vec::new();
        for (kind, value) in self.extensions().iter() {
            let fitted = Extensions::push(&mut extensions, kind, value);
            debug_assert!(fitted, "it came from such a block");
        }
        OwnedRequest {
            cmd: self.command(),
            payload: self.payload().to_vec(),
            extensions,
            principal: Arc::clone(self.principal()),
            session: self.session(),
            deadline: self.deadline(),
            cut: self.cut().clone(),
        }
    }

    fn extensions(&self) -> Extensions<'a> {
        match self.0 {
            Source::Frame(frame, _) => frame.extensions,
            Source::Copy(copy) => Extensions::validate(&copy.extensions).unwrap_or_default(),
        }
    }

    fn cut(&self) -> &'a CutFlag {
        match self.0 {
            Source::Frame(_, context) => context.cut,
            Source::Copy(copy) => &copy.cut,
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
        Request(Source::Copy(self))
    }
}
