//! Where messages are looked for: the journal, by the server's own command, and sinks.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::judge::{Found, Verdict};
use super::message::recognise;
use crate::resp::Connection;

/// Entries of a stream read at once.
const PAGE: usize = 1_000;

/// Messages found, in order, and what else was.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The messages.
    pub found: Vec<Found>,
    /// What is no message that a client has sent.
    pub strange: Verdict,
}

impl Findings {
    fn take(&mut self, seed: u64, place: &str, message: std::result::Result<Raw, String>) {
        let known = message.and_then(|raw| {
            let (client, n) = recognise(seed, &raw.topic, raw.key.as_deref(), &raw.body)?;
            Ok(Found { client, n, id: raw.id })
        });
        match known {
            Ok(found) => self.found.push(found),
            Err(why) => self.strange.stranger(format!("{place}: {why}")),
        }
    }
}

/// A message as a place gives it.
struct Raw {
    id: u64,
    topic: String,
    key: Option<Vec<u8>>,
    body: Vec<u8>,
}

impl Raw {
    /// From a line as `tidegate journal cat --json` and the file sink write it.
    fn parse(line: &str) -> std::result::Result<Raw, String> {
        let bad = || format!("no message: {line:.200}");
        let value: Value = serde_json::from_str(line).map_err(|_| bad())?;
        let key = match &value["key"] {
            Value::Null => None,
            key => Some(key.as_str().and_then(unhex).ok_or_else(bad)?),
        };
        let id = &value["id"];
        Ok(Raw {
            id: id.as_u64().or_else(|| id.as_str()?.parse().ok()).ok_or_else(bad)?,
            topic: value["topic"].as_str().ok_or_else(bad)?.to_owned(),
            key,
            body: STANDARD.decode(value["body"].as_str().ok_or_else(bad)?).map_err(|_| bad())?,
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// What the journal in a data directory has, as its own command tells.
///
/// # Errors
/// The command fails.
pub fn journal(program: &Path, env: &[(String, String)], seed: u64) -> Result<Findings> {
    let mut child = Command::new(program)
        .args(["journal", "cat", "--json"])
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut findings = Findings::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            findings.take(seed, "journal", Raw::parse(&line?));
        }
    }
    match child.wait()? {
        status if status.success() => Ok(findings),
        status => Err(Error::other(format!("tidegate journal cat: {status}"))),
    }
}

/// A sink, read while it is written to.
#[derive(Debug)]
pub enum Sink {
    /// There is none.
    Nothing,
    /// JSON lines; files that were rotated away have the same name and something behind it.
    Lines(Lines),
    /// A Redis stream.
    Stream(Stream),
    /// Whatever a command prints as JSON lines.
    Reader(Reader),
}

impl Sink {
    /// From `none`, `file:PATH`, `redis:PORT:STREAM` or `command:COMMAND`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Sink> {
        let strange = || Error::other(format!("'{text}' is no place to look for messages"));
        match text.split_once(':') {
            None if text == "none" => Ok(Sink::Nothing),
            Some(("file", path)) => Ok(Sink::Lines(Lines { path: path.into(), open: None, partial: Vec::new() })),
            Some(("redis", rest)) => {
                let (port, stream) = rest.split_once(':').ok_or_else(strange)?;
                let address = SocketAddr::from(([127, 0, 0, 1], port.parse().map_err(|_| strange())?));
                Ok(Sink::Stream(Stream { address, stream: stream.to_owned(), connection: None, last: "-".to_owned() }))
            }
            Some(("command", command)) => Ok(Sink::Reader(Reader::new(command))),
            _ => Err(strange()),
        }
    }

    /// Takes what has come since the last time. A server that is down has nothing new.
    pub fn read(&mut self, seed: u64, findings: &mut Findings) {
        let mut take = |message| findings.take(seed, "sink", message);
        match self {
            Sink::Nothing => {}
            Sink::Lines(lines) => drop(lines.read(&mut take)),
            Sink::Stream(stream) => {
                if stream.read(&mut take).is_err() {
                    stream.connection = None;
                }
            }
            Sink::Reader(reader) => reader.read(&mut take),
        }
    }

    /// All that is there, read anew where that is possible.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read_all(&mut self, seed: u64, so_far: Findings) -> Result<Findings> {
        let mut findings = Findings::default();
        let mut take = |message| findings.take(seed, "sink", message);
        match self {
            Sink::Nothing => {}
            Sink::Lines(lines) => lines.read_all(&mut take)?,
            Sink::Stream(stream) => {
                "-".clone_into(&mut stream.last);
                stream.read(&mut take)?;
            }
            // What it has told it does not tell again.
            Sink::Reader(_) => return Ok(so_far),
        }
        Ok(findings)
    }

    /// Whether what comes is seen: a command may still have to find its server.
    pub fn is_there(&self) -> bool {
        !matches!(self, Sink::Reader(reader) if !reader.ready)
    }

    /// Its server was killed and lives anew, without what it had: as a broker that keeps all in memory.
    pub fn begin_anew(&mut self) {
        if let Sink::Reader(reader) = self {
            *reader = Reader::new(&reader.command);
        }
    }
}

/// JSON lines in files.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    open: Option<File>,
    partial: Vec<u8>,
}

impl Lines {
    fn read(&mut self, take: &mut impl FnMut(std::result::Result<Raw, String>)) -> Result<()> {
        loop {
            let file = match &mut self.open {
                Some(file) => file,
                None => self.open.insert(File::open(&self.path)?),
            };
            // A start may cut a line that was not whole.
            let (at, len) = (file.stream_position()?, file.metadata()?.len());
            if len < at {
                let kept = self.partial.len() as u64;
                file.seek(SeekFrom::Start(len.min(at - kept)))?;
                self.partial.clear();
            }
            if file.read_to_end(&mut self.partial)? == 0 {
                // It may have been rotated away: then the next one is there under its name.
                let other = File::open(&self.path)?;
                if same(file, &other)? {
                    return Ok(());
                }
                self.open = Some(other);
                continue;
            }
            let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            for line in self.partial[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                take(Raw::parse(&String::from_utf8_lossy(line)));
            }
            self.partial.drain(..whole);
        }
    }

    /// Rotated files first, the oldest first.
    fn read_all(&self, take: &mut impl FnMut(std::result::Result<Raw, String>)) -> Result<()> {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&name) {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort();
        for (_, path) in files {
            for line in BufReader::new(File::open(path)?).split(b'\n') {
                take(Raw::parse(&String::from_utf8_lossy(&line?)));
            }
        }
        Ok(())
    }
}

fn same(a: &File, b: &File) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (a, b) = (a.metadata()?, b.metadata()?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// A Redis stream.
#[derive(Debug)]
pub struct Stream {
    address: SocketAddr,
    stream: String,
    connection: Option<Connection>,
    /// The entry read last.
    last: String,
}

impl Stream {
    fn read(&mut self, take: &mut impl FnMut(std::result::Result<Raw, String>)) -> Result<()> {
        loop {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                None => self.connection.insert(Connection::open(self.address, Duration::from_secs(5))?),
            };
            let from = if self.last == "-" { self.last.clone() } else { format!("({}", self.last) };
            let count = PAGE.to_string();
            let entries = connection
                .ask(&[b"XRANGE", self.stream.as_bytes(), from.as_bytes(), b"+", b"COUNT", count.as_bytes()])?
                .into_array();
            let got = entries.len();
            for entry in entries {
                let mut parts = entry.into_array().into_iter();
                let (Some(id), Some(fields)) = (parts.next(), parts.next()) else {
                    return Err(ErrorKind::InvalidData.into());
                };
                self.last = String::from_utf8_lossy(&id.into_bytes()).into_owned();
                let fields = fields.into_array().into_iter().map(crate::resp::Value::into_bytes).collect::<Vec<_>>();
                take(raw_of_fields(&fields));
            }
            if got < PAGE {
                return Ok(());
            }
        }
    }
}

/// From an entry's fields: names and values in turn.
fn raw_of_fields(fields: &[Vec<u8>]) -> std::result::Result<Raw, String> {
    let field = |name: &str| {
        let pair = fields.chunks(2).find(|pair| pair[0] == name.as_bytes());
        pair.and_then(|pair| pair.get(1))
    };
    let text = |name: &str| field(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let missing = |name: &str| format!("an entry without {name}");
    Ok(Raw {
        id: text("id").and_then(|id| id.parse().ok()).ok_or_else(|| missing("id"))?,
        topic: text("topic").ok_or_else(|| missing("topic"))?,
        key: text("key").filter(|key| !key.is_empty()).and_then(|key| unhex(&key)),
        body: field("body").ok_or_else(|| missing("body"))?.clone(),
    })
}

/// A command that prints `{"ready": true}`, then each message it finds as a JSON line. Killed when dropped.
#[derive(Debug)]
pub struct Reader {
    command: String,
    child: Option<Child>,
    lines: Option<Receiver<String>>,
    ready: bool,
}

impl Reader {
    fn new(command: &str) -> Reader {
        Reader { command: command.to_owned(), child: None, lines: None, ready: false }
    }

    fn read(&mut self, take: &mut impl FnMut(std::result::Result<Raw, String>)) {
        if self.child.is_none() {
            let command = format!("exec {}", self.command);
            let started = Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
            let Ok(mut child) = started else { return };
            let (tell, lines) = channel();
            if let Some(stdout) = child.stdout.take() {
                std::thread::spawn(move || {
                    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                        if tell.send(line).is_err() {
                            break;
                        }
                    }
                });
            }
            (self.child, self.lines) = (Some(child), Some(lines));
        }
        for line in self.lines.iter().flat_map(Receiver::try_iter) {
            if line == r#"{"ready": true}"# {
                self.ready = true;
            } else {
                take(Raw::parse(&line));
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
