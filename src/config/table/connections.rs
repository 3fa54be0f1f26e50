//! How one connection is treated.

use super::{Field, Setting, millis, number, of_server};
use crate::limits as at;
use crate::proto::MAX_BODY;

const GROUP: &str = "Connections";

/// The group's settings.
pub(super) const SETTINGS: &[Setting] = &[
    number(
        GROUP,
        "TIDEGATE_FRAME_TIMEOUT_MS",
        "10000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "Time from a frame's first byte to its last.",
        millis!(frame_timeout),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_HEARTBEAT_MS",
        "30000",
        "milliseconds",
        (1, at::MAX_HEARTBEAT_MS as u64),
        "Silence after which the server sends PING.",
        millis!(heartbeat),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_HEARTBEAT_MISSES",
        "2",
        "intervals",
        (1, u8::MAX as u64),
        "Silent heartbeat intervals after that PING until the connection is IDLE and closed.",
        of_server!(heartbeat_misses: u8),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_MAX_PAYLOAD",
        "65535",
        "bytes",
        (at::MIN_MAX_PAYLOAD as u64, MAX_BODY as u64),
        "The largest body of a frame.",
        of_server!(max_payload: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_MAX_IN_FLIGHT",
        "64",
        "requests",
        (1, at::MAX_IN_FLIGHT as u64),
        "Requests of one connection that wait for an answer; above, it is not read.",
        of_server!(max_in_flight: u16),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_OUTBOUND_LOW",
        "65536",
        "bytes",
        (1, at::MAX_OUTBOUND as u64),
        "Unsent bytes at which a paused connection is read again.",
        of_server!(outbound_low: usize),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_OUTBOUND_HIGH",
        "262144",
        "bytes",
        (1, at::MAX_OUTBOUND as u64),
        "Unsent bytes above which a connection is not read.",
        of_server!(outbound_high: usize),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_OUTBOUND_MAX",
        "1048576",
        "bytes",
        (1, at::MAX_OUTBOUND as u64),
        "Unsent bytes above which a connection is cut.",
        of_server!(outbound_max: usize),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_SLOW_CONSUMER_MS",
        "10000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "How long a connection may take none of what it is sent until it is cut.",
        millis!(slow_consumer),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_OUTBOUND_AGE_MS",
        "120000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "How long a connection may be behind with what it is sent, though it takes some, until it is cut.",
        millis!(outbound_age),
    )
    .live(),
];
