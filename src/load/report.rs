//! What a run found: the one value that the table, `--json` and `--html` are made from.

use serde::{Deserialize, Serialize};

/// A whole run. Times are milliseconds since the run began unless the name says otherwise, latencies
/// nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Of tidegate, the generator.
    pub version: String,
    /// `echo`, `rate`, `connect`, `hold` or `mix`.
    pub shape: String,
    /// The server, as it was given.
    pub address: String,
    /// When the run began: RFC 3339, UTC.
    pub started: String,
    /// The settings that shaped it, name and value, in the order to be shown.
    pub settings: Vec<(String, String)>,
    /// Connections that were asked for and not READY when the load began: it began without them.
    pub missing: u64,
    /// Length of the measured part, without connecting and settling.
    pub duration_ms: u64,
    /// Replies a second over the measured part; of `connect`: connections a second.
    pub rate: f64,
    /// Every request has one fate.
    pub account: Account,
    /// Latency of requests, from the intended send in `rate`; `None` where nothing was answered.
    pub latency: Option<Latency>,
    /// Latency from connect to READY.
    pub connect: Option<Latency>,
    /// One point for each interval, in order of time.
    pub timeline: Vec<Point>,
    /// What happened in between, in order of time.
    pub events: Vec<Event>,
    /// What went wrong, and how often, most often first; bounded.
    pub errors: Vec<(String, u64)>,
    /// The generator's own effort.
    pub generator: Generator,
    /// With `--ledger`.
    pub ledger: Option<LedgerCheck>,
}

/// Where each request went: `sent = answered + failed + safe + retried + unknown + lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Requests sent, AUTH and BYE among them.
    pub sent: u64,
    /// Got the right reply.
    pub answered: u64,
    /// Got an ERROR that says nothing of a retry.
    pub failed: u64,
    /// Were not processed, and the server said so: beyond the last `seq` of a final GOAWAY, or
    /// DRAINING, OVERLOADED, RATE_LIMITED. Sent again elsewhere, they count again.
    pub safe: u64,
    /// With `--retry`: their connection ended without a word, or they were UNAVAILABLE; idempotent, or with an
    /// idempotency key, they were sent again, and count again.
    #[serde(default)]
    pub retried: u64,
    /// Their connection ended without a word: processed or not, nobody can say.
    pub unknown: u64,
    /// The server said that it had accepted them, and never answered.
    pub lost: u64,
    /// Replies with the wrong seq, command or payload. Not a fate of its own: such a request is also lost.
    pub wrong: u64,
    /// Answered SUBMITs that were stored by an earlier try: among `answered`.
    #[serde(default)]
    pub duplicates: u64,
    /// With `--retry`: values whose SESSION_PUT was answered and whose session was not resumed after a loss of the
    /// connection.
    #[serde(default)]
    pub forgotten: u64,
    /// Connections that became READY.
    pub connections: u64,
    /// Connections closed by reset, or without the announced end.
    pub broken: u64,
    /// Connections that were refused, or failed to open.
    pub refused: u64,
    /// Heartbeats (PING from the server) answered.
    pub heartbeats: u64,
}

/// A latency distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were recorded.
    pub count: u64,
    /// The least, ns.
    pub min: u64,
    /// The mean, ns.
    pub mean: f64,
    /// The greatest, ns.
    pub max: u64,
    /// Percentile (0 to 100), latency in ns, and how many were recorded up to it: ascending, in steps
    /// that halve the distance to 100 as HdrHistogram's do, the last at 100.
    pub percentiles: Vec<(f64, u64, u64)>,
}

/// One interval of the timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The interval's end.
    pub at_ms: u64,
    /// Its length.
    pub length_ms: u64,
    /// Requests answered in it.
    pub answered: u64,
    /// Requests that were not, for whatever reason, and connections that failed.
    pub errors: u64,
    /// Connections open and READY at its end.
    pub connections: u64,
    /// Median latency in it, ns; 0: nothing was answered.
    pub p50: u64,
    /// 99th percentile, ns.
    pub p99: u64,
    /// The greatest, ns.
    pub max: u64,
}

/// Something that happened during the run: `drain` (a GOAWAY of stage 0 was seen), `final`, `restart`
/// (connections are let in again), `lost connection`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was first seen.
    pub at_ms: u64,
    /// A word for the mark in the picture.
    pub kind: String,
    /// A sentence for the table.
    pub text: String,
}

/// What the generator itself needed: where it is saturated, the figures are its own and not the server's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Processes that made the load.
    pub processes: u64,
    /// CPU time of all of them over the measured part, user and system, ms.
    pub cpu_ms: u64,
    /// Of the busiest process: the share of the measured part in which it was running, 0 to 1.
    pub busiest: f64,
    /// `rate` only: the greatest delay between an intended send and the real one, ns.
    pub latest: u64,
    /// Why the figures are the generator's; `None`: they are the server's.
    pub saturated: Option<String>,
}

/// The clients' account beside the server's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCheck {
    /// The ledger lines compared, summed: accepted, answered, failed, cut, undelivered.
    pub ledgers: u64,
    /// By the server(s).
    pub accepted: u64,
    /// By the server(s).
    pub answered: u64,
    /// By the server(s).
    pub failed: u64,
    /// By the server(s).
    pub cut: u64,
    /// By the server(s).
    pub undelivered: u64,
    /// One sentence for each thing that does not agree; empty: they agree.
    pub differences: Vec<String>,
}
