//! What a client was promised about the state of its sessions.

use fastrand::Rng;
use tidegate::proto::SessionId;

/// Keys that a session has at most.
pub const KEYS: usize = 4;

/// What one key may hold: what was acknowledged or read last, or anything tried since.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// The number of the value that is committed; `None`: nothing is.
    held: Option<u64>,
    /// Numbers of values whose PUT was sent and not acknowledged: any of them may be there, too.
    maybe: Vec<u64>,
}

/// A session, and its keys.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    slots: [Slot; KEYS],
    /// PUTs acknowledged.
    pub acknowledged: u64,
}

impl Session {
    /// One that has just been made.
    pub fn new(id: SessionId) -> Session {
        Session { id, slots: Default::default(), acknowledged: 0 }
    }

    /// A PUT of this value leaves.
    pub fn sent(&mut self, key: usize, number: u64) {
        self.slots[key].maybe.push(number);
    }

    /// It was acknowledged.
    pub fn acknowledged(&mut self, key: usize, number: u64) {
        self.slots[key] = Slot { held: Some(number), maybe: Vec::new() };
        self.acknowledged += 1;
    }

    /// Whether the session must be there.
    pub fn is_promised(&self) -> bool {
        self.slots.iter().any(|slot| slot.held.is_some())
    }

    /// A value was read, `None`: there is none. What is read must stay: nothing older may come after it.
    ///
    /// # Errors
    /// It may not be, in words.
    pub fn read(&mut self, key: usize, found: Option<u64>) -> Result<(), String> {
        let slot = &mut self.slots[key];
        if found != slot.held && !found.is_some_and(|number| slot.maybe.contains(&number)) {
            return Err(format!("key {key} holds {found:?} and not {:?}, nor any of {:?}", slot.held, slot.maybe));
        }
        slot.held = found;
        slot.maybe.retain(|number| Some(*number) > found);
        Ok(())
    }
}

/// A key's name.
pub fn key_name(key: usize) -> Vec<u8> {
    format!("key {key}").into_bytes()
}

/// Value `number` of a key: of different sizes, and known again.
pub fn value(seed: u64, number: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed ^ number.wrapping_mul(0xD134_2543_DE82_EF95));
    let mut value = vec![0; rng.usize(8..1_000)];
    rng.fill(&mut value[8..]);
    value[..8].copy_from_slice(&number.to_be_bytes());
    value
}

/// The number of a value that was read.
///
/// # Errors
/// It is no value, or it has changed.
pub fn number_of(seed: u64, found: &[u8]) -> Result<u64, String> {
    let head = found.first_chunk::<8>().ok_or_else(|| format!("{} bytes are no value", found.len()))?;
    let number = u64::from_be_bytes(*head);
    if value(seed, number) != found {
        return Err(format!("value {number} is not as it was put"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_value_must_be_there_and_one_tried_since_may_be() {
        let mut session = Session::new([0; 16]);
        assert!(!session.is_promised());
        session.sent(0, 1);
        assert!(session.clone().read(0, None).is_ok() && session.clone().read(0, Some(1)).is_ok());
        session.acknowledged(0, 1);
        assert!(session.is_promised() && session.clone().read(0, None).is_err(), "it was acknowledged");
        session.sent(0, 2);
        session.sent(0, 3);
        assert!(session.clone().read(0, Some(1)).is_ok() && session.clone().read(0, Some(3)).is_ok());
        assert!(session.clone().read(0, Some(4)).is_err() && session.read(1, Some(1)).is_err());
    }

    #[test]
    fn nothing_older_comes_behind_what_was_read() {
        let mut session = Session::new([0; 16]);
        session.acknowledged(2, 1);
        session.sent(2, 2);
        session.sent(2, 3);
        session.read(2, Some(2)).unwrap();
        assert!(session.clone().read(2, Some(1)).is_err());
        assert!(session.read(2, Some(3)).is_ok());
    }

    #[test]
    fn a_value_is_known_again_and_a_changed_one_is_not() {
        let mut put = value(9, 5);
        assert_eq!(number_of(9, &put), Ok(5));
        put.push(0);
        assert!(number_of(9, &put).is_err() && number_of(9, b"123").is_err());
    }
}
