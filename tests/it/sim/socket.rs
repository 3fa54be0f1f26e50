//! The stream between the two: what is on its way to the server, and what the server sent.

use std::collections::VecDeque;

use tidegate::conn::{Sink, Written};

use super::dice::Dice;

/// An in-memory stream that cuts, delays and refuses.
#[derive(Default)]
pub struct Stream {
    /// Written by the client, not yet read by the server.
    pub up: VecDeque<u8>,
    /// The client will write no more; EOF is behind `up`.
    pub client_fin: bool,
    /// Everything that the server's socket took, ever.
    pub sent: Vec<u8>,
    /// How much of it the client has read.
    pub read: usize,
    /// Most bytes that may be sent and not read.
    pub window: usize,
    /// The peer is gone.
    pub broken: bool,
    /// The server said that it sends no more.
    pub half_closed: bool,
}

impl Stream {
    pub fn unread(&self) -> usize {
        self.sent.len() - self.read
    }

    fn room(&self) -> usize {
        self.window.saturating_sub(self.unread())
    }
}

/// The sending side as the connection sees it.
pub struct Socket<'w, 'd> {
    pub stream: &'w mut Stream,
    pub dice: &'w mut Dice<'d>,
    /// Whether it takes less than it could.
    pub stingy: bool,
}

impl Sink for Socket<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> Written {
        assert!(!bytes.is_empty(), "a write of nothing");
        assert!(!self.stream.half_closed, "a write after the half-close");
        if self.stream.broken {
            return Written::Gone;
        }
        let mut take = self.stream.room().min(bytes.len());
        if self.stingy && self.dice.chance(40) {
            take = self.dice.below(take + 1);
        }
        self.stream.sent.extend_from_slice(&bytes[..take]);
        Written::Took(take)
    }
}
