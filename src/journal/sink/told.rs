//! What a route's thread tells of itself. It alone writes; any thread reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Feed;
use crate::config::SinkRoute;
use crate::stats::{Counter, Histogram, RouteView};

/// The clocks that a route's thread goes by; tests have their own.
pub(super) trait Clock: Send {
    /// For what is to wait.
    fn now(&self) -> Instant;
    /// For what was stored when. Milliseconds since 1970.
    fn wall_ms(&self) -> u64;
}

/// The system's.
pub(super) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since.as_millis().min(u128::from(u64::MAX)) as u64
    }
}

/// One route's numbers.
#[derive(Debug)]
pub(super) struct Told {
    epoch: Instant,
    /// Calls of the sink that take longer than this hang.
    hangs_after: Duration,
    /// Milliseconds after `epoch` at which the present call of the sink began, and 1; 0: there is none.
    calling: AtomicU64,
    down: Mutex<Option<String>>,
    pub delivered: Counter,
    pub refused: Counter,
    pub dead_letters: Counter,
    pub dropped: Counter,
    pub failures: Counter,
    pub done: Counter,
    /// When the oldest message that is left was stored, in milliseconds since 1970; 0: none is left.
    pub oldest_ms: Counter,
    pub latency: Histogram,
}

impl Told {
    /// `timeout`: what a sink is allowed.
    pub fn new(timeout: Duration) -> Told {
        Told {
            epoch: Instant::now(),
            hangs_after: timeout.saturating_mul(2) + Duration::from_secs(1),
            calling: AtomicU64::new(0),
            down: Mutex::default(),
            delivered: Counter::default(),
            refused: Counter::default(),
            dead_letters: Counter::default(),
            dropped: Counter::default(),
            failures: Counter::default(),
            done: Counter::default(),
            oldest_ms: Counter::default(),
            latency: Histogram::default(),
        }
    }

    /// A call of the sink begins.
    pub fn call(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.epoch).as_millis().min(u128::from(u64::MAX - 1)) as u64;
        self.calling.store(ms + 1, Relaxed);
    }

    /// It is over.
    pub fn called(&self) {
        self.calling.store(0, Relaxed);
    }

    /// The sink is down, and why; or it is up. Returns what it was before.
    pub fn set_down(&self, down: Option<String>) -> Option<String> {
        std::mem::replace(&mut *lock(&self.down), down)
    }

    /// Why nothing is delivered now.
    fn why_down(&self, now: Instant) -> Option<String> {
        let since = self.calling.load(Relaxed).checked_sub(1).map(|ms| self.epoch + Duration::from_millis(ms));
        let hung = since.map(|since| now.saturating_duration_since(since)).filter(|took| *took > self.hangs_after);
        match hung {
            Some(took) => Some(format!("hangs: it was called {} s ago and has not answered", took.as_secs())),
            None => lock(&self.down).clone(),
        }
    }

    /// All of it.
    pub fn view(&self, index: usize, route: &SinkRoute, feed: &dyn Feed) -> RouteView {
        let behind = feed.unfinished(index);
        let oldest = self.oldest_ms.get();
        let lag = if oldest == 0 || behind == 0 { 0 } else { SystemClock.wall_ms().saturating_sub(oldest) };
        RouteView {
            down: self.why_down(Instant::now()),
            delivered: self.delivered.get(),
            refused: self.refused.get(),
            dead_letters: self.dead_letters.get(),
            dropped: self.dropped.get(),
            failures: self.failures.get(),
            done: self.done.get(),
            behind,
            lag: Duration::from_millis(lag),
            latency: self.latency.read(),
            ..nameplate(route)
        }
    }
}

/// What a view says of a route whatever its sink does.
pub(super) fn nameplate(route: &SinkRoute) -> RouteView {
    let sink = route.sink.to_string();
    let target = sink.split_once(':').map_or("", |(_, target)| target).replace("%2C", ",");
    RouteView { pattern: route.pattern.to_string(), kind: route.sink.kind.name(), target, ..RouteView::default() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
