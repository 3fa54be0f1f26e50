//! What a run and its generators tell each other, in one process or over a pipe as lines of JSON.

use serde::{Deserialize, Serialize};

use super::account::{Errors, Tally};
use super::episodes::Episodes;
use super::hist::Pairs;

/// To a generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// All are connected: the load begins.
    Start,
    /// One ECHO on each connection.
    Echo,
    /// Send nothing more, settle the account, end.
    Stop,
    /// End at once: nobody listens any more.
    Quit,
}

/// From a generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// As many connections as could be had are READY.
    Connected {
        /// So many.
        connections: u64,
        /// Why there is not even one.
        trouble: Option<String>,
    },
    /// An interval of the timeline is over.
    Sample(Sample),
    /// [`Order::Echo`] is done.
    Echoed {
        /// ECHOs sent.
        sent: u64,
        /// Of those: answered rightly.
        answered: u64,
    },
    /// It is over.
    Final(Box<Final>),
    /// It could not be done at all.
    Failed(String),
}

/// One interval of one generator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Which interval, from 0, counted from the run's beginning.
    pub index: u64,
    /// Its end, ms since the run began.
    pub at_ms: u64,
    /// Its length, ms.
    pub length_ms: u64,
    /// See [`super::report::Point`].
    pub answered: u64,
    /// See [`super::report::Point`].
    pub errors: u64,
    /// See [`super::report::Point`].
    pub connections: u64,
    /// Latencies.
    pub latencies: Pairs,
}

/// All that a generator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Final {
    /// Its account.
    pub tally: Tally,
    /// Latencies of requests in the measured part.
    pub latency: Pairs,
    /// Latencies from connect to READY.
    pub connect: Pairs,
    /// What happened.
    pub episodes: Episodes,
    /// What went wrong.
    pub errors: Errors,
    /// Replies (of `connect`: connections) in the measured part.
    pub measured: u64,
    /// Length of the measured part, ns.
    pub measured_ns: u64,
    /// CPU time of the process in the measured part, ns.
    pub cpu_ns: u64,
    /// The greatest delay of a send that nothing but the generator held up, ns.
    pub latest: u64,
    /// Requests that were due within the run and not sent by its end.
    pub overdue: u64,
}
