//! Names of event sources.

use mio::Token;

/// A connection's name on its worker: slot and generation, so that what is late for one connection
/// never meets the next one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnToken {
    /// Its slot in the slab.
    pub slot: u32,
    /// Which of the connections that had the slot.
    pub generation: u32,
}

/// The worker's own sources lie above every possible slot.
const FIRST_OWN: u32 = u32::MAX - 16;
/// Signals.
pub const SIGNALS: Token = own(0);
/// Other threads want attention.
pub const WAKER: Token = own(1);
const FIRST_LISTENER: u32 = 2;
/// Most listeners of a worker.
pub const MAX_LISTENERS: usize = 14;

const _: () = assert!(crate::limits::MAX_CORE_CONNECTIONS + crate::limits::REFUSAL_SLOTS < FIRST_OWN as usize);
const _: () = assert!(usize::BITS == 64, "a token is a slot and a generation of 32 bits each");

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Signals.
    Signals,
    /// The waker.
    Waker,
    /// The listener with this index.
    Listener(usize),
    /// A connection.
    Connection(ConnToken),
}

impl ConnToken {
    /// As eight bytes, to be stored and sent.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// From what [`ConnToken::to_u64`] gave.
    pub fn from_u64(bits: u64) -> ConnToken {
        ConnToken { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}

impl From<ConnToken> for Token {
    fn from(token: ConnToken) -> Token {
        Token(token.to_u64() as usize)
    }
}

/// The token of the listener with this index.
pub fn listener(index: usize) -> Token {
    debug_assert!(index < MAX_LISTENERS);
    own(FIRST_LISTENER + index as u32)
}

/// What a token stands for.
pub fn source(token: Token) -> Source {
    let token_ = ConnToken::from_u64(token.0 as u64);
    match token_.slot.checked_sub(FIRST_OWN) {
        None => Source::Connection(token_),
        Some(0) => Source::Signals,
        Some(1) => Source::Waker,
        Some(n) => Source::Listener((n - FIRST_LISTENER) as usize),
    }
}

const fn own(n: u32) -> Token {
    Token((FIRST_OWN + n) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_leads_back_to_its_source() {
        let conn = ConnToken { slot: 7, generation: u32::MAX };
        assert_eq!(source(conn.into()), Source::Connection(conn));
        assert_eq!(source(SIGNALS), Source::Signals);
        assert_eq!(source(WAKER), Source::Waker);
        for i in 0..MAX_LISTENERS {
            assert_eq!(source(listener(i)), Source::Listener(i));
        }
    }
}
