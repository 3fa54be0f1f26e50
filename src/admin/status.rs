//! Everything on one page of JSON, for a person, a script, and the live page.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::Control;
use super::{lasting, process};
use crate::build;
use crate::proto::{Command, ErrorCode};
use crate::stats::{
    Cause, DrainView, EndKind, Label, Latency, Overview, Phase, PoolView, WorkerStats, WorkerView, seconds,
};
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

/// `GET /status`. Counters only grow, from the start of the process; two looks give a rate.
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
    /// What the system says of the process.
    pub process: Process,
    /// Every counter of [`WorkerStats`], all workers added up.
    pub totals: BTreeMap<&'static str, u64>,
    /// The workers, in their order.
    pub workers: Vec<Worker>,
    /// Requests by command: those that were asked for.
    pub requests: Vec<Requests>,
    /// ERRORs that answered requests, by their code.
    pub errors: BTreeMap<&'static str, u64>,
    /// Connections that were turned away, by cause.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Connections whose client broke the protocol or fell silent, by cause.
    pub faults: BTreeMap<&'static str, u64>,
    /// Connections that were ended by force, by cause.
    pub cuts: BTreeMap<&'static str, u64>,
    /// How long the application's handlers took, all together.
    pub latency: Handled,
    /// The blocking pool.
    pub pool: Pool,
    /// The journal, where there is a data directory.
    pub journal: Option<lasting::Journal>,
    /// Where its messages go.
    pub routes: Vec<lasting::Route>,
    /// Where sessions outlive the process, if anywhere.
    pub session_store: Option<lasting::Store>,
    /// The drain, and the ledger that it will close with.
    pub drain: Drain,
}

/// Yes, or no and why not.
#[derive(Debug, Serialize)]
pub struct Check {
    /// Yes.
    pub ok: bool,
    /// Why not.
    pub why: Option<String>,
}

/// What the system says of the process; nothing where it does not tell.
#[derive(Debug, Serialize)]
pub struct Process {
    /// Memory that is in RAM. Bytes.
    pub rss_bytes: Option<u64>,
    /// Files open.
    pub open_fds: Option<u64>,
    /// Files that may be open; nothing if there is no limit.
    pub max_fds: Option<u64>,
    /// CPU time of all threads. Seconds.
    pub cpu_seconds: f64,
}

/// One worker.
#[derive(Debug, Serialize)]
pub struct Worker {
    /// Its number.
    pub worker: usize,
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// A thread runs it. One that has drained needs none.
    pub alive: bool,
    /// Milliseconds since its loop turned last. An idle worker sleeps for as long as nothing is due.
    pub last_tick_ms_ago: u64,
    /// Where it is in its drain: as [`Drain::phase`].
    pub phase: &'static str,
    /// Every counter of [`WorkerStats`].
    pub stats: BTreeMap<&'static str, u64>,
    /// Where its time went, by step: `poll` is waiting, the others are work.
    pub seconds: BTreeMap<&'static str, f64>,
}

/// What became of the requests of one command.
#[derive(Debug, Serialize)]
pub struct Requests {
    /// The command's number, as `0x10`.
    pub cmd: String,
    /// Its name; the application's own have none.
    pub name: Option<&'static str>,
    /// Requests that got a reply.
    pub answered: u64,
    /// Requests that got an ERROR.
    pub failed: u64,
}

/// A histogram of durations.
#[derive(Debug, Serialize)]
pub struct Handled {
    /// The buckets' upper bounds, seconds.
    pub bounds_s: Vec<f64>,
    /// In each bucket, not cumulative; the last one is for what is over every bound.
    pub counts: Vec<u64>,
    /// All durations added up, seconds.
    pub sum_s: f64,
    /// How many there were.
    pub count: u64,
}

/// The blocking pool.
#[derive(Debug, Serialize)]
pub struct Pool {
    /// Its threads.
    pub threads: usize,
    /// Those that serve a request.
    pub busy: usize,
    /// Requests that wait for a thread.
    pub queued: usize,
    /// Requests that may.
    pub queue: usize,
}

/// A drain, or that there is none.
#[derive(Debug, Serialize)]
pub struct Drain {
    /// `serving` (there is no drain), `announce`, `gate`, `notice`, `finish`, `flush` or `persist`: of the
    /// worker that is furthest behind.
    pub phase: &'static str,
    /// What asked for it: `signal:SIGTERM`, `admin`, `embedder`.
    pub reason: Option<String>,
    /// When it began, RFC 3339 in UTC.
    pub begun: Option<String>,
    /// Milliseconds since then.
    pub elapsed_ms: u64,
    /// Milliseconds until what is left is cut.
    pub left_ms: Option<u64>,
    /// Connections when it began.
    pub connections_at_begin: u64,
    /// Connections open now.
    pub connections_left: u64,
    /// Requests accepted and not yet answered.
    pub requests_in_flight: u64,
    /// How long each phase took that all workers have behind them: `announce_ms` and so on.
    pub phases: BTreeMap<String, u64>,
    /// The account as it stands.
    pub ledger: Account,
}

/// The ledger as it forms: `accepted = answered + failed + pending + cut + in_flight`.
#[derive(Debug, Default, Serialize)]
pub struct Account {
    /// Requests accepted, AUTH, PING and BYE included.
    pub accepted: u64,
    /// Requests answered with a reply.
    pub answered: u64,
    /// Requests answered with an ERROR.
    pub failed: u64,
    /// Requests that were ended without an answer, and whose message the journal keeps for the next start.
    pub pending: u64,
    /// Requests that were ended without an answer.
    pub cut: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections turned away in good order.
    pub refused: u64,
    /// Connections that a drain or a worker's panic ended by force.
    pub connections_cut: u64,
    /// Answers whose connection was gone, by the peer's doing, before they could be sent.
    pub undelivered: u64,
    /// Requests accepted and not yet answered.
    pub in_flight: u64,
    /// Every worker's own account adds up, as it found itself between two steps.
    pub balanced: bool,
}

impl Status {
    /// A server as it is now. Its workers are not stopped to be read.
    pub fn of(control: &dyn Control) -> Status {
        let (about, overview, all) = (control.about(), control.overview(), control.workers());
        // Before the counters: a ledger may lag behind them, and must not be ahead of itself.
        let ledger = Account::of(&all);
        let workers: Vec<Worker> = all
            .iter()
            .enumerate()
            .map(|(index, stats)| Worker::of(index, stats, overview.workers.get(index)))
            .collect();
        let mut totals = BTreeMap::new();
        for (name, value) in workers.iter().flat_map(|worker| &worker.stats) {
            *totals.entry(*name).or_default() += value;
        }
        let ends = |kind: EndKind| {
            let of_kind = Cause::ALL.iter().filter(|cause| cause.kind() == kind);
            of_kind.map(|cause| (cause.name(), all.iter().map(|stats| stats.closed.of(*cause).get()).sum())).collect()
        };
        let errors = <ErrorCode as Label>::ALL.iter();
        Status {
            service_id: control.service_id().to_owned(),
            version: build::VERSION,
            commit: build::COMMIT,
            features: build::FEATURES,
            pid: std::process::id(),
            started: rfc3339(about.started),
            now: rfc3339(SystemTime::now()),
            uptime_s: about.since.elapsed().as_millis() as f64 / 1000.0,
            listen: about.listen,
            ready: check(control.ready()),
            healthy: check(control.healthy()),
            process: Process::now(),
            requests: requests(&all),
            errors: errors
                .map(|code| (code.name(), all.iter().map(|stats| stats.errors.of(*code).get()).sum()))
                .collect(),
            refusals: ends(EndKind::Refused),
            faults: ends(EndKind::Error),
            cuts: ends(EndKind::Cut),
            latency: Handled::of(&overview),
            pool: Pool::of(overview.pool),
            journal: overview.journal.as_ref().map(lasting::Journal::of),
            routes: overview.routes.iter().map(lasting::Route::of).collect(),
            session_store: overview.store.as_ref().map(lasting::Store::of),
            drain: Drain::of(overview.drain.as_ref(), &totals, ledger),
            totals,
            workers,
        }
    }
}

impl Process {
    fn now() -> Process {
        let process::Process { rss_bytes, open_fds, max_fds, cpu_seconds, .. } = process::Process::now();
        Process { rss_bytes, open_fds, max_fds, cpu_seconds }
    }
}

impl Worker {
    fn of(index: usize, stats: &WorkerStats, view: Option<&WorkerView>) -> Worker {
        Worker {
            worker: index,
            cpu: view.and_then(|view| view.cpu),
            alive: view.is_some_and(|view| view.alive),
            last_tick_ms_ago: view.map_or(0, |view| millis(view.last_tick)),
            phase: view.map_or(Phase::Serving, |view| view.phase).name(),
            stats: stats.each().map(|(name, _, _, value)| (name, value)).collect(),
            seconds: stats.steps_ns.each().map(|(step, ns)| (step.name(), seconds(ns))).collect(),
        }
    }
}

fn requests(all: &[Arc<WorkerStats>]) -> Vec<Requests> {
    let of = |cmd: u8| {
        let cmd = Command(cmd);
        let outcomes = || all.iter().map(|stats| stats.requests.of(cmd));
        let answered = outcomes().map(|of| of.answered.get()).sum();
        let failed = outcomes().map(|of| of.failed.get()).sum();
        Requests { cmd: format!("0x{:02X}", cmd.0), name: cmd.name(), answered, failed }
    };
    (0..=u8::MAX).map(of).filter(|of| of.answered + of.failed > 0).collect()
}

impl Handled {
    fn of(overview: &Overview) -> Handled {
        let mut all = Latency::default();
        overview.handlers.iter().for_each(|handler| all.merge(&handler.latency));
        let (sum_s, count) = (all.sum_s(), all.count());
        Handled { bounds_s: Latency::bounds_s().collect(), counts: all.counts.to_vec(), sum_s, count }
    }
}

impl Pool {
    fn of(PoolView { threads, busy, queued, queue }: PoolView) -> Pool {
        Pool { threads, busy, queued, queue }
    }
}

impl Drain {
    fn of(view: Option<&DrainView>, totals: &BTreeMap<&'static str, u64>, ledger: Account) -> Drain {
        let elapsed = view.map(|view| view.elapsed);
        let begun = elapsed.and_then(|elapsed| SystemTime::now().checked_sub(elapsed));
        let phases = view.into_iter().flat_map(|view| &view.phases);
        Drain {
            phase: view.map_or(Phase::Serving, |view| view.phase).name(),
            reason: view.map(|view| view.reason.clone()),
            begun: begun.map(rfc3339),
            elapsed_ms: elapsed.map_or(0, millis),
            left_ms: view.map(|view| millis(view.left)),
            connections_at_begin: view.map_or(0, |view| view.connections_at_begin),
            connections_left: totals.get("connections_open").copied().unwrap_or(0),
            requests_in_flight: ledger.in_flight,
            phases: phases.map(|(phase, took)| (format!("{}_ms", phase.name()), millis(*took))).collect(),
            ledger,
        }
    }
}

impl Account {
    fn of(all: &[Arc<WorkerStats>]) -> Account {
        let mut account = Account { balanced: true, ..Account::default() };
        for stats in all {
            let (answered, failed, cut) = (stats.answered.get(), stats.failed.get(), stats.cut.get());
            // Read behind the others, it is not less than they are together.
            let accepted = stats.accepted.get();
            account.accepted += accepted;
            account.answered += answered;
            account.failed += failed;
            account.cut += cut;
            let kept = stats.kept.get();
            account.pending += kept;
            account.in_flight += accepted.saturating_sub(answered + failed + kept + cut);
            account.connections += stats.connections_accepted.get();
            account.refused += stats.connections_refused.get();
            account.connections_cut += stats.drain_cuts.get();
            account.undelivered += stats.undelivered.get();
            account.balanced &= stats.unbalanced.get() == 0;
        }
        account
    }
}

fn check(state: Result<(), String>) -> Check {
    Check { ok: state.is_ok(), why: state.err() }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
