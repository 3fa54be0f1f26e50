//! What a connection asks of the world around it.

use crate::proto::{ErrorCode, Frame, SessionId};

/// AUTH as it came off the wire.
#[derive(Clone, Copy, Debug)]
pub struct AuthRequest<'a> {
    /// The bearer token; may be empty. A secret.
    pub token: &'a [u8],
    /// The session to resume.
    pub resume: Option<SessionId>,
}

/// What became of AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthVerdict {
    /// In: with this session.
    Welcome(Welcome),
    /// Not known yet, or not to be told yet: [`super::Connection::welcome`] or
    /// [`super::Connection::refuse`] will follow.
    Later,
    /// Out.
    Refused(Refusal),
}

/// The session that an authenticated connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Its id.
    pub session: SessionId,
    /// Whether it lived before.
    pub resumed: bool,
}

/// Why AUTH was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The ERROR's code; the connection ends whichever it is.
    pub code: ErrorCode,
    /// Milliseconds after which another try makes sense; 0: nothing is known.
    pub retry_after_ms: u32,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatched {
    /// The reply was appended to the output.
    Answered,
    /// An ERROR with this code was appended to the output.
    Failed(ErrorCode),
    /// [`super::Connection::answered`] or [`super::Connection::failed`] will follow.
    InFlight,
}

/// The world around a connection: sessions and services.
pub trait Host {
    /// Decides about AUTH.
    fn authenticate(&mut self, auth: AuthRequest<'_>) -> AuthVerdict;

    /// Serves a request, or sees to it that it will be served: a command from 0x11 up, its extensions
    /// free of unknown critical ones and of those that only a gateway sends. A reply or ERROR that is
    /// known at once is appended to `out`; a reply may only carry extensions if the request did.
    fn dispatch(&mut self, request: &Frame<'_>, out: &mut Vec<u8>) -> Dispatched;

    /// The client said BYE: forget its session, after what it asked of it before.
    fn end_session(&mut self);
}
