//! Where connections come from.

use super::{Field, Setting, millis, number, of_server, text};
use crate::config::parse;
use crate::limits as at;

const GROUP: &str = "Network";

/// The group's settings.
pub(super) const SETTINGS: &[Setting] = &[
    text(
        GROUP,
        "TIDEGATE_LISTEN",
        "127.0.0.1:7400",
        "a comma list of up to 8 addresses such as 127.0.0.1:7400 or [::1]:7400",
        "Addresses that every worker listens on; port 0 lets the system choose.",
        parse::listen,
        |c| c.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    ),
    text(
        GROUP,
        "TIDEGATE_ADMIN",
        "127.0.0.1:7401",
        "an address such as 127.0.0.1:7401, or off",
        "Address of health, readiness, metrics and drain, which asks nobody who they are.",
        parse::admin,
        |c| c.admin.map_or("off".to_owned(), |address| address.to_string()),
    ),
    number(
        GROUP,
        "TIDEGATE_BACKLOG",
        "4096",
        "connections",
        (1, at::MAX_BACKLOG as u64),
        "Connections that the kernel keeps for one listener until they are accepted.",
        of_server!(backlog: u32),
    ),
    number(
        GROUP,
        "TIDEGATE_LINGER_MS",
        "2000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "How long a half-closed connection is read until its end.",
        millis!(linger),
    )
    .live(),
];

// An accepted form above names a bound in words.
const _: () = assert!(at::MAX_LISTEN_ADDRESSES == 8);
