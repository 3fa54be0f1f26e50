//! What is under way to the store for one session. PURE.
//!
//! A session has at most one message under way. What is asked meanwhile waits, and goes with the next: many
//! PUTs of one client are one message. The worker's copy changes when a commit is known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Waiter;
use crate::limits::MAX_STORE_COMMIT;
use crate::reactor::mailbox::StateOp;
use crate::reactor::pending::PendingKey;
use crate::reactor::serve::StateSlices;
use crate::session::store::{Pairs, StoreKey, Write, WriteOp};
use crate::session::{Owner, SessionKey, State, StateFull, StateLimits};

/// Operations that go into one message.
const MAX_OPERATIONS: usize = MAX_STORE_COMMIT / 16;

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The worker of its connection.
    pub worker: u16,
    /// The request, there.
    pub pending: PendingKey,
}

/// An operation that waits for the store, or behind one that does.
#[derive(Debug)]
pub(super) struct Queued {
    pub op: StateOp,
    pub asker: Asker,
}

/// One session's.
#[derive(Debug)]
pub(super) struct Flight {
    pub key: StoreKey,
    pub fence: u64,
    /// `None`: it has ended here.
    pub session: Option<SessionKey>,
    /// In the order in which they came.
    pub queue: VecDeque<Queued>,
    pub out: Option<Out>,
    /// Keys of which the store may have another value than the copy: a write failed, and may have been done.
    pub unsure: BTreeSet<Box<[u8]>>,
    /// AUTHs that want to resume it, and wait until it is known that no other gateway has it.
    pub verifying: Vec<Waiter>,
    /// The store has to be told something else of the session, which came up while a message was under way.
    pub again: bool,
    /// It ends, for this connection, when nothing waits any more.
    pub ending: Option<Owner>,
    plan: Plan,
}

/// The message that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    /// So many operations of the queue are in it.
    pub covers: usize,
    /// Writes in front of theirs.
    pub repairs: usize,
    /// So many of those who wait for it to be verified have waited before it was sent.
    pub verifies: usize,
    pub shape: Shape,
    /// The session's end is in it.
    pub touch: bool,
    /// It counts among those that nobody waits for.
    pub saving: bool,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The whole session.
    Open,
    /// Each change.
    Each,
    /// Its end.
    End,
}

impl Flight {
    pub fn new(key: StoreKey, fence: u64, session: Option<SessionKey>) -> Flight {
        let (queue, unsure) = (VecDeque::new(), BTreeSet::new());
        let (verifying, plan) = (Vec::new(), Plan::default());
        Flight { key, fence, session, queue, out: None, unsure, verifying, again: false, ending: None, plan }
    }

    /// Whether a write of this key of the state has not come to its end.
    pub fn writes(&self, name: &[u8]) -> bool {
        self.queue.iter().any(|queued| match &queued.op {
            StateOp::Put(key, _) | StateOp::Delete(key) => **key == *name,
            StateOp::Get(_) => false,
        })
    }

    /// Whether there would be room for this after everything that waits.
    pub fn check(&self, copy: Option<&State>, op: &StateSlices<'_>, limits: StateLimits) -> Result<(), StateFull> {
        match *op {
            StateSlices::Put(name, value) => self.plan.put(copy, name, value.len(), limits).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// One more that waits; it was checked.
    pub fn push(&mut self, copy: Option<&State>, op: StateOp, asker: Asker) {
        self.plan.add(copy, &op);
        self.queue.push_back(Queued { op, asker });
    }

    /// After the copy or the queue has changed: takes out what there is no room for any more.
    pub fn plan_again(&mut self, copy: Option<&State>, limits: StateLimits) -> Vec<(Asker, StateFull)> {
        self.plan = Plan::default();
        let mut refused = Vec::new();
        for queued in std::mem::take(&mut self.queue) {
            match self.check(copy, &queued.op.as_slices(), limits) {
                Ok(()) => self.push(copy, queued.op, queued.asker),
                Err(full) => refused.push((queued.asker, full)),
            }
        }
        refused
    }

    /// The message of the whole session, as it is with what waits.
    pub fn whole(&mut self, copy: Option<&State>, principal: &str, ends_ms: u64, saving: bool) -> Vec<Write> {
        let covers = self.queue.len().min(MAX_OPERATIONS);
        let mut state: BTreeMap<&[u8], &[u8]> = copy.into_iter().flat_map(State::iter).collect();
        for queued in self.queue.iter().take(covers) {
            match queued.op.as_slices() {
                StateSlices::Put(name, value) => drop(state.insert(name, value)),
                StateSlices::Delete(name) => drop(state.remove(name)),
                StateSlices::Get(_) => {}
            }
        }
        let state: Pairs = state.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let verifies = self.verifying.len();
        self.out = Some(Out { covers, repairs: 0, verifies, shape: Shape::Open, touch: false, saving });
        vec![self.write(WriteOp::Open { principal: principal.into(), ends_ms, state })]
    }

    /// The message of each change. `ends_ms`: when it ends, if that is to be written. Empty: there is nothing
    /// to be told, and nothing is under way.
    pub fn each(&mut self, copy: Option<&State>, ends_ms: Option<u64>, saving: bool) -> Vec<Write> {
        let covers = self.queue.len().min(MAX_OPERATIONS);
        let mut writes: Vec<Write> = self
            .unsure
            .iter()
            .map(|name| match copy.and_then(|copy| copy.get(name)) {
                Some(value) => self.write(WriteOp::Put(name.clone(), value.into())),
                None => self.write(WriteOp::Delete(name.clone())),
            })
            .collect();
        let repairs = writes.len();
        for queued in self.queue.iter().take(covers) {
            match &queued.op {
                StateOp::Put(name, value) => writes.push(self.write(WriteOp::Put(name.clone(), value.clone()))),
                StateOp::Delete(name) => writes.push(self.write(WriteOp::Delete(name.clone()))),
                StateOp::Get(_) => {}
            }
        }
        if let Some(ends_ms) = ends_ms {
            writes.push(self.write(WriteOp::Touch { ends_ms }));
        }
        if !writes.is_empty() {
            let (verifies, touch) = (self.verifying.len(), ends_ms.is_some());
            self.out = Some(Out { covers, repairs, verifies, shape: Shape::Each, touch, saving });
        }
        writes
    }

    /// The message of its end.
    pub fn end(&mut self) -> Vec<Write> {
        self.out = Some(Out { covers: 0, repairs: 0, verifies: 0, shape: Shape::End, touch: false, saving: true });
        vec![self.write(WriteOp::End)]
    }

    fn write(&self, op: WriteOp) -> Write {
        Write { key: self.key, fence: self.fence, op }
    }
}

/// How large the state will be once everything that waits is done.
#[derive(Debug, Default)]
struct Plan {
    /// The values' lengths, of the keys that something waits for; `None`: deleted.
    changed: BTreeMap<Box<[u8]>, Option<usize>>,
    /// How many keys there will be more than now, and how many bytes.
    entries: isize,
    bytes: isize,
}

impl Plan {
    /// Bytes of a key and its value, if it will be there.
    fn there(&self, copy: Option<&State>, name: &[u8]) -> Option<usize> {
        let value = match self.changed.get(name) {
            Some(planned) => *planned,
            None => copy.and_then(|copy| copy.get(name)).map(<[u8]>::len),
        };
        value.map(|value| name.len() + value)
    }

    /// By how much a PUT would change it.
    fn put(
        &self,
        copy: Option<&State>,
        name: &[u8],
        value: usize,
        limits: StateLimits,
    ) -> Result<(isize, isize), StateFull> {
        let old = self.there(copy, name);
        let more = (name.len() + value) as isize - old.unwrap_or(0) as isize;
        let entries = copy.map_or(0, State::entries) as isize + self.entries;
        let bytes = copy.map_or(0, State::bytes) as isize + self.bytes + more;
        if old.is_none() && entries >= limits.entries as isize {
            return Err(StateFull::Entries);
        }
        if bytes > limits.bytes as isize {
            return Err(StateFull::Bytes);
        }
        Ok((isize::from(old.is_none()), more))
    }

    fn add(&mut self, copy: Option<&State>, op: &StateOp) {
        const ANY: StateLimits = StateLimits { entries: isize::MAX as usize, bytes: isize::MAX as usize };
        match op {
            StateOp::Get(_) => {}
            StateOp::Put(name, value) => {
                let (entries, bytes) = self.put(copy, name, value.len(), ANY).unwrap_or_default();
                self.entries += entries;
                self.bytes += bytes;
                self.changed.insert(name.clone(), Some(value.len()));
            }
            StateOp::Delete(name) => {
                if let Some(bytes) = self.there(copy, name) {
                    self.entries -= 1;
                    self.bytes -= bytes as isize;
                }
                self.changed.insert(name.clone(), None);
            }
        }
    }
}
