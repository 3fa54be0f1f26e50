//! A session's keys and values.

use std::collections::BTreeMap;

/// How much one session may hold.
#[derive(Clone, Copy, Debug)]
pub struct StateLimits {
    /// Keys.
    pub entries: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

/// A put that would go over a limit; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFull {
    /// Too many keys.
    Entries,
    /// Too many bytes.
    Bytes,
}

/// One session's state.
#[derive(Debug, Default)]
pub struct State {
    entries: BTreeMap<Box<[u8]>, Box<[u8]>>,
    bytes: usize,
}

impl State {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(AsRef::as_ref)
    }

    /// Sets a key.
    pub fn put(&mut self, key: &[u8], value: &[u8], limits: StateLimits) -> Result<(), StateFull> {
        let old = self.entries.get(key).map(|value| key.len() + value.len());
        if old.is_none() && self.entries.len() >= limits.entries {
            return Err(StateFull::Entries);
        }
        let bytes = self.bytes - old.unwrap_or(0) + key.len() + value.len();
        if bytes > limits.bytes {
            return Err(StateFull::Bytes);
        }
        self.bytes = bytes;
        self.entries.insert(key.into(), value.into());
        Ok(())
    }

    /// Every key and its value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many keys there are.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, key: &[u8]) {
        if let Some(value) = self.entries.remove(key) {
            self.bytes -= key.len() + value.len();
        }
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl From<Vec<(Box<[u8]>, Box<[u8]>)>> for State {
    fn from(pairs: Vec<(Box<[u8]>, Box<[u8]>)>) -> State {
        let bytes = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        State { entries: pairs.into_iter().collect(), bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: StateLimits = StateLimits { entries: 2, bytes: 10 };

    #[test]
    fn a_put_over_a_limit_changes_nothing() {
        let mut state = State::default();
        assert_eq!(state.put(b"a", b"1234", LIMITS), Ok(()));
        assert_eq!(state.put(b"a", b"1234567890", LIMITS), Err(StateFull::Bytes));
        assert_eq!(state.get(b"a"), Some(&b"1234"[..]));
        assert_eq!(state.put(b"b", b"1234", LIMITS), Ok(()));
        assert_eq!(state.put(b"c", b"", LIMITS), Err(StateFull::Entries));
        assert_eq!(state.bytes(), 10);
    }

    #[test]
    fn replacing_and_deleting_give_their_bytes_back() {
        let mut state = State::default();
        assert_eq!(state.put(b"k", b"123456789", LIMITS), Ok(()));
        assert_eq!(state.put(b"k", b"987654321", LIMITS), Ok(()));
        state.delete(b"k");
        state.delete(b"k");
        assert_eq!((state.bytes(), state.is_empty()), (0, true));
    }
}
