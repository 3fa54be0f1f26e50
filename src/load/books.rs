//! What a generator writes down while it runs. PURE. Times are nanoseconds since the run began.

use super::account::{Errors, Tally};
use super::episodes::Episodes;
use super::hist::Hist;
use super::plan::Shape;

/// The books of one generator.
#[derive(Debug)]
pub struct Books {
    /// What became of requests and connections.
    pub tally: Tally,
    /// Latencies of the measured part.
    pub latency: Hist,
    /// From connect to READY, from the beginning on.
    pub connect: Hist,
    /// What happened in between.
    pub episodes: Episodes,
    /// What went wrong.
    pub errors: Errors,
    /// Requests of the workload that were sent and have no fate yet.
    pub in_flight: u64,
    /// Requests of the workload that got their right reply.
    pub replies: u64,
    /// Requests from here on are measured; `u64::MAX` before that is known.
    pub measure_from: u64,
    /// Whether replies (of `connect`: connections) count for the rate.
    pub measuring: bool,
    /// How many did.
    pub measured: u64,
    /// The current interval of the timeline.
    pub interval: Interval,
    /// Of `connect` the connections are what is measured, and not the requests.
    counts_connections: bool,
}

/// One interval of the timeline.
#[derive(Debug, Default)]
pub struct Interval {
    /// Latencies in it.
    pub hist: Hist,
    /// Requests (of `connect`: connections) answered in it.
    pub answered: u64,
    /// What went wrong in it.
    pub errors: u64,
}

impl Books {
    /// Empty books.
    pub fn new(shape: Shape) -> Books {
        Books {
            tally: Tally::default(),
            latency: Hist::new(),
            connect: Hist::new(),
            episodes: Episodes::default(),
            errors: Errors::default(),
            in_flight: 0,
            replies: 0,
            measure_from: u64::MAX,
            measuring: false,
            measured: 0,
            interval: Interval::default(),
            counts_connections: shape == Shape::Connect,
        }
    }

    /// A request of the workload, sent (or meant to be sent) at `at`, has its right reply.
    #[inline]
    pub fn note_answered(&mut self, at: u64, now: u64) {
        self.tally.account.answered += 1;
        self.in_flight -= 1;
        self.replies += 1;
        if self.counts_connections {
            return;
        }
        let latency = now.saturating_sub(at);
        if at >= self.measure_from {
            self.latency.record(latency);
        }
        self.measured += u64::from(self.measuring);
        self.interval.answered += 1;
        self.interval.hist.record(latency);
    }

    /// A connection that was begun at `at` is READY.
    pub fn note_ready(&mut self, at: u64, now: u64) {
        let latency = now.saturating_sub(at);
        self.tally.account.answered += 1;
        self.tally.account.connections += 1;
        self.connect.record(latency);
        if self.counts_connections {
            self.measured += u64::from(self.measuring);
            self.interval.answered += 1;
            self.interval.hist.record(latency);
        }
    }

    /// Something went wrong.
    pub fn note_error(&mut self, what: &str) {
        self.note_errors(what, 1);
    }

    /// The same went wrong several times.
    pub fn note_errors(&mut self, what: &str, count: u64) {
        self.errors.note_many(what, count);
        self.interval.errors += count;
    }
}
