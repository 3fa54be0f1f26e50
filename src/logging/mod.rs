//! Where log lines go: as JSON or text to standard error, by a thread of their own (cargo feature `logs`).
//!
//! The library itself only uses the `log` facade; whoever embeds it chooses what becomes of the lines.
//! This is what the `tidegate` program chooses, for others to take as well:
//!
//! ```no_run
//! let config = tidegate::config::Config::default();
//! let logs = tidegate::logging::start(&config)?;
//! let server = tidegate::server::Server::builder().config(config).start().unwrap();
//! let ended = server.wait();
//! logs.flush();
//! # Ok::<(), tidegate::logging::AlreadyStarted>(())
//! ```
//!
//! ```text
//! worker ──┐ filter, flood limit, format            one write a line
//! worker ──┼──────────────────────────► queue ──► the thread `logs` ──► standard error
//! pool   ──┘                  full: counted         blocked: alone
//! ```
//!
//! - Nobody but that thread waits for standard error. Where it is a pipe that nobody reads, the queue
//!   fills to [`MAX_LOG_QUEUE_BYTES`](crate::limits::MAX_LOG_QUEUE_BYTES); further lines are dropped, counted, and told of as soon as
//!   something is read again.
//! - Every line is one line, and every JSON line is JSON, whatever bytes clients send: texts have their
//!   bounds ([`crate::limits`]), and what a terminal obeys or a reader takes for the end of a line is escaped.
//! - Lines from the same place in the code are limited (`TIDEGATE_LOG_BURST`), and the others counted.
//! - A panic is a log line like any other.

mod fields;
mod flood;
mod json;
mod logger;
mod panics;
mod printer;
mod queue;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use crate::config::{Config, LogFormat};
use crate::limits::LOG_FLUSH_MS;
use logger::Logger;

/// The target of access lines, to name them in a log filter.
pub const ACCESS: &str = crate::reactor::ACCESS_TARGET;

/// Logging is on. Dropped, it prints what waits, and the counts of what was not printed.
#[derive(Debug)]
#[must_use = "dropped, it flushes"]
pub struct Logging(());

/// Something has set a logger in this process before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyStarted;

impl fmt::Display for AlreadyStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this process logs already: TIDEGATE_LOG and what goes with it is not used")
    }
}

impl std::error::Error for AlreadyStarted {}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Logs to standard error from here on, as `config` wants it; panics, too.
///
/// # Errors
/// The process has a logger, which stays, or no thread for this one.
pub fn start(config: &Config) -> Result<Logging, AlreadyStarted> {
    let mut fresh = false;
    let look = Look {
        service_id: config.service_id.clone(),
        json: config.log_format == LogFormat::Json,
        color: wants_color(),
    };
    let logger = LOGGER.get_or_init(|| {
        fresh = true;
        Logger::new(look, config)
    });
    if !fresh || log::set_logger(logger).is_err() || !printer::start(logger, printer::Stderr) {
        return Err(AlreadyStarted);
    }
    log::set_max_level(logger.level());
    panics::log_them();
    Ok(Logging(()))
}

/// Takes over what can change while it runs: filter and flood limit. Does nothing where
/// [`start`] was not called.
pub fn reload(config: &Config) {
    let Some(logger) = LOGGER.get() else { return };
    logger.reload(config);
    log::set_max_level(logger.level());
}

impl Logging {
    /// Waits until everything logged so far is printed, the counts of what was limited included; at
    /// most [`LOG_FLUSH_MS`]. Whether it was.
    pub fn flush(&self) -> bool {
        let Some(logger) = LOGGER.get() else { return true };
        logger.tell_all_counts();
        logger.flush(Duration::from_millis(LOG_FLUSH_MS))
    }

    /// Whether lines are JSON.
    pub fn are_json(&self) -> bool {
        LOGGER.get().is_some_and(Logger::is_json)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What lines look like.
#[derive(Clone, Debug)]
struct Look {
    service_id: String,
    json: bool,
    color: bool,
}

/// On a terminal that has colours, for somebody who did not say no (<https://no-color.org>).
fn wants_color() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stderr().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}
