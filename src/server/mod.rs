//! CONTROL: the supervisor and its workers, from start to the ledger.
//!
//! ```no_run
//! use tidegate::server::Server;
//!
//! let server = Server::builder()
//!     .route(0x20, |request, responder| responder.reply(request.payload()))
//!     .route_blocking(0x21, |request, responder| {
//!         let text = std::fs::read(String::from_utf8_lossy(request.payload()).as_ref());
//!         responder.reply(&text.unwrap_or_default());
//!     })
//!     .start()?;
//! server.drain();
//! let ended = server.wait();
//! assert!(ended.ledger.balanced());
//! # Ok::<(), tidegate::server::StartError>(())
//! ```

mod assembly;
pub mod audit;
mod bind;
mod builder;
mod drain;
mod inherited;
pub mod ledger;
mod operator;
mod overview;
mod plan;
mod records;
mod reload;
mod start;
mod stores;
mod supervisor;
mod systemd;
mod watch;
mod worker;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub use audit::{AuditError, AuditLog};
pub use builder::{Builder, StartError};
pub use ledger::{Cut, JournalAccount, Ledger, PhaseDurations};

pub use crate::reactor::{ConnectionInfo, Connections, Disconnected, Inquiry, ListPart, ListQuery};

use crate::proto::{Command, SessionId};
use crate::reactor::{Letter, LiveCell, Mailbox};
use crate::service::{Place, PoolSender};
use crate::session::IdKey;
use crate::stats::{Overview, WorkerStats};
use crossbeam_channel::Sender;
use plan::Drain;
use worker::Report;

/// A running server. Several may live in one process.
///
/// Dropped, it is drained and waited for.
pub struct Server {
    shared: Arc<Shared>,
    supervisor: Option<JoinHandle<Ended>>,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// How a server ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The account of everything that it accepted.
    pub ledger: Ledger,
    /// What ended it: `signal:SIGTERM`, `signal:SIGINT`, `admin`, `embedder` or `failure`.
    pub reason: String,
}

impl Ended {
    /// What a process should exit with: 0 clean, 1 failed, 3 something was cut.
    pub fn exit_code(&self) -> u8 {
        match self.ledger.exit_code() {
            0 if self.reason == "failure" => 1,
            code => code,
        }
    }
}

/// What the server's threads and its owner share.
pub(crate) struct Shared {
    drain: Arc<Drain>,
    mailboxes: Vec<Arc<Mailbox>>,
    stats: Vec<Arc<WorkerStats>>,
    lost: Vec<AtomicBool>,
    ids: IdKey,
    reports: Sender<Report>,
    pool: PoolSender,
    /// The application's commands, in the order in which they were routed.
    routes: Vec<(Command, Place)>,
    live: Arc<LiveCell>,
    records: records::Views,
    session_stores: stores::SessionStores,
    #[cfg(feature = "admin")]
    service_id: String,
    #[cfg(feature = "admin")]
    about: crate::admin::status::About,
}

impl Server {
    /// A server to be configured.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens, in the order of [`crate::config::Config::listen`], with the ports that the
    /// system chose.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The admin port, if it has one.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Each worker's counters.
    pub fn stats(&self) -> &[Arc<WorkerStats>] {
        &self.shared.stats
    }

    /// Where everything stands: workers, drain, pool, handlers, settings.
    pub fn overview(&self) -> Overview {
        self.shared.overview()
    }

    /// Whether every worker is served and turns its loop; otherwise which does not, and why.
    ///
    /// # Errors
    /// What is to be cured by a restart, for a person.
    pub fn healthy(&self) -> Result<(), String> {
        self.shared.health()
    }

    /// Begins the drain, as SIGTERM does. Returns at once; asking again changes nothing.
    pub fn drain(&self) {
        self.shared.drain.begin("embedder", false);
    }

    /// Reads settings, tokens and keys again, as SIGHUP does. Returns at once; what has changed, or is
    /// wrong, is told by the log and the audit log.
    pub fn reload(&self) {
        self.shared.reload("embedder");
    }

    /// Cuts what is left, as a second signal does. Begins the drain if it has not begun.
    pub fn cut(&self) {
        self.shared.drain.begin("embedder", true);
        self.shared.drain.cut_now();
    }

    /// The connections of `principal`, or all, at most `limit`. Waits at most `timeout` for the workers,
    /// which look through their connections in slices and serve on meanwhile.
    pub fn connections(&self, principal: Option<&str>, limit: usize, timeout: Duration) -> Connections {
        let mut inquiry = self.shared.list(ListQuery::new(principal.map(str::to_owned), limit), None);
        inquiry.wait(timeout);
        Connections::of(inquiry)
    }

    /// Tells the connection of a session to go: it gets GOAWAY with reason `operator`, what it has
    /// asked is answered, and it is closed. The session lives on for its time to live. `None`: there
    /// is no such connection, or its worker did not answer within `timeout`.
    pub fn disconnect(&self, session: &SessionId, timeout: Duration) -> Option<Disconnected> {
        let mut inquiry = self.shared.disconnect(*session, None);
        inquiry.wait(timeout);
        let (worker, gone) = inquiry.finish().0.pop()?;
        let gone = gone?;
        if !gone.was_leaving {
            self.shared.record_disconnect(worker, &gone, "embedder");
        }
        Some(gone)
    }

    /// Waits until a drain, whoever begins it, is over.
    pub fn wait(mut self) -> Ended {
        match self.supervisor.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            _ => {
                log::error!("the supervisor panicked: there is no ledger; this is a fault of tidegate");
                Ended { ledger: Ledger::default(), reason: "failure".to_owned() }
            }
        }
    }

    /// Makes a worker panic, for tests of what follows.
    #[doc(hidden)]
    pub fn panic_worker(&self, index: usize) {
        if let Some(mailbox) = self.shared.mailboxes.get(index)
            && mailbox.send(Letter::Panic).is_err()
        {
            log::error!(worker = index; "the mailbox of worker {index} is full");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            self.drain();
            if supervisor.join().is_err() {
                log::error!("the supervisor panicked: there is no ledger; this is a fault of tidegate");
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Shared {
    fn reload(&self, reason: &str) {
        // The supervisor has ended: nothing is left that could change.
        let _ = self.reports.send(Report::Reload(reason.to_owned()));
    }

    /// A worker will not come back.
    fn worker_is_lost(&self, index: usize) {
        if let Some(lost) = self.lost.get(index) {
            lost.store(true, Ordering::Release);
        }
    }

    /// All workers' books, added up. What a missing worker has in flight is cut with it.
    fn ledger(&self, missing: &[usize]) -> Ledger {
        let mut ledger = Ledger::default();
        for (index, stats) in self.stats.iter().enumerate() {
            let (answered, failed, cut) = (stats.answered.get(), stats.failed.get(), stats.cut.get());
            let accepted = stats.accepted.get();
            ledger.accepted += accepted;
            ledger.answered += answered;
            ledger.failed += failed;
            ledger.cut += cut;
            ledger.pending += stats.kept.get();
            ledger.connections += stats.connections_accepted.get();
            ledger.refused += stats.connections_refused.get();
            ledger.connections_cut += stats.drain_cuts.get();
            ledger.undelivered += stats.undelivered.get();
            ledger.bytes_unacked += stats.bytes_unacked.get();
            if missing.contains(&index) {
                // Also the request whose handler it hangs in, which is not among those in flight.
                ledger.cut += accepted.saturating_sub(answered + failed + cut + stats.kept.get());
                ledger.connections_cut += stats.connections_open.get();
            }
        }
        ledger
    }
}

#[cfg(feature = "admin")]
impl crate::admin::Control for Shared {
    fn ready(&self) -> Result<(), String> {
        match self.drain.plan() {
            None => self.welcome(),
            Some(plan) => Err(format!("draining since {} ms ({})", plan.begun.elapsed().as_millis(), plan.reason)),
        }
    }

    fn healthy(&self) -> Result<(), String> {
        self.health()
    }

    fn drain(&self) {
        self.drain.begin("admin", false);
    }

    fn reload(&self) {
        Shared::reload(self, "admin");
    }

    fn workers(&self) -> Vec<Arc<WorkerStats>> {
        self.stats.clone()
    }

    fn overview(&self) -> Overview {
        Shared::overview(self)
    }

    fn service_id(&self) -> &str {
        &self.service_id
    }

    fn about(&self) -> crate::admin::status::About {
        self.about.clone()
    }

    fn list(&self, principal: Option<String>, limit: usize, waker: &Arc<mio::Waker>) -> Inquiry<ListPart> {
        self.list(ListQuery::new(principal, limit), Some(Arc::clone(waker)))
    }

    fn disconnect(&self, session: SessionId, waker: &Arc<mio::Waker>) -> Inquiry<Option<Disconnected>> {
        self.disconnect(session, Some(Arc::clone(waker)))
    }

    fn disconnected(&self, worker: u16, gone: &Disconnected, by: SocketAddr) {
        self.record_disconnect(worker, gone, &by.to_string());
    }
}
