//! The obligation to answer a request, once.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::conn::Dispatched;
use crate::proto::{
    Command, ErrorCode, ErrorReply, Fallback, MAX_BODY, Version, encode, encode_extended, extension_type,
};

/// How a request ended, on its way back to its connection's worker.
#[derive(Debug)]
pub enum Outcome {
    /// A reply.
    Reply {
        /// Its payload.
        payload: Vec<u8>,
        /// The fallback that produced it.
        fallback: Option<Fallback>,
    },
    /// An ERROR.
    Error(Failure),
    /// The responder was dropped unanswered: INTERNAL.
    Dropped,
    /// The handler panicked: INTERNAL.
    Panicked,
    /// A message was stored.
    Stored {
        /// Its id.
        id: u64,
        /// It had been stored before, by an earlier request with its idempotency key.
        duplicate: bool,
    },
    /// A message was stored, and the request goes on waiting for its delivery.
    Kept,
    /// The session that an AUTH wants to resume was given to it, or is not to be had.
    Claimed(bool),
    /// Nobody can say whether that session is to be had.
    Unclaimed,
}

/// An ERROR in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why. A code that would end the connection is not a handler's to send: it becomes INTERNAL.
    pub code: ErrorCode,
    /// For a person.
    pub text: Cow<'static, str>,
    /// Milliseconds after which a retry makes sense; 0: nothing is known.
    pub retry_after_ms: u32,
}

impl Failure {
    /// A failure with its code's own text.
    pub fn of(code: ErrorCode) -> Failure {
        Failure { code, text: Cow::Borrowed(code.text()), retry_after_ms: 0 }
    }

    /// A failure with a text.
    pub fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Failure {
        Failure { code, text: text.into(), retry_after_ms: 0 }
    }

    /// Too much to do: not processed, safe to retry after this time.
    pub fn overloaded(retry_after: Duration) -> Failure {
        let retry_after_ms = retry_after.as_millis().min(u128::from(u32::MAX)) as u32;
        Failure { retry_after_ms, ..Failure::of(ErrorCode::Overloaded) }
    }

    /// The code that the client is told.
    pub(crate) fn told(&self) -> ErrorCode {
        if self.code.is_fatal() { ErrorCode::Internal } else { self.code }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>, cmd: Command, seq: u32) {
        let mut error = ErrorReply::new(self.told(), cmd, &self.text);
        error.retry_after_ms = self.retry_after_ms;
        error.encode(out, seq);
    }
}

/// What a reply needs to know of its request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyTo {
    pub seq: u32,
    pub cmd: Command,
    pub version: Version,
}

impl ReplyTo {
    /// Whether a reply fits a frame; if not, what the request gets instead.
    pub fn check(self, payload: &[u8], fallback: Option<Fallback>) -> Result<(), Failure> {
        let extra = self.block(fallback).map_or(0, |block| 1 + block.len());
        if payload.len() + extra <= MAX_BODY {
            return Ok(());
        }
        log::error!(
            cmd:% = self.cmd, seq = self.seq, bytes = payload.len();
            "a reply to {} of {} bytes does not fit a frame: the request gets INTERNAL",
            self.cmd,
            payload.len()
        );
        Err(Failure::new(ErrorCode::Internal, "the reply does not fit a frame"))
    }

    /// Appends the reply; INTERNAL if it does not fit a frame.
    pub fn encode_reply(self, out: &mut Vec<u8>, payload: &[u8], fallback: Option<Fallback>) -> Dispatched {
        let fitted = match self.block(fallback) {
            None => encode(out, self.seq, self.cmd, payload),
            Some(block) => encode_extended(out, self.seq, self.cmd, &block, payload),
        };
        if fitted {
            return Dispatched::Answered;
        }
        let failure = self.check(payload, fallback).err();
        self.encode_failure(out, &failure.unwrap_or_else(|| Failure::of(ErrorCode::Internal)))
    }

    /// The extension that tells of a fallback, where the client can read one.
    fn block(self, fallback: Option<Fallback>) -> Option<[u8; 3]> {
        let fallback = fallback.filter(|_| self.version == Version::Extended)?;
        Some([extension_type::FALLBACK, 1, fallback as u8])
    }

    pub fn encode_failure(self, out: &mut Vec<u8>, failure: &Failure) -> Dispatched {
        failure.encode(out, self.cmd, self.seq);
        Dispatched::Failed(failure.told())
    }
}

/// Where answers that come later are delivered: a worker.
pub(crate) trait AnswerSink: Send + Sync {
    fn deliver(&self, pending: PendingKey, outcome: Outcome);
}

/// A request in flight, in its worker's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingKey(pub(crate) u64);

/// Puts a request into its worker's table of requests in flight.
pub(crate) trait Defer {
    /// `None`: the table is full.
    fn defer(&mut self, to: ReplyTo) -> Option<Deferred>;
}

/// Answers one request.
///
/// Every way to answer consumes it. It can't be forgotten: if it is dropped unanswered (by a panic,
/// say) the request is answered with INTERNAL, and counted.
#[must_use = "a request must be answered"]
pub struct Responder<'a> {
    to: ReplyTo,
    inner: Inner<'a>,
}

enum Inner<'a> {
    /// On the worker, in place: the reply goes straight into the send scratch.
    InPlace {
        out: &'a mut Vec<u8>,
        done: &'a mut InPlaceOutcome,
        defer: &'a mut dyn Defer,
    },
    Deferred(Deferred),
}

/// What an in-place handler did with its responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InPlaceOutcome {
    Pending,
    Done(Dispatched),
    Dropped,
}

impl<'a> Responder<'a> {
    pub(crate) fn in_place(
        to: ReplyTo,
        out: &'a mut Vec<u8>,
        done: &'a mut InPlaceOutcome,
        defer: &'a mut dyn Defer,
    ) -> Responder<'a> {
        Responder { to, inner: Inner::InPlace { out, done, defer } }
    }

    pub(crate) fn deferred(deferred: Deferred) -> Responder<'static> {
        Responder { to: deferred.to, inner: Inner::Deferred(deferred) }
    }

    /// Replies.
    pub fn reply(self, payload: &[u8]) {
        self.answer(payload, None);
    }

    /// Replies with what a fallback produced; a client that can read extensions is told which.
    pub fn reply_from(self, fallback: Fallback, payload: &[u8]) {
        self.answer(payload, Some(fallback));
    }

    /// Answers with an ERROR.
    pub fn fail(mut self, failure: Failure) {
        match &mut self.inner {
            Inner::InPlace { out, done, .. } => **done = InPlaceOutcome::Done(self.to.encode_failure(out, &failure)),
            Inner::Deferred(deferred) => deferred.deliver(Outcome::Error(failure)),
        }
    }

    /// Answers later, from any thread.
    ///
    /// `None` if the worker has as many requests in flight as it may: the request has been answered
    /// with OVERLOADED, and there is nothing left to do.
    pub fn defer(mut self) -> Option<Deferred> {
        match &mut self.inner {
            Inner::InPlace { out, done, defer } => match defer.defer(self.to) {
                Some(deferred) => {
                    **done = InPlaceOutcome::Done(Dispatched::InFlight);
                    Some(deferred)
                }
                None => {
                    let failure = Failure::overloaded(Duration::from_millis(100));
                    **done = InPlaceOutcome::Done(self.to.encode_failure(out, &failure));
                    None
                }
            },
            Inner::Deferred(deferred) => Some(deferred.hand_over()),
        }
    }

    // By reference, all of these: to move what was only just written costs more than to use it.
    fn answer(mut self, payload: &[u8], fallback: Option<Fallback>) {
        match &mut self.inner {
            Inner::InPlace { out, done, .. } => {
                **done = InPlaceOutcome::Done(self.to.encode_reply(out, payload, fallback));
            }
            Inner::Deferred(deferred) => deferred.deliver(Outcome::Reply { payload: payload.to_vec(), fallback }),
        }
    }
}

impl Drop for Responder<'_> {
    fn drop(&mut self) {
        if let Inner::InPlace { out, done, .. } = &mut self.inner
            && **done == InPlaceOutcome::Pending
        {
            self.to.encode_failure(out, &Failure::of(ErrorCode::Internal));
            **done = InPlaceOutcome::Dropped;
        }
    }
}

impl fmt::Debug for Responder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("to", &self.to).finish_non_exhaustive()
    }
}

/// Answers one request, later, from any thread. Dropped unanswered it answers INTERNAL.
#[must_use = "a request must be answered"]
pub struct Deferred {
    to: ReplyTo,
    pending: PendingKey,
    sink: Option<Arc<dyn AnswerSink>>,
}

impl Deferred {
    pub(crate) fn new(to: ReplyTo, pending: PendingKey, sink: Arc<dyn AnswerSink>) -> Deferred {
        Deferred { to, pending, sink: Some(sink) }
    }

    /// Replies.
    pub fn reply(mut self, payload: impl Into<Vec<u8>>) {
        self.deliver(Outcome::Reply { payload: payload.into(), fallback: None });
    }

    /// Replies with what a fallback produced; a client that can read extensions is told which.
    pub fn reply_from(mut self, fallback: Fallback, payload: impl Into<Vec<u8>>) {
        self.deliver(Outcome::Reply { payload: payload.into(), fallback: Some(fallback) });
    }

    /// Answers with an ERROR.
    pub fn fail(mut self, failure: Failure) {
        self.deliver(Outcome::Error(failure));
    }

    /// Takes back the obligation, of a request that was not put in flight after all.
    pub(crate) fn disarm(mut self) -> PendingKey {
        self.sink = None;
        self.pending
    }

    /// Hands the obligation on, and is left without it.
    fn hand_over(&mut self) -> Deferred {
        Deferred { to: self.to, pending: self.pending, sink: self.sink.take() }
    }

    /// Answers, once.
    fn deliver(&mut self, outcome: Outcome) {
        if let Some(sink) = self.sink.take() {
            sink.deliver(self.pending, outcome);
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            let outcome = if std::thread::panicking() { Outcome::Panicked } else { Outcome::Dropped };
            sink.deliver(self.pending, outcome);
        }
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("to", &self.to).field("pending", &self.pending).finish_non_exhaustive()
    }
}
