//! Where connections come from.

use super::{Field, Setting, live_text, millis, number, of_server, text};
use crate::config::{AdminAuth, parse};
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
        "Address of the admin port; on other than loopback addresses all but probes and metrics wants a token.",
        parse::admin,
        |c| c.admin.map_or("off".to_owned(), |address| address.to_string()),
    ),
    live_text(
        text(
            GROUP,
            "TIDEGATE_ADMIN_TOKEN_FILE",
            "",
            "the path of a file with a token of 16 to 1024 printable characters in its first line",
            "The file of the token that an operator has to show at the admin port.",
            parse::admin_token_file,
            |c| match &c.admin_auth {
                AdminAuth::File(path) => parse::show_path(Some(path)),
                _ => String::new(),
            },
        ),
        |to, from| to.admin_auth.clone_from(&from.admin_auth),
    ),
    live_text(
        text(
            GROUP,
            "TIDEGATE_ADMIN_TOKEN",
            "",
            "a token of 16 to 1024 printable characters",
            "The same token itself, where it can't be in a file; never a flag.",
            parse::admin_token,
            |c| match &c.admin_auth {
                AdminAuth::Token(_) => "<hidden>".to_owned(),
                _ => String::new(),
            },
        )
        .secret(),
        |to, from| to.admin_auth.clone_from(&from.admin_auth),
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
const _: () = assert!(*at::ADMIN_TOKEN_CHARS.start() == 16 && *at::ADMIN_TOKEN_CHARS.end() == 1024);
