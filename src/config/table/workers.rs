//! Threads, and what each of them owns.

use super::{Field, Setting, millis, number, of_core, of_server, text};
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
        "TIDEGATE_HEALTH_LIMIT_MS",
        "5000",
        "milliseconds",
        (at::MIN_HEALTH_LIMIT_MS, at::MAX_TIMER_MS as u64),
        "How long a worker may not have turned its loop, held up by a handler, before /healthz says so.",
        millis!(health_limit),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_CORE_MAX_CONNECTIONS",
        "1000000",
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
        "TIDEGATE_CORE_AUTH_HELD",
        "1024",
        "connections",
        (0, at::MAX_AUTH_HELD as u64),
        "Failed logins of one worker whose answer is put off at the same time; more are answered at once.",
        of_core!(auth_held: usize),
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
    number(
        GROUP,
        "TIDEGATE_CORE_MAIL_BATCH",
        "4096",
        "messages",
        (1, at::MAX_MAILBOX as u64),
        "Messages from other threads that one worker takes before it looks at its sockets again.",
        of_core!(mail_batch: usize),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_CORE_EVENTS",
        "1024",
        "events",
        (1, at::MAX_EVENTS as u64),
        "Events that one worker takes from the kernel in one poll.",
        of_core!(events: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_CORE_READ_SCRATCH",
        "131072",
        "bytes",
        (at::MIN_READ_SCRATCH as u64, at::MAX_SCRATCH as u64),
        "Bytes that one worker reads from one socket in one call.",
        of_core!(read_scratch: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_CORE_SEND_SCRATCH",
        "262144",
        "bytes",
        (at::MIN_SEND_SCRATCH as u64, at::MAX_SCRATCH as u64),
        "Memory that one worker keeps for the frames of a connection's one write; what a turn needs more is given back.",
        of_core!(send_scratch: usize),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_CORE_POOLED_BUFFERS",
        "1024",
        "buffers",
        (0, at::MAX_POOLED_BUFFERS as u64),
        "Free buffers that one worker keeps for unfinished frames and unsent output to come.",
        of_core!(pooled_buffers: usize),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_CORE_POOLED_BUFFER_BYTES",
        "16384",
        "bytes",
        (0, at::MAX_POOLED_BUFFER_BYTES as u64),
        "A buffer that grew past this is not kept.",
        of_core!(pooled_buffer_bytes: usize),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_CORE_BUSY_POLL_US",
        "0",
        "microseconds",
        (0, at::MAX_BUSY_POLL_US as u64),
        "How long one worker goes on polling after it had something to do, before it sleeps; it costs the core for a \
         shorter wait. 0: it sleeps at once.",
        of_core!(busy_poll_us: u32),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_CORE_TIMER_GRANULARITY_MS",
        "10",
        "milliseconds",
        (1, at::MAX_TIMER_GRANULARITY_MS as u64),
        "By how much a timer of one worker may be late; more when it has very many.",
        of_core!(timer_granularity_ms: u32),
    )
    .live(),
];

// An accepted form above names a bound in words.
const _: () = assert!(at::MAX_WORKERS == 1024);
