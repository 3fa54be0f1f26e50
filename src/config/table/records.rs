//! What is written down.

use super::{Field, Setting, live_text, millis, number, of_server, text};
use crate::config::parse;
use crate::limits as at;

const GROUP: &str = "Records";

/// The group's settings.
pub(super) const SETTINGS: &[Setting] = &[
    text(
        GROUP,
        "TIDEGATE_DATA_DIR",
        "",
        "the path of a directory",
        "Where the journal, the sessions and the audit log are kept; not set: none of them is.",
        parse::data_dir,
        |c| parse::show_path(c.data_dir.as_deref()),
    ),
    live_text(
        text(
            GROUP,
            "TIDEGATE_LOG",
            "info",
            "a level (off, error, warn, info, debug, trace) or a comma list of levels and module=level",
            "Which log lines are printed.",
            parse::log,
            |c| c.log.clone(),
        ),
        |to, from| to.log = from.log.clone(),
    ),
    text(
        GROUP,
        "TIDEGATE_LOG_FORMAT",
        "text",
        "text or json",
        "What log lines look like: text for people, or one JSON object a line.",
        parse::log_format,
        |c| c.log_format.name().to_owned(),
    ),
    number(
        GROUP,
        "TIDEGATE_LOG_BURST",
        "100",
        "lines",
        (0, at::MAX_LOG_BURST as u64),
        "Log lines from one place in the code within an interval; further ones are counted; 0: no limit.",
        of_server!(log_burst: u32),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_LOG_INTERVAL_MS",
        "10000",
        "milliseconds",
        (at::MIN_LOG_INTERVAL_MS, at::MAX_LOG_INTERVAL_MS),
        "That interval; at its end the count of the others is logged.",
        millis!(log_interval),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_ACCESS_LOG_RATE",
        "0",
        "lines a second",
        (0, at::MAX_ACCESS_LOG_RATE as u64),
        "Access lines (one for a request, target tidegate::access) that each worker logs; 0: none.",
        of_server!(access_log_rate: u32),
    )
    .live(),
];
