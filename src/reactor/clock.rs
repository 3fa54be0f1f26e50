//! The clocks that workers share, beside the one of each tick.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What a server takes for the wall clock.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// One clock that never goes back, the same for all workers, and the wall's.
#[derive(Clone)]
pub struct Clock {
    started: Instant,
    wall: WallClock,
}

impl Clock {
    /// Begins now.
    pub fn new(wall: WallClock) -> Clock {
        Clock { started: Instant::now(), wall }
    }

    /// Milliseconds since it was begun.
    pub fn monotonic_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The wall clock.
    pub fn wall(&self) -> SystemTime {
        (self.wall)()
    }

    /// The wall clock, milliseconds since the Unix epoch.
    pub fn wall_ms(&self) -> u64 {
        self.wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new(Arc::new(SystemTime::now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("started", &self.started).finish_non_exhaustive()
    }
}
