//! A journal in memory, clocks that are set, and sinks that do what a script says.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::told::Clock;
use super::{Down, Feed, Messages, Outcome, Sink};
use crate::journal::{Draft, Message, Progress};

/// A message of principal `p`.
pub fn message(id: u64, topic: &str, body: &str) -> Message {
    Message {
        id,
        time_ms: 1_000,
        topic: topic.to_owned(),
        principal: "p".to_owned(),
        key: None,
        trace: None,
        session: None,
        body: body.into(),
    }
}

/// What survives a crash, and what only seems to: a journal of one route, and the sink's own store.
#[derive(Debug, Default)]
pub struct World {
    pub messages: Vec<Message>,
    /// Dead letters, by their keys.
    pub letters: HashMap<[u8; 16], Message>,
    /// What was reported in this life; one of them is durable.
    pub reports: Vec<Progress>,
    pub progress: Progress,
    /// Ids that were told to be done.
    pub told: Vec<u64>,
    /// What the sink was given and took, in order, each with the life in which it was.
    pub taken: Vec<(usize, u64, String)>,
    pub life: usize,
    /// After so many effects nothing has one any more: the process is dead, and does not know it.
    pub fuse: Option<usize>,
    /// Why nothing can be stored.
    pub no_room: Option<String>,
    pub unreadable: Option<String>,
    stopped: bool,
}

impl World {
    /// Whether something that is done now has an effect.
    pub fn burns(&mut self) -> bool {
        match &mut self.fuse {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    fn durable(&self) -> u64 {
        self.messages.last().map_or(0, |message| message.id)
    }
}

/// A feed of the messages in a [`World`].
#[derive(Clone, Debug, Default)]
pub struct Fake(Arc<(Mutex<World>, Condvar)>);

impl Fake {
    pub fn with(messages: Vec<Message>) -> Fake {
        let fake = Fake::default();
        fake.world().messages = messages;
        fake
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// More messages are durable.
    pub fn add(&self, message: Message) {
        self.world().messages.push(message);
        self.0.1.notify_all();
    }

    /// Ids and bodies of what the sink has taken.
    pub fn taken(&self) -> Vec<u64> {
        self.world().taken.iter().map(|(_, id, _)| *id).collect()
    }
}

impl Feed for Fake {
    fn wait(&self, _route: usize, after: u64, timeout: Duration) -> u64 {
        let world = self.world();
        let nothing = |world: &mut World| world.durable() <= after && !world.stopped;
        self.0.1.wait_timeout_while(world, timeout, nothing).unwrap().0.durable()
    }

    fn stop(&self) {
        self.world().stopped = true;
        self.0.1.notify_all();
    }

    fn messages(&self, _route: usize, after: u64) -> Box<dyn Messages> {
        Box::new(FakeMessages { fake: self.clone(), after })
    }

    fn progress(&self, _route: usize) -> Progress {
        self.world().progress.clone()
    }

    fn report(&self, _route: usize, progress: Progress) {
        let mut world = self.world();
        if world.burns() {
            world.reports.push(progress);
        }
    }

    fn unfinished(&self, _route: usize) -> u64 {
        let world = self.world();
        let progress = world.reports.last().unwrap_or(&world.progress);
        world.messages.iter().filter(|message| !progress.has(message.id)).count() as u64
    }

    fn append(&self, draft: &Draft<'_>) -> Result<u64, String> {
        let mut world = self.world();
        if let Some(why) = &world.no_room {
            return Err(why.clone());
        }
        if !world.burns() {
            return Err("dead".to_owned());
        }
        let id = 1_000_000 + world.letters.len() as u64;
        let key = draft.key.expect("a dead letter has a key");
        let letter = Message { key: draft.key, body: draft.body.to_vec(), ..message(id, draft.topic, "") };
        Ok(world.letters.entry(key).or_insert(letter).id)
    }

    fn delivered(&self, _route: usize, ids: &[u64]) {
        let mut world = self.world();
        if world.fuse != Some(0) {
            world.told.extend(ids);
        }
    }
}

struct FakeMessages {
    fake: Fake,
    after: u64,
}

impl Messages for FakeMessages {
    fn next(&mut self, upto: u64) -> Result<Option<Message>, String> {
        let world = self.fake.world();
        if let Some(why) = &world.unreadable {
            return Err(why.clone());
        }
        let first = world.messages.partition_point(|message| message.id <= self.after);
        let next = world.messages.get(first).filter(|message| message.id <= upto);
        self.after = next.map_or(self.after, |message| message.id);
        Ok(next.cloned())
    }
}

/// A clock that is set.
#[derive(Clone, Debug)]
pub struct SetClock(pub Arc<Mutex<Instant>>);

impl SetClock {
    pub fn new() -> SetClock {
        SetClock(Arc::new(Mutex::new(Instant::now())))
    }

    pub fn set(&self, to: Instant) {
        let mut now = self.0.lock().unwrap();
        *now = (*now).max(to);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }

    fn wall_ms(&self) -> u64 {
        3_000
    }
}

/// What a scripted sink does with a message: asked with the message and how often it has seen it.
pub type Act = Box<dyn FnMut(&Message, usize) -> Reaction + Send>;

/// Of a scripted sink, to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    Take,
    Refuse,
    Down,
    Panic,
    /// It takes it, and is down before it can say so.
    TakeAndDown,
}

/// A sink that does what a script says, and writes down what it takes.
pub struct Scripted {
    pub fake: Fake,
    pub act: Act,
    pub seen: HashMap<u64, usize>,
    /// How often it was opened, and the largest batch.
    pub opened: Arc<Mutex<(usize, usize)>>,
    /// So often it can't be opened.
    pub closed: usize,
    /// It panics only when it is called with several messages or this one, and says nothing about which.
    pub silent: bool,
}

impl Scripted {
    pub fn new(fake: &Fake, act: impl FnMut(&Message, usize) -> Reaction + Send + 'static) -> Scripted {
        let (fake, act, seen) = (fake.clone(), Box::new(act), HashMap::new());
        Scripted { fake, act, seen, opened: Arc::default(), closed: 0, silent: false }
    }

    fn take(&self, message: &Message) -> bool {
        let mut world = self.fake.world();
        let (life, burns) = (world.life, world.burns());
        if burns {
            world.taken.push((life, message.id, message.topic.clone()));
        }
        burns
    }
}

impl Sink for Scripted {
    fn open(&mut self, done: u64) -> Result<u64, Down> {
        self.opened.lock().unwrap().0 += 1;
        match self.closed.checked_sub(1) {
            Some(left) => {
                self.closed = left;
                Err(Down("not there".to_owned()))
            }
            None => Ok(done),
        }
    }

    fn deliver(&mut self, messages: &[&Message], outcomes: &mut Vec<Outcome>) -> Result<(), Down> {
        {
            let mut opened = self.opened.lock().unwrap();
            opened.1 = opened.1.max(messages.len());
        }
        let mut refused: Vec<&str> = Vec::new();
        let mut all = Vec::new();
        for message in messages {
            if refused.contains(&message.topic.as_str()) {
                all.push(Outcome::Untried);
                continue;
            }
            let seen = self.seen.entry(message.id).or_default();
            *seen += 1;
            let reaction = (self.act)(message, *seen);
            match reaction {
                Reaction::Refuse => {
                    refused.push(&message.topic);
                    all.push(Outcome::Refused("no".to_owned()));
                }
                Reaction::Panic => {
                    if !self.silent {
                        outcomes.append(&mut all);
                    }
                    panic!("at {}", message.id);
                }
                Reaction::Take if self.take(message) => all.push(Outcome::Delivered),
                Reaction::TakeAndDown if self.take(message) => {
                    outcomes.append(&mut all);
                    return Err(Down("gone".to_owned()));
                }
                _ => {
                    outcomes.append(&mut all);
                    return Err(Down("gone".to_owned()));
                }
            }
        }
        outcomes.append(&mut all);
        Ok(())
    }
}
