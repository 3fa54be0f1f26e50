//! A worker's counters: written by that worker alone, read by whoever wants to see.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
        /// One worker's counters. `accepted = answered + failed + cut + in_flight`, at every moment
        /// between two steps of the worker: the ledger's law.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct WorkerStats {
            $($(#[$doc])* #[doc = $help] pub $name: Counter,)*
        }

        impl WorkerStats {
            /// Every number with its name, kind and help, for the metrics page.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, StatKind, &'static str, u64)> + '_ {
                [$((stringify!($name), StatKind::$kind, $help, self.$name.get())),*].into_iter()
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
    connections_cut: Counter, "Connections ended by force: slow consumers, and what a drain cut.";
    drain_cuts: Counter, "Connections that a drain or a worker's panic cut.";
    connections_reset: Counter, "Connections that the server ended with a reset.";
    connections_lost: Counter, "Connections that the peer or the network ended with an error.";
    accept_pauses: Counter, "Times that accepting paused for want of descriptors or memory.";
    accepted: Counter, "Requests accepted, AUTH, PING and BYE included.";
    answered: Counter, "Requests answered with a reply.";
    failed: Counter, "Requests answered with an ERROR.";
    cut: Counter, "Requests that a drain, a second signal or a worker's panic ended without an answer.";
    in_flight: Gauge, "Requests accepted and not yet answered.";
    undelivered: Counter, "Answers whose connection was gone, by the peer's doing, before they could be sent.";
    auth_failures: Counter, "AUTH refused.";
    overloaded: Counter, "Requests refused with OVERLOADED.";
    responders_dropped: Counter, "Handlers that dropped their responder without an answer.";
    handler_panics: Counter, "Handlers that panicked.";
    frames_in: Counter, "Frames received.";
    bytes_in: Counter, "Bytes received.";
    bytes_out: Counter, "Bytes that the kernel took to send.";
    bytes_unacked: Counter, "Bytes not acknowledged by the peer when a drain closed its connection.";
    pings_out: Counter, "Heartbeats sent.";
    sessions: Gauge, "Sessions alive, connected or not.";
    sessions_resumed: Counter, "Sessions resumed.";
    sessions_expired: Counter, "Sessions whose time to live ran out.";
    mailbox_refused: Counter, "Messages that a full mailbox did not take at once.";
    worker_panics: Counter, "Times that this worker panicked and was started anew.";
    ticks: Counter, "Turns of the worker's loop.";
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
}
