//! A message, on its way in and as the journal keeps it.

use std::time::{Duration, SystemTime};

use crate::proto::Trace;

/// The client's idempotency key.
pub type Key = [u8; 16];

/// A message that is to be stored. The journal gives it an id.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// Where it goes: [`super::is_topic`].
    pub topic: &'a str,
    /// Who sent it: [`crate::config::is_name`].
    pub principal: &'a str,
    /// By which a retry is told from a second message.
    pub key: Option<Key>,
    /// The client's trace context.
    pub trace: Option<Trace>,
    /// Whose session it was sent in: a digest of the session's id, which resumes nothing.
    pub session: Option<[u8; 16]>,
    /// The message itself, at most [`crate::proto::MAX_BODY`] bytes.
    pub body: &'a [u8],
}

/// A message as it is read from the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id: higher than that of every message before it, across restarts.
    pub id: u64,
    /// When it was stored. Milliseconds since 1970.
    pub time_ms: u64,
    /// Where it goes.
    pub topic: String,
    /// Who sent it.
    pub principal: String,
    /// The client's idempotency key.
    pub key: Option<Key>,
    /// The client's trace context.
    pub trace: Option<Trace>,
    /// A digest of its session's id.
    pub session: Option<[u8; 16]>,
    /// The message itself.
    pub body: Vec<u8>,
}

impl Message {
    /// When it was stored.
    pub fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.time_ms)
    }

    /// Memory that it takes. Bytes.
    pub fn size(&self) -> usize {
        size_of::<Message>() + self.topic.len() + self.principal.len() + self.body.len()
    }
}
