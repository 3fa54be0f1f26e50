//! A look at every byte, and what is done about damage when the operator says so.

use std::io;

use super::options::{Damage, LogRoute, Progress};
use super::storage::Storage;

/// One segment, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its file.
    pub file: String,
    /// The file's length. Bytes.
    pub len: u64,
    /// Up to where it has records. Bytes.
    pub used: u64,
    /// Messages in it.
    pub messages: u64,
    /// The lowest id of a message in it; 0: it has none.
    pub first_id: u64,
    /// The highest.
    pub last_id: u64,
    /// When its first message was stored; milliseconds since 1970; 0: it has none.
    pub first_ms: u64,
    /// And its last.
    pub last_ms: u64,
}

/// One route, as the log itself has written it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteReport {
    /// Its topics, and whether the journal keeps them.
    pub route: LogRoute,
    /// How far it is.
    pub progress: Progress,
    /// Messages that are there and still to be delivered; of a route that keeps them: 0.
    pub unfinished: u64,
}

/// What is lost in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where, and what is wrong.
    pub damage: Damage,
    /// Bytes without a valid record.
    pub bytes: u64,
    /// Ids between which messages are missing, the first and the last; `None`: none can be.
    pub ids: Option<(u64, u64)>,
}

/// What was found, or done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The segments, in their order.
    pub segments: Vec<SegmentReport>,
    /// The routes, as they were when the log was last written to.
    pub routes: Vec<RouteReport>,
    /// Damage that stops a start; for a repair, what is lost.
    pub losses: Vec<Loss>,
    /// An unfinished end of the last segment, never acknowledged: a start cuts it. Bytes.
    pub torn: u64,
    /// Files that a repair has put aside.
    pub aside: Vec<String>,
}

impl Report {
    /// Whether a start would go on.
    pub fn is_sound(&self) -> bool {
        self.losses.is_empty()
    }
}

/// Reads and verifies everything, and changes nothing. Safe beside a running server.
///
/// # Errors
/// The system refuses.
pub fn verify<S: Storage>(storage: &S) -> io::Result<Report> {
    let _ = storage;
    unimplemented!()
}

/// Keeps every valid record, puts damaged files aside under `….damaged`, and says what is lost; then a start succeeds.
/// Only for whoever holds the data directory's lock.
///
/// # Errors
/// The system refuses. May be run again.
pub fn repair<S: Storage>(storage: &S) -> io::Result<Report> {
    let _ = storage;
    unimplemented!()
}
