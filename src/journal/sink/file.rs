//! The sink `file`: JSON lines ([`crate::journal::json`]), rotated by size.
//!
//! `file:PATH?max_bytes=…&keep=…&sync=…`
//!
//! | option | | default |
//! |---|---|---|
//! | `max_bytes` | a file that a line would make longer than this is renamed to `PATH.000000001` and so on, and a new one begun; 0: never | 268435456 |
//! | `keep` | renamed files that are kept, the oldest are deleted; 0: all are | 0 |
//! | `sync` | `yes`: a message is delivered when it is on the disk (fdatasync after each batch); `no`: when the system has it | yes |
//!
//! Nothing is written twice, also after a crash: what stands in the files and is not known to be delivered is
//! recognised, line by line and byte for byte, and a last line that was torn is cut off. The file is locked against a
//! second writer. One that is moved away (logrotate) is begun anew.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::lines::{Backwards, MAX_LINE};
use super::{Down, Outcome, Sink};
use crate::journal::{Message, json};

/// Lines that are recognised after a crash, at most: older ones were reported long ago.
const MAX_KNOWN: usize = 200_000;
/// Bytes of files that are read to find them.
const MAX_SEARCHED: u64 = 256 << 20;
/// What every line begins with.
const BEGIN: &[u8] = b"{\"id\":";
/// Digits of the number of a renamed file; with more it has more.
const DIGITS: usize = 9;

/// What a `file` sink is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    path: PathBuf,
    max_bytes: u64,
    keep: usize,
    sync: bool,
}

impl Options {
    /// Reads what follows `file:` in `TIDEGATE_SINKS`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(argument: &str) -> Result<Options, String> {
        let (path, options) = match argument.rsplit_once('?') {
            Some((path, options)) if options.contains('=') => (path, options),
            _ => (argument, ""),
        };
        if Path::new(path).file_name().is_none() || path.ends_with('/') {
            return Err(format!("file:{path}: a file's path is wanted"));
        }
        let mut found = Options { path: path.into(), max_bytes: 256 << 20, keep: 0, sync: true };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let wrong = |what: &str| format!("file:{path}: {name}={value}: {what}");
            match (name, value) {
                ("max_bytes", _) => {
                    found.max_bytes = value.parse().map_err(|_| wrong("a number of bytes is wanted"))?;
                    if (1..1024).contains(&found.max_bytes) {
                        return Err(wrong("1024 bytes is the least; 0: the file is never rotated"));
                    }
                }
                ("keep", _) => found.keep = value.parse().map_err(|_| wrong("a number of files is wanted"))?,
                ("sync", "yes" | "no") => found.sync = value == "yes",
                ("sync", _) => return Err(wrong("yes or no is wanted")),
                _ => return Err(wrong("the options are max_bytes, keep and sync")),
            }
        }
        Ok(found)
    }
}

/// JSON lines in a file.
#[derive(Debug)]
pub(super) struct FileSink {
    options: Options,
    file: Option<Current>,
    /// Lines that are there already, by their ids, each as its hash.
    known: HashMap<u64, u64>,
    buffer: Vec<u8>,
}

/// The file that is written to.
#[derive(Debug)]
struct Current {
    file: File,
    /// Device and inode: whether the path still leads to it.
    identity: (u64, u64),
    len: u64,
}

impl FileSink {
    pub fn new(options: Options) -> FileSink {
        FileSink { options, file: None, known: HashMap::new(), buffer: Vec::new() }
    }

    /// Opens the file, made if it is not there, cuts off a torn last line, and brings it to the disk.
    fn open_file(&mut self) -> Result<Current, Down> {
        let path = &self.options.path;
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed("open", path))?;
        let found = file.metadata().map_err(failed("look at", path))?;
        if !found.is_file() {
            return Err(Down(format!("{} is not a plain file", path.display())));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let text = "another process, another route or this server's audit log writes to it: each needs a file of its own";
                return Err(Down(format!("{}: {text}", path.display())));
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed("lock", path)(error)),
        }
        let len = cut_torn_line(&file, found.len(), path)?;
        if self.options.sync {
            file.sync_data().map_err(failed("sync", path))?;
        }
        self.sync_names()?;
        Ok(Current { file, identity: identity(&found), len })
    }

    /// Brings the directory to the disk: the name of the file is there after a crash.
    fn sync_names(&self) -> Result<(), Down> {
        if !self.options.sync {
            return Ok(());
        }
        let dir = self.directory();
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
    }

    fn directory(&self) -> &Path {
        match self.options.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        }
    }

    /// Finds the lines that are not known to be delivered, from the last one back to the first that is.
    fn find_known(&mut self, done: u64) -> Result<(), Down> {
        self.known.clear();
        let mut left = MAX_SEARCHED;
        let mut files = self.rotated()?;
        files.push((u64::MAX, self.options.path.clone()));
        for (_, path) in files.iter().rev() {
            let file = match File::open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("open", path)(error)),
            };
            let mut lines = Backwards::new(file).map_err(failed("read", path))?;
            while let Some(line) = lines.next().map_err(failed("read", path))? {
                left = left.saturating_sub(line.len() as u64);
                let id = line_id(&line);
                if left == 0 || self.known.len() >= MAX_KNOWN || id.is_some_and(|id| id <= done) {
                    return Ok(());
                }
                if let Some(id) = id {
                    self.known.insert(id, hash(&line));
                }
            }
        }
        Ok(())
    }

    /// Files that were renamed, the oldest first, with their numbers.
    fn rotated(&self) -> Result<Vec<(u64, PathBuf)>, Down> {
        let (dir, path) = (self.directory(), &self.options.path);
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
            let name = entry.map_err(failed("list", dir))?.file_name();
            let (Some(name), Some(ours)) = (name.to_str(), path.file_name().and_then(|name| name.to_str())) else {
                continue;
            };
            let digits = name.strip_prefix(ours).and_then(|rest| rest.strip_prefix('.'));
            let number = digits.filter(|digits| digits.len() >= DIGITS && digits.bytes().all(|b| b.is_ascii_digit()));
            if let Some(number) = number.and_then(|digits| digits.parse().ok()) {
                found.push((number, dir.join(name)));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Renames the file and begins a new one. What was written is on the disk.
    fn rotate(&mut self) -> Result<(), Down> {
        let path = self.options.path.clone();
        let mut rotated = self.rotated()?;
        let number = rotated.last().map_or(1, |(number, _)| number.saturating_add(1));
        let mut to = path.clone().into_os_string();
        to.push(format!(".{number:0DIGITS$}"));
        self.file = None;
        fs::rename(&path, &to).map_err(failed("rename", &path))?;
        rotated.push((number, to.into()));
        self.file = Some(self.open_file()?);
        let surplus = if self.options.keep == 0 { 0 } else { rotated.len().saturating_sub(self.options.keep) };
        for (_, old) in rotated.drain(..surplus) {
            // One that can't be deleted is tried again at the next rotation.
            if let Err(error) = fs::remove_file(&old) {
                log::warn!("cannot delete {}, which is more than keep={}: {error}", old.display(), self.options.keep);
            }
        }
        Ok(())
    }

    /// Writes the buffer and brings it to the disk. What was not is cut off again: it will be written anew.
    fn write(&mut self) -> Result<(), Down> {
        let (path, sync) = (&self.options.path, self.options.sync);
        let Some(current) = self.file.as_mut() else { return Err(closed()) };
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = match current.file.write_all(&self.buffer) {
            Ok(()) if sync => current.file.sync_data().map_err(failed("sync", path)),
            Ok(()) => Ok(()),
            Err(error) => Err(failed("write to", path)(error)),
        };
        if let Err(down) = written {
            if let Err(error) = current.file.set_len(current.len) {
                log::warn!("cannot cut {} to {} bytes: {error}", path.display(), current.len);
            }
            self.file = None;
            return Err(down);
        }
        current.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Begins a new file where ours was moved away.
    fn follow(&mut self) -> Result<(), Down> {
        let Some(current) = &self.file else { return Err(closed()) };
        let there = match fs::metadata(&self.options.path) {
            Ok(found) => identity(&found) == current.identity,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed("look at", &self.options.path)(error)),
        };
        if !there {
            self.file = None;
            self.file = Some(self.open_file()?);
        }
        Ok(())
    }
}

impl Sink for FileSink {
    fn open(&mut self, done: u64) -> Result<u64, Down> {
        self.file = None;
        self.file = Some(self.open_file()?);
        self.find_known(done)?;
        Ok(done)
    }

    fn deliver(&mut self, messages: &[&Message], outcomes: &mut Vec<Outcome>) -> Result<(), Down> {
        self.follow()?;
        self.buffer.clear();
        let (mut line, mut waiting) = (Vec::new(), 0);
        for message in messages {
            line.clear();
            json::write_line(&mut line, message);
            waiting += 1;
            // Told apart from another journal's message with the same id by everything else in its line.
            if self.known.remove(&message.id) == Some(hash(line.trim_ascii_end())) {
                continue;
            }
            let len = self.file.as_ref().map_or(0, |current| current.len) + self.buffer.len() as u64;
            if self.options.max_bytes > 0 && len > 0 && len + line.len() as u64 > self.options.max_bytes {
                self.write()?;
                outcomes.extend(std::iter::repeat_n(Outcome::Delivered, waiting - 1));
                waiting = 1;
                self.rotate()?;
            }
            self.buffer.extend_from_slice(&line);
        }
        self.write()?;
        outcomes.extend(std::iter::repeat_n(Outcome::Delivered, waiting));
        Ok(())
    }

    fn close(&mut self) -> Result<(), Down> {
        match self.file.take() {
            Some(current) => current.file.sync_data().map_err(failed("sync", &self.options.path)),
            None => Ok(()),
        }
    }
}

/// Cuts what follows the last newline: a line that a crash left unfinished. Returns the length that remains.
fn cut_torn_line(file: &File, len: u64, path: &Path) -> Result<u64, Down> {
    let mut lines = Backwards::new(file).map_err(failed("read", path))?;
    let torn = lines.torn().map_err(failed("read", path))?;
    if torn.is_empty() {
        return Ok(len);
    }
    let ours = torn.starts_with(&BEGIN[..BEGIN.len().min(torn.len())]);
    if !ours || torn.len() > MAX_LINE {
        let text = "ends with a line that is not finished and none of ours: nothing is cut off or added";
        return Err(Down(format!("{} {text}", path.display())));
    }
    let whole = len.saturating_sub(torn.len() as u64);
    log::info!("the last line of {} was torn: its {} bytes are cut off", path.display(), torn.len());
    file.set_len(whole).map_err(failed("cut", path))?;
    Ok(whole)
}

fn line_id(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(BEGIN)?;
    let digits = rest.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn hash(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> Down + 'a {
    move |error| Down(format!("cannot {what} {}: {error}", path.display()))
}

fn closed() -> Down {
    Down("the file is not open".to_owned())
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
