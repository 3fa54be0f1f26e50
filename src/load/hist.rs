//! Latency distributions: recorded cheaply, sent between processes, and read out for the report. PURE.

use hdrhistogram::Histogram;

use super::report::Latency;

/// The greatest latency that is told apart: an hour. Nanoseconds.
const MAX: u64 = 3_600_000_000_000;

/// A distribution to three digits, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Hist(Histogram<u64>);

/// Value and count, ascending: a distribution on its way to another process.
pub type Pairs = Vec<(u64, u64)>;

impl Default for Hist {
    fn default() -> Hist {
        Hist::new()
    }
}

impl Hist {
    /// An empty one.
    pub fn new() -> Hist {
        Hist(Histogram::new_with_bounds(1, MAX, 3).expect("these bounds are valid"))
    }

    /// Takes one latency, ns.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// For [`Hist::add`] elsewhere.
    pub fn pairs(&self) -> Pairs {
        self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }

    /// Adds what another process has recorded.
    pub fn add(&mut self, pairs: &[(u64, u64)]) {
        for (value, count) in pairs {
            self.0.saturating_record_n(*value, *count);
        }
    }

    /// The latency, ns, that this share (0 to 1) of all do not exceed; 0 where there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_quantile(share).min(self.0.max()) }
    }

    /// The greatest, ns; 0 where there are none.
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// For the report; `None` where nothing was recorded.
    pub fn latency(&self) -> Option<Latency> {
        if self.0.is_empty() {
            return None;
        }
        let max = self.0.max();
        let mut below = 0;
        let mut percentiles: Vec<(f64, u64, u64)> = Vec::new();
        for step in self.0.iter_quantiles(5) {
            below += step.count_since_last_iteration();
            let percentile = (step.quantile_iterated_to() * 100.0).min(100.0);
            percentiles.push((percentile, step.value_iterated_to().min(max), below));
        }
        if let Some(last) = percentiles.last_mut() {
            last.0 = 100.0;
        }
        Some(Latency { count: self.0.len(), min: self.0.min(), mean: self.0.mean(), max, percentiles })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_of_several_processes_add_up() {
        let (mut odd, mut even, mut all) = (Hist::new(), Hist::new(), Hist::new());
        for i in 0..20_000 {
            all.record(i * 997);
            if i % 2 == 0 { even.record(i * 997) } else { odd.record(i * 997) }
        }
        let mut sum = Hist::new();
        sum.add(&odd.pairs());
        sum.add(&even.pairs());
        assert_eq!(sum.pairs(), all.pairs());
        assert_eq!(sum.quantile(0.99), all.quantile(0.99));
    }

    #[test]
    fn percentiles_ascend_to_100_and_count_all() {
        let mut hist = Hist::new();
        assert_eq!((hist.latency(), hist.quantile(0.5)), (None, 0));
        (1..=1_000).for_each(|us| hist.record(us * 1_000));
        let latency = hist.latency().unwrap();
        assert!(latency.percentiles.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1 && a.2 <= b.2));
        assert_eq!(latency.percentiles.last(), Some(&(100.0, latency.max, 1_000)));
        assert_eq!(latency.count, 1_000);
        assert!((latency.mean - 500_500.0).abs() < 1_000.0 && latency.min.abs_diff(1_000) < 10);
        assert!(hist.quantile(0.5).abs_diff(500_000) < 1_000);
        hist.clear();
        assert_eq!(hist.latency(), None);
    }

    #[test]
    fn what_takes_longer_than_an_hour_counts_as_one() {
        let mut hist = Hist::new();
        hist.record(u64::MAX);
        hist.record(0);
        assert!(hist.latency().unwrap().count == 2 && hist.max() >= MAX);
    }
}
