//! What outlives a connection.

use super::{Field, Setting, millis, number, of_server, seconds};
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
];
