//! The admin port: health, readiness, metrics and drain over HTTP, on a thread of its own.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200 `ok`, or 503 and why |
//! | `GET /readyz` | 200 `ready`, or 503 and why |
//! | `GET /metrics` | every worker's counters in OpenMetrics text |
//! | `POST /drain` | 202, and the drain begins |
//!
//! It asks nobody who they are: its address is its protection. A request that a browser sends on
//! behalf of a web page is not taken for an operator's.

mod client;
mod http;
mod metrics;
mod routes;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

pub use http::AdminHandle;

use crate::stats::WorkerStats;

/// What the admin port shows and moves. Called from its thread, one call at a time: a call that takes long keeps the other clients waiting.
pub trait Control: Send + Sync {
    /// New connections are welcome; otherwise why not.
    fn ready(&self) -> Result<(), String>;
    /// The process works; otherwise what does not, and is to be cured by a restart.
    fn healthy(&self) -> Result<(), String>;
    /// Begins the drain. Returns at once, and may be called again.
    fn drain(&self);
    /// Every worker's counters, in the workers' order.
    fn workers(&self) -> Vec<Arc<WorkerStats>>;
    /// `TIDEGATE_SERVICE_ID`.
    fn service_id(&self) -> &str;
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

    /// Serves `control` until the handle is stopped or dropped.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn(self, control: Arc<dyn Control>) -> Result<AdminHandle, AdminError> {
        let address = self.local_addr();
        self.inner.spawn(control).map_err(|source| AdminError { address, source })
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
