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
