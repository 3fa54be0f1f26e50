//! Every hard bound, with compile-time asserts of how they relate.
//!
//! What an operator may set is in [`crate::config`]; here is what the settings may not exceed, and
//! what is fixed because a setting would only offer a way to break the server.

use std::time::Duration;

use crate::proto::{HEADER_LEN, MAX_BODY, MAX_PING};

/// Smallest `TIDEGATE_CORE_READ_SCRATCH`. Holds the largest frame whole, so that a frame which arrived
/// in one piece is never copied.
pub const MIN_READ_SCRATCH: usize = HEADER_LEN + MAX_BODY;

/// Smallest `TIDEGATE_CORE_SEND_SCRATCH`. It grows past what is set for a moment when one read holds
/// many requests, and shrinks back: below a page it would do so all the time.
pub const MIN_SEND_SCRATCH: usize = 4_096;

/// Largest of the two `TIDEGATE_CORE_…_SCRATCH`.
pub const MAX_SCRATCH: usize = 64 << 20;

/// Largest `TIDEGATE_CORE_EVENTS`.
pub const MAX_EVENTS: usize = 65_536;

/// Workers in one process: a session id carries its worker in 16 bits.
pub const MAX_WORKERS: usize = 1024;

/// Connections of one worker: a token carries its slot in 32 bits, the topmost are the worker's own.
pub const MAX_CORE_CONNECTIONS: usize = 16 << 20;

/// Slots beside [`crate::config::Core::max_connections`] in which connections over the limit are told
/// so and closed in good order. When these are taken too, accepting pauses. No setting: whoever needs
/// more of them needs more connections, or fewer clients.
pub const REFUSAL_SLOTS: usize = 256;

/// Largest `TIDEGATE_MAX_IN_FLIGHT`.
pub const MAX_IN_FLIGHT: usize = u16::MAX as usize;

/// Smallest `TIDEGATE_MAX_PAYLOAD`: a PING and an AUTH with a token must fit.
pub const MIN_MAX_PAYLOAD: usize = 512;

/// Largest `TIDEGATE_CORE_POOLED_BUFFERS`.
pub const MAX_POOLED_BUFFERS: usize = 1 << 20;

/// Largest `TIDEGATE_CORE_POOLED_BUFFER_BYTES`.
pub const MAX_POOLED_BUFFER_BYTES: usize = 16 << 20;

/// Largest `TIDEGATE_CORE_BUSY_POLL_US`: a worker that has had nothing to do for a second may sleep.
pub const MAX_BUSY_POLL_US: u32 = 1_000_000;

/// The shortest heartbeat interval that a client is granted, unless the server's own is shorter.
/// Milliseconds. No setting: `TIDEGATE_HEARTBEAT_MS` moves it down.
pub const MIN_HEARTBEAT_MS: u32 = 1_000;

/// The longest heartbeat interval that a client is granted. Milliseconds.
pub const MAX_HEARTBEAT_MS: u32 = 3_600_000;

/// Longest timer of a connection. Deadlines are kept as 32-bit milliseconds and compared modulo
/// 2³², which is right for distances below 2³¹ ms (24.8 days).
pub const MAX_TIMER_MS: u32 = 1 << 30;

/// Largest `TIDEGATE_CORE_TIMER_GRANULARITY_MS`. Timers are late by at most the granularity, never early.
pub const MAX_TIMER_GRANULARITY_MS: u32 = 1_000;

/// How long accepting pauses when the process has run out of descriptors or memory. Milliseconds. No
/// setting: shorter would be a busy loop at the worst of times, longer would leave room unused.
pub const ACCEPT_PAUSE_MS: u32 = 100;

/// How long a draining listener that takes no new connections waits for handshakes that had begun.
/// Milliseconds. No setting: it is a round trip, and what takes longer meets a reset as it would have
/// without.
pub const GATE_SETTLE_MS: u64 = 100;

/// How long past the drain's deadline the supervisor waits for a worker before it names it and
/// goes on without it. Milliseconds. No setting: by then `TIDEGATE_DRAIN_TIMEOUT_MS` has passed, and
/// what comes after it is beyond what was planned for.
pub const WORKER_GRACE_MS: u64 = 2_000;

/// How long the admin port waits for workers' answers before it does with those that it has. Milliseconds.
pub const ADMIN_INQUIRY_MS: u64 = 1_000;

/// Characters of the admin port's token. Shorter ones can be guessed.
pub const ADMIN_TOKEN_CHARS: std::ops::RangeInclusive<usize> = 16..=1024;

/// How long a worker with nothing to do sleeps at most, so that it can be told from one that hangs.
/// Milliseconds.
pub const WORKER_PULSE_MS: u64 = 1_000;

/// Smallest `TIDEGATE_HEALTH_LIMIT_MS`. A worker with nothing to do wakes four times in it, or each
/// [`WORKER_PULSE_MS`].
pub const MIN_HEALTH_LIMIT_MS: u64 = 100;

/// Connections that are named one by one in the ledger when they were cut; the rest are counted. No
/// setting: a line of the audit log stays one that can be read.
pub const MAX_NAMED_CUTS: usize = 100;

/// Addresses that one worker listens on.
pub const MAX_LISTEN_ADDRESSES: usize = 8;

/// CPUs are numbered below this: the size of the kernel's usual CPU mask.
pub const MAX_CPUS: usize = 1024;

/// Characters in a principal's or a service's name.
pub const MAX_NAME_CHARS: usize = 128;

/// Characters in the audience and the issuer that tokens have to name.
pub const MAX_CLAIM_CHARS: usize = 256;

/// Keys that JSON Web Tokens are signed with.
pub const MAX_JWT_KEYS: usize = 256;

/// Bytes of a file with such a key. A public RSA key of 8192 bits has 1,500 in PEM.
pub const MAX_JWT_KEY_BYTES: u64 = 16 * 1024;

/// Bytes of a secret that JSON Web Tokens are signed with: as many as its digest has (RFC 7518, 3.2).
pub const MIN_JWT_SECRET_BYTES: usize = 32;

/// Largest `TIDEGATE_JWT_LEEWAY_S`: a day.
pub const MAX_JWT_LEEWAY_S: u64 = 86_400;

/// A connection's token is compared with the wall clock at least this often, so that a clock that was
/// set is heeded. Milliseconds.
pub const EXPIRY_RECHECK_MS: u32 = 3_600_000;

/// Sources of failed logins that are remembered, eight bytes each.
pub const AUTH_FAILURE_SOURCES: usize = 65_536;

/// Largest `TIDEGATE_AUTH_FAILURES_FREE` and `TIDEGATE_AUTH_FAILURES_REFUSE`.
pub const MAX_AUTH_FAILURES: u32 = 1_000_000;

/// Largest `TIDEGATE_CORE_AUTH_HELD`.
pub const MAX_AUTH_HELD: usize = 65_536;

/// Largest `TIDEGATE_SESSION_MAX_ENTRIES`.
pub const MAX_SESSION_ENTRIES: usize = 65_536;

/// Largest `TIDEGATE_SESSION_MAX_BYTES`.
pub const MAX_SESSION_BYTES: usize = 16 << 20;

/// Largest `TIDEGATE_SESSION_STORE_CONNECTIONS`.
pub const MAX_STORE_CONNECTIONS: usize = 256;

/// Largest `TIDEGATE_SESSION_STORE_QUEUE`.
pub const MAX_STORE_QUEUE: usize = 16 << 20;

/// Writes that one commit of a session store takes together.
pub const MAX_STORE_COMMIT: usize = 4_096;

/// Bytes of keys and values in one such commit, from which on nothing more is put into it.
pub const MAX_STORE_COMMIT_BYTES: usize = 8 << 20;

/// Sessions of one worker that are being saved at the same time, beside those that requests wait for.
pub const MAX_STORE_SAVING: usize = 512;

/// How often a session store is swept. Milliseconds.
pub const STORE_SWEEP_MS: u64 = 1_000;

/// Sessions that are forgotten in one sweep.
pub const STORE_SWEEP_BUDGET: usize = 1_024;

/// How long the end of a drain waits for the session store where the drain's own time is over. Milliseconds.
pub const STORE_GRACE_MS: u64 = 1_000;

/// Sessions that a session store is asked for together: what it answers is held in memory.
pub const MAX_STORE_CLAIMS: usize = 512;

/// Routes in `TIDEGATE_SINKS`: each has a thread.
pub const MAX_SINK_ROUTES: usize = 64;

/// Largest `TIDEGATE_SINK_BATCH`.
pub const MAX_SINK_BATCH: usize = 10_000;

/// Messages of a route that are in memory, or done beyond one that is not: other topics go on so far while one
/// waits.
pub const SINK_WINDOW_MESSAGES: usize = 2 * MAX_SINK_BATCH;

/// Memory of a route's messages. Bytes. One message more may be there.
pub const SINK_WINDOW_BYTES: usize = 8 << 20;

/// Bytes of messages that a sink is given at once. One message more may be there.
pub const SINK_BATCH_BYTES: usize = 4 << 20;

/// Ids that a route's reader passes over before its thread looks up.
pub const SINK_SCAN_IDS: u64 = 65_536;

/// How long past its deadline a drain waits for sinks to be closed. Milliseconds. No setting: as
/// [`WORKER_GRACE_MS`].
pub const SINK_GRACE_MS: u64 = 1_000;

/// Smallest `TIDEGATE_JOURNAL_SEGMENT_BYTES`: the largest message fits many times.
pub const MIN_SEGMENT_BYTES: u64 = 1 << 20;

/// Largest `TIDEGATE_JOURNAL_SEGMENT_BYTES`.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// Largest of the other sizes of a journal. Bytes.
pub const MAX_JOURNAL_BYTES: u64 = 1 << 50;

/// Largest `TIDEGATE_DEDUP_MAX`.
pub const MAX_DEDUP: usize = 100_000_000;

/// Largest `TIDEGATE_CORE_MAX_SESSIONS`.
pub const MAX_CORE_SESSIONS: usize = 64 << 20;

/// Largest `TIDEGATE_CORE_MAX_PENDING`.
pub const MAX_CORE_PENDING: usize = 16 << 20;

/// Smallest `TIDEGATE_CORE_READ_BUDGET`: below, a system call is spent on a handful of bytes.
pub const MIN_READ_BUDGET: usize = 1024;

/// Largest `TIDEGATE_CORE_READ_BUDGET`: above, one connection keeps its neighbours waiting.
pub const MAX_READ_BUDGET: usize = 64 << 20;

/// Largest `TIDEGATE_CORE_ACCEPT_BATCH`.
pub const MAX_ACCEPT_BATCH: usize = 65_536;

/// Largest `TIDEGATE_CORE_MAILBOX`.
pub const MAX_MAILBOX: usize = 1 << 20;

/// Largest `TIDEGATE_BACKLOG`. The kernel lowers it to its own `somaxconn`.
pub const MAX_BACKLOG: u32 = 65_535;

/// Largest `TIDEGATE_SO_RCVBUF` and `TIDEGATE_SO_SNDBUF`: the kernel doubles it and counts in 31 bits. Bytes.
pub const MAX_SOCKET_BUFFER: usize = (1 << 30) - 1;

/// Largest times of `TIDEGATE_TCP_KEEPALIVE_…`: tcp(7), the kernel's `MAX_TCP_KEEPIDLE`. Seconds.
pub const MAX_KEEPALIVE_S: u32 = 32_767;

/// Largest `TIDEGATE_TCP_KEEPALIVE_COUNT`: the kernel's `MAX_TCP_KEEPCNT`.
pub const MAX_KEEPALIVE_COUNT: u32 = 127;

/// Largest `TIDEGATE_TCP_DEFER_ACCEPT_S`: a drain waits for half of it.
pub const MAX_DEFER_ACCEPT_S: u32 = 30;

/// How long a client that `TIDEGATE_TCP_DEFER_ACCEPT_S` keeps waiting may have to wait on when nobody is
/// deferred any more: until the kernel's timer for its handshake is due, which asks it once more and
/// takes it in. Those timers run 1 s, then 2, 4, … for as many times as cover the seconds set
/// (tcp(7); `secs_to_retrans` and `reqsk_timer_handler` in Linux).
pub const fn longest_deferral(defer_accept_s: u32) -> Duration {
    match defer_accept_s {
        0 => Duration::ZERO,
        seconds => Duration::from_secs((seconds as u64 + 1).next_power_of_two() / 2),
    }
}

/// Largest of the three `TIDEGATE_OUTBOUND_*`. Bytes.
pub const MAX_OUTBOUND: usize = 1 << 30;

/// Largest `TIDEGATE_POOL_THREADS`.
pub const MAX_POOL_THREADS: usize = 1024;

/// Largest `TIDEGATE_POOL_QUEUE`.
pub const MAX_POOL_QUEUE: usize = 1 << 20;

/// Bytes of a log line's message; what is over is cut off, and said.
pub const MAX_LOG_MESSAGE_BYTES: usize = 8 * 1024;

/// Bytes of one of its key-values.
pub const MAX_LOG_FIELD_BYTES: usize = 2 * 1024;

/// Key-values of a log line.
pub const MAX_LOG_FIELDS: usize = 32;

/// Bytes of log lines that wait for standard error to take them; further lines are dropped, and counted.
pub const MAX_LOG_QUEUE_BYTES: usize = 8 << 20;

/// Places in the code whose log lines are counted apart from each other.
pub const MAX_LOG_SITES: usize = 1024;

/// How long the end of the process waits for standard error to take the last log lines. Milliseconds.
pub const LOG_FLUSH_MS: u64 = 1_000;

/// How long a panic waits for standard error to take its log line. Milliseconds.
pub const PANIC_FLUSH_MS: u64 = 100;

/// Largest `TIDEGATE_LOG_BURST`.
pub const MAX_LOG_BURST: u32 = 1_000_000;

/// Smallest `TIDEGATE_LOG_INTERVAL_MS`.
pub const MIN_LOG_INTERVAL_MS: u64 = 100;

/// Largest `TIDEGATE_LOG_INTERVAL_MS`.
pub const MAX_LOG_INTERVAL_MS: u64 = 3_600_000;

/// Largest `TIDEGATE_ACCESS_LOG_RATE`.
pub const MAX_ACCESS_LOG_RATE: u32 = 1_000_000;

const _: () = assert!(MIN_MAX_PAYLOAD > MAX_PING, "a PING is never TOO_LARGE");
const _: () = assert!(MIN_HEARTBEAT_MS < MAX_HEARTBEAT_MS && MAX_HEARTBEAT_MS < MAX_TIMER_MS);
const _: () = assert!(MAX_TIMER_MS < 1 << 31, "deadlines compare modulo 2^32");
const _: () = assert!(MAX_CORE_CONNECTIONS + REFUSAL_SLOTS < u32::MAX as usize - 16);
const _: () = assert!(MAX_WORKERS <= u16::MAX as usize);
const _: () = assert!(EXPIRY_RECHECK_MS <= MAX_TIMER_MS);
const _: () =
    assert!(MAX_HEARTBEAT_MS as u64 * 256 <= MAX_TIMER_MS as u64, "every interval of heartbeats fits a timer");
const _: () = assert!(MAX_LOG_FIELDS * MAX_LOG_FIELD_BYTES + MAX_LOG_MESSAGE_BYTES < MAX_LOG_QUEUE_BYTES / 16);
const _: () = assert!(MAX_OUTBOUND > HEADER_LEN + MAX_BODY, "the largest frame can be queued");
