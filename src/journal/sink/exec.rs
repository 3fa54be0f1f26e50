//! The sink `exec`: a command that reads JSON lines ([`crate::journal::json`]) and answers what it has done.
//!
//! `exec:COMMAND ARGUMENTS`: words between spaces; in `'…'` everything is itself, in `"…"` and outside `\` takes what
//! follows as itself. No shell is asked.
//!
//! For each line of input, in any order, the command writes one line of output:
//!
//! | | |
//! |---|---|
//! | `ID` | the message is done, and will not come again |
//! | `ID refused REASON` | this message is not taken; it is tried again, and then a dead letter |
//!
//! Of one topic it has one message at a time, so the order is kept whatever it answers; of all topics at most
//! [`IN_FLIGHT`]. A command that answers nothing for `TIDEGATE_SINK_TIMEOUT_MS`, or ends, is started anew, with backoff, and
//! gets again what it has not answered. What it writes to standard error is logged. At the end its input is closed; if
//! it goes on it gets SIGTERM, and then SIGKILL. It sees no variable `TIDEGATE_…`.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::command::Running;
use super::{Down, Outcome, Sink};
use crate::journal::{Message, json};

/// Messages that a command has and has not answered, at most.
const IN_FLIGHT: usize = 16;
/// How long messages are given to it before the journal is told of those that it has done.
const SLICE: Duration = Duration::from_millis(100);
/// How long a command that failed may take to end by itself.
const FAILED: Duration = Duration::from_millis(100);
/// How long one may that has nothing left to do.
const CLOSE: Duration = Duration::from_secs(2);

/// What an `exec` sink is told: the command and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    words: Vec<String>,
}

impl Options {
    /// Reads what follows `exec:` in `TIDEGATE_SINKS`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(argument: &str) -> Result<Options, String> {
        let words = split(argument)?;
        match words.first() {
            Some(program) if !program.is_empty() && !argument.contains('\0') => Ok(Options { words }),
            _ => Err("exec: a command is wanted".to_owned()),
        }
    }
}

/// A command.
#[derive(Debug)]
pub(super) struct ExecSink {
    options: Options,
    timeout: Duration,
    running: Option<Running>,
}

impl ExecSink {
    pub fn new(options: Options, timeout: Duration) -> ExecSink {
        ExecSink { options, timeout, running: None }
    }

    fn name(&self) -> &str {
        self.options.words.first().map_or("", String::as_str)
    }

    /// It is of no use any more: says why, and how it ended.
    fn failed(&mut self, why: &str) -> Down {
        let status = self.running.take().and_then(|mut running| running.end(FAILED));
        let ended = status.map_or_else(|| "it does not end".to_owned(), |status| status.to_string());
        Down(format!("{} {why}: {ended}", self.name()))
    }
}

impl Sink for ExecSink {
    fn open(&mut self, done: u64) -> Result<u64, Down> {
        self.running = None;
        let started = Running::start(&self.options.words);
        self.running = Some(started.map_err(|error| Down(format!("cannot start {}: {error}", self.name())))?);
        Ok(done)
    }

    fn deliver(&mut self, messages: &[&Message], outcomes: &mut Vec<Outcome>) -> Result<(), Down> {
        let Some(running) = &mut self.running else { return Err(Down("the command does not run".to_owned())) };
        let begun = Instant::now();
        let mut batch = Batch::new(messages);
        let mut last = begun;
        let result = loop {
            if begun.elapsed() < SLICE || batch.answered == 0 {
                batch.send(running.output());
            }
            if batch.asked.is_empty() {
                break Ok(());
            }
            let before = batch.answered;
            let exchanged = running.exchange(last + self.timeout, |line| batch.answer(line));
            if batch.answered > before {
                last = Instant::now();
            }
            if batch.asked.is_empty() {
                continue;
            }
            match exchanged {
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => break Err(error.to_string()),
                Err(_) => break Err("has ended".to_owned()),
                Ok(()) if last.elapsed() >= self.timeout => {
                    break Err(format!("has answered nothing for {} ms", self.timeout.as_millis()));
                }
                Ok(()) => {}
            }
        };
        outcomes.append(&mut batch.outcomes);
        result.map_err(|why| self.failed(&why))
    }

    fn close(&mut self) -> Result<(), Down> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        match running.end(CLOSE.min(self.timeout)) {
            Some(_) => Ok(()),
            None => Err(Down(format!("{} does not end, not even by SIGKILL", self.name()))),
        }
    }
}

/// Messages on their way through the command.
struct Batch<'a> {
    messages: &'a [&'a Message],
    outcomes: Vec<Outcome>,
    /// Of each topic, what is to follow.
    waiting: HashMap<&'a str, VecDeque<usize>>,
    /// What may be given to the command.
    ready: VecDeque<usize>,
    /// What it has and has not answered, by id.
    asked: HashMap<u64, usize>,
    answered: usize,
}

impl<'a> Batch<'a> {
    fn new(messages: &'a [&'a Message]) -> Batch<'a> {
        let mut waiting: HashMap<&str, VecDeque<usize>> = HashMap::new();
        let mut ready = VecDeque::new();
        for (index, message) in messages.iter().enumerate() {
            match waiting.get_mut(message.topic.as_str()) {
                Some(queue) => queue.push_back(index),
                None => {
                    waiting.insert(&message.topic, VecDeque::new());
                    ready.push_back(index);
                }
            }
        }
        let outcomes = vec![Outcome::Untried; messages.len()];
        Batch { messages, outcomes, waiting, ready, asked: HashMap::new(), answered: 0 }
    }

    fn send(&mut self, output: &mut Vec<u8>) {
        while self.asked.len() < IN_FLIGHT {
            let Some(index) = self.ready.pop_front() else { return };
            if let Some(message) = self.messages.get(index) {
                json::write_line(output, message);
                self.asked.insert(message.id, index);
            }
        }
    }

    fn answer(&mut self, line: &str) {
        let line = line.trim();
        let (id, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let outcome = match rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), "")) {
            ("", _) => Outcome::Delivered,
            ("refused", "") => Outcome::Refused("the command gave no reason".to_owned()),
            ("refused", why) => Outcome::Refused(why.trim().to_owned()),
            _ => return strange(line),
        };
        if line.is_empty() {
            return;
        }
        let Some(index) = id.parse().ok().and_then(|id: u64| self.asked.remove(&id)) else { return strange(line) };
        self.answered += 1;
        let next = self.messages.get(index).and_then(|message| self.waiting.get_mut(message.topic.as_str()));
        if outcome == Outcome::Delivered
            && let Some(next) = next.and_then(VecDeque::pop_front)
        {
            self.ready.push_back(next);
        }
        if let Some(of) = self.outcomes.get_mut(index) {
            *of = outcome;
        }
    }
}

fn strange(line: &str) {
    let line: String = line.chars().take(200).collect();
    log::warn!("the command of a sink answered what is no id of a message that it has: {line:?}");
}

/// Words as a shell would have them, with quotes and backslashes and nothing else.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                let next = chars.next().ok_or("exec: a backslash is followed by nothing")?;
                word.get_or_insert_default().push(next);
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(quote) = quote {
        return Err(format!("exec: a {quote} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
