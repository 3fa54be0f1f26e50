//! Everything on one page of JSON, for a person, a script, and the live page.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::Control;
use crate::build;
use crate::time::rfc3339;

/// What does not change while a server runs.
#[derive(Clone, Debug)]
pub struct About {
    /// Where it listens, with the ports that the system chose.
    pub listen: Vec<SocketAddr>,
    /// When it started, by the wall clock.
    pub started: SystemTime,
    /// When it started.
    pub since: Instant,
}

/// `GET /status`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// `TIDEGATE_SERVICE_ID`.
    pub service_id: String,
    /// tidegate's version.
    pub version: &'static str,
    /// The commit that it was built from.
    pub commit: &'static str,
    /// The cargo features that it was built with.
    pub features: &'static [&'static str],
    /// The process.
    pub pid: u32,
    /// When it started, RFC 3339 in UTC.
    pub started: String,
    /// When this was written, RFC 3339 in UTC.
    pub now: String,
    /// Seconds between the two, by a clock that is never set.
    pub uptime_s: f64,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Whether new connections are welcome: `GET /readyz`.
    pub ready: Check,
    /// Whether it works: `GET /healthz`.
    pub healthy: Check,
    /// Every counter of [`crate::stats::WorkerStats`], all workers added up.
    pub totals: BTreeMap<&'static str, u64>,
    /// The workers, in their order.
    pub workers: Vec<Worker>,
}

/// Yes, or no and why not.
#[derive(Debug, Serialize)]
pub struct Check {
    /// Yes.
    pub ok: bool,
    /// Why not.
    pub why: Option<String>,
}

/// One worker.
#[derive(Debug, Serialize)]
pub struct Worker {
    /// Its number.
    pub worker: usize,
    /// Every counter of [`crate::stats::WorkerStats`].
    pub stats: BTreeMap<&'static str, u64>,
}

impl Status {
    /// A server as it is now. Its workers are not stopped to be read.
    pub fn of(control: &dyn Control) -> Status {
        let about = control.about();
        let workers: Vec<Worker> = control
            .workers()
            .iter()
            .enumerate()
            .map(|(index, stats)| Worker {
                worker: index,
                stats: stats.each().map(|(name, _, _, value)| (name, value)).collect(),
            })
            .collect();
        let mut totals = BTreeMap::new();
        for (name, value) in workers.iter().flat_map(|worker| &worker.stats) {
            *totals.entry(*name).or_default() += value;
        }
        Status {
            service_id: control.service_id().to_owned(),
            version: build::VERSION,
            commit: build::COMMIT,
            features: build::FEATURES,
            pid: std::process::id(),
            started: rfc3339(about.started),
            now: rfc3339(SystemTime::now()),
            uptime_s: rounded(about.since.elapsed()),
            listen: about.listen,
            ready: check(control.ready()),
            healthy: check(control.healthy()),
            totals,
            workers,
        }
    }
}

fn check(state: Result<(), String>) -> Check {
    Check { ok: state.is_ok(), why: state.err() }
}

/// Seconds, to the millisecond.
fn rounded(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}
