//! The admin port: what an operator sees and does, over HTTP, on a thread of its own.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | a live page for a browser, which shows `/status` |
//! | `GET /healthz` | 200 `ok`, or 503 and why: a restart is wanted |
//! | `GET /readyz` | 200 `ready`, or 503 and why |
//! | `GET /metrics` | every worker's counters in OpenMetrics text |
//! | `GET /status` | everything on one page of JSON: [`status::Status`] |
//! | `GET /connections?principal=P&limit=N` | a list of connections, of all principals or one, 100 or up to 10,000 |
//! | `POST /disconnect/SESSION` | 202, and the session's connection gets GOAWAY `operator`; 404: there is none |
//! | `POST /reload` | 202, and settings, tokens and keys are read again |
//! | `POST /drain` | 202, and the drain begins |
//!
//! Health, readiness and metrics are for everybody who can connect. The rest is for the operator: on a
//! loopback address that is everybody on this machine, unless there is a token ([`AdminToken`]); on
//! other addresses it is the token's bearer, and nobody without a token. A request that a browser
//! sends on behalf of a web page is not taken for an operator's.

mod access;
mod client;
mod families;
mod http;
pub mod lasting;
mod later;
mod metrics;
mod page;
mod process;
mod query;
mod records;
mod routes;
pub mod status;
mod token;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::Waker;

pub use http::AdminHandle;
pub use token::{AdminToken, AdminTokenError};

use crate::proto::SessionId;
use crate::reactor::{Disconnected, Inquiry, ListPart};
use crate::stats::{Overview, WorkerStats};

/// What the admin port shows and moves. Called from its thread, one call at a time: a call that takes long keeps the other clients waiting.
pub trait Control: Send + Sync {
    /// New connections are welcome; otherwise why not.
    fn ready(&self) -> Result<(), String>;
    /// The process works; otherwise what does not, and is to be cured by a restart.
    fn healthy(&self) -> Result<(), String>;
    /// Reads settings and secrets again. Returns at once.
    fn reload(&self);
    /// Begins the drain. Returns at once, and may be called again.
    fn drain(&self);
    /// Every worker's counters, in the workers' order.
    fn workers(&self) -> Vec<Arc<WorkerStats>>;
    /// Where everything else stands: workers, drain, pool, handlers, settings.
    fn overview(&self) -> Overview;
    /// `TIDEGATE_SERVICE_ID`.
    fn service_id(&self) -> &str;
    /// What does not change while it runs.
    fn about(&self) -> status::About;
    /// Asks the workers for at most `limit` connections, of one principal or of all. Returns at once;
    /// `waker` is woken with each answer.
    fn list(&self, principal: Option<String>, limit: usize, waker: &Arc<Waker>) -> Inquiry<ListPart>;
    /// Has the connection of a session told to go. Returns at once; `waker` is woken with the answer.
    fn disconnect(&self, session: SessionId, waker: &Arc<Waker>) -> Inquiry<Option<Disconnected>>;
    /// Records who had a connection told to go.
    fn disconnected(&self, worker: u16, gone: &Disconnected, by: SocketAddr);
}

/// The admin port, bound and not yet served.
pub struct Admin {
    inner: http::Bound,
}

impl Admin {
    /// Binds `address`, so that failing to comes before anything is served. Port 0 lets the system choose.
    ///
    /// # Errors
    /// The address can't be bound.
    pub fn bind(address: SocketAddr) -> Result<Admin, AdminError> {
        match http::Bound::bind(address) {
            Ok(inner) => Ok(Admin { inner }),
            Err(source) => Err(AdminError { address, source }),
        }
    }

    /// Where it listens, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    /// Serves `control` to the bearer of `token` until the handle is stopped or dropped.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn(self, control: Arc<dyn Control>, token: Arc<AdminToken>) -> Result<AdminHandle, AdminError> {
        let address = self.local_addr();
        self.inner.spawn(control, token).map_err(|source| AdminError { address, source })
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Admin({})", self.local_addr())
    }
}

/// The admin port can't be served.
#[derive(Debug)]
pub struct AdminError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot serve the admin port on {}: {}; see TIDEGATE_ADMIN", self.address, self.source)
    }
}

impl std::error::Error for AdminError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
