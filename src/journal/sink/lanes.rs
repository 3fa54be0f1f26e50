//! PURE: a route's window: messages read from the journal and not yet done, and which of them may be tried now.
//!
//! In the order of their ids. A message that its sink refused parks its topic: it and those behind it wait, other
//! topics go on. So messages are done out of order: `upto` is where all before is done, `beyond` are those done above.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use crate::journal::{Message, Progress};

/// The window of one route.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Every message that was read, from the first that is not done on.
    window: VecDeque<Entry>,
    /// Memory of the messages in it.
    bytes: usize,
    room: Room,
    /// Topics that wait, by their name.
    parked: HashMap<String, Parked>,
    upto: u64,
    beyond: BTreeSet<u64>,
}

/// What a window holds at most. One message is always taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub messages: usize,
    pub bytes: usize,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    /// `None`: it is done.
    message: Option<Message>,
}

/// A topic that waits because its first message was refused.
#[derive(Debug)]
struct Parked {
    id: u64,
    tries: u32,
    until: Instant,
}

impl Lanes {
    pub fn new(progress: Progress, room: Room) -> Lanes {
        Lanes {
            window: VecDeque::new(),
            bytes: 0,
            room,
            parked: HashMap::new(),
            upto: progress.upto,
            beyond: progress.beyond.into_iter().collect(),
        }
    }

    /// Whether another message may be read.
    pub fn has_room(&self) -> bool {
        self.window.is_empty() || (self.window.len() < self.room.messages && self.bytes < self.room.bytes)
    }

    /// Takes a message as it was read, in order. One that is done already is let go.
    pub fn take(&mut self, message: Message) {
        if message.id <= self.upto || self.beyond.contains(&message.id) {
            return;
        }
        self.bytes += message.size();
        self.window.push_back(Entry { id: message.id, message: Some(message) });
    }

    /// The messages that may be tried now, as indices, which hold until [`Lanes::advance`]. At least one, if
    /// any may; at most so many, and no more once they have so many bytes.
    pub fn pick(&self, now: Instant, most: usize, bytes: usize) -> Vec<usize> {
        let (mut picked, mut size) = (Vec::new(), 0);
        for (index, message) in self.left() {
            if picked.len() >= most || size >= bytes {
                break;
            }
            if self.parked.is_empty() || self.parked.get(&message.topic).is_none_or(|parked| parked.until <= now) {
                size += message.size();
                picked.push(index);
            }
        }
        picked
    }

    /// A message that is not done.
    pub fn message(&self, index: usize) -> Option<&Message> {
        self.window.get(index)?.message.as_ref()
    }

    /// A message is done; its topic goes on.
    pub fn finish(&mut self, index: usize) -> Option<Message> {
        let message = self.window.get_mut(index)?.message.take()?;
        self.bytes -= message.size();
        self.beyond.insert(message.id);
        if self.parked.get(&message.topic).is_some_and(|parked| parked.id == message.id) {
            self.parked.remove(&message.topic);
        }
        Some(message)
    }

    /// A message was refused: how often by now. `None`: one before it in its topic is still to be done, so it
    /// should not have been tried.
    pub fn refuse(&mut self, index: usize, now: Instant) -> Option<u32> {
        let message = self.window.get(index)?.message.as_ref()?;
        let parked = match self.parked.get_mut(&message.topic) {
            Some(parked) if parked.id != message.id => return None,
            Some(parked) => parked,
            None => self.parked.entry(message.topic.clone()).or_insert(Parked { id: message.id, tries: 0, until: now }),
        };
        parked.tries = parked.tries.saturating_add(1);
        Some(parked.tries)
    }

    /// A refused message, and its topic with it, waits for so long.
    pub fn park(&mut self, index: usize, until: Instant) {
        let topic = self.window.get(index).and_then(|entry| entry.message.as_ref()).map(|message| &message.topic);
        if let Some(parked) = topic.and_then(|topic| self.parked.get_mut(topic)) {
            parked.until = until;
        }
    }

    /// When the next topic that waits may be tried again.
    pub fn next_due(&self) -> Option<Instant> {
        self.parked.values().map(|parked| parked.until).min()
    }

    /// Every topic that waits may be tried now.
    pub fn release(&mut self, now: Instant) {
        self.parked.values_mut().for_each(|parked| parked.until = parked.until.min(now));
    }

    /// The sink has everything up to this id; returns the messages that were not known to be done.
    pub fn finish_upto(&mut self, id: u64) -> Vec<Message> {
        let through = self.window.partition_point(|entry| entry.id <= id);
        let done = (0..through).filter_map(|index| self.finish(index)).collect();
        self.upto = self.upto.max(id);
        done
    }

    /// Forgets what is done at the window's front. `position`: every message of the route up to it was read.
    pub fn advance(&mut self, position: u64) {
        while self.window.front().is_some_and(|entry| entry.message.is_none()) {
            self.window.pop_front();
        }
        let done = self.window.front().map_or(position, |first| first.id.saturating_sub(1));
        self.upto = self.upto.max(done);
        while self.beyond.first().is_some_and(|id| *id <= self.upto) {
            self.beyond.pop_first();
        }
        if self.window.is_empty() && self.window.capacity() > IDLE_ENTRIES {
            self.window.shrink_to(IDLE_ENTRIES);
        }
    }

    /// How far the route is.
    pub fn progress(&self) -> Progress {
        Progress { upto: self.upto, beyond: self.beyond.iter().copied().collect() }
    }

    /// The id up to which everything is done.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// How many messages above that are done.
    pub fn beyond(&self) -> usize {
        self.beyond.len()
    }

    /// When the oldest message that is left was stored. Milliseconds since 1970.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.left().next().map(|(_, message)| message.time_ms)
    }

    fn left(&self) -> impl Iterator<Item = (usize, &Message)> {
        self.window.iter().enumerate().filter_map(|(index, entry)| Some((index, entry.message.as_ref()?)))
    }
}

/// What an idle route keeps of its window's memory.
const IDLE_ENTRIES: usize = 64;
