//! The audit log: one fsynced JSON line for each start, shutdown, worker's panic, and for what an operator did.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use crate::time::rfc3339;

/// The log's name in the data directory.
pub const FILE_NAME: &str = "audit.jsonl";

/// A line that is longer is not one of ours, and is skipped without being read into memory.
const MAX_LINE: usize = 1 << 20;

/// Bytes that are read at a time, from the end.
const BLOCK: usize = 64 * 1024;

/// The record of starts and shutdowns that outlives the process. Any thread may write to it.
///
/// Open, it holds a lock on its file, so that two servers can't share a data directory.
#[derive(Debug)]
pub struct AuditLog {
    file: Option<Mutex<LogFile>>,
    service_id: String,
}

#[derive(Debug)]
struct LogFile {
    file: File,
    path: PathBuf,
    /// The file ends within a line: the next write ends it first.
    torn: bool,
}

impl AuditLog {
    /// Opens `audit.jsonl` in `dir`; makes both where they are missing. `service_id` goes into every line.
    ///
    /// # Errors
    /// The file can't be made, opened or locked, or another tidegate has it.
    pub fn open(dir: &Path, service_id: &str) -> Result<AuditLog, AuditError> {
        let at = |path: &Path, doing| {
            let path = path.to_owned();
            move |source| AuditError::Io { doing, path, source }
        };
        let made = !dir.exists();
        fs::DirBuilder::new().recursive(true).mode(0o750).create(dir).map_err(at(dir, "make the data directory"))?;
        let path = dir.join(FILE_NAME);
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(0o640);
        let file = file.open(&path).map_err(at(&path, "open the audit log"))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => AuditError::InUse { dir: dir.to_owned() },
            TryLockError::Error(source) => AuditError::Io { doing: "lock the audit log", path: path.clone(), source },
        })?;
        // A new name is on disk only when its directory is.
        sync_dir(dir).map_err(at(dir, "sync the data directory"))?;
        if made {
            sync_parent(dir);
        }
        let torn = ends_within_a_line(&file).map_err(at(&path, "read the audit log"))?;
        Ok(AuditLog { file: Some(Mutex::new(LogFile { file, path, torn })), service_id: service_id.to_owned() })
    }

    /// The log of a server without a data directory: nothing is written.
    pub fn none() -> AuditLog {
        AuditLog { file: None, service_id: String::new() }
    }

    /// Records that the server starts. If the last start has no shutdown, records that one first,
    /// with `reason` `crash` and `started`, the start's timestamp; this is also what is returned.
    ///
    /// # Errors
    /// The log can't be read or written.
    pub fn start(&self) -> Result<Option<String>, AuditError> {
        let Some(file) = &self.file else { return Ok(None) };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last_run(&file.file).map_err(|source| file.error("read the audit log", source))?;
        let crashed = match last {
            LastRun::NeverStarted | LastRun::ShutDown => None,
            LastRun::Running { started } => Some(started),
        };
        if let Some(started) = &crashed {
            let line = Line { started: Some(started), ..self.line("shutdown", "crash") };
            file.append(&line)?;
        }
        file.append(&self.line("start", "start"))?;
        Ok(crashed)
    }

    /// Records the end, with the ledger and the exit code that it asks for. `reason` is `admin`,
    /// `signal:SIGTERM` and the like.
    ///
    /// # Errors
    /// The line can't be written, or not be brought to the disk.
    pub fn shutdown(&self, reason: &str, ledger: &Ledger) -> Result<(), AuditError> {
        let exit_code = Some(ledger.exit_code());
        self.append(&Line { exit_code, ledger: Some(ledger), ..self.line("shutdown", reason) })
    }

    /// Records that `worker` panicked with `message`.
    ///
    /// # Errors
    /// The line can't be written, or not be brought to the disk.
    pub fn worker_panic(&self, worker: usize, message: &str) -> Result<(), AuditError> {
        self.append(&Line { worker: Some(worker), message: Some(message), ..self.line("worker_panic", "panic") })
    }

    /// Records something else that an operator may have to answer for: `details` gives the line's own
    /// fields. It may be neither a `start` nor a `shutdown`.
    ///
    /// # Errors
    /// The line can't be written, or not be brought to the disk.
    pub fn record(&self, event_type: &str, reason: &str, details: &impl Serialize) -> Result<(), AuditError> {
        debug_assert!(!matches!(event_type, "start" | "shutdown"), "these have methods of their own");
        self.append(&Detailed { line: self.line(event_type, reason), details })
    }

    fn append(&self, line: &impl Serialize) -> Result<(), AuditError> {
        match &self.file {
            Some(file) => file.lock().unwrap_or_else(PoisonError::into_inner).append(line),
            None => Ok(()),
        }
    }

    fn line<'a>(&'a self, event_type: &'a str, reason: &'a str) -> Line<'a> {
        Line {
            timestamp: rfc3339(SystemTime::now()),
            event_type,
            service_id: &self.service_id,
            reason,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            started: None,
            worker: None,
            message: None,
            exit_code: None,
            ledger: None,
        }
    }
}

/// The audit log can't be used.
#[derive(Debug)]
pub enum AuditError {
    /// Another process holds the lock.
    InUse {
        /// The data directory.
        dir: PathBuf,
    },
    /// The system refused.
    Io {
        /// What was tried, to follow "cannot".
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuditError::InUse { dir } => write!(
                f,
                "another tidegate uses the data directory {}: stop it, or choose another TIDEGATE_DATA_DIR",
                dir.display()
            ),
            AuditError::Io { doing, path, source } => {
                write!(f, "cannot {doing} {}: {source}; see TIDEGATE_DATA_DIR", path.display())
            }
        }
    }
}

impl std::error::Error for AuditError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AuditError::InUse { .. } => None,
            AuditError::Io { source, .. } => Some(source),
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    event_type: &'a str,
    service_id: &'a str,
    reason: &'a str,
    version: &'a str,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    #[serde(flatten)]
    ledger: Option<&'a Ledger>,
}

#[derive(Serialize)]
struct Detailed<'a, D: Serialize> {
    #[serde(flatten)]
    line: Line<'a>,
    #[serde(flatten)]
    details: &'a D,
}

impl LogFile {
    fn append(&mut self, line: &impl Serialize) -> Result<(), AuditError> {
        let mut bytes = if self.torn { vec![b'\n'] } else { Vec::new() };
        let written = serde_json::to_writer(&mut bytes, line).map_err(io::Error::from).and_then(|()| {
            bytes.push(b'\n');
            // Whatever fails from here on may leave a part of the line behind.
            self.torn = true;
            // Whole in one call, unless the disk is full.
            self.file.write_all(&bytes)?;
            self.torn = false;
            self.file.sync_data()
        });
        written.map_err(|source| self.error("write the audit log", source))
    }

    fn error(&self, doing: &'static str, source: io::Error) -> AuditError {
        AuditError::Io { doing, path: self.path.clone(), source }
    }
}

#[derive(Debug, PartialEq)]
enum LastRun {
    NeverStarted,
    ShutDown,
    /// It started then, and nobody recorded its end.
    Running {
        started: String,
    },
}

/// What is read of a line.
#[derive(Deserialize)]
struct Seen {
    timestamp: String,
    event_type: String,
}

/// Looks for the last start or shutdown, line by line from the end. Never holds more than a line and a block.
fn last_run(file: &File) -> io::Result<LastRun> {
    let mut at = file.metadata()?.len();
    // The bytes from `at` to the end of the line that is looked for.
    let mut tail: Vec<u8> = Vec::new();
    let mut skipping = false;
    loop {
        while let Some(newline) = tail.iter().rposition(|b| *b == b'\n') {
            let seen = if skipping { None } else { event(&tail[newline + 1..]) };
            if let Some(run) = seen {
                return Ok(run);
            }
            skipping = false;
            tail.truncate(newline);
        }
        if tail.len() > MAX_LINE {
            skipping = true;
        }
        if skipping {
            tail.clear();
        }
        if at == 0 {
            return Ok(event(&tail).filter(|_| !skipping).unwrap_or(LastRun::NeverStarted));
        }
        let from = at.saturating_sub(BLOCK as u64);
        let mut block = vec![0; (at - from) as usize];
        file.read_exact_at(&mut block, from)?;
        block.append(&mut tail);
        (tail, at) = (block, from);
    }
}

/// What a line says of the last run; nothing if it is no start or shutdown, or torn.
fn event(line: &[u8]) -> Option<LastRun> {
    let seen: Seen = serde_json::from_slice(line).ok()?;
    match seen.event_type.as_str() {
        "start" => Some(LastRun::Running { started: seen.timestamp }),
        "shutdown" => Some(LastRun::ShutDown),
        _ => None,
    }
}

fn ends_within_a_line(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Best effort: whoever may make a directory in another may not always open that one.
fn sync_parent(dir: &Path) {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(error) = sync_dir(parent) {
        log::debug!(file:% = parent.display(); "cannot sync {}: {error}", parent.display());
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
