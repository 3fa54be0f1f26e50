//! A message, as the model has it.

use tidegate::journal::{Draft, Key, Message};
use tidegate::proto::Trace;

/// What is known of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the next commit.
    Waiting,
    /// Its commit returned, or an open found it: it has to be there.
    Stored,
    /// Its commit never returned well: it is there whole, or not at all.
    Doubtful,
    /// It was refused, or an open did not find it: it must never be there.
    Gone,
}

/// A message as it was staged.
#[derive(Clone, PartialEq, Eq)]
pub struct Made {
    pub time_ms: u64,
    pub topic: &'static str,
    pub principal: &'static str,
    pub key: Option<Key>,
    pub trace: Option<Trace>,
    pub session: Option<[u8; 16]>,
    pub body: Vec<u8>,
}

/// What the model keeps of it.
#[derive(Debug)]
pub struct Entry {
    pub made: Made,
    pub route: usize,
    pub standing: Standing,
    /// It was deleted, and there was a reason.
    pub deleted: bool,
    /// Its route's progress has it: as reported, and as is on the disk.
    pub reported: bool,
    pub durable: bool,
    /// It was done once, by whichever route: delivered, or older than the route.
    pub once_done: bool,
    /// It went to another route when that was last known, where it was not to be delivered, or was.
    pub elsewhere: Option<Elsewhere>,
}

/// What a message was on a route that is its own no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// Still to be delivered.
    Due,
    Free,
    /// Nobody can say: there may have been room to write down the routes.
    Either,
}

impl Made {
    pub fn draft(&self) -> Draft<'_> {
        let Made { topic, principal, key, trace, session, ref body, .. } = *self;
        Draft { topic, principal, key, trace, session, body }
    }

    pub fn same_key(&self, other: &Made) -> bool {
        self.key.is_some() && self.key == other.key && self.principal == other.principal
    }

    pub fn is(&self, message: &Message) -> bool {
        let Message { id: _, time_ms, topic, principal, key, trace, session, body } = message;
        (*time_ms, topic.as_str(), principal.as_str()) == (self.time_ms, self.topic, self.principal)
            && (*key, *trace, *session) == (self.key, self.trace, self.session)
            && *body == self.body
    }
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Made { time_ms, topic, principal, key, body, .. } = self;
        write!(f, "{topic} of {principal} at {time_ms}, {} bytes, key {:?}", body.len(), key.map(|key| key[0]))
    }
}
