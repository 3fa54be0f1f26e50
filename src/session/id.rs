//! Session ids: where a session lives, beside what nobody can guess.

use std::hash::{BuildHasher, RandomState};

use crate::hex::hex;
use crate::proto::SessionId;

/// Random bytes in a session id: 80 bits, from the operating system.
pub const SECRET_LEN: usize = 10;

/// The unguessable part of a session id.
pub type Secret = [u8; SECRET_LEN];

/// Where a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locator {
    /// The worker whose table it is in.
    pub worker: u16,
    /// Its slot in that table.
    pub slot: u32,
}

/// What logs and ledgers call a session: the first 12 of its id's 32 hex digits. Whoever is shown whole
/// ids finds it by them; whoever only reads logs has nothing to resume it with, as the secret is in the
/// other 20.
pub fn log_name(id: &SessionId) -> String {
    hex(&id[..LOCATOR_LEN])
}

/// Bytes in front of the secret.
const LOCATOR_LEN: usize = size_of::<SessionId>() - SECRET_LEN;

/// Turns locators into ids and back; one for all workers of a server.
///
/// An id is a locator (6 bytes) and a [`Secret`] (10 bytes), so that finding a session needs no
/// map. The locator is masked with a keyed hash of the secret: an id tells nobody how many sessions
/// there are or where, and one of another process decodes to a place where no such secret is.
/// What makes an id unguessable is the secret alone.
#[derive(Clone, Debug, Default)]
pub struct IdKey {
    hash: RandomState,
    adopts: bool,
}

impl IdKey {
    /// A fresh key.
    pub fn new() -> IdKey {
        IdKey::default()
    }

    /// The same for a server that takes sessions in whose ids another process has made.
    #[must_use]
    pub fn adopting(self) -> IdKey {
        IdKey { adopts: true, ..self }
    }

    /// Of so many workers, the one that a session with this id is to be looked for on. Where ids of other
    /// processes are taken in each of those has one, too, and always the same.
    pub fn home(&self, id: &SessionId, workers: usize) -> Option<u16> {
        let worker = self.decode(id).0.worker;
        if usize::from(worker) < workers {
            return Some(worker);
        }
        (self.adopts && workers > 0).then(|| (self.hash.hash_one(id) % workers as u64) as u16)
    }

    /// The id of a session.
    pub fn encode(&self, locator: Locator, secret: &Secret) -> SessionId {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&locator.worker.to_be_bytes());
        id[2..6].copy_from_slice(&locator.slot.to_be_bytes());
        id[6..].copy_from_slice(secret);
        self.mask(&mut id, secret);
        id
    }

    /// Where a session with this id would live, and its secret.
    pub fn decode(&self, id: &SessionId) -> (Locator, Secret) {
        let mut id = *id;
        let mut secret = [0; SECRET_LEN];
        secret.copy_from_slice(&id[6..]);
        self.mask(&mut id, &secret);
        let worker = u16::from_be_bytes([id[0], id[1]]);
        let slot = u32::from_be_bytes([id[2], id[3], id[4], id[5]]);
        (Locator { worker, slot }, secret)
    }

    fn mask(&self, id: &mut SessionId, secret: &Secret) {
        let mask = self.hash.hash_one(secret).to_be_bytes();
        id[..6].iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// Makes secrets without a system call for each.
#[derive(Debug)]
pub struct Secrets {
    bytes: Vec<u8>,
    fill: fn(&mut [u8]) -> bool,
}

impl Secrets {
    const BATCH: usize = 400 * SECRET_LEN;

    /// Secrets from a source that fills a slice, or returns false if it can't.
    pub fn new(fill: fn(&mut [u8]) -> bool) -> Secrets {
        Secrets { bytes: Vec::new(), fill }
    }

    /// The next secret; `None` if the source has failed.
    pub fn draw(&mut self) -> Option<Secret> {
        if self.bytes.is_empty() {
            let mut bytes = vec![0; Secrets::BATCH];
            if !(self.fill)(&mut bytes) {
                return None;
            }
            self.bytes = bytes;
        }
        let at = self.bytes.len() - SECRET_LEN;
        let secret = self.bytes[at..].try_into().ok()?;
        self.bytes.truncate(at);
        Some(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_to_its_place_under_its_own_key_only() {
        let key = IdKey::new();
        let locator = Locator { worker: 3, slot: 70_000 };
        let secret = [7; SECRET_LEN];
        let id = key.encode(locator, &secret);
        assert_eq!(key.decode(&id), (locator, secret));
        assert_ne!(IdKey::new().decode(&id).0, locator);
        assert_ne!(id[..6], [0, 3, 0, 1, 0x11, 0x70], "the place is not to be read off");
    }

    #[test]
    fn an_id_of_another_process_has_a_home_where_such_are_taken_in() {
        let (key, adopting) = (IdKey::new(), IdKey::new().adopting());
        let own = adopting.encode(Locator { worker: 3, slot: 7 }, &[7; SECRET_LEN]);
        assert_eq!((adopting.home(&own, 4), adopting.clone().home(&own, 4)), (Some(3), Some(3)));
        let mut homes = [0; 4];
        for n in 0..1_000_u32 {
            let mut secret = [0; SECRET_LEN];
            secret[..4].copy_from_slice(&n.to_be_bytes());
            let id = key.encode(Locator { worker: 0, slot: n }, &secret);
            let home = adopting.home(&id, 4).unwrap();
            assert_eq!(adopting.home(&id, 4), Some(home));
            homes[usize::from(home)] += 1;
            assert_eq!(key.home(&id, 4), Some(0));
        }
        assert!(homes.iter().all(|sessions| *sessions > 150), "{homes:?}");
        let strange = (0..100).map(|n| IdKey::new().encode(Locator { worker: 0, slot: n }, &[1; SECRET_LEN]));
        assert!(strange.filter(|id| key.home(id, 4).is_some()).count() < 10, "elsewhere they lead nowhere");
    }
}
