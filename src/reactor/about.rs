//! Whom a log line is about.

use std::net::SocketAddr;

use super::hub::caller;
use super::tick::{Reactor, Slot};
use super::token::ConnToken;
use crate::hex::hex;
use crate::proto::Trace;
use crate::session::{Caller, Principal, log_name};

/// A connection, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub worker: u16,
    /// As `GET /connections` names it.
    pub connection: u64,
    /// By [`log_name`].
    pub session: Option<String>,
    pub principal: Option<Principal>,
    pub peer: Option<SocketAddr>,
}

/// Logs a line about a connection and a request of it: `about!(Error, about, trace, key = value; "text")`.
macro_rules! about {
    ($level:ident, $about:expr, $trace:expr $(, $key:ident = $value:expr)*; $($text:tt)+) => {
        if log::log_enabled!(log::Level::$level) {
            let (about, trace): (&$crate::reactor::about::About, Option<$crate::proto::Trace>) = (&$about, $trace);
            let (trace_id, span_id) = $crate::reactor::about::trace_ids(trace);
            log::log!(
                log::Level::$level,
                worker = about.worker,
                trace_id = trace_id.as_deref(),
                span_id = span_id.as_deref(),
                connection = about.connection,
                session = about.session.as_deref(),
                principal = about.principal.as_deref(),
                peer = about.peer.as_ref().map(log::kv::Value::from_display)
                $(, $key = $value)*;
                $($text)+
            );
        }
    };
}
pub(super) use about;

impl Reactor {
    /// The connection in a slot.
    pub(super) fn about(&self, token: ConnToken, slot: &Slot) -> About {
        let caller = caller(&self.hub.sessions, &self.hub.remotes, slot.session);
        About::new(self.hub.worker, token, caller).at(slot.transport.peer())
    }
}

impl About {
    pub fn new(worker: u16, token: ConnToken, caller: Option<Caller<'_>>) -> About {
        let (session, principal) = caller.map(|c| (log_name(&c.session()), c.principal().clone())).unzip();
        About { worker, connection: token.to_u64(), session, principal, peer: None }
    }

    pub fn at(self, peer: Option<SocketAddr>) -> About {
        About { peer, ..self }
    }
}

/// Trace-id and span-id as W3C trace context writes them.
pub(super) fn trace_ids(trace: Option<Trace>) -> (Option<String>, Option<String>) {
    trace.map(|trace| (hex(&trace.trace_id), hex(&trace.span_id))).unzip()
}
