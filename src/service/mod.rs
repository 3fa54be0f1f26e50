//! Who serves which command.
//!
//! A handler is a function of a [`Request`] and a [`Responder`]. It runs in place on the worker
//! ([`Place::Worker`]), where it must not block, or on the blocking pool
//! ([`Place::Pool`]). Either way it answers now, or keeps a [`Deferred`] and answers
//! later, from any thread.
//!
//! ```
//! use tidegate::proto::ErrorCode;
//! use tidegate::service::{Failure, Request, Responder};
//!
//! /// Adds two numbers.
//! fn add(request: &Request<'_>, responder: Responder<'_>) {
//!     match request.payload() {
//!         [a, b] => responder.reply(&(u16::from(*a) + u16::from(*b)).to_be_bytes()),
//!         _ => responder.fail(Failure::new(ErrorCode::BadRequest, "two bytes are wanted")),
//!     }
//! }
//! ```

mod pool;
mod request;
mod responder;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

pub(crate) use pool::{Job, Pool, PoolSender};
pub(crate) use request::Context;
pub use request::{CutFlag, OwnedRequest, Request};
pub(crate) use responder::{AnswerSink, Defer, InPlaceOutcome, Outcome, ReplyTo};
pub use responder::{Deferred, Failure, PendingKey, Responder};

use crate::proto::Command;

/// Serves requests. Any `Fn(&Request<'_>, Responder<'_>)` that threads can share is one.
pub trait Handler: Send + Sync + 'static {
    /// Serves one request.
    fn handle(&self, request: &Request<'_>, responder: Responder<'_>);
}

impl<F: Fn(&Request<'_>, Responder<'_>) + Send + Sync + 'static> Handler for F {
    fn handle(&self, request: &Request<'_>, responder: Responder<'_>) {
        self(request, responder);
    }
}

/// Where a handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the worker that received the request. It must not block: the whole core waits for it.
    Worker,
    /// On the blocking pool.
    Pool,
}

/// A command that can't be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// 0x00–0x1F are the protocol's own.
    Reserved(Command),
    /// It has a handler already.
    Taken(Command),
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteError::Reserved(cmd) => {
                write!(f, "{cmd} can't be routed: 0x00-0x1F are the protocol's own; take one from 0x20 to 0xFF")
            }
            RouteError::Taken(cmd) => write!(f, "{cmd} has two handlers: route each command once"),
        }
    }
}

impl std::error::Error for RouteError {}

/// The requests that the server answers by itself.
pub const BUILT_IN: [Command; 8] = [
    Command::AUTH,
    Command::PING,
    Command::BYE,
    Command::ECHO,
    Command::SESSION_GET,
    Command::SESSION_PUT,
    Command::SESSION_DELETE,
    Command::SUBMIT,
];

/// The application's commands and their handlers.
#[derive(Default)]
pub struct Router {
    routes: Vec<Option<Route>>,
    /// Routed commands in the order in which they were added.
    order: Vec<(Command, Place)>,
}

pub(crate) struct Route {
    pub place: Place,
    pub handler: Arc<dyn Handler>,
    /// Its place in the order of routes.
    pub index: usize,
}

impl Router {
    /// No routes.
    pub fn new() -> Router {
        Router::default()
    }

    /// Routes a command, 0x20 to 0xFF, to a handler.
    pub fn add(&mut self, cmd: Command, place: Place, handler: Arc<dyn Handler>) -> Result<(), RouteError> {
        if !cmd.is_application() {
            return Err(RouteError::Reserved(cmd));
        }
        if self.routes.is_empty() {
            self.routes.resize_with(256, || None);
        }
        let route = &mut self.routes[usize::from(cmd.0)];
        if route.is_some() {
            return Err(RouteError::Taken(cmd));
        }
        *route = Some(Route { place, handler, index: self.order.len() });
        self.order.push((cmd, place));
        Ok(())
    }

    /// Every command that is routed, and where its handler runs, in the order in which they were added.
    pub fn routes(&self) -> &[(Command, Place)] {
        &self.order
    }

    pub(crate) fn find(&self, cmd: Command) -> Option<&Route> {
        self.routes.get(usize::from(cmd.0))?.as_ref()
    }
}

/// What a panic has to say.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.order.iter().map(|(cmd, _)| cmd)).finish()
    }
}
