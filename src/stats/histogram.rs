//! How long things took: counts in fixed buckets, with one writer.

use std::time::Duration;

use super::Counter;

/// Upper bounds of the buckets, in nanoseconds: 10 µs to 10 s, three to a decade. What took longer is
/// in a bucket of its own.
pub const BOUNDS_NS: [u64; 19] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// A histogram of durations. Only the thread that owns it may add to it; any thread may read it.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [Counter; BOUNDS_NS.len() + 1],
    sum_ns: Counter,
}

/// What a [`Histogram`] held at one moment, or several of them together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// In each bucket (not cumulative); the last is for what is over every bound.
    pub counts: [u64; BOUNDS_NS.len() + 1],
    /// All durations added up. Nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// Counts one duration. A bucket's bound belongs to it.
    pub fn observe(&self, took: Duration) {
        self.observe_ns(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The same in nanoseconds.
    pub fn observe_ns(&self, ns: u64) {
        self.counts[BOUNDS_NS.partition_point(|bound| *bound < ns)].add(1);
        self.sum_ns.add(ns);
    }

    /// What it holds now.
    pub fn read(&self) -> Latency {
        Latency { counts: std::array::from_fn(|i| self.counts[i].get()), sum_ns: self.sum_ns.get() }
    }
}

impl Latency {
    /// Adds another's counts to these.
    pub fn merge(&mut self, other: &Latency) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// How many durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Seconds, all added up.
    pub fn sum_s(&self) -> f64 {
        seconds(self.sum_ns)
    }

    /// The buckets' upper bounds in seconds, one less than there are counts.
    pub fn bounds_s() -> impl Iterator<Item = f64> {
        BOUNDS_NS.iter().map(|ns| seconds(*ns))
    }
}

/// Nanoseconds as seconds.
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_land_in_the_bucket_that_their_bound_ends() {
        let histogram = Histogram::default();
        for us in [0, 9, 10, 11, 25, 26, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(us));
        }
        let held = histogram.read();
        assert_eq!((held.counts[0], held.counts[1], held.counts[2]), (3, 2, 1));
        assert_eq!((held.counts[18], held.counts[19], held.count()), (1, 1, 8));
        assert!((held.sum_s() - 20.000_082).abs() < 1e-9, "{}", held.sum_s());
        assert!(BOUNDS_NS.is_sorted());
    }

    #[test]
    fn several_are_added_up() {
        let (a, b) = (Histogram::default(), Histogram::default());
        a.observe(Duration::from_millis(1));
        b.observe(Duration::from_millis(1));
        b.observe(Duration::from_secs(60));
        let mut both = a.read();
        both.merge(&b.read());
        assert_eq!((both.count(), both.counts[6], both.counts[19]), (3, 2, 1));
    }
}
