//! Threads, and what each of them owns.

use super::{Field, Setting, number, of_core, of_server, text};
use crate::config::{cpus, parse};
use crate::limits as at;

const GROUP: &str = "Workers";

/// The group's settings.
pub(super) const SETTINGS: &[Setting] = &[
    text(
        GROUP,
        "TIDEGATE_WORKERS",
        "auto",
        "auto, or a number of workers, 1 to 1024",
        "Worker threads; auto: one for each CPU listed or available.",
        parse::workers,
        |c| c.workers.to_string(),
    ),
    text(
        GROUP,
        "TIDEGATE_CPUS",
        "auto",
        "auto, off, or a list such as 0-3,6 of CPUs that this process may use",
        "CPUs that workers are pinned to, in turn; auto: those available, or none under a CPU quota.",
        parse::cpus,
        |c| cpus::show_list(&c.cpus),
    ),
    number(
        GROUP,
        "TIDEGATE_POOL_THREADS",
        "16",
        "threads",
        (1, at::MAX_POOL_THREADS as u64),
        "Threads for handlers that block.",
        of_server!(pool_threads: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_POOL_QUEUE",
        "1024",
        "requests",
        (1, at::MAX_POOL_QUEUE as u64),
        "Requests that wait for such a thread; more are refused as OVERLOADED.",
        of_server!(pool_queue: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_CORE_MAX_CONNECTIONS",
        "500000",
        "connections",
        (1, at::MAX_CORE_CONNECTIONS as u64),
        "Connections of one worker; more are refused.",
        of_core!(max_connections: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_CORE_MAX_SESSIONS",
        "1000000",
        "sessions",
        (1, at::MAX_CORE_SESSIONS as u64),
        "Sessions of one worker, connected or not.",
        of_core!(max_sessions: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_CORE_MAX_PENDING",
        "65536",
        "requests",
        (1, at::MAX_CORE_PENDING as u64),
        "Requests of one worker that wait for an answer from elsewhere.",
        of_core!(max_pending: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_CORE_READ_BUDGET",
        "262144",
        "bytes",
        (at::MIN_READ_BUDGET as u64, at::MAX_READ_BUDGET as u64),
        "Bytes that one connection may be read before its neighbours have their turn.",
        of_core!(read_budget: usize),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_CORE_ACCEPT_BATCH",
        "256",
        "connections",
        (1, at::MAX_ACCEPT_BATCH as u64),
        "Connections that one worker accepts before it serves the others again.",
        of_core!(accept_batch: usize),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_CORE_BUFFER_BYTES",
        "536870912",
        "bytes",
        (1 << 20, 1 << 40),
        "Memory of one worker for unfinished frames and unsent output; a connection that needs more is ended.",
        of_core!(buffer_bytes: usize),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_CORE_MAILBOX",
        "4096",
        "messages",
        (1, at::MAX_MAILBOX as u64),
        "Messages from other threads that wait for one worker.",
        of_core!(mailbox: usize),
    ),
];

// An accepted form above names a bound in words.
const _: () = assert!(at::MAX_WORKERS == 1024);
