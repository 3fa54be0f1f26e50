//! What is written down.

use super::{Setting, live_text, text};
use crate::config::parse;

const GROUP: &str = "Records";

/// The group's settings.
pub(super) const SETTINGS: &[Setting] = &[
    text(
        GROUP,
        "TIDEGATE_DATA_DIR",
        "",
        "the path of a directory",
        "Where the audit log is kept; not set: there is none.",
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
];
