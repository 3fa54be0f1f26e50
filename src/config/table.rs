//! The one table of settings: flags, help, the README and the parser all come from it.

use std::time::Duration;

use super::Config;
use super::parse::{self, Draft};
use crate::limits as at;
use crate::proto::MAX_BODY;

/// One thing that the operator may set.
pub struct Setting {
    /// The environment variable.
    pub env: &'static str,
    /// Settings of one group stand together in help.
    pub group: &'static str,
    /// The default as an operator would write it; empty: not set.
    pub default: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// A whole number within bounds.
    Number { unit: &'static str, min: u64, max: u64, set: fn(&mut Config, u64) },
    /// Anything else. An error from `set` is a detail to follow the accepted form; it may be empty.
    Text { form: &'static str, set: fn(&mut Draft<'_>, &str) -> Result<(), String> },
}

impl Setting {
    /// The flag of `tidegate serve`, without its dashes: `TIDEGATE_CORE_MAILBOX` is `core-mailbox`.
    pub fn flag(&self) -> String {
        self.env.trim_start_matches("TIDEGATE_").to_ascii_lowercase().replace('_', "-")
    }

    /// The accepted form with its unit and bounds, to follow the word "expected".
    pub fn accepted(&self) -> String {
        match self.kind {
            Kind::Number { unit, min, max, .. } => format!("a number of {unit}, {min} to {max}"),
            Kind::Text { form, .. } => form.to_owned(),
        }
    }
}

/// The settings as a Markdown table, for the README.
pub fn markdown_table() -> String {
    let mut table = String::from("| Variable | What it is | Accepted | Default |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { "not set".to_owned() } else { format!("`{}`", setting.default) };
        table += &format!("| `{}` | {} | {} | {default} |\n", setting.env, setting.help, setting.accepted());
    }
    table
}

/// Every setting, in the order in which help and the README show them.
pub const SETTINGS: &[Setting] = &[
    text(
        NETWORK,
        "TIDEGATE_LISTEN",
        "127.0.0.1:7400",
        "a comma list of up to 8 addresses such as 127.0.0.1:7400 or [::1]:7400",
        "Addresses that every worker listens on; port 0 lets the system choose.",
        parse::listen,
    ),
    text(
        NETWORK,
        "TIDEGATE_ADMIN",
        "127.0.0.1:7401",
        "an address such as 127.0.0.1:7401, or off",
        "Address of health, readiness, metrics and drain, which asks nobody who they are.",
        parse::admin,
    ),
    number(
        NETWORK,
        "TIDEGATE_BACKLOG",
        "4096",
        "connections",
        (1, at::MAX_BACKLOG as u64),
        "Connections that the kernel keeps for one listener until they are accepted.",
        |c, n| c.backlog = n as u32,
    ),
    number(
        NETWORK,
        "TIDEGATE_LINGER_MS",
        "2000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "How long a half-closed connection is read until its end.",
        |c, n| c.linger = ms(n),
    ),
    text(
        WORKERS,
        "TIDEGATE_WORKERS",
        "auto",
        "auto, or a number of workers, 1 to 1024",
        "Worker threads; auto: one for each CPU listed or available.",
        parse::workers,
    ),
    text(
        WORKERS,
        "TIDEGATE_CPUS",
        "auto",
        "auto, off, or a list such as 0-3,6 of CPUs that this process may use",
        "CPUs that workers are pinned to, in turn; auto: those available, or none under a CPU quota.",
        parse::cpus,
    ),
    number(
        WORKERS,
        "TIDEGATE_POOL_THREADS",
        "16",
        "threads",
        (1, at::MAX_POOL_THREADS as u64),
        "Threads for handlers that block.",
        |c, n| c.pool_threads = n as usize,
    ),
    number(
        WORKERS,
        "TIDEGATE_POOL_QUEUE",
        "1024",
        "requests",
        (1, at::MAX_POOL_QUEUE as u64),
        "Requests that wait for such a thread; more are refused as OVERLOADED.",
        |c, n| c.pool_queue = n as usize,
    ),
    number(
        WORKERS,
        "TIDEGATE_CORE_MAX_CONNECTIONS",
        "500000",
        "connections",
        (1, at::MAX_CORE_CONNECTIONS as u64),
        "Connections of one worker; more are refused.",
        |c, n| c.core_max_connections = n as usize,
    ),
    number(
        WORKERS,
        "TIDEGATE_CORE_MAX_SESSIONS",
        "1000000",
        "sessions",
        (1, at::MAX_CORE_SESSIONS as u64),
        "Sessions of one worker, connected or not.",
        |c, n| c.core_max_sessions = n as usize,
    ),
    number(
        WORKERS,
        "TIDEGATE_CORE_MAX_PENDING",
        "65536",
        "requests",
        (1, at::MAX_CORE_PENDING as u64),
        "Requests of one worker that wait for an answer from elsewhere.",
        |c, n| c.core_max_pending = n as usize,
    ),
    number(
        WORKERS,
        "TIDEGATE_CORE_READ_BUDGET",
        "262144",
        "bytes",
        (at::MIN_READ_BUDGET as u64, at::MAX_READ_BUDGET as u64),
        "Bytes that one connection may be read before its neighbours have their turn.",
        |c, n| c.core_read_budget = n as usize,
    ),
    number(
        WORKERS,
        "TIDEGATE_CORE_ACCEPT_BATCH",
        "256",
        "connections",
        (1, at::MAX_ACCEPT_BATCH as u64),
        "Connections that one worker accepts before it serves the others again.",
        |c, n| c.core_accept_batch = n as usize,
    ),
    number(
        WORKERS,
        "TIDEGATE_CORE_BUFFER_BYTES",
        "536870912",
        "bytes",
        (1 << 20, 1 << 40),
        "Memory of one worker for unfinished frames and unsent output; a connection that needs more is ended.",
        |c, n| c.core_buffer_bytes = n as usize,
    ),
    number(
        WORKERS,
        "TIDEGATE_CORE_MAILBOX",
        "4096",
        "messages",
        (1, at::MAX_MAILBOX as u64),
        "Messages from other threads that wait for one worker.",
        |c, n| c.core_mailbox = n as usize,
    ),
    text(
        IDENTITY,
        "TIDEGATE_AUTH",
        "none",
        "none or tokens",
        "Who gets in: everybody, or bearers of a token in the tokens file.",
        parse::auth,
    ),
    text(
        IDENTITY,
        "TIDEGATE_TOKENS_FILE",
        "",
        "the path of a file with lines of `principal sha256:<64 hex digits>`",
        "The file of tokens' digests; `tidegate token` makes a token and its line.",
        parse::tokens_file,
    ),
    text(
        IDENTITY,
        "TIDEGATE_INSECURE",
        "no",
        "yes or no",
        "yes: with TIDEGATE_AUTH=none, listen on other than loopback addresses all the same.",
        parse::insecure,
    ),
    text(
        IDENTITY,
        "TIDEGATE_SERVICE_ID",
        "tidegate",
        "1 to 128 printable characters without spaces",
        "This server's name in the audit log and in logs.",
        parse::service_id,
    ),
    number(
        IDENTITY,
        "TIDEGATE_AUTH_TIMEOUT_MS",
        "5000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "Time from accept to a complete AUTH.",
        |c, n| c.auth_timeout = ms(n),
    ),
    number(
        CONNECTIONS,
        "TIDEGATE_FRAME_TIMEOUT_MS",
        "10000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "Time from a frame's first byte to its last.",
        |c, n| c.frame_timeout = ms(n),
    ),
    number(
        CONNECTIONS,
        "TIDEGATE_HEARTBEAT_MS",
        "30000",
        "milliseconds",
        (1, at::MAX_HEARTBEAT_MS as u64),
        "Silence after which the server sends PING.",
        |c, n| c.heartbeat = ms(n),
    ),
    number(
        CONNECTIONS,
        "TIDEGATE_HEARTBEAT_MISSES",
        "2",
        "intervals",
        (1, u8::MAX as u64),
        "Silent heartbeat intervals after that PING until the connection is IDLE and closed.",
        |c, n| c.heartbeat_misses = n as u8,
    ),
    number(
        CONNECTIONS,
        "TIDEGATE_MAX_PAYLOAD",
        "65535",
        "bytes",
        (at::MIN_MAX_PAYLOAD as u64, MAX_BODY as u64),
        "The largest body of a frame.",
        |c, n| c.max_payload = n as usize,
    ),
    number(
        CONNECTIONS,
        "TIDEGATE_MAX_IN_FLIGHT",
        "64",
        "requests",
        (1, at::MAX_IN_FLIGHT as u64),
        "Requests of one connection that wait for an answer; above, it is not read.",
        |c, n| c.max_in_flight = n as u16,
    ),
    number(
        CONNECTIONS,
        "TIDEGATE_OUTBOUND_LOW",
        "65536",
        "bytes",
        (1, at::MAX_OUTBOUND as u64),
        "Unsent bytes at which a paused connection is read again.",
        |c, n| c.outbound_low = n as usize,
    ),
    number(
        CONNECTIONS,
        "TIDEGATE_OUTBOUND_HIGH",
        "262144",
        "bytes",
        (1, at::MAX_OUTBOUND as u64),
        "Unsent bytes above which a connection is not read.",
        |c, n| c.outbound_high = n as usize,
    ),
    number(
        CONNECTIONS,
        "TIDEGATE_OUTBOUND_MAX",
        "1048576",
        "bytes",
        (1, at::MAX_OUTBOUND as u64),
        "Unsent bytes above which a connection is cut.",
        |c, n| c.outbound_max = n as usize,
    ),
    number(
        CONNECTIONS,
        "TIDEGATE_SLOW_CONSUMER_MS",
        "10000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "How long a connection may take none of what it is sent until it is cut.",
        |c, n| c.slow_consumer = ms(n),
    ),
    number(
        SESSIONS,
        "TIDEGATE_SESSION_TTL_S",
        "300",
        "seconds",
        (1, at::MAX_TIMER_MS as u64 / 1000),
        "How long a session outlives its connection.",
        |c, n| c.session_ttl = Duration::from_secs(n),
    ),
    number(
        SESSIONS,
        "TIDEGATE_SESSION_MAX_ENTRIES",
        "64",
        "keys",
        (1, at::MAX_SESSION_ENTRIES as u64),
        "Keys in one session's state.",
        |c, n| c.session_max_entries = n as usize,
    ),
    number(
        SESSIONS,
        "TIDEGATE_SESSION_MAX_BYTES",
        "16384",
        "bytes",
        (1, at::MAX_SESSION_BYTES as u64),
        "Bytes of keys and values in one session's state.",
        |c, n| c.session_max_bytes = n as usize,
    ),
    number(
        DRAIN,
        "TIDEGATE_DRAIN_TIMEOUT_MS",
        "25000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "From the signal until whatever is left is cut.",
        |c, n| c.drain_timeout = ms(n),
    ),
    number(
        DRAIN,
        "TIDEGATE_DRAIN_ANNOUNCE_MS",
        "0",
        "milliseconds",
        (0, at::MAX_TIMER_MS as u64),
        "How long the server is not ready but still accepts, so that balancers look away first.",
        |c, n| c.drain_announce = ms(n),
    ),
    number(
        DRAIN,
        "TIDEGATE_DRAIN_NOTICE_MS",
        "1000",
        "milliseconds",
        (0, at::MAX_TIMER_MS as u64),
        "From the notice that clients should move to the last request accepted.",
        |c, n| c.drain_notice = ms(n),
    ),
    text(
        RECORDS,
        "TIDEGATE_DATA_DIR",
        "",
        "the path of a directory",
        "Where the audit log is kept; not set: there is none.",
        parse::data_dir,
    ),
    text(
        RECORDS,
        "TIDEGATE_LOG",
        "info",
        "a level (off, error, warn, info, debug, trace) or a comma list of levels and module=level",
        "Which log lines are printed.",
        parse::log,
    ),
];

const NETWORK: &str = "Network";
const WORKERS: &str = "Workers";
const IDENTITY: &str = "Identity";
const CONNECTIONS: &str = "Connections";
const SESSIONS: &str = "Sessions";
const DRAIN: &str = "Drain";
const RECORDS: &str = "Records";

const fn number(
    group: &'static str,
    env: &'static str,
    default: &'static str,
    unit: &'static str,
    (min, max): (u64, u64),
    help: &'static str,
    set: fn(&mut Config, u64),
) -> Setting {
    Setting { env, group, default, help, kind: Kind::Number { unit, min, max, set } }
}

const fn text(
    group: &'static str,
    env: &'static str,
    default: &'static str,
    form: &'static str,
    help: &'static str,
    set: fn(&mut Draft<'_>, &str) -> Result<(), String>,
) -> Setting {
    Setting { env, group, default, help, kind: Kind::Text { form, set } }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

// Two accepted forms above name a bound in words.
const _: () = assert!(at::MAX_LISTEN_ADDRESSES == 8 && at::MAX_WORKERS == 1024 && at::MAX_NAME_CHARS == 128);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_setting_has_a_variable_of_its_own_and_the_flag_derived_from_it() {
        let names: HashSet<_> = SETTINGS.iter().map(|s| s.env).collect();
        assert_eq!(names.len(), SETTINGS.len());
        assert!(SETTINGS.iter().all(|s| s.env.starts_with("TIDEGATE_") && !s.help.is_empty()));
        let budget = SETTINGS.iter().find(|s| s.env == "TIDEGATE_CORE_READ_BUDGET").unwrap();
        assert_eq!(budget.flag(), "core-read-budget");
    }

    #[test]
    fn the_markdown_table_has_a_row_of_four_cells_for_every_setting() {
        let table = markdown_table();
        assert_eq!(table.lines().count(), SETTINGS.len() + 2);
        assert!(table.lines().all(|row| row.matches('|').count() == 5), "{table}");
        for setting in SETTINGS {
            let row = table.lines().find(|row| row.starts_with(&format!("| `{}` |", setting.env))).unwrap();
            assert!(row.contains(&setting.accepted()) && row.contains(setting.help), "{row}");
            assert!(row.ends_with(&format!("| `{}` |", setting.default)) || row.ends_with("| not set |"), "{row}");
        }
    }

    #[test]
    fn the_readme_shows_this_table() {
        let readme = include_str!("../../README.md");
        let start = readme.find("<!-- settings -->\n").unwrap() + "<!-- settings -->\n".len();
        let end = readme.find("<!-- /settings -->").unwrap();
        assert!(readme[start..end] == markdown_table(), "put this between the markers:\n{}", markdown_table());
    }

    #[test]
    fn documented_defaults_are_the_defaults() {
        let documented = Config::from_settings(|_| None).unwrap();
        let auto = Config { workers: documented.workers, cpus: documented.cpus.clone(), ..Config::default() };
        assert_eq!(documented, auto);
    }
}
