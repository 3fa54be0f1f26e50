//! The end of a worker's sessions: what the store does not know yet, it is told.

use std::fmt;
use std::time::Instant;

use super::{Now, Stored};
use crate::conn::Millis;
use crate::limits::MAX_STORE_COMMIT;
use crate::reactor::Clock;
use crate::reactor::tick::Reactor;
use crate::session::Sessions;

/// The sessions of a worker that has ended.
pub(crate) struct Leftover {
    stored: Box<Stored>,
    sessions: Sessions,
    /// When the worker's clock began.
    epoch: Instant,
    clock: Clock,
}

impl Reactor {
    /// The worker ends: its sessions, if they are kept in a store.
    pub(crate) fn take_leftover(&mut self) -> Option<Box<Leftover>> {
        let stored = self.hub.stored.take()?;
        let sessions = self.hub.take_sessions();
        Some(Box::new(Leftover {
            stored,
            sessions,
            epoch: self.stats().pulse.epoch,
            clock: self.services.clock.clone(),
        }))
    }
}

impl Leftover {
    /// Tells the store what it does not know, until `deadline`, or until the store fails. `drained_from`: since
    /// when connections have ended because the server does. Returns how many sessions the store does not have.
    pub fn persist(&mut self, drained_from: Instant, deadline: Instant) -> usize {
        let Leftover { stored, sessions, epoch, clock } = self;
        let now = |clock: &Clock| {
            let elapsed = epoch.elapsed();
            Now { tick: Millis::from(elapsed), s: elapsed.as_secs() as u32, wall_ms: clock.wall_ms() }
        };
        stored.close();
        if !stored.courier.options().touches {
            // The others have their time to live from the end of this process.
            let from_s = drained_from.saturating_duration_since(*epoch).as_secs() as u32;
            sessions.note_leaving(from_s.saturating_add(sessions.limits().ttl_s));
        }
        while Instant::now() < deadline {
            stored.flush(sessions, &now(clock));
            // Nobody is left to be answered.
            drop(stored.take_effects());
            if stored.rests_until.is_some() || stored.is_idle(sessions) {
                break;
            }
            let Some(told) = stored.take_told(Some(deadline)) else { break };
            let at = now(clock);
            told.into_iter().for_each(|told| stored.settle(sessions, told, &at));
        }
        sessions.unsaved()
    }
}

impl Stored {
    fn close(&mut self) {
        self.closing = true;
        self.saving_limit = MAX_STORE_COMMIT;
        // What failed before is tried once more.
        self.rests_until = None;
    }
}

impl fmt::Debug for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leftover").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}
