//! What a log is told, and what it answers: options, progress, errors.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::TopicPattern;
use crate::config::{Config, SinkKind};

/// One route, as far as the log has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRoute {
    /// Its topics. The first route that matches a topic is its route.
    pub pattern: TopicPattern,
    /// The journal itself is the store: nothing is pending, and retention decides.
    pub keeps: bool,
}

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes of a segment, at least [`crate::limits::MIN_SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// Bytes of all segments together. At least four segments; a smaller one gives smaller segments.
    pub max_bytes: u64,
    /// Bytes that are left free on the disk.
    pub min_free_bytes: u64,
    /// How long messages of routes that keep them, and of no route, are kept.
    pub retain: Duration,
    /// Bytes of the log above which the oldest of those go earlier.
    pub retain_bytes: u64,
    /// How long an idempotency key is remembered.
    pub dedup_window: Duration,
    /// How many are.
    pub dedup_max: usize,
    /// Where messages go. No more than [`crate::limits::MAX_SINK_ROUTES`].
    pub routes: Vec<LogRoute>,
}

impl LogOptions {
    /// As the settings have them.
    pub fn of(config: &Config) -> LogOptions {
        let routes = config.sinks.iter();
        LogOptions {
            segment_bytes: config.journal_segment_bytes,
            max_bytes: config.journal_max_bytes,
            min_free_bytes: config.journal_min_free_bytes,
            retain: config.journal_retain,
            retain_bytes: config.journal_retain_bytes,
            dedup_window: config.dedup_window,
            dedup_max: config.dedup_max,
            routes: routes
                .map(|r| LogRoute { pattern: r.pattern.clone(), keeps: r.sink.kind == SinkKind::None })
                .collect(),
        }
    }

    /// The route of a topic; their number, if no pattern matches.
    pub fn route_of(&self, topic: &str) -> usize {
        self.routes.iter().position(|route| route.pattern.matches(topic)).unwrap_or(self.routes.len())
    }

    /// Whether messages of a route are pending until it has progressed. A pattern's second route never has any.
    pub(super) fn delivers(&self, route: usize) -> bool {
        let Some(LogRoute { pattern, keeps: false }) = self.routes.get(route) else { return false };
        self.routes.iter().position(|other| other.pattern == *pattern) == Some(route)
    }

    /// With segments that fit the log several times.
    pub(super) fn bounded(self) -> LogOptions {
        let segment_bytes =
            self.segment_bytes.min(self.max_bytes / 4).clamp(16 << 10, crate::limits::MAX_SEGMENT_BYTES);
        LogOptions { segment_bytes, ..self }
    }
}

/// How far a route is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages of the route up to this id are done.
    pub upto: u64,
    /// And these above it, sorted. Of more than the log has room for, the highest are not stored: after a
    /// restart they are delivered again.
    pub beyond: Vec<u64>,
}

impl Progress {
    /// Whether a message of the route is done.
    pub fn has(&self, id: u64) -> bool {
        id <= self.upto || self.beyond.binary_search(&id).is_ok()
    }
}

/// A message that goes with the next commit, or is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Its id; of a duplicate, that of the first one.
    pub id: u64,
    /// Its route: an index into [`LogOptions::routes`]; their number, if no pattern matches.
    pub route: usize,
    /// Its principal has sent its key before. The first one may be in the very commit that is being
    /// filled: the answer to a duplicate, too, waits for the commit.
    pub duplicate: bool,
}

/// The log has no room, and why: in words, for a log line or a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom(pub Arc<str>);

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the journal has no room: {}", self.0)
    }
}

impl std::error::Error for NoRoom {}

/// A commit did not happen.
#[derive(Debug)]
pub enum CommitError {
    /// There was no room: nothing of it is stored. May be tried again when [`super::Log::full`] has ended.
    NoRoom(NoRoom),
    /// The disk has failed. Nothing is known of what is stored of it, and nothing is stored any more.
    Failed(io::Error),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitError::NoRoom(why) => why.fmt(f),
            CommitError::Failed(source) => write!(f, "the journal's disk has failed: {source}"),
        }
    }
}

impl std::error::Error for CommitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CommitError::NoRoom(_) => None,
            CommitError::Failed(source) => Some(source),
        }
    }
}

/// What is wrong with a file of the journal, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file.
    pub file: String,
    /// From which byte on.
    pub offset: u64,
    /// What is wrong, in words.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}", self.file, self.offset, self.what)
    }
}

/// A log can't be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Messages that were acknowledged may be lost: the operator has to choose.
    Damaged(Damage),
    /// The system refused.
    Io {
        /// What was tried, to follow "cannot".
        doing: &'static str,
        /// With which file; empty: the directory.
        file: String,
        /// What the system says.
        source: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Damaged(damage) => write!(
                f,
                "the journal's file {damage}; `tidegate journal verify` lists all damage, `tidegate journal repair` \
                 sets it aside and keeps the rest"
            ),
            OpenError::Io { doing, file, source } if file.is_empty() => {
                write!(f, "cannot {doing} of the journal: {source}")
            }
            OpenError::Io { doing, file, source } => write!(f, "cannot {doing} {file} of the journal: {source}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Damaged(_) => None,
            OpenError::Io { source, .. } => Some(source),
        }
    }
}

/// The end of the log that a start has cut: never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment's file.
    pub file: String,
    /// From which byte on.
    pub offset: u64,
    /// How many there were.
    pub bytes: u64,
}

/// What a start has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments with records.
    pub segments: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of records read and verified.
    pub bytes: u64,
    /// What was cut off the end.
    pub cut: Option<Cut>,
    /// Messages that are still to be delivered, by route.
    pub unfinished: Vec<u64>,
}
