//! Where messages go, as `TIDEGATE_SINKS` says it.

use std::fmt;

use super::parse::{quote, redact};
use crate::journal::TopicPattern;

/// One route: the topics meant, and their sink. The first route that matches a topic is its route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkRoute {
    /// Which topics.
    pub pattern: TopicPattern,
    /// Where they go.
    pub sink: SinkSpec,
}

/// A sink, as it is written: its kind, and what follows the colon.
#[derive(Clone, PartialEq, Eq)]
pub struct SinkSpec {
    /// What kind of sink.
    pub kind: SinkKind,
    /// What it is told; each kind has a form of its own.
    pub argument: String,
}

/// The kinds of sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// The journal itself is the store.
    None,
    /// An embedder's consumer, by its name.
    Handler,
    /// JSON lines in a file.
    File,
    /// A command that reads JSON lines.
    Exec,
    /// Redis Streams.
    Redis,
    /// Kafka.
    Kafka,
}

impl SinkKind {
    /// Every kind.
    pub const ALL: [SinkKind; 6] =
        [SinkKind::None, SinkKind::Handler, SinkKind::File, SinkKind::Exec, SinkKind::Redis, SinkKind::Kafka];

    /// As settings have it.
    pub fn name(self) -> &'static str {
        match self {
            SinkKind::None => "none",
            SinkKind::Handler => "handler",
            SinkKind::File => "file",
            SinkKind::Exec => "exec",
            SinkKind::Redis => "redis",
            SinkKind::Kafka => "kafka",
        }
    }
}

/// When SUBMIT is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitAck {
    /// When the message is on the disk.
    Journal,
    /// When its sink has it, too.
    Sink,
}

impl SubmitAck {
    /// As `TIDEGATE_SUBMIT_ACK` has it.
    pub fn name(self) -> &'static str {
        match self {
            SubmitAck::Journal => "journal",
            SubmitAck::Sink => "sink",
        }
    }
}

impl SinkRoute {
    /// Every topic, kept in the journal: the default.
    pub fn keep_all() -> SinkRoute {
        let pattern = TopicPattern::parse("*").unwrap_or_else(|_| unreachable!("a pattern"));
        SinkRoute { pattern, sink: SinkSpec { kind: SinkKind::None, argument: String::new() } }
    }

    /// Reads `orders/#=kafka:…`.
    pub(super) fn parse(text: &str) -> Result<SinkRoute, String> {
        let (pattern, sink) =
            text.split_once('=').ok_or_else(|| format!("{} is not PATTERN=SINK", quote(&redact(text))))?;
        let (kind, argument) = sink.split_once(':').unwrap_or((sink, ""));
        let kind = SinkKind::ALL.into_iter().find(|known| known.name() == kind);
        let kind = kind.ok_or_else(|| format!("of {} the kind of sink is none of those", quote(&redact(pattern))))?;
        let argument = argument.replace("%2C", ",");
        if (kind == SinkKind::None) != argument.is_empty() {
            return Err(match kind {
                SinkKind::None => "none is followed by nothing".to_owned(),
                kind => format!("{}: is to be followed by where that is", kind.name()),
            });
        }
        let sink = SinkSpec { kind, argument };
        Ok(SinkRoute { pattern: TopicPattern::parse(pattern).map_err(|why| redact(&why))?, sink })
    }
}

/// As settings have it, with a password hidden.
impl fmt::Display for SinkRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.sink)
    }
}

impl fmt::Display for SinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if self.argument.is_empty() {
            return Ok(());
        }
        write!(f, ":{}", hide_password(&self.argument).replace(',', "%2C"))
    }
}

impl fmt::Debug for SinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text with the passwords of the URLs in it hidden: `redis://user:<hidden>@host`.
pub(super) fn hide_password(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        // What is hidden is rather too much than too little: whoever writes a password forgets to encode it.
        let end = url.find([',', ' ', '?']).unwrap_or(url.len());
        let login = url[..end].rfind('@').and_then(|host| Some((url[..host].find(':')?, host)));
        let (name, more) = login.map_or((end, end), |(colon, host)| (colon + 1, host));
        shown.extend([before, &url[..name], if login.is_some() { "<hidden>" } else { "" }]);
        rest = &url[more..];
    }
    hide_options(&(shown + rest))
}

/// The same for options: `?rdkafka.sasl.password=<hidden>`.
fn hide_options(text: &str) -> String {
    const SECRETS: [&str; 7] =
        ["password", "secret", "token", "private", "credential", "oauthbearer.config", "key.pem"];
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['?', '&']) {
        let (before, option) = rest.split_at(at + 1);
        shown.push_str(before);
        rest = option;
        let Some((name, value)) = option.split_once('=') else { continue };
        let lower = name.to_ascii_lowercase();
        if !name.contains(['?', '&']) && SECRETS.iter().any(|secret| lower.contains(secret)) {
            // To the next option, and not to a comma, which may be one of the password's.
            shown.extend([name, "=<hidden>"]);
            rest = value.find('&').map_or("", |end| &value[end..]);
        }
    }
    shown + rest
}

/// Where sessions are kept, as `TIDEGATE_SESSION_STORE` says it.
#[derive(Clone, PartialEq, Eq)]
pub enum SessionStoreSpec {
    /// Embedded where there is a data directory, else in memory.
    Auto,
    /// In the workers' memory: gone with the process.
    Memory,
    /// In the data directory.
    Embedded,
    /// In Redis; the URL.
    Redis(String),
    /// In MySQL or MariaDB; the URL.
    MySql(String),
}

impl SessionStoreSpec {
    /// Reads it.
    pub(super) fn parse(text: &str) -> Result<SessionStoreSpec, String> {
        match text {
            "auto" => Ok(SessionStoreSpec::Auto),
            "memory" => Ok(SessionStoreSpec::Memory),
            "embedded" => Ok(SessionStoreSpec::Embedded),
            url if url.starts_with("redis://") || url.starts_with("redis+") => {
                Ok(SessionStoreSpec::Redis(url.to_owned()))
            }
            url if url.starts_with("mysql://") => Ok(SessionStoreSpec::MySql(url.to_owned())),
            _ => Err(String::new()),
        }
    }
}

/// As settings have it, with a password hidden.
impl fmt::Display for SessionStoreSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionStoreSpec::Auto => f.write_str("auto"),
            SessionStoreSpec::Memory => f.write_str("memory"),
            SessionStoreSpec::Embedded => f.write_str("embedded"),
            SessionStoreSpec::Redis(url) | SessionStoreSpec::MySql(url) => f.write_str(&hide_password(url)),
        }
    }
}

impl fmt::Debug for SessionStoreSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (given, shown) in [
            ("redis://u:secret@h:1/0?a=b", "redis://u:<hidden>@h:1/0?a=b"),
            ("redis://:p@ss@h", "redis://:<hidden>@h"),
            ("redis://h:1/a?b=c:d@e", "redis://h:1/a?b=c:d@e"),
            (
                "a=redis:redis://u:1@h,b=redis:redis://u:2@h",
                "a=redis:redis://u:<hidden>@h,b=redis:redis://u:<hidden>@h",
            ),
            ("/var/log/a.jsonl", "/var/log/a.jsonl"),
            ("b1;b2?key=topic&rdkafka.sasl.Password=a,b?c&x=1", "b1;b2?key=topic&rdkafka.sasl.Password=<hidden>&x=1"),
            (
                "redis+sentinel://u:1@h/m?sentinel_password=2",
                "redis+sentinel://u:<hidden>@h/m?sentinel_password=<hidden>",
            ),
            ("token=file:/a?keep=3", "token=file:/a?keep=3"),
        ] {
            assert_eq!(hide_password(given), shown);
        }
        let route = SinkRoute::parse("a/#=redis:redis://u:secret@h:1").unwrap();
        assert_eq!(route.to_string(), "a/#=redis:redis://u:<hidden>@h:1");
        assert!(!format!("{route:?}").contains("secret"));
    }

    #[test]
    fn routes_are_read_and_written_alike() {
        for text in ["*=none", "orders/#=file:/a%2Cb.jsonl", "x=handler:mine"] {
            assert_eq!(SinkRoute::parse(text).unwrap().to_string(), text);
        }
        for wrong in ["", "a", "a=", "a=nothing", "a=none:x", "a=file", "=none", "a*=none"] {
            assert!(SinkRoute::parse(wrong).is_err(), "{wrong}");
        }
    }
}
