//! What is known of a segment without reading it, and when it may go. A few numbers, however many messages it has.

use std::collections::VecDeque;

use super::options::{LogOptions, Progress};
use super::record::View;
use super::segment::Header;

/// A segment of the log.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub header: Header,
    /// Its file's length.
    pub bytes: u64,
    /// Where its records end.
    pub end: u32,
    pub messages: u64,
    /// Its first message; 0: it has none.
    first_id: u64,
    /// The last one of each route that delivers; 0: there is none.
    last: Vec<u64>,
    /// When the last one was stored that the journal itself keeps.
    kept_ms: Option<u64>,
    /// When the last one was stored.
    last_ms: u64,
    /// The last one with an idempotency key; 0: there is none.
    last_key: u64,
}

/// What [`Segment::add`] is told of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brief {
    pub id: u64,
    pub time_ms: u64,
    /// The route, if it delivers.
    pub route: Option<usize>,
    /// The journal itself keeps it, or did so by the routes with which it was stored: retention decides.
    pub kept: bool,
    pub keyed: bool,
}

impl Brief {
    pub fn of(view: &View<'_>, route: Option<usize>, kept: bool) -> Brief {
        Brief { id: view.id, time_ms: view.time_ms, route, kept, keyed: view.key().is_some() }
    }
}

impl Segment {
    pub fn new(header: Header, bytes: u64, end: u32, routes: usize) -> Segment {
        let last = vec![0; routes];
        Segment { header, bytes, end, messages: 0, first_id: 0, last, kept_ms: None, last_ms: 0, last_key: 0 }
    }

    /// A message is in it.
    pub fn add(&mut self, brief: Brief) {
        self.messages += 1;
        if self.first_id == 0 {
            self.first_id = brief.id;
        }
        self.last_ms = self.last_ms.max(brief.time_ms);
        if brief.keyed {
            self.last_key = brief.id;
        }
        if brief.kept {
            self.kept_ms = self.kept_ms.max(Some(brief.time_ms));
        }
        if let Some(last) = brief.route.and_then(|route| self.last.get_mut(route)) {
            *last = brief.id;
        }
    }

    /// Any of its messages may have been left to the journal: retention decides.
    pub fn keep(&mut self) {
        self.kept_ms = (self.messages > 0).then_some(self.last_ms).max(self.kept_ms);
    }

    pub fn first_id(&self) -> Option<u64> {
        (self.first_id != 0).then_some(self.first_id)
    }

    /// Whether nobody needs it: all in it is delivered, or was kept for long enough; and no retry would be taken
    /// for a new message without it. `log_bytes` are those of all segments.
    pub fn is_done<'a>(
        &self,
        options: &LogOptions,
        mut progress: impl Iterator<Item = &'a Progress>,
        (log_bytes, now_ms): (u64, u64),
        oldest_key: Option<u64>,
    ) -> bool {
        let delivered = self.last.iter().all(|last| progress.next().is_none_or(|p| *last <= p.upto));
        let is_old = |kept_ms| u128::from(now_ms.saturating_sub(kept_ms)) > options.retain.as_millis();
        let kept = self.kept_ms.is_some_and(|kept_ms| log_bytes <= options.retain_bytes && !is_old(kept_ms));
        let wanted_key = self.last_key != 0 && oldest_key.is_some_and(|oldest| self.last_key >= oldest);
        delivered && !kept && !wanted_key
    }
}

/// Messages of a route that are still to be delivered, as runs of their ids.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: VecDeque<Run>,
    count: u64,
}

#[derive(Debug)]
struct Run {
    first: u64,
    last: u64,
    /// Of those between, so many are meant.
    count: u64,
}

/// Runs that are exact, having no gap; of more, a run holds [`COARSE`] messages, and is taken for evenly spread.
const EXACT: usize = 4_096;
const COARSE: u64 = 4_096;

impl Runs {
    /// A message with a higher id than all before.
    pub fn push(&mut self, id: u64) {
        self.count += 1;
        let many = self.runs.len() >= EXACT;
        match self.runs.back_mut() {
            Some(run) if run.last + 1 == id || (many && run.count < COARSE) => {
                run.last = id;
                run.count += 1;
            }
            _ => self.runs.push_back(Run { first: id, last: id, count: 1 }),
        }
    }

    /// All up to this id are done.
    pub fn finish(&mut self, upto: u64) {
        while let Some(run) = self.runs.front_mut() {
            if run.first > upto {
                return;
            }
            if run.last > upto {
                let (span, left) = (run.last - run.first + 1, run.last - upto);
                let left = (u128::from(run.count) * u128::from(left)).div_ceil(u128::from(span)) as u64;
                self.count -= run.count - left;
                (run.first, run.count) = (upto + 1, left);
                return;
            }
            self.count -= run.count;
            self.runs.pop_front();
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options() -> LogOptions {
        LogOptions {
            segment_bytes: 1 << 20,
            max_bytes: 1 << 30,
            min_free_bytes: 0,
            retain: Duration::from_secs(10),
            retain_bytes: 1_000,
            dedup_window: Duration::from_secs(1),
            dedup_max: 10,
            routes: Vec::new(),
        }
    }

    fn segment() -> Segment {
        let header = Header { identity: [0; 16], number: 1, first_id: 1, previous: 0, previous_end: 0 };
        Segment::new(header, 1 << 20, 0, 2)
    }

    fn is_done(segment: &Segment, upto: [u64; 2], bytes_and_now: (u64, u64), oldest_key: Option<u64>) -> bool {
        let progress = upto.map(|upto| Progress { upto, beyond: vec![] });
        segment.is_done(&options(), progress.iter(), bytes_and_now, oldest_key)
    }

    #[test]
    fn a_segment_is_done_when_every_route_has_its_messages() {
        let mut segment = segment();
        assert!(is_done(&segment, [0, 0], (0, 0), Some(1)), "nothing is in it");
        for (id, route) in [(1, 0), (2, 1), (3, 0)] {
            segment.add(Brief { id, time_ms: 5, route: Some(route), kept: false, keyed: false });
        }
        assert!(!is_done(&segment, [2, 2], (0, 99_999), None) && !is_done(&segment, [3, 1], (0, 99_999), None));
        assert!(is_done(&segment, [3, 2], (0, 5), Some(1)));
    }

    #[test]
    fn kept_messages_go_by_age_or_when_the_log_is_too_long() {
        let mut segment = segment();
        segment.add(Brief { id: 1, time_ms: 1_000, route: None, kept: true, keyed: false });
        assert!(!is_done(&segment, [9, 9], (1_000, 11_000), None));
        assert!(is_done(&segment, [9, 9], (1_000, 11_001), None) && is_done(&segment, [9, 9], (1_001, 0), None));
        segment.add(Brief { id: 2, time_ms: 1_000, route: Some(1), kept: false, keyed: false });
        assert!(!is_done(&segment, [9, 1], (1_001, 99_999), None), "retention deletes nothing undelivered");
    }

    #[test]
    fn a_segment_with_a_key_that_is_remembered_stays() {
        let mut segment = segment();
        segment.add(Brief { id: 7, time_ms: 0, route: Some(0), kept: false, keyed: true });
        segment.add(Brief { id: 8, time_ms: 0, route: Some(0), kept: false, keyed: false });
        for (oldest, done) in [(None, true), (Some(6), false), (Some(7), false), (Some(8), true)] {
            assert_eq!(is_done(&segment, [8, 0], (0, 0), oldest), done, "{oldest:?}");
        }
    }

    #[test]
    fn what_is_unfinished_is_counted_exactly_in_few_runs_and_nearly_in_many() {
        let mut runs = Runs::default();
        [1, 2, 3, 7, 8, 10].into_iter().for_each(|id| runs.push(id));
        for (upto, count) in [(0, 6), (2, 4), (6, 3), (7, 2), (9, 1), (10, 0)] {
            runs.finish(upto);
            assert_eq!(runs.count(), count, "{upto}");
        }
        let mut runs = Runs::default();
        (0..1_000_000).for_each(|n| runs.push(2 * n + 1));
        assert!(runs.runs.len() < 2 * EXACT);
        for done in [0, 100_001, 500_000, 999_999] {
            runs.finish(2 * done);
            assert!(runs.count().abs_diff(1_000_000 - done) <= COARSE, "{done} {}", runs.count());
        }
        runs.finish(2_000_000);
        assert_eq!((runs.count(), runs.runs.len()), (0, 0));
    }
}
