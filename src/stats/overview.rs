//! A server at one moment: what its admin port tells beside the workers' counters.

use std::time::Duration;

use super::{Latency, Phase};
use crate::proto::Command;
use crate::service::Place;

/// What a server tells of itself, beside its workers' counters.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// The workers, in their order.
    pub workers: Vec<WorkerView>,
    /// The drain, once one has begun.
    pub drain: Option<DrainView>,
    /// The blocking pool.
    pub pool: PoolView,
    /// The application's handlers, in the order in which they were routed.
    pub handlers: Vec<HandlerView>,
    /// The numeric settings of each worker.
    pub settings: Vec<SettingView>,
    /// The journal, where there is a data directory.
    pub journal: Option<JournalView>,
    /// Where its messages go, in the order of `TIDEGATE_SINKS`.
    pub routes: Vec<RouteView>,
    /// Where sessions are kept, unless that is the workers' memory.
    pub store: Option<StoreView>,
}

/// Whether the journal takes messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JournalState {
    /// It does.
    #[default]
    Open,
    /// It has no room, and why: SUBMIT is OVERLOADED.
    Full(String),
    /// The disk has failed, and how: SUBMIT is UNAVAILABLE until a restart.
    Poisoned(String),
}

/// The journal.
#[derive(Clone, Debug, Default)]
pub struct JournalView {
    /// Whether it takes messages.
    pub state: JournalState,
    /// The id of the oldest message that it has; 0: it has had none.
    pub first_id: u64,
    /// The id of the newest message on the disk; 0: it has had none.
    pub durable_id: u64,
    /// Its files. Bytes.
    pub bytes: u64,
    /// What they may become.
    pub capacity: u64,
    /// How many files.
    pub segments: u64,
    /// Bytes free on its disk, when last asked.
    pub free: Option<u64>,
    /// Messages that wait for the disk.
    pub queued: u64,
    /// Bytes of those.
    pub queued_bytes: u64,
    /// Messages stored since the start.
    pub stored: u64,
    /// Retries recognised by their idempotency key.
    pub duplicates: u64,
    /// Messages refused because there was no room, or no disk.
    pub refused: u64,
    /// Bytes written.
    pub written: u64,
    /// Each fdatasync, from the write to its return.
    pub sync: Latency,
    /// Idempotency keys remembered.
    pub keys: u64,
    /// Of those that were within their time, how many were forgotten for want of room.
    pub keys_forgotten: u64,
    /// Messages found unfinished at the start.
    pub recovered: u64,
    /// How long the start took to verify the journal.
    pub recovery: Duration,
}

/// One route from the journal to a sink.
#[derive(Clone, Debug, Default)]
pub struct RouteView {
    /// The pattern of its topics.
    pub pattern: String,
    /// The kind of its sink.
    pub kind: &'static str,
    /// Where that is; a password is hidden.
    pub target: String,
    /// Why the sink is down; `None`: it is up.
    pub down: Option<String>,
    /// Messages delivered since the start.
    pub delivered: u64,
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
    /// Messages of this route that are still to be delivered.
    pub behind: u64,
    /// How old the oldest of those is.
    pub lag: Duration,
    /// From a message's storage to its delivery.
    pub latency: Latency,
}

/// Where sessions outlive the process.
#[derive(Clone, Debug, Default)]
pub struct StoreView {
    /// `embedded`, `redis` or `mysql`.
    pub kind: &'static str,
    /// Why it is down; `None`: it is up.
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
    /// Operations that failed or were not tried because it was down.
    pub failures: u64,
    /// Times that it was taken for down.
    pub broken: u64,
    /// Sessions that live in memory alone until it is back.
    pub unsaved: u64,
    /// Sessions that another gateway has taken over.
    pub lost: u64,
    /// Sessions whose time had run out, forgotten.
    pub swept: u64,
    /// Each commit and each claim.
    pub latency: Latency,
}

/// One worker.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// Whether a thread runs it.
    pub alive: bool,
    /// How long ago its last tick began.
    pub last_tick: Duration,
    /// Where it is in its drain.
    pub phase: Phase,
    /// Letters and answers in its mailbox.
    pub mailbox: usize,
    /// Letters that its mailbox takes; answers are bounded by `pending_capacity`.
    pub mailbox_capacity: usize,
    /// Connections that it may have, those that are being turned away included.
    pub connection_capacity: usize,
    /// Sessions that it may have.
    pub session_capacity: usize,
    /// Requests that may wait for an answer from elsewhere.
    pub pending_capacity: usize,
    /// Bytes that it may keep in buffers.
    pub buffer_capacity: usize,
}

/// A drain that has begun.
#[derive(Clone, Debug)]
pub struct DrainView {
    /// What asked for it: `signal:SIGTERM`, `admin`, `embedder`.
    pub reason: String,
    /// Since it began.
    pub elapsed: Duration,
    /// Until what is left is cut.
    pub left: Duration,
    /// The phase of the worker that is furthest behind.
    pub phase: Phase,
    /// Connections that all workers had when it began.
    pub connections_at_begin: u64,
    /// How long each phase that all workers have behind them took.
    pub phases: Vec<(Phase, Duration)>,
}

/// The blocking pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolView {
    /// Its threads.
    pub threads: usize,
    /// Those that serve a request.
    pub busy: usize,
    /// Requests that wait for a thread.
    pub queued: usize,
    /// Requests that may.
    pub queue: usize,
}

/// One handler, over all workers.
#[derive(Clone, Debug)]
pub struct HandlerView {
    /// Its command.
    pub cmd: Command,
    /// Where it runs.
    pub place: Place,
    /// From dispatch to answer.
    pub latency: Latency,
}

/// One numeric setting of one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingView {
    /// Its name, as in `TIDEGATE_CORE_3_READ_BUDGET` but in small letters: `read_budget`.
    pub name: String,
    /// Whose.
    pub worker: usize,
    /// Its value, in its own unit.
    pub value: f64,
}
