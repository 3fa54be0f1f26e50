//! What outlives a connection.

use super::{Field, Setting, millis, number, of_server, seconds, text};
use crate::config::parse;
use crate::limits as at;

const GROUP: &str = "Sessions";

/// The group's settings.
pub(super) const SETTINGS: &[Setting] = &[
    number(
        GROUP,
        "TIDEGATE_SESSION_TTL_S",
        "300",
        "seconds",
        (1, at::MAX_TIMER_MS as u64 / 1000),
        "How long a session outlives its connection.",
        seconds!(session_ttl),
    ),
    number(
        GROUP,
        "TIDEGATE_SESSION_MAX_ENTRIES",
        "64",
        "keys",
        (1, at::MAX_SESSION_ENTRIES as u64),
        "Keys in one session's state.",
        of_server!(session_max_entries: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_SESSION_MAX_BYTES",
        "16384",
        "bytes",
        (1, at::MAX_SESSION_BYTES as u64),
        "Bytes of keys and values in one session's state.",
        of_server!(session_max_bytes: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_SESSION_HOP_TIMEOUT_MS",
        "5000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "How long a request waits for the worker that its session lives on, until it is UNAVAILABLE.",
        millis!(session_hop_timeout),
    )
    .live(),
    text(
        GROUP,
        "TIDEGATE_SESSION_STORE",
        "auto",
        "auto, memory, embedded, redis://HOST or mysql://USER@HOST/DATABASE",
        "Where sessions are kept; auto: embedded in TIDEGATE_DATA_DIR if that is set, else in memory, and gone with the \
         process.",
        parse::session_store,
        |c| c.session_store.to_string(),
    ),
    number(
        GROUP,
        "TIDEGATE_SESSION_STORE_TIMEOUT_MS",
        "2000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "How long an operation of the session store may take, the wait for a connection included.",
        millis!(session_store_timeout),
    ),
    number(
        GROUP,
        "TIDEGATE_SESSION_STORE_CONNECTIONS",
        "4",
        "connections",
        (1, at::MAX_STORE_CONNECTIONS as u64),
        "Connections to a session store elsewhere, each with a thread.",
        of_server!(session_store_connections: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_SESSION_STORE_IDLE_S",
        "300",
        "seconds",
        (1, at::MAX_TIMER_MS as u64 / 1000),
        "How long such a connection may be idle until it is closed.",
        seconds!(session_store_idle),
    ),
    number(
        GROUP,
        "TIDEGATE_SESSION_STORE_LIFETIME_S",
        "1800",
        "seconds",
        (1, at::MAX_TIMER_MS as u64 / 1000),
        "How old such a connection may become until it is replaced.",
        seconds!(session_store_lifetime),
    ),
    number(
        GROUP,
        "TIDEGATE_SESSION_STORE_QUEUE",
        "65536",
        "operations",
        (1, at::MAX_STORE_QUEUE as u64),
        "Operations that wait for the session store; more are UNAVAILABLE.",
        of_server!(session_store_queue: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_SESSION_STORE_FAILURES",
        "5",
        "failures",
        (1, 1_000),
        "Failures in a row after which the session store is taken for down, and not asked.",
        of_server!(session_store_failures: u32),
    ),
    number(
        GROUP,
        "TIDEGATE_SESSION_STORE_RETRY_MS",
        "1000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "How long it is not asked then, until one operation tries it again.",
        millis!(session_store_retry),
    ),
];
