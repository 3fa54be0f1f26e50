//! What `/status` tells of what outlives the process.

use serde::Serialize;

use crate::stats::{JournalState, JournalView, Latency, RouteView, StoreView};

/// The journal.
#[derive(Debug, Serialize)]
pub struct Journal {
    /// `open`, `full` (SUBMIT is OVERLOADED) or `poisoned` (SUBMIT is UNAVAILABLE until a restart).
    pub state: &'static str,
    /// Why it is not open.
    pub why: Option<String>,
    /// The oldest message's id; 0: there has been none.
    pub first_id: u64,
    /// The newest durable message's id; 0: there has been none.
    pub durable_id: u64,
    /// Its files. Bytes.
    pub bytes: u64,
    /// What they may become.
    pub capacity: u64,
    /// How many files.
    pub segments: u64,
    /// Bytes free on its disk.
    pub disk_free: Option<u64>,
    /// Messages that wait for the disk.
    pub queued: u64,
    /// Memory of those. Bytes.
    pub queued_bytes: u64,
    /// Messages stored since the start.
    pub stored: u64,
    /// Retries recognised by their idempotency key.
    pub duplicates: u64,
    /// Messages refused for want of room, or of a disk.
    pub refused: u64,
    /// Idempotency keys remembered.
    pub keys: u64,
    /// Those forgotten within their time, for want of room.
    pub keys_forgotten: u64,
    /// Bytes written.
    pub written: u64,
    /// Each write and its fdatasync.
    pub sync: Times,
    /// Messages found unfinished at the start.
    pub recovered: u64,
    /// How long the start took to verify it. Milliseconds.
    pub recovery_ms: u64,
}

/// One route from the journal to a sink.
#[derive(Debug, Serialize)]
pub struct Route {
    /// The pattern of its topics.
    pub pattern: String,
    /// The kind of its sink.
    pub sink: &'static str,
    /// Where that is; a password is hidden.
    pub target: String,
    /// Why the sink is down; nothing: it is up.
    pub down: Option<String>,
    /// Messages delivered since the start.
    pub delivered: u64,
    /// Messages still to be delivered.
    pub behind: u64,
    /// How old the oldest of those is. Seconds.
    pub lag_s: f64,
    /// Times that a message was refused.
    pub refused: u64,
    /// Messages that have become dead letters.
    pub dead_letters: u64,
    /// Dead letters that were given up, because their own sink has refused them for good.
    pub dropped: u64,
    /// Times that the sink was down.
    pub failures: u64,
    /// The id up to which everything is delivered.
    pub done: u64,
    /// From a message's storage to its delivery.
    pub latency: Times,
}

/// Where sessions outlive the process.
#[derive(Debug, Serialize)]
pub struct Store {
    /// `embedded`, `redis` or `mysql`.
    pub kind: &'static str,
    /// Why it is down; nothing: it is up.
    pub down: Option<String>,
    /// Operations that wait.
    pub queued: u64,
    /// Operations that may.
    pub queue: u64,
    /// Writes committed.
    pub written: u64,
    /// Commits that these took.
    pub commits: u64,
    /// Sessions asked for.
    pub claims: u64,
    /// Operations that failed, or were not tried.
    pub failures: u64,
    /// Times that it was taken for down.
    pub broken: u64,
    /// Sessions in memory alone until it is back.
    pub unsaved: u64,
    /// Sessions that another gateway has taken over.
    pub lost: u64,
    /// Sessions whose time had run out, forgotten.
    pub swept: u64,
    /// Each commit and each claim.
    pub latency: Times,
}

/// A histogram of durations; its bounds are those of `latency`.
#[derive(Debug, Serialize)]
pub struct Times {
    /// In each bucket, not cumulative; the last one is for what is over every bound.
    pub counts: Vec<u64>,
    /// All durations added up, seconds.
    pub sum_s: f64,
    /// How many there were.
    pub count: u64,
}

impl Journal {
    pub(super) fn of(view: &JournalView) -> Journal {
        let (state, why) = match &view.state {
            JournalState::Open => ("open", None),
            JournalState::Full(why) => ("full", Some(why.clone())),
            JournalState::Poisoned(why) => ("poisoned", Some(why.clone())),
        };
        Journal {
            state,
            why,
            first_id: view.first_id,
            durable_id: view.durable_id,
            bytes: view.bytes,
            capacity: view.capacity,
            segments: view.segments,
            disk_free: view.free,
            queued: view.queued,
            queued_bytes: view.queued_bytes,
            stored: view.stored,
            duplicates: view.duplicates,
            refused: view.refused,
            keys: view.keys,
            keys_forgotten: view.keys_forgotten,
            written: view.written,
            sync: Times::of(&view.sync),
            recovered: view.recovered,
            recovery_ms: u64::try_from(view.recovery.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Route {
    pub(super) fn of(view: &RouteView) -> Route {
        Route {
            pattern: view.pattern.clone(),
            sink: view.kind,
            target: view.target.clone(),
            down: view.down.clone(),
            delivered: view.delivered,
            behind: view.behind,
            lag_s: view.lag.as_millis() as f64 / 1000.0,
            refused: view.refused,
            dead_letters: view.dead_letters,
            dropped: view.dropped,
            failures: view.failures,
            done: view.done,
            latency: Times::of(&view.latency),
        }
    }
}

impl Store {
    pub(super) fn of(view: &StoreView) -> Store {
        Store {
            kind: view.kind,
            down: view.down.clone(),
            queued: view.queued,
            queue: view.queue,
            written: view.written,
            commits: view.commits,
            claims: view.claims,
            failures: view.failures,
            broken: view.broken,
            unsaved: view.unsaved,
            lost: view.lost,
            swept: view.swept,
            latency: Times::of(&view.latency),
        }
    }
}

impl Times {
    fn of(latency: &Latency) -> Times {
        Times { counts: latency.counts.to_vec(), sum_s: latency.sum_s(), count: latency.count() }
    }
}
