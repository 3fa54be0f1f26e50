//! What a worker hands the journal after a tick: its messages in one piece, and where their answers go.

use std::sync::Arc;

use super::handle::{Journal, Order};
use super::{Draft, Key};
use crate::proto::{SessionId, Trace};
use crate::service::{Failure, PendingKey};
use crate::session::store::{StoreKey, store_key};

/// Messages of one worker, in the order in which they came.
#[derive(Debug, Default)]
pub struct Intake {
    /// Topics and principals, one after the other.
    names: String,
    /// Bodies, one after the other.
    bodies: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    pending: PendingKey,
    topic: u8,
    principal: u16,
    body: u32,
    key: Option<Key>,
    trace: Option<Trace>,
    session: Option<[u8; 16]>,
}

impl Intake {
    fn push(&mut self, pending: PendingKey, draft: &Draft<'_>) {
        self.names.push_str(draft.topic);
        self.names.push_str(draft.principal);
        self.bodies.extend_from_slice(draft.body);
        self.entries.push(Entry {
            pending,
            // As many as `is_topic`, `is_name` and a frame allow.
            topic: draft.topic.len() as u8,
            principal: draft.principal.len() as u16,
            body: draft.body.len() as u32,
            key: draft.key,
            trace: draft.trace,
            session: draft.session,
        });
    }

    /// The messages, each with the request that waits for it.
    pub fn drafts(&self) -> impl Iterator<Item = (PendingKey, Draft<'_>)> {
        let (mut names, mut bodies) = (self.names.as_str(), self.bodies.as_slice());
        self.entries.iter().map_while(move |entry| {
            let (topic, rest) = names.split_at_checked(entry.topic.into())?;
            let (principal, rest) = rest.split_at_checked(entry.principal.into())?;
            let (body, more) = bodies.split_at_checked(entry.body as usize)?;
            (names, bodies) = (rest, more);
            let Entry { pending, key, trace, session, .. } = *entry;
            Some((pending, Draft { topic, principal, key, trace, session, body }))
        })
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Memory that they take. Bytes.
    pub fn bytes(&self) -> usize {
        self.names.len() + self.bodies.len() + self.entries.len() * size_of::<Entry>()
    }

    /// Empties it; keeps its memory, up to a bound.
    pub fn clear(&mut self) {
        const KEPT: usize = 1 << 20;
        self.names.clear();
        self.bodies.clear();
        self.entries.clear();
        self.names.shrink_to(KEPT);
        self.bodies.shrink_to(KEPT);
        self.entries.shrink_to(KEPT / size_of::<Entry>());
    }
}

/// One worker's way into the journal.
#[derive(Debug)]
pub struct Inlet {
    journal: Arc<Journal>,
    worker: u16,
    intake: Intake,
    spare: Option<Intake>,
    /// The last session that was named, and its name: many messages in a row are one session's.
    named: Option<(SessionId, StoreKey)>,
}

impl Inlet {
    /// The way in for `worker`.
    pub fn new(journal: Arc<Journal>, worker: u16) -> Inlet {
        Inlet { journal, worker, intake: Intake::default(), spare: None, named: None }
    }

    /// Whether a message of so many bytes would be taken now.
    ///
    /// # Errors
    /// What its request is told instead.
    pub fn admits(&self, bytes: usize) -> Result<(), Failure> {
        self.journal.admits(self.intake.bytes() + bytes)
    }

    /// What a session is called in the journal, as in stores: its id would let anybody in who reads it.
    pub fn name_of(&mut self, session: SessionId) -> StoreKey {
        match self.named {
            Some((known, name)) if known == session => name,
            _ => self.named.insert((session, store_key(&session))).1,
        }
    }

    /// Takes a message, for [`Inlet::hand_over`].
    pub fn push(&mut self, pending: PendingKey, draft: &Draft<'_>) {
        self.intake.push(pending, draft);
    }

    /// Hands over what was taken since the last time.
    pub fn hand_over(&mut self) {
        if self.intake.entries.is_empty() {
            return;
        }
        let next = self.spare.take().unwrap_or_default();
        let intake = std::mem::replace(&mut self.intake, next);
        self.journal.order(Order::Submit { worker: self.worker, intake });
    }

    /// An emptied intake comes back, to be used again.
    pub fn take_back(&mut self, spare: Intake) {
        self.spare = Some(spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut intake = Intake::default();
        let key = Some([7; 16]);
        let drafts = [
            Draft { topic: "a", principal: "grüße", key, trace: None, session: None, body: b"one" },
            Draft { topic: "b/c", principal: "x", key: None, trace: None, session: Some([1; 16]), body: b"" },
        ];
        drafts.iter().enumerate().for_each(|(i, draft)| intake.push(PendingKey(i as u64), draft));
        let told: Vec<_> = intake.drafts().map(|(p, d)| (p.0, d.topic, d.principal, d.key, d.body)).collect();
        assert_eq!(told, [(0, "a", "grüße", key, &b"one"[..]), (1, "b/c", "x", None, &b""[..])]);
        assert_eq!(intake.len(), 2);
        intake.clear();
        assert_eq!((intake.len(), intake.bytes(), intake.drafts().count()), (0, 0, 0));
    }
}
