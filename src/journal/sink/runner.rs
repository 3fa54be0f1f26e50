//! One route's delivery: from the journal through the window to the sink, and what becomes of each message.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lanes::{Lanes, Room};
use super::told::{Clock, Told};
use super::{Down, Feed, Messages, Outcome, Sink, dead, panic_text};
use crate::client::backoff::Backoff;
use crate::config::Config;
use crate::journal::Message;
use crate::limits::{SINK_BATCH_BYTES, SINK_SCAN_IDS, SINK_WINDOW_BYTES, SINK_WINDOW_MESSAGES};

/// How often progress is reported at most; each report is written to the journal's disk.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// And with so many messages done beyond one that is not, that much less often: a report names them all.
const REPORT_BEYOND: usize = 1_000;

/// What a route's thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The next turn.
    Turn,
    /// Waits for messages newer than those it knows, or until then.
    News(Option<Instant>),
    /// Leaves the sink alone until then.
    Rest(Instant),
}

/// How a route is delivered.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub batch: usize,
    pub tries: u32,
    pub backoff: Backoff,
    pub dead_letter_topic: String,
    pub room: Room,
}

impl Options {
    pub fn of(config: &Config) -> Options {
        Options {
            batch: config.sink_batch,
            tries: config.sink_tries,
            backoff: Backoff::new(config.sink_backoff, config.sink_backoff_max, fastrand::Rng::new()),
            dead_letter_topic: config.dead_letter_topic.clone(),
            room: Room { messages: SINK_WINDOW_MESSAGES, bytes: SINK_WINDOW_BYTES },
        }
    }
}

/// One route's delivery. Whoever runs it calls [`Runner::turn`] again and again, and waits as it says.
pub(super) struct Runner {
    /// Its index.
    pub route: usize,
    /// Its pattern and its kind of sink, for the log.
    name: String,
    feed: Arc<dyn Feed>,
    messages: Box<dyn Messages>,
    sink: Box<dyn Sink>,
    lanes: Lanes,
    told: Arc<Told>,
    options: Options,
    clock: Box<dyn Clock>,
    /// Of the sink when it is down; the options' own is for topics.
    backoff: Backoff,
    open: bool,
    /// Why it is down, or the journal can't be read.
    down: Option<String>,
    /// So many messages are delivered one by one, to find the one that makes the sink panic.
    singly: usize,
    /// The newest id that is known to be durable.
    durable: u64,
    /// All messages of the route up to this id were read.
    read: u64,
    /// What was reported last, and when.
    reported: u64,
    reported_at: Option<Instant>,
    /// Messages were done since then.
    unreported: bool,
    outcomes: Vec<Outcome>,
}

impl Runner {
    pub fn new(
        (route, name): (usize, String),
        sink: Box<dyn Sink>,
        feed: Arc<dyn Feed>,
        told: Arc<Told>,
        options: Options,
        clock: Box<dyn Clock>,
    ) -> Runner {
        let progress = feed.progress(route);
        let read = progress.upto;
        let lanes = Lanes::new(progress, options.room);
        told.done.set(read);
        Runner {
            route,
            name,
            messages: feed.messages(route, read),
            feed,
            sink,
            reported: read,
            lanes,
            told,
            backoff: options.backoff.clone(),
            options,
            clock,
            open: false,
            down: None,
            singly: 0,
            durable: read,
            read,
            reported_at: None,
            unreported: false,
            outcomes: Vec::new(),
        }
    }

    /// Waits for messages newer than those it knows, or until then.
    pub fn wait(&mut self, until: Instant) {
        let timeout = until.saturating_duration_since(self.clock.now());
        self.durable = self.durable.max(self.feed.wait(self.route, self.durable, timeout));
    }

    /// Reads what the batch lacks, and delivers it.
    pub fn turn(&mut self) -> Next {
        let most = if self.singly > 0 { 1 } else { self.options.batch };
        let mut picked = self.lanes.pick(self.clock.now(), most, SINK_BATCH_BYTES);
        if picked.len() < most {
            let filled = self.fill(most - picked.len());
            self.settle();
            if let Err(why) = filled {
                return self.failed(format!("the journal can't be read: {why}"));
            }
            picked = self.lanes.pick(self.clock.now(), most, SINK_BATCH_BYTES);
        }
        if !self.open {
            // It may have more than was known: what is left is picked anew.
            return match self.open() {
                Ok(()) => Next::Turn,
                Err(Down(why)) => self.sink_failed(why),
            };
        }
        if !picked.is_empty() {
            return self.deliver(&picked);
        }
        self.is_up();
        if self.read < self.durable && self.lanes.has_room() {
            return Next::Turn;
        }
        Next::News(self.lanes.next_due().into_iter().chain(self.report_due()).min())
    }

    /// Delivers what is durable until then, and as long as the sink takes it. Topics that wait are tried once more.
    pub fn flush(&mut self, deadline: Instant) {
        self.lanes.release(self.clock.now());
        while self.down.is_none() && self.clock.now() < deadline && self.turn() == Next::Turn {}
    }

    /// The end: says how far the route is, and lets go of the sink.
    pub fn end(&mut self) {
        self.report();
        if !self.open {
            return;
        }
        if let Err(Down(why)) = self.call(|sink| sink.close()).unwrap_or_else(|panic| Err(Down(panicked(&panic)))) {
            log::warn!(route = self.name.as_str(); "the sink of {} could not be closed: {why}", self.name);
        }
        self.open = false;
    }

    /// It panicked itself, and is at its end.
    pub fn broke(&self, panic: &str) {
        let why = format!("its thread panicked: {panic}; this is a fault of tidegate; its messages wait for a restart");
        log::error!(route = self.name.as_str(); "delivery of {}: {why}", self.name);
        self.told.set_down(Some(why));
    }

    /// Reads so many messages, or until there is no room for more, none are left, or many of other routes were passed
    /// over.
    fn fill(&mut self, mut wanted: usize) -> Result<(), String> {
        if !self.lanes.has_room() {
            return Ok(());
        }
        self.durable = self.durable.max(self.feed.wait(self.route, self.durable, Duration::ZERO));
        let upto = self.durable.min(self.read.saturating_add(SINK_SCAN_IDS));
        while wanted > 0 && self.read < upto && self.lanes.has_room() {
            match self.messages.next(upto)? {
                Some(message) => {
                    wanted -= 1;
                    self.read = message.id;
                    self.lanes.take(message);
                }
                None => self.read = upto,
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Down> {
        let upto = self.lanes.upto();
        let has = self.call(|sink| sink.open(upto)).unwrap_or_else(|panic| Err(Down(panicked(&panic))))?;
        self.open = true;
        if has > upto {
            let done = self.lanes.finish_upto(has);
            let ids: Vec<u64> = done.iter().map(|message| message.id).collect();
            self.told.delivered.add(ids.len() as u64);
            self.tell(&ids);
            self.settle();
        }
        Ok(())
    }

    /// Gives the sink one batch.
    fn deliver(&mut self, picked: &[usize]) -> Next {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        outcomes.clear();
        let called = {
            let Runner { sink, lanes, told, clock, .. } = self;
            let batch: Vec<&Message> = picked.iter().filter_map(|index| lanes.message(*index)).collect();
            told.call(clock.now());
            let called = catch_unwind(AssertUnwindSafe(|| sink.deliver(&batch, &mut outcomes)));
            told.called();
            called
        };
        outcomes.truncate(picked.len());
        self.singly = self.singly.saturating_sub(1);
        let result = called.unwrap_or_else(|panic| self.panicked(&panicked(&panic), picked.len(), &mut outcomes));
        let moved = outcomes.iter().any(|outcome| *outcome != Outcome::Untried);
        self.account(picked, &mut outcomes);
        self.outcomes = outcomes;
        self.settle();
        match result {
            Ok(()) if moved || !self.open => {
                self.is_up();
                Next::Turn
            }
            Ok(()) => self.sink_failed("it answered for no message".to_owned()),
            Err(Down(why)) => self.sink_failed(why),
        }
    }

    /// The sink panicked. One message alone is refused by that; of several, it is found which one.
    fn panicked(&mut self, why: &str, picked: usize, outcomes: &mut Vec<Outcome>) -> Result<(), Down> {
        log::error!(route = self.name.as_str(); "the sink of {} {why}", self.name);
        self.open = false;
        let unanswered = picked - outcomes.len();
        if unanswered == 1 {
            outcomes.push(Outcome::Refused(format!("the sink {why}")));
        } else {
            self.singly = unanswered;
        }
        Ok(())
    }

    /// What became of each message that the sink was given.
    fn account(&mut self, picked: &[usize], outcomes: &mut Vec<Outcome>) {
        let (wall_ms, mut ids, mut refused) = (self.clock.wall_ms(), Vec::new(), Vec::new());
        for (index, outcome) in picked.iter().zip(outcomes.drain(..)) {
            match outcome {
                Outcome::Delivered => {
                    if let Some(message) = self.lanes.finish(*index) {
                        ids.push(message.id);
                        let took = Duration::from_millis(wall_ms.saturating_sub(message.time_ms));
                        self.told.latency.observe(took);
                    }
                }
                Outcome::Refused(why) => refused.push((*index, why)),
                Outcome::Untried => {}
            }
        }
        self.told.delivered.add(ids.len() as u64);
        self.tell(&ids);
        if !ids.is_empty() || !refused.is_empty() {
            self.backoff.reset();
        }
        refused.into_iter().for_each(|(index, why)| self.refused(index, &why));
    }

    /// A message was refused: its topic waits, or it has become a dead letter.
    fn refused(&mut self, index: usize, why: &str) {
        self.told.refused.add(1);
        let Some(tries) = self.lanes.refuse(index, self.clock.now()) else { return };
        let Some(message) = self.lanes.message(index) else { return };
        let (id, topic) = (message.id, message.topic.clone());
        let buried = if tries >= self.options.tries { self.bury(message, why, tries) } else { Ok(false) };
        match buried {
            Ok(true) => {
                self.lanes.finish(index);
                return self.tell(&[id]);
            }
            Ok(false) => log::warn!(
                route = self.name.as_str(), id = id, topic = topic.as_str(), tries = tries;
                "the sink of {} refused message {id} of {topic}, which waits: {why}", self.name
            ),
            Err(error) => log::error!(
                route = self.name.as_str(), id = id, topic = topic.as_str();
                "message {id} of {topic} should be a dead letter and can't be stored as one, so it is tried again: {error}"
            ),
        }
        let ceiling = self.options.backoff.ceiling(tries.saturating_sub(1));
        let delay = self.options.backoff.jitter(ceiling);
        self.lanes.park(index, self.clock.now() + delay);
    }

    /// Keeps a message as a dead letter. One that is a dead letter already is let go.
    fn bury(&self, message: &Message, why: &str, tries: u32) -> Result<bool, String> {
        let (id, topic, under) = (message.id, message.topic.as_str(), &self.options.dead_letter_topic);
        if dead::is_letter(message, under) {
            self.told.dropped.add(1);
            log::error!(
                route = self.name.as_str(), id = id, topic = topic;
                "the sink of {} refused dead letter {id} of {topic} {tries} times: given up: {why}", self.name
            );
            return Ok(true);
        }
        let mut kept = 0;
        for letter in dead::letters(message, why, tries, under) {
            kept = self.feed.append(&letter.draft())?;
        }
        self.told.dead_letters.add(1);
        log::error!(
            route = self.name.as_str(), id = id, topic = topic, dead_letter = kept;
            "the sink of {} refused message {id} of {topic} {tries} times: it is dead letter {kept}: {why}", self.name
        );
        Ok(true)
    }

    fn sink_failed(&mut self, why: String) -> Next {
        self.open = false;
        self.failed(why)
    }

    /// Nothing is delivered for a while.
    fn failed(&mut self, why: String) -> Next {
        self.told.failures.add(1);
        let now = self.clock.now();
        let again = now + self.backoff.next_delay();
        if self.down.is_none() {
            log::warn!(route = self.name.as_str(); "the sink of {} is down, its messages wait: {why}", self.name);
        } else if self.down.as_ref() != Some(&why) {
            log::warn!(route = self.name.as_str(); "the sink of {} is still down: {why}", self.name);
        }
        self.told.set_down(Some(why.clone()));
        self.down = Some(why);
        Next::Rest(again)
    }

    fn is_up(&mut self) {
        if self.down.take().is_some() {
            log::info!(route = self.name.as_str(); "the sink of {} is up again", self.name);
            self.told.set_down(None);
        }
    }

    /// Brings the window and what is told of it up to date, and reports that now and then.
    fn settle(&mut self) {
        self.lanes.advance(self.read);
        self.told.done.set(self.lanes.upto());
        self.told.oldest_ms.set(self.lanes.oldest_ms().unwrap_or(0));
        if self.report_due().is_some_and(|due| due <= self.clock.now()) {
            self.report();
        }
    }

    /// When progress is to be reported; `None`: there is nothing to tell. That other routes' messages were passed over
    /// is told once they are many, to save the next start from reading them.
    fn report_due(&self) -> Option<Instant> {
        if !self.unreported && self.lanes.upto() - self.reported < SINK_SCAN_IDS {
            return None;
        }
        let times = 1 + u32::try_from(self.lanes.beyond() / REPORT_BEYOND).unwrap_or(u32::MAX - 1);
        Some(self.reported_at.map_or_else(|| self.clock.now(), |last| last + REPORT_EVERY * times))
    }

    fn report(&mut self) {
        if self.unreported || self.lanes.upto() != self.reported {
            self.feed.report(self.route, self.lanes.progress());
            self.reported = self.lanes.upto();
            self.reported_at = Some(self.clock.now());
            self.unreported = false;
        }
    }

    /// Messages are done: whoever waits for that is told.
    fn tell(&mut self, ids: &[u64]) {
        if !ids.is_empty() {
            self.unreported = true;
            self.feed.delivered(self.route, ids);
        }
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut dyn Sink) -> T) -> Result<T, Panic> {
        self.told.call(self.clock.now());
        let sink = self.sink.as_mut();
        let called = catch_unwind(AssertUnwindSafe(|| call(sink)));
        self.told.called();
        called
    }
}

type Panic = Box<dyn std::any::Any + Send>;

fn panicked(panic: &Panic) -> String {
    format!("panicked: {}", panic_text(&**panic))
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
