//! What the client counts and what is known about its connection: written by its thread, read by all.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::client::ClientError;
use crate::client::call::SendKind;
use crate::proto::SessionId;

/// Counts since the client began.
///
/// Every frame of a request ends in one of four ways, so that at every moment when nothing is
/// under way `sent + resent + repeated = answered + errors + unprocessed + unknown`; before that,
/// the difference is what is in flight. AUTH and the client's own PINGs are counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Requests sent for the first time.
    pub sent: u64,
    /// Requests sent again that the server had said it did not process: safe.
    pub resent: u64,
    /// Idempotent requests sent again because their outcome was unknown.
    pub repeated: u64,
    /// Requests answered with a reply, late ones included.
    pub answered: u64,
    /// Requests answered with an ERROR, DRAINING and OVERLOADED included.
    pub errors: u64,
    /// Requests that a final GOAWAY left unprocessed.
    pub unprocessed: u64,
    /// Requests whose connection was lost before they were answered.
    pub unknown: u64,
    /// Times that READY came after the first time.
    pub reconnects: u64,
    /// AUTH frames sent.
    pub auths: u64,
    /// PINGs that the client sent of its own.
    pub pings: u64,
    /// MESSAGE frames received (and dropped: this client has no subscriptions).
    pub pushes: u64,
}

impl ClientStats {
    /// Requests sent and not yet accounted for.
    pub fn in_flight(&self) -> u64 {
        (self.sent + self.resent + self.repeated)
            .saturating_sub(self.answered + self.errors + self.unprocessed + self.unknown)
    }
}

#[derive(Debug, Default)]
pub struct Counters {
    sent: [AtomicU64; 3],
    pub answered: Counter,
    pub errors: Counter,
    pub unprocessed: Counter,
    pub unknown: Counter,
    pub readies: Counter,
    pub auths: Counter,
    pub pings: Counter,
    pub pushes: Counter,
}

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    pub fn count_sent(&self, kind: SendKind) {
        self.sent[kind as usize].fetch_add(1, Relaxed);
    }

    /// Takes back a frame that was queued and never left.
    pub fn uncount_sent(&self, kind: SendKind) {
        self.sent[kind as usize].fetch_sub(1, Relaxed);
    }

    pub fn snapshot(&self) -> ClientStats {
        let sent = |kind: SendKind| self.sent[kind as usize].load(Relaxed);
        ClientStats {
            sent: sent(SendKind::First),
            resent: sent(SendKind::Unprocessed),
            repeated: sent(SendKind::Unknown),
            answered: self.answered.get(),
            errors: self.errors.get(),
            unprocessed: self.unprocessed.get(),
            unknown: self.unknown.get(),
            reconnects: self.readies.get().saturating_sub(1),
            auths: self.auths.get(),
            pings: self.pings.get(),
            pushes: self.pushes.get(),
        }
    }
}

/// What callers may see of the connection.
#[derive(Debug, Default)]
pub struct Status {
    pub counters: Counters,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
pub struct Known {
    pub session: Option<SessionId>,
    pub resumed: bool,
    /// Why there is no connection; `None` while there is one.
    pub trouble: Option<ClientError>,
}

impl Status {
    /// The lock is held for a few moves and copies only, and never together with another.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
