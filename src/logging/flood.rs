//! The same complaint again and again: so many lines of it in an interval, and a count of the others.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, Record};

use super::fields::bounded;
use crate::limits::MAX_LOG_SITES;

/// Counts lines by the place in the code that they come from, and their level.
#[derive(Debug)]
pub(super) struct Flood {
    burst: AtomicU32,
    interval_ms: AtomicU64,
    hasher: RandomState,
    windows: Mutex<HashMap<u64, Window>>,
}

/// What a line's place may do now.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is printed; behind this, if there is any.
    Print(Option<More>),
    /// It is counted.
    Count,
}

/// Lines that were counted and not printed.
#[derive(Debug)]
pub(super) struct More {
    pub target: String,
    pub level: Level,
    /// How many.
    pub lines: u64,
    /// Over how long.
    pub over: Duration,
    /// The message of the first of them.
    pub like: String,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    printed: u32,
    /// What was not; there is a first one.
    more: Option<(u64, String)>,
    target: String,
    level: Level,
}

/// Bytes of a message that is shown as an example, and of a target.
const EXAMPLE_BYTES: usize = 200;
/// The window of all places for which there is no other one left.
const OVERFLOW: u64 = 0;

impl Flood {
    /// At most `burst` lines of one place in an interval; 0: no limit.
    pub fn new(burst: u32, interval: Duration) -> Flood {
        let flood = Flood {
            burst: AtomicU32::new(0),
            interval_ms: AtomicU64::new(0),
            hasher: RandomState::new(),
            windows: Mutex::default(),
        };
        flood.set(burst, interval);
        flood
    }

    /// Changes the limit.
    pub fn set(&self, burst: u32, interval: Duration) {
        self.interval_ms.store(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX), Relaxed);
        self.burst.store(burst, Relaxed);
    }

    /// Whether a line is printed.
    pub fn admit(&self, record: &Record<'_>, now: Instant) -> Verdict {
        let burst = self.burst.load(Relaxed);
        if burst == 0 {
            return Verdict::Print(None);
        }
        let place = (record.module_path(), record.line(), record.level() as usize);
        // Who built a record by hand may have left out where.
        let named = if place.1.is_none() { Some(record.target()) } else { None };
        let key = self.hasher.hash_one((place, named)).max(OVERFLOW + 1);
        match self.count(key, record, burst, now) {
            Counted::Print(more) => Verdict::Print(more),
            Counted::Again => Verdict::Count,
            Counted::First(key) => {
                // Outside the lock: what displays itself there is somebody else's code.
                let like = bounded(EXAMPLE_BYTES, record.args());
                if let Some((_, example)) = self.lock().get_mut(&key).and_then(|window| window.more.as_mut())
                    && example.is_empty()
                {
                    *example = like;
                }
                Verdict::Count
            }
        }
    }

    /// Takes the counts whose interval is over, or with `all` every count.
    pub fn take_due(&self, now: Instant, all: bool) -> Vec<More> {
        let interval = self.interval();
        let mut due = Vec::new();
        self.lock().retain(|_, window| {
            let over = now.saturating_duration_since(window.began) >= interval;
            if over || all {
                due.extend(window.take_more(now, interval));
            }
            !over
        });
        due
    }

    /// When [`Flood::take_due`] has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        let interval = self.interval();
        self.lock().values().map(|window| window.began + interval).min()
    }

    fn count(&self, key: u64, record: &Record<'_>, burst: u32, now: Instant) -> Counted {
        let interval = self.interval();
        let mut windows = self.lock();
        let key = if windows.contains_key(&key) || windows.len() < MAX_LOG_SITES { key } else { OVERFLOW };
        let window = windows.entry(key).or_insert_with(|| Window {
            began: now,
            printed: 0,
            more: None,
            target: bounded(EXAMPLE_BYTES, record.target()),
            level: record.level(),
        });
        let mut before = None;
        if now.saturating_duration_since(window.began) >= interval {
            before = window.take_more(now, interval);
            (window.began, window.printed) = (now, 0);
        }
        if window.printed < burst {
            window.printed += 1;
            return Counted::Print(before);
        }
        match &mut window.more {
            Some((lines, _)) => {
                *lines += 1;
                Counted::Again
            }
            None => {
                window.more = Some((1, String::new()));
                Counted::First(key)
            }
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.load(Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Counted {
    Print(Option<More>),
    /// The first in this interval that is not printed, in the window with this key.
    First(u64),
    Again,
}

impl Window {
    fn take_more(&mut self, now: Instant, interval: Duration) -> Option<More> {
        let (lines, like) = self.more.take()?;
        let over = now.saturating_duration_since(self.began).min(interval);
        Some(More { target: self.target.clone(), level: self.level, lines, over, like })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(flood: &Flood, line: u32, level: Level, text: &str, now: Instant) -> Verdict {
        let args = format_args!("{text}");
        let record =
            Record::builder().module_path(Some("m")).line(Some(line)).level(level).target("t").args(args).build();
        flood.admit(&record, now)
    }

    fn prints(flood: &Flood, line: u32, level: Level, now: Instant) -> bool {
        matches!(admit(flood, line, level, "text", now), Verdict::Print(None))
    }

    const TEN_S: Duration = Duration::from_secs(10);

    #[test]
    fn each_place_and_level_has_its_own_burst() {
        let (flood, now) = (Flood::new(2, TEN_S), Instant::now());
        for (line, level) in [(1, Level::Warn), (1, Level::Error), (2, Level::Warn)] {
            let printed = [(); 4].map(|()| prints(&flood, line, level, now));
            assert_eq!(printed, [true, true, false, false], "{line} {level}");
        }
    }

    #[test]
    fn what_was_not_printed_is_told_when_the_interval_is_over() {
        let (flood, now) = (Flood::new(1, TEN_S), Instant::now());
        (0..6).for_each(|n| drop(admit(&flood, 1, Level::Warn, &format!("number {n}"), now)));
        assert_eq!(flood.next_due(), Some(now + TEN_S));
        assert!(flood.take_due(now + TEN_S / 2, false).is_empty());
        let due = flood.take_due(now + TEN_S, false);
        let [more] = &due[..] else { panic!("{due:?}") };
        assert_eq!((more.lines, more.over, more.level), (5, TEN_S, Level::Warn));
        assert_eq!((&*more.target, &*more.like), ("t", "number 1"));
        assert_eq!(flood.next_due(), None, "nothing is kept of a place that is quiet");
    }

    #[test]
    fn the_next_line_after_the_interval_tells_the_count_and_begins_a_new_one() {
        let (flood, now) = (Flood::new(1, TEN_S), Instant::now());
        (0..3).for_each(|_| drop(admit(&flood, 1, Level::Info, "x", now)));
        let later = now + 2 * TEN_S;
        let Verdict::Print(Some(more)) = admit(&flood, 1, Level::Info, "x", later) else { panic!("it is printed") };
        assert_eq!((more.lines, more.over), (2, TEN_S));
        assert!(!prints(&flood, 1, Level::Info, later));
    }

    #[test]
    fn at_the_end_every_count_is_told_before_its_time() {
        let (flood, now) = (Flood::new(1, TEN_S), Instant::now());
        (0..3).for_each(|_| drop(admit(&flood, 1, Level::Info, "x", now)));
        let all = flood.take_due(now + Duration::from_secs(2), true);
        assert_eq!((all.len(), all[0].lines, all[0].over), (1, 2, Duration::from_secs(2)));
        assert!(flood.take_due(now + TEN_S, true).is_empty(), "and not a second time");
    }

    #[test]
    fn zero_is_no_limit_and_takes_effect_at_once() {
        let (flood, now) = (Flood::new(1, TEN_S), Instant::now());
        assert!(prints(&flood, 1, Level::Info, now) && !prints(&flood, 1, Level::Info, now));
        flood.set(0, TEN_S);
        assert!((0..1_000).all(|_| prints(&flood, 1, Level::Info, now)));
    }

    #[test]
    fn ever_new_places_take_no_more_memory_and_share_one_burst() {
        let (flood, now) = (Flood::new(1, TEN_S), Instant::now());
        let printed = (0..10 * MAX_LOG_SITES as u32).filter(|line| prints(&flood, *line, Level::Info, now)).count();
        assert_eq!((printed, flood.lock().len()), (MAX_LOG_SITES + 1, MAX_LOG_SITES + 1));
        let lost: u64 = flood.take_due(now, true).iter().map(|more| more.lines).sum();
        assert_eq!(lost as usize + printed, 10 * MAX_LOG_SITES);
    }
}
