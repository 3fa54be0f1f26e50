//! Which messages were there already: idempotency keys, for a while and up to a number.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use super::Key;

/// Principal and key, as 128 bits that nobody outside can aim at: the hashers' keys are the process's own.
type Digest = [u64; 2];

/// A digest is a hash already: half of it will do for the map.
#[derive(Debug, Default)]
struct Half(u64);

impl Hasher for Half {
    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(half) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*half);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The keys remembered. About 75 bytes each.
#[derive(Debug)]
pub(super) struct Dedup {
    hashers: [RandomState; 2],
    ids: HashMap<Digest, u64, BuildHasherDefault<Half>>,
    /// In the order in which they came: where the clock went back meanwhile, a key is remembered for as long as the
    /// one before it, by as much too long as the clock went back.
    ages: VecDeque<(Digest, u64)>,
    window_ms: u64,
    max: usize,
    forgotten: u64,
}

impl Dedup {
    pub fn new(window_ms: u64, max: usize) -> Dedup {
        Dedup {
            hashers: [RandomState::new(), RandomState::new()],
            ids: HashMap::default(),
            ages: VecDeque::new(),
            window_ms,
            max: max.max(1),
            forgotten: 0,
        }
    }

    pub fn digest(&self, principal: &str, key: &Key) -> Digest {
        self.hashers.each_ref().map(|hasher| hasher.hash_one((principal, key)))
    }

    /// The message that had this key.
    pub fn find(&mut self, digest: &Digest, now_ms: u64) -> Option<u64> {
        self.expire(now_ms);
        self.ids.get(digest).copied()
    }

    /// Remembers a key, unless it is known or its time is over already. Ids only grow.
    pub fn insert(&mut self, digest: Digest, id: u64, time_ms: u64, now_ms: u64) {
        let Entry::Vacant(entry) = self.ids.entry(digest) else { return };
        if time_ms.abs_diff(now_ms) > self.window_ms {
            return;
        }
        entry.insert(id);
        self.ages.push_back((digest, time_ms));
        if self.ages.len() > self.max {
            self.forgotten += 1;
            self.forget_oldest();
        }
    }

    /// Takes back the newest keys: their messages are not stored.
    pub fn take_back(&mut self, count: usize) {
        for _ in 0..count {
            let Some((digest, _)) = self.ages.pop_back() else { return };
            self.ids.remove(&digest);
        }
    }

    /// Forgets keys whose time is over.
    pub fn expire(&mut self, now_ms: u64) {
        while self.ages.front().is_some_and(|(_, time_ms)| self.is_over(*time_ms, now_ms)) {
            self.forget_oldest();
        }
    }

    /// The oldest message whose key is remembered.
    pub fn oldest_id(&self) -> Option<u64> {
        self.ages.front().and_then(|(digest, _)| self.ids.get(digest)).copied()
    }

    pub fn len(&self) -> u64 {
        self.ages.len() as u64
    }

    /// Keys that were forgotten within their time.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// A time in the future is one of a clock that was set back since: it must not keep keys for ever.
    fn is_over(&self, time_ms: u64, now_ms: u64) -> bool {
        time_ms.abs_diff(now_ms) > self.window_ms
    }

    fn forget_oldest(&mut self) {
        if let Some((digest, _)) = self.ages.pop_front() {
            self.ids.remove(&digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(dedup: &mut Dedup, principal: &str, key: u8, id: u64, now_ms: u64) {
        let digest = dedup.digest(principal, &[key; 16]);
        dedup.insert(digest, id, now_ms, now_ms);
    }

    fn find(dedup: &mut Dedup, principal: &str, key: u8, now_ms: u64) -> Option<u64> {
        let digest = dedup.digest(principal, &[key; 16]);
        dedup.find(&digest, now_ms)
    }

    #[test]
    fn a_key_is_its_principals_own_and_lasts_as_long_as_was_said() {
        let mut dedup = Dedup::new(100, 10);
        insert(&mut dedup, "anna", 1, 7, 1_000);
        assert_eq!(find(&mut dedup, "anna", 1, 1_100), Some(7));
        assert_eq!((find(&mut dedup, "anna", 2, 1_100), find(&mut dedup, "bert", 1, 1_100)), (None, None));
        assert_eq!((find(&mut dedup, "anna", 1, 1_101), dedup.len(), dedup.forgotten()), (None, 0, 0));
    }

    #[test]
    fn of_too_many_keys_the_oldest_is_forgotten_and_counted() {
        let mut dedup = Dedup::new(100, 2);
        (1..=3).for_each(|n| insert(&mut dedup, "anna", n, n.into(), 0));
        assert_eq!((dedup.len(), dedup.forgotten(), dedup.oldest_id()), (2, 1, Some(2)));
        assert_eq!((find(&mut dedup, "anna", 1, 0), find(&mut dedup, "anna", 3, 0)), (None, Some(3)));
    }

    #[test]
    fn keys_of_what_was_not_stored_are_taken_back_and_no_others() {
        let mut dedup = Dedup::new(100, 3);
        (1..=3).for_each(|n| insert(&mut dedup, "anna", n, n.into(), 0));
        dedup.take_back(2);
        assert_eq!((find(&mut dedup, "anna", 1, 0), find(&mut dedup, "anna", 2, 0)), (Some(1), None));
        dedup.take_back(5);
        assert_eq!((dedup.len(), dedup.oldest_id()), (0, None));
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_no_key_for_ever() {
        let mut dedup = Dedup::new(100, 10);
        insert(&mut dedup, "anna", 1, 1, 1_000_000);
        insert(&mut dedup, "anna", 2, 2, 500);
        assert_eq!((find(&mut dedup, "anna", 1, 500), find(&mut dedup, "anna", 2, 500)), (None, Some(2)));
    }
}
