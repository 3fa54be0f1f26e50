//! What is asked of the kernel for every connection.

use super::{Field, Setting, number, text};
use crate::config::parse;
use crate::limits as at;

const GROUP: &str = "Sockets";

/// A number field of [`crate::config::Sockets`].
macro_rules! of_sockets {
    ($field:ident: $type:ty) => {
        Field::Server { set: |c, n| c.sockets.$field = n as $type, get: |c| c.sockets.$field as u64 }
    };
}

/// The group's settings.
pub(super) const SETTINGS: &[Setting] = &[
    number(
        GROUP,
        "TIDEGATE_SO_RCVBUF",
        "0",
        "bytes",
        (0, at::MAX_SOCKET_BUFFER as u64),
        "Receive buffer of a connection in the kernel; 0: the kernel adapts it.",
        of_sockets!(receive_buffer: usize),
    ),
    number(
        GROUP,
        "TIDEGATE_SO_SNDBUF",
        "0",
        "bytes",
        (0, at::MAX_SOCKET_BUFFER as u64),
        "Send buffer of a connection in the kernel; 0: the kernel adapts it.",
        of_sockets!(send_buffer: usize),
    ),
    text(
        GROUP,
        "TIDEGATE_TCP_NODELAY",
        "yes",
        "yes or no",
        "no: small frames wait for the acknowledgement of those before them (Nagle's algorithm).",
        parse::nodelay,
        |c| if c.sockets.nodelay { "yes".to_owned() } else { "no".to_owned() },
    ),
    number(
        GROUP,
        "TIDEGATE_TCP_USER_TIMEOUT_MS",
        "0",
        "milliseconds",
        (0, at::MAX_TIMER_MS as u64),
        "How long what was sent may be unacknowledged until the kernel gives the connection up; 0: as it does by \
         itself, some 15 minutes.",
        of_sockets!(user_timeout_ms: u32),
    ),
    number(
        GROUP,
        "TIDEGATE_TCP_KEEPALIVE_S",
        "0",
        "seconds",
        (0, at::MAX_KEEPALIVE_S as u64),
        "Silence after which the kernel asks whether the peer is there; 0: never, heartbeats do it and see the \
         application too.",
        of_sockets!(keepalive_s: u32),
    ),
    number(
        GROUP,
        "TIDEGATE_TCP_KEEPALIVE_INTERVAL_S",
        "30",
        "seconds",
        (1, at::MAX_KEEPALIVE_S as u64),
        "Time between such questions.",
        of_sockets!(keepalive_interval_s: u32),
    ),
    number(
        GROUP,
        "TIDEGATE_TCP_KEEPALIVE_COUNT",
        "4",
        "questions",
        (1, at::MAX_KEEPALIVE_COUNT as u64),
        "Such questions without an answer until the connection is gone.",
        of_sockets!(keepalive_count: u32),
    ),
    number(
        GROUP,
        "TIDEGATE_TCP_DEFER_ACCEPT_S",
        "0",
        "seconds",
        (0, at::MAX_DEFER_ACCEPT_S as u64),
        "How long a client that has said nothing is kept in the kernel and not accepted, rounded up to one less than a \
         power of two; a drain waits up to half of it for such clients. 0: everybody is accepted at once.",
        of_sockets!(defer_accept_s: u32),
    ),
    text(
        GROUP,
        "TIDEGATE_STEERING",
        "kernel",
        "kernel or cpu",
        "Which worker a connection lands on: any, or the one pinned to the CPU that took its first packet.",
        parse::steering,
        |c| c.sockets.steering.name().to_owned(),
    ),
];
