//! What a table notes for the store that its sessions are kept in: who has changed, who has ended, and
//! whose id was made by another process. A table without a store notes nothing.

use std::collections::{HashMap, VecDeque};

use super::store::Pairs;
use super::{NO_STATE, Owner, Session, SessionKey, Sessions, SessionsFull, State, UNOWNED};
use crate::proto::SessionId;

/// The store has it.
const SAVED: u8 = 1;
/// The store may have it: a try to save it has failed with nothing known of it.
const TRIED: u8 = 1 << 1;
/// It is among the changed.
const LISTED: u8 = 1 << 2;
/// Its end is to be written anew.
const TOUCH: u8 = 1 << 3;

/// The fence of a session that was opened here and that nobody has claimed since.
const FIRST_FENCE: u64 = 1;

/// The notes.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Whether sessions in use are to be touched.
    touches: bool,
    /// Sessions that were claimed from the store. Their ids do not lead to their slots.
    adopted: HashMap<SessionKey, Adopted>,
    by_id: HashMap<SessionId, SessionKey>,
    /// Sessions that the store has to be told of. An entry whose session is not [`LISTED`] is stale.
    changed: VecDeque<SessionKey>,
    /// Entries that are not.
    listed: usize,
    unsaved: usize,
    ended: Vec<Ended>,
}

#[derive(Debug)]
struct Adopted {
    id: SessionId,
    fence: u64,
}

/// A session that has ended here, and is to end in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The slot that it was in.
    pub key: SessionKey,
    /// Its id.
    pub id: SessionId,
    /// Under which it was written.
    pub fence: u64,
    /// Whether the store may have it.
    pub stored: bool,
}

impl Sessions {
    /// From here on a store is to know of all sessions. `touches`: of their being used, too.
    pub fn keep(&mut self, touches: bool) {
        let unsaved = self.slots.len();
        self.keeping = Some(Box::new(Keeping { touches, unsaved, ..Keeping::default() }));
        let all: Vec<SessionKey> = self.slots.iter().map(|(slot, _)| SessionKey(slot as u32)).collect();
        all.into_iter().for_each(|key| self.note_change(key));
    }

    /// Takes in a session that was claimed from a store. It has no connection yet. What it holds is not
    /// measured: it was acknowledged once.
    ///
    /// # Errors
    /// The table is full.
    pub fn adopt(
        &mut self,
        id: &SessionId,
        principal: &str,
        fence: u64,
        state: Pairs,
        now_s: u32,
    ) -> Result<SessionKey, SessionsFull> {
        self.make_room()?;
        let end = now_s.saturating_add(self.limits.ttl_s);
        let mut secret = [0; super::SECRET_LEN];
        secret.copy_from_slice(&id[id.len() - super::SECRET_LEN..]);
        let state = if state.is_empty() { NO_STATE } else { self.states.insert(State::from(state)) as u32 };
        let principal = self.principals.hold(principal);
        let session = Session { secret, worker: UNOWNED, flags: SAVED, token_or_end: u64::from(end), principal, state };
        let key = SessionKey(self.slots.insert(session) as u32);
        self.unowned += 1;
        self.leaving.push_back((end, key));
        if let Some(keeping) = &mut self.keeping {
            keeping.adopted.insert(key, Adopted { id: *id, fence });
            keeping.by_id.insert(*id, key);
        }
        self.note_use(key);
        Ok(key)
    }

    /// Takes the next session that the store has to be told of.
    pub fn next_changed(&mut self) -> Option<SessionKey> {
        let keeping = self.keeping.as_mut()?;
        while let Some(key) = keeping.changed.pop_front() {
            if let Some(session) = self.slots.get_mut(key.0 as usize)
                && session.flags & LISTED != 0
            {
                session.flags &= !LISTED;
                keeping.listed = keeping.listed.saturating_sub(1);
                return Some(key);
            }
        }
        None
    }

    /// Whether the store has to be told of some.
    pub fn has_changed(&self) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| keeping.listed > 0)
    }

    /// The store has to be told of this one.
    pub fn note_change(&mut self, key: SessionKey) {
        let (Some(keeping), Some(session)) = (&mut self.keeping, self.slots.get_mut(key.0 as usize)) else { return };
        if session.flags & LISTED != 0 {
            return;
        }
        session.flags |= LISTED;
        keeping.changed.push_back(key);
        keeping.listed += 1;
        if keeping.changed.len() > 2 * keeping.listed + 1024 {
            let listed = self.slots.iter().filter(|(_, session)| session.flags & LISTED != 0);
            keeping.changed = listed.map(|(key, _)| SessionKey(key as u32)).collect();
        }
    }

    /// The session is used, or no longer: where the store does not see that by itself, its end is written.
    pub(super) fn note_use(&mut self, key: SessionKey) {
        if self.keeping.as_ref().is_some_and(|keeping| keeping.touches) {
            self.note_touch(key);
        }
    }

    /// Its end is to be written anew.
    pub fn note_touch(&mut self, key: SessionKey) {
        if let Some(session) = self.slots.get_mut(key.0 as usize) {
            session.flags |= TOUCH;
            self.note_change(key);
        }
    }

    /// Notes those of these slots to be touched that are on a connection. Returns how many slots there are.
    pub fn note_connected(&mut self, slots: std::ops::Range<usize>) -> usize {
        for slot in slots {
            let connected = self.slots.get(slot).is_some_and(|session| session.worker != UNOWNED);
            if connected {
                self.note_touch(SessionKey(slot as u32));
            }
        }
        self.slots.iter().next_back().map_or(0, |(slot, _)| slot + 1)
    }

    /// Notes those to be touched that have no connection and end before `end_s`. Looks at the whole table.
    pub fn note_leaving(&mut self, end_s: u32) {
        let leaving: Vec<SessionKey> = self
            .slots
            .iter()
            .filter(|(_, session)| session.worker == UNOWNED && session.token_or_end < u64::from(end_s))
            .map(|(slot, _)| SessionKey(slot as u32))
            .collect();
        leaving.into_iter().for_each(|key| self.note_touch(key));
    }

    /// What has ended since the last call.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        self.keeping.as_mut().map_or_else(Vec::new, |keeping| std::mem::take(&mut keeping.ended))
    }

    /// Whether something has.
    pub fn has_ended(&self) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| !keeping.ended.is_empty())
    }

    /// Whether the store has it.
    pub fn is_saved(&self, key: SessionKey) -> bool {
        self.slots.get(key.0 as usize).is_some_and(|session| session.flags & SAVED != 0)
    }

    /// The store has it, or has it no longer.
    pub fn set_saved(&mut self, key: SessionKey, saved: bool) {
        if let (Some(keeping), Some(session)) = (&mut self.keeping, self.slots.get_mut(key.0 as usize))
            && saved != (session.flags & SAVED != 0)
        {
            session.flags ^= SAVED;
            keeping.unsaved = if saved { keeping.unsaved.saturating_sub(1) } else { keeping.unsaved + 1 };
        }
    }

    /// The store may have it.
    pub fn set_tried(&mut self, key: SessionKey) {
        if let Some(session) = self.slots.get_mut(key.0 as usize) {
            session.flags |= TRIED;
        }
    }

    /// Whether its end is to be written; from here on it is not.
    pub fn take_touch(&mut self, key: SessionKey) -> bool {
        let Some(session) = self.slots.get_mut(key.0 as usize) else { return false };
        let touch = session.flags & TOUCH != 0;
        session.flags &= !TOUCH;
        touch
    }

    /// Sessions that the store does not have yet.
    pub fn unsaved(&self) -> usize {
        self.keeping.as_ref().map_or(0, |keeping| keeping.unsaved)
    }

    /// Under which it is written.
    pub fn fence(&self, key: SessionKey) -> u64 {
        let adopted = self.keeping.as_ref().and_then(|keeping| keeping.adopted.get(&key));
        adopted.map_or(FIRST_FENCE, |adopted| adopted.fence)
    }

    /// The second at which it ends; `None`: it is on a connection, or there is no such session.
    pub fn end_s(&self, key: SessionKey) -> Option<u32> {
        let session = self.slots.get(key.0 as usize)?;
        (session.worker == UNOWNED).then_some(session.token_or_end as u32)
    }

    /// Its keys and values.
    pub fn state(&self, key: SessionKey) -> Option<&State> {
        self.states.get(self.slots.get(key.0 as usize)?.state as usize)
    }

    /// Another gateway has it: it is forgotten here, and nowhere else. The connection that it was on.
    pub fn lose(&mut self, key: SessionKey) -> Option<Owner> {
        let owner = self.owner(key);
        if self.slots.contains(key.0 as usize) {
            self.discard(key);
        }
        owner
    }

    /// The id that another process has made.
    pub(super) fn adopted_id(&self, key: SessionKey) -> Option<SessionId> {
        Some(self.keeping.as_ref()?.adopted.get(&key)?.id)
    }

    /// The session whose id another process has made.
    pub(super) fn find_adopted(&self, id: &SessionId) -> Option<SessionKey> {
        self.keeping.as_ref()?.by_id.get(id).copied()
    }

    /// A session begins.
    pub(super) fn note_begin(&mut self, key: SessionKey) {
        if let Some(keeping) = &mut self.keeping {
            keeping.unsaved += 1;
            self.note_change(key);
        }
    }

    /// A session is about to end.
    pub(super) fn note_end(&mut self, key: SessionKey) {
        if self.keeping.is_none() {
            return;
        }
        let (id, fence) = (self.id(key), self.fence(key));
        let stored = self.slots[key.0 as usize].flags & (SAVED | TRIED) != 0;
        if let Some(keeping) = &mut self.keeping {
            keeping.ended.push(Ended { key, id, fence, stored });
        }
    }

    /// A session's slot is free again.
    pub(super) fn note_gone(&mut self, key: SessionKey, flags: u8) {
        let Some(keeping) = &mut self.keeping else { return };
        keeping.unsaved = keeping.unsaved.saturating_sub(usize::from(flags & SAVED == 0));
        keeping.listed = keeping.listed.saturating_sub(usize::from(flags & LISTED != 0));
        if let Some(Adopted { id, .. }) = keeping.adopted.remove(&key) {
            keeping.by_id.remove(&id);
        }
    }

    /// Entries, stale ones too.
    #[cfg(test)]
    pub(super) fn noted(&self) -> usize {
        self.keeping.as_ref().map_or(0, |keeping| keeping.changed.len())
    }
}
