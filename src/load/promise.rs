//! What the answers to SUBMIT, SESSION_PUT and SESSION_DELETE promise, and whether it is kept. PURE.
//!
//! Ids: on one connection a later SUBMIT has a higher id than an earlier one, and no id is given twice. With `--retry`
//! that holds over restarts of the server, and each key of a session has the value that was acknowledged last: a
//! topic and a key are a *lane*, which has one request without an answer at a time.

use std::collections::VecDeque;

use super::payload::KEYS;
use crate::proto::{Command, seq_follows};

/// Ids that are remembered, below the highest.
const REMEMBERED: u64 = 1 << 20;

/// Of one client.
#[derive(Debug, Default)]
pub struct Promises {
    /// Messages that were numbered.
    pub messages: u32,
    /// Requests to the session's state that were.
    pub states: u32,
    /// Lanes with a request without an answer, as bits.
    busy: u16,
    /// The last id, and the `seq` that it answered.
    last: Option<(u32, u64)>,
    values: [Value; KEYS as usize],
}

/// What is known of a key's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Its last change has failed, or nobody has kept the books.
    #[default]
    Unknown,
    /// There is none, and never was in this session.
    Never,
    /// It was deleted.
    Absent,
    /// The one of this number, so many bytes long.
    Put(u32, u16),
}

/// A request's lane.
pub fn lane(cmd: Command, number: u32) -> Option<u16> {
    match cmd {
        Command::SUBMIT => Some(1 << KEYS),
        Command::SESSION_GET | Command::SESSION_PUT | Command::SESSION_DELETE => Some(1 << (number % KEYS)),
        _ => None,
    }
}

impl Promises {
    /// Takes a lane. Returns whether it was free.
    pub fn take(&mut self, lane: u16) -> bool {
        let free = self.busy & lane == 0;
        self.busy |= lane;
        free
    }

    /// Lets go of a lane.
    pub fn free(&mut self, lane: u16) {
        self.busy &= !lane;
    }

    /// Lets go of all.
    pub fn free_all(&mut self) {
        self.busy = 0;
    }

    /// Ids of before have nothing to do with those to come.
    pub fn forget_ids(&mut self) {
        self.last = None;
    }

    /// Whether `id` may answer the SUBMIT with this `seq`.
    pub fn is_in_order(&mut self, seq: u32, id: u64) -> bool {
        let Some((before, last)) = self.last else {
            self.last = Some((seq, id));
            return true;
        };
        if !seq_follows(before, seq) {
            return id < last; // an answer that was overtaken
        }
        let right = id > last;
        self.last = Some((seq, id.max(last)));
        right
    }

    /// A key's value.
    pub fn value(&self, number: u32) -> Value {
        self.values[(number % KEYS) as usize]
    }

    /// It was changed.
    pub fn set(&mut self, number: u32, value: Value) {
        self.values[(number % KEYS) as usize] = value;
    }

    /// A new session: it has no values. Returns how many there were.
    pub fn forget_values(&mut self) -> u64 {
        let put = self.values.iter().filter(|value| matches!(value, Value::Put(..))).count();
        self.values.fill(Value::Never);
        put as u64
    }

    /// The keys whose value was changed, and is known, as numbers.
    pub fn known(&self) -> impl Iterator<Item = u32> + use<> {
        let values = self.values;
        (0..KEYS).filter(move |key| !matches!(values[*key as usize], Value::Unknown | Value::Never))
    }
}

/// Ids that were given, of all connections. Bounded: of those far below the highest nothing is known.
#[derive(Debug, Default)]
pub struct Ids {
    /// A bit for each id from `first` on.
    given: VecDeque<u64>,
    /// A multiple of 64.
    first: u64,
    /// Several servers have several journals.
    pub off: bool,
}

impl Ids {
    /// Takes down an id. Returns whether it was not given before, as far as that is remembered.
    pub fn take(&mut self, id: u64) -> bool {
        if self.off || id < self.first {
            return true;
        }
        if id - self.first >= 2 * REMEMBERED {
            self.given.clear();
            self.first = (id.saturating_sub(REMEMBERED)) / 64 * 64;
        }
        let (word, bit) = (((id - self.first) / 64) as usize, 1 << (id % 64));
        if self.given.len() <= word {
            self.given.resize(word + 1, 0);
        }
        let Some(bits) = self.given.get_mut(word) else { return true };
        let fresh = *bits & bit == 0;
        *bits |= bit;
        while self.given.len() as u64 * 64 > REMEMBERED {
            self.given.pop_front();
            self.first += 64;
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_with_the_order_of_sending_also_where_answers_overtake_each_other() {
        let mut promises = Promises::default();
        for (seq, id) in [(u32::MAX, 5), (1, 9), (0, 7), (2, 10)] {
            assert!(promises.is_in_order(seq, id), "{seq} {id}");
        }
        for (seq, id) in [(3, 10), (4, 3), (1, 12)] {
            assert!(!promises.is_in_order(seq, id), "{seq} {id}");
        }
    }

    #[test]
    fn an_id_that_is_given_twice_is_noticed_within_bounds() {
        let mut ids = Ids::default();
        assert!([1, 3, 2, 64, 128].into_iter().all(|id| ids.take(id)));
        assert!(![1, 3, 2, 64, 128].into_iter().any(|id| ids.take(id)));
        for id in 1_000..3_000_000 {
            assert!(ids.take(id));
        }
        assert!(!ids.take(2_999_999) && !ids.take(2_500_000) && ids.take(7));
        assert!(ids.take(u64::MAX) && !ids.take(u64::MAX) && ids.take(u64::MAX - 1));
        assert!(ids.given.len() as u64 <= REMEMBERED / 64 + 1, "{}", ids.given.len());
    }

    #[test]
    fn a_lane_has_one_request_at_a_time() {
        let mut promises = Promises::default();
        let [topic, key, other] =
            [lane(Command::SUBMIT, 3), lane(Command::SESSION_PUT, 3), lane(Command::SESSION_GET, 4)]
                .map(Option::unwrap);
        assert_eq!((lane(Command::ECHO, 3), lane(Command::SESSION_GET, 3 + KEYS)), (None, Some(key)));
        assert!(promises.take(topic) && promises.take(key) && promises.take(other));
        assert!(!promises.take(key));
        promises.free(key);
        assert!(promises.take(key) && !promises.take(topic));
        promises.free_all();
        assert!(promises.take(topic));
    }

    #[test]
    fn a_new_session_has_no_values() {
        let mut promises = Promises::default();
        assert_eq!(promises.known().count(), 0);
        promises.set(9, Value::Put(9, 4));
        promises.set(2, Value::Absent);
        assert_eq!((promises.known().collect::<Vec<_>>(), promises.value(1)), (vec![1, 2], Value::Put(9, 4)));
        assert_eq!((promises.forget_values(), promises.value(1), promises.forget_values()), (1, Value::Never, 0));
        assert_eq!(promises.known().count(), 0);
    }
}
