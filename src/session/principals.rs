//! Principals, each stored once however many sessions it has.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use slab::Slab;

/// A principal's name: what logs, quotas and handlers speak of.
pub type Principal = Arc<str>;

/// A principal in one table: four bytes in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrincipalId(NonZeroU32);

/// The principals of one worker's sessions.
#[derive(Debug, Default)]
pub struct Principals {
    by_name: HashMap<Principal, PrincipalId>,
    entries: Slab<(Principal, u32)>,
}

impl Principals {
    /// The id of a principal, for one more user of it.
    ///
    /// The table keeps a copy of its own: reference counts that several cores write to are slow.
    pub fn hold(&mut self, name: &str) -> PrincipalId {
        if let Some(id) = self.by_name.get(name) {
            self.entries[id.key()].1 += 1;
            return *id;
        }
        let name = Principal::from(name);
        let key = self.entries.insert((Arc::clone(&name), 1));
        let id = PrincipalId(NonZeroU32::MIN.saturating_add(key as u32));
        self.by_name.insert(name, id);
        id
    }

    /// One user fewer; the last one takes the entry with it.
    pub fn let_go(&mut self, id: PrincipalId) {
        let entry = &mut self.entries[id.key()];
        entry.1 -= 1;
        if entry.1 == 0 {
            let (name, _) = self.entries.remove(id.key());
            self.by_name.remove(&name);
        }
    }

    /// The principal's name.
    pub fn name(&self, id: PrincipalId) -> &Principal {
        &self.entries[id.key()].0
    }

    /// Principals held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl PrincipalId {
    fn key(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_goes_with_its_last_user() {
        let mut principals = Principals::default();
        let a = principals.hold("alice");
        let b = principals.hold("alice");
        let c = principals.hold("bob");
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_eq!((principals.len(), &**principals.name(c)), (2, "bob"));
        principals.let_go(a);
        assert_eq!(&**principals.name(b), "alice");
        principals.let_go(b);
        principals.let_go(c);
        assert!(principals.is_empty());
    }
}
