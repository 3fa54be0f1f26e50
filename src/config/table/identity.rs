//! Who gets in, and who this is.

use super::{Field, Setting, live_text, millis, number, text};
use crate::config::parse;
use crate::limits as at;

const GROUP: &str = "Identity";

/// The group's settings.
pub(super) const SETTINGS: &[Setting] = &[
    text(
        GROUP,
        "TIDEGATE_AUTH",
        "none",
        "none or tokens",
        "Who gets in: everybody, or bearers of a token in the tokens file.",
        parse::auth,
        |c| c.auth.name().to_owned(),
    ),
    live_text(
        text(
            GROUP,
            "TIDEGATE_TOKENS_FILE",
            "",
            "the path of a file with lines of `principal sha256:<64 hex digits>`",
            "The file of tokens' digests; `tidegate token` makes a token and its line.",
            parse::tokens_file,
            |c| parse::show_path(c.auth.tokens_file()),
        ),
        |to, from| to.auth.take(&from.auth),
    ),
    text(
        GROUP,
        "TIDEGATE_INSECURE",
        "no",
        "yes or no",
        "yes: with TIDEGATE_AUTH=none, listen on other than loopback addresses all the same.",
        parse::insecure,
        |c| if c.insecure { "yes".to_owned() } else { "no".to_owned() },
    ),
    text(
        GROUP,
        "TIDEGATE_SERVICE_ID",
        "tidegate",
        "1 to 128 printable characters without spaces",
        "This server's name in the audit log and in logs.",
        parse::service_id,
        |c| c.service_id.clone(),
    ),
    number(
        GROUP,
        "TIDEGATE_WATCH_MS",
        "5000",
        "milliseconds",
        (0, at::MAX_TIMER_MS as u64),
        "How often files of secrets are looked at for a change, and read again; 0: only at SIGHUP.",
        millis!(watch),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_AUTH_TIMEOUT_MS",
        "5000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "Time from accept to a complete AUTH.",
        millis!(auth_timeout),
    )
    .live(),
];

// An accepted form above names a bound in words.
const _: () = assert!(at::MAX_NAME_CHARS == 128);
