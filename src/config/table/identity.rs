//! Who gets in, and who this is.

use super::{Field, Setting, live_text, millis, number, of_server, seconds, text};
use crate::config::{JwtAlgorithm, JwtSettings, parse};
use crate::limits as at;

const GROUP: &str = "Identity";
const CLAIM: &str = "1 to 256 characters without spaces";

/// The group's settings.
pub(super) const SETTINGS: &[Setting] = &[
    text(
        GROUP,
        "TIDEGATE_AUTH",
        "none",
        "none, tokens or jwt",
        "Who gets in: everybody, bearers of a token in the tokens file, or of a JSON Web Token.",
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
    live_text(
        text(
            GROUP,
            "TIDEGATE_JWT_KEY_FILE",
            "",
            "the path of a file with a public key in PEM, or a secret of 32 bytes and more",
            "The key that JSON Web Tokens are signed with.",
            parse::jwt_key_file,
            |c| parse::show_path(c.auth.jwt().and_then(|jwt| jwt.key_file())),
        ),
        |to, from| to.auth.take(&from.auth),
    ),
    live_text(
        text(
            GROUP,
            "TIDEGATE_JWT_KEYS_DIR",
            "",
            "the path of a directory with such files, each named as its kid, with any extension",
            "The keys that JSON Web Tokens are signed with, where there are several.",
            parse::jwt_keys_dir,
            |c| parse::show_path(c.auth.jwt().and_then(|jwt| jwt.keys_dir())),
        ),
        |to, from| to.auth.take(&from.auth),
    ),
    live_text(
        text(
            GROUP,
            "TIDEGATE_JWT_ALGORITHM",
            "",
            "a comma list of HS256, RS256, ES256 and EdDSA",
            "How JSON Web Tokens are signed, and no other way.",
            parse::jwt_algorithm,
            |c| {
                let names = |jwt: &JwtSettings| jwt.algorithms.iter().map(JwtAlgorithm::name).collect::<Vec<_>>();
                c.auth.jwt().map_or_else(String::new, |jwt| names(jwt).join(","))
            },
        ),
        |to, from| to.auth.take(&from.auth),
    ),
    live_text(
        text(
            GROUP,
            "TIDEGATE_JWT_AUDIENCE",
            "",
            CLAIM,
            "The audience that JSON Web Tokens have to name; not set: those that name one are refused.",
            parse::jwt_audience,
            |c| c.auth.jwt().and_then(|jwt| jwt.audience.clone()).unwrap_or_default(),
        ),
        |to, from| to.auth.take(&from.auth),
    ),
    live_text(
        text(
            GROUP,
            "TIDEGATE_JWT_ISSUER",
            "",
            CLAIM,
            "The issuer that JSON Web Tokens have to name; not set: any.",
            parse::jwt_issuer,
            |c| c.auth.jwt().and_then(|jwt| jwt.issuer.clone()).unwrap_or_default(),
        ),
        |to, from| to.auth.take(&from.auth),
    ),
    number(
        GROUP,
        "TIDEGATE_JWT_LEEWAY_S",
        "60",
        "seconds",
        (0, at::MAX_JWT_LEEWAY_S),
        "By how much the clock of whoever issues tokens may be ahead or behind.",
        seconds!(jwt_leeway),
    )
    .live(),
    live_text(
        text(
            GROUP,
            "TIDEGATE_AUTH_EXPIRY",
            "close",
            "close or keep",
            "What becomes of a connection whose token expires; close: it gets GOAWAY, and time to come back with another.",
            parse::auth_expiry,
            |c| c.auth_expiry.name().to_owned(),
        ),
        |to, from| to.auth_expiry = from.auth_expiry,
    ),
    number(
        GROUP,
        "TIDEGATE_AUTH_EXPIRY_GRACE_MS",
        "10000",
        "milliseconds",
        (0, at::MAX_TIMER_MS as u64),
        "How long such a connection is still served.",
        millis!(auth_expiry_grace),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_AUTH_FAILURES_FREE",
        "10",
        "failures",
        (0, at::MAX_AUTH_FAILURES as u64),
        "Failed logins of one source (an IPv4 address, an IPv6 /64) that are answered at once.",
        of_server!(auth_failures_free: u32),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_AUTH_FAILURES_DELAY_MS",
        "250",
        "milliseconds",
        (0, at::MAX_TIMER_MS as u64),
        "By how much the next answer is put off, and the one after it by twice that, and so on; 0: none is.",
        millis!(auth_failures_delay),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_AUTH_FAILURES_MAX_DELAY_MS",
        "4000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "The longest such delay; one failure is forgotten in this time.",
        millis!(auth_failures_max_delay),
    )
    .live(),
    number(
        GROUP,
        "TIDEGATE_AUTH_FAILURES_REFUSE",
        "100",
        "failures",
        (0, at::MAX_AUTH_FAILURES as u64),
        "Failed logins from which on a source's tokens are not checked until some are forgotten; 0: they always are.",
        of_server!(auth_failures_refuse: u32),
    )
    .live(),
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
const _: () = assert!(at::MAX_NAME_CHARS == 128 && at::MAX_CLAIM_CHARS == 256);
