//! How the server goes.

use super::{Field, Setting, millis, number};
use crate::limits as at;

const GROUP: &str = "Drain";

/// The group's settings.
pub(super) const SETTINGS: &[Setting] = &[
    number(
        GROUP,
        "TIDEGATE_DRAIN_TIMEOUT_MS",
        "25000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "From the signal until whatever is left is cut.",
        millis!(drain_timeout),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_DRAIN_ANNOUNCE_MS",
        "0",
        "milliseconds",
        (0, at::MAX_TIMER_MS as u64),
        "How long the server is not ready but still accepts, so that balancers look away first.",
        millis!(drain_announce),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_DRAIN_NOTICE_MS",
        "1000",
        "milliseconds",
        (0, at::MAX_TIMER_MS as u64),
        "From the notice that clients should move to the last request accepted.",
        millis!(drain_notice),
    )
    .live(),
];
