//! A worker's counters: written by that worker alone, read by whoever wants to see.

mod histogram;
mod labels;
mod overview;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub use histogram::{BOUNDS_NS, Histogram, Latency, seconds};
pub use labels::{Cause, EndKind, Family, Label, Phase, Step};
pub use overview::{
    DrainView, HandlerView, JournalState, JournalView, Overview, PoolView, RouteView, SettingView, StoreView,
    WorkerView,
};

use crate::proto::{Command, ErrorCode};

/// A number with one writer. An increment is a load and a store, not a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the thread that owns the counter may call this.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Subtracts `n`. Only the thread that owns the counter may call this.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// Sets a gauge. Only the thread that owns the counter may call this.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The number now. Any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident: $kind:ident, $help:literal;)*) => {
        /// One worker's counters. `accepted = answered + failed + kept + cut + in_flight`, at every moment
        /// between two steps of the worker: the ledger's law. And every connection ends once:
        /// `connections_accepted = connections_open + closed`.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct WorkerStats {
            $($(#[$doc])* #[doc = $help] pub $name: Counter,)*
            /// Requests by command and outcome.
            pub requests: Requests,
            /// ERRORs that answered requests, by their code.
            pub errors: Family<ErrorCode, { ErrorCode::ALL.len() }>,
            /// Connections that have ended, by cause.
            pub closed: Family<Cause, { <Cause as Label>::ALL.len() }>,
            /// Where the worker's time went. Nanoseconds.
            pub steps_ns: Family<Step, { <Step as Label>::ALL.len() }>,
            /// How long each tick worked, from the poll's return to the next poll.
            pub ticks_took: Histogram,
            /// CPU time of the worker's thread, taken about once a second. Nanoseconds.
            pub cpu_ns: Counter,
            /// From dispatch to answer, for each of the router's handlers in the order of their routes.
            pub handlers: Vec<Histogram>,
            /// Its drain.
            pub drain: DrainProgress,
            /// Its clock, and its last tick by that.
            pub pulse: Pulse,
        }

        impl WorkerStats {
            /// Every plain number with its name, kind and help, for the metrics page.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, StatKind, &'static str, u64)> + '_ {
                [$((stringify!($name), StatKind::$kind, $help, self.$name.get())),*].into_iter().chain(self.derived())
            }
        }
    };
}

/// What kind of number a stat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

stats! {
    connections_accepted: Counter, "Connections accepted from the kernel.";
    connections_refused: Counter, "Connections turned away: over the core's limit, or not ready when a drain gave notice.";
    connections_open: Gauge, "Connections open now.";
    connections_cut: Counter, "Connections ended by force: slow consumers, those that memory ran out for, and what a drain cut.";
    drain_cuts: Counter, "Connections that a drain or a worker's panic cut.";
    connections_reset: Counter, "Connections that the server ended with a reset.";
    connections_lost: Counter, "Connections that the peer or the network ended with an error.";
    accepting_paused: Gauge, "1 while accepting pauses for want of descriptors, memory or room.";
    accept_pauses: Counter, "Times that accepting paused for want of descriptors or memory.";
    accepted: Counter, "Requests accepted, AUTH, PING and BYE included.";
    answered: Counter, "Requests answered with a reply.";
    failed: Counter, "Requests answered with an ERROR.";
    cut: Counter, "Requests that a drain, a second signal or a worker's panic ended without an answer.";
    kept: Counter, "Requests that a drain ended without an answer while their message waits in the journal for its delivery.";
    in_flight: Gauge, "Requests accepted and not yet answered.";
    undelivered: Counter, "Answers whose connection was gone, by the peer's doing, before they could be sent.";
    auth_failures: Counter, "AUTH refused because of its token.";
    auth_slowed: Counter, "Of those, answers that were put off because their source had failed before.";
    auth_refused_unchecked: Counter, "AUTH refused with its token not looked at, because its source had failed too often.";
    auth_expired: Counter, "Connections that were told to go because their token had expired.";
    overloaded: Counter, "Requests refused with OVERLOADED.";
    responders_dropped: Counter, "Handlers that dropped their responder without an answer.";
    handler_panics: Counter, "Handlers that panicked.";
    frames_in: Counter, "Frames received.";
    bytes_in: Counter, "Bytes received.";
    bytes_out: Counter, "Bytes that the kernel took to send.";
    bytes_unacked: Counter, "Bytes not acknowledged by the peer when a drain closed its connection.";
    pings_out: Counter, "Heartbeats sent.";
    notices_out: Counter, "GOAWAYs, and ERRORs about the connection, sent.";
    sessions: Gauge, "Sessions alive, connected or not.";
    sessions_resumed: Counter, "Sessions resumed.";
    sessions_expired: Counter, "Sessions whose time to live ran out.";
    mailbox_refused: Counter, "Messages that a full mailbox did not take at once.";
    worker_panics: Counter, "Times that this worker panicked and was started anew.";
    ticks: Counter, "Turns of the worker's loop.";
    run_queue: Gauge, "Connections with more to read than their turn allowed, that wait for the next.";
    pending: Gauge, "Requests in the table of those that wait for an answer from elsewhere.";
    outbox: Gauge, "Letters to other workers that wait for room in a mailbox.";
    outbound_bytes: Gauge, "Bytes that wait until a socket takes them.";
    buffer_bytes: Gauge, "Memory of the buffers that hold unfinished frames and unsent output.";
    unbalanced: Gauge, "Requests by which the worker's account does not add up; more than 0 is a fault of tidegate.";
}

impl WorkerStats {
    /// Counters of a worker that serves this many routes.
    pub fn for_routes(routes: usize) -> WorkerStats {
        WorkerStats { handlers: (0..routes).map(|_| Histogram::default()).collect(), ..WorkerStats::default() }
    }

    /// Counts requests that got their reply.
    #[inline]
    pub fn count_answered(&self, cmd: Command, n: u64) {
        self.answered.add(n);
        self.requests.of(cmd).answered.add(n);
    }

    /// Counts a request that got an ERROR with this code.
    #[inline]
    pub fn count_failed(&self, cmd: Command, code: ErrorCode) {
        self.failed.add(1);
        self.requests.of(cmd).failed.add(1);
        self.errors.of(code).add(1);
    }

    /// Frames made to be sent: replies, ERRORs, heartbeats and GOAWAYs.
    pub fn frames_out(&self) -> u64 {
        let (answered, failed) = self.requests.sum();
        answered + failed + self.pings_out.get() + self.notices_out.get()
    }

    /// Writes into [`WorkerStats::unbalanced`] whether the ledger's law holds. Only between two steps of
    /// the worker.
    pub fn check_balance(&self) {
        let told = self.answered.get() + self.failed.get() + self.kept.get() + self.cut.get() + self.in_flight.get();
        self.unbalanced.set(self.accepted.get().abs_diff(told));
    }

    /// What is counted elsewhere, and needs no counter of its own.
    fn derived(&self) -> impl Iterator<Item = (&'static str, StatKind, &'static str, u64)> {
        let help = "Frames made to be sent: replies, ERRORs, heartbeats and GOAWAYs.";
        [("frames_out", StatKind::Counter, help, self.frames_out())].into_iter()
    }
}

/// Requests by command and outcome. Each is counted once, when its answer is made; what becomes of
/// the answer after that changes nothing here.
#[derive(Debug)]
pub struct Requests([Outcomes; 256]);

/// What became of the requests of one command.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// They got a reply.
    pub answered: Counter,
    /// They got an ERROR.
    pub failed: Counter,
}

impl Requests {
    /// The requests of one command.
    #[inline]
    pub fn of(&self, cmd: Command) -> &Outcomes {
        &self.0[usize::from(cmd.0)]
    }

    /// Answered and failed, all commands together.
    pub fn sum(&self) -> (u64, u64) {
        self.0.iter().fold((0, 0), |(a, f), o| (a + o.answered.get(), f + o.failed.get()))
    }
}

impl Default for Requests {
    fn default() -> Requests {
        Requests(std::array::from_fn(|_| Outcomes::default()))
    }
}

/// How far a worker is in its drain.
#[derive(Debug, Default)]
pub struct DrainProgress {
    /// The [`Phase`], by its index.
    phase: Counter,
    /// Connections when it began.
    pub connections_at_begin: Counter,
    /// When each phase from announce to flush ended: milliseconds after the drain began, by the phase's
    /// index.
    pub ended_ms: [Counter; 6],
}

impl DrainProgress {
    /// The worker is in this phase from here on.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase.index() as u64);
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        Phase::ALL.get(self.phase.get() as usize).copied().unwrap_or(Phase::Persist)
    }
}

/// A worker's signs of life.
#[derive(Debug)]
pub struct Pulse {
    /// When the worker's clock began.
    pub epoch: Instant,
    /// Whether a thread runs the worker.
    running: Counter,
    /// The last tick, milliseconds after `epoch`.
    last_tick_ms: Counter,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse { epoch: Instant::now(), running: Counter::default(), last_tick_ms: Counter::default() }
    }
}

impl Pulse {
    /// The worker has a tick now, by its clock.
    #[inline]
    pub fn beat(&self, since_epoch: Duration) {
        self.last_tick_ms.set(since_epoch.as_secs() * 1_000 + u64::from(since_epoch.subsec_millis()));
    }

    /// A thread runs the worker from here on, or no longer.
    pub fn set_running(&self, running: bool) {
        self.running.set(running.into());
    }

    /// Whether a thread runs the worker. A worker that has drained has none, and neither has one that
    /// rests after a panic.
    pub fn is_running(&self) -> bool {
        self.running.get() != 0
    }

    /// How long ago the worker's last tick began.
    pub fn age(&self) -> Duration {
        self.epoch.elapsed().saturating_sub(Duration::from_millis(self.last_tick_ms.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stat_is_listed_once_with_its_value() {
        let stats = WorkerStats::default();
        stats.accepted.add(3);
        stats.connections_open.add(5);
        stats.connections_open.sub(2);
        let all: Vec<_> = stats.each().collect();
        let find = |name| all.iter().find(|(n, ..)| *n == name).map(|(_, kind, _, v)| (*kind, *v));
        assert_eq!(find("accepted"), Some((StatKind::Counter, 3)));
        assert_eq!(find("connections_open"), Some((StatKind::Gauge, 3)));
    }

    #[test]
    fn requests_are_counted_by_command_and_errors_by_code() {
        let stats = WorkerStats::default();
        stats.accepted.add(6);
        stats.count_answered(Command::ECHO, 4);
        stats.count_failed(Command(0xFF), ErrorCode::UnknownCommand);
        stats.check_balance();
        assert_eq!((stats.answered.get(), stats.failed.get(), stats.unbalanced.get()), (4, 1, 1));
        stats.in_flight.add(1);
        stats.check_balance();
        assert_eq!((stats.requests.sum(), stats.unbalanced.get()), ((4, 1), 0));
        assert_eq!(stats.requests.of(Command::ECHO).answered.get(), 4);
        assert_eq!(stats.requests.of(Command(0xFF)).failed.get(), 1);
        assert_eq!((stats.errors.of(ErrorCode::UnknownCommand).get(), stats.errors.sum()), (1, 1));
        stats.pings_out.add(2);
        assert_eq!(stats.each().find(|(name, ..)| *name == "frames_out").map(|(.., n)| n), Some(7));
    }
}
