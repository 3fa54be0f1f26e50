//! When which connection sends, and when it is opened. PURE. Nanoseconds.

/// A constant rate over all connections of a run, spread evenly: request `n` of connection `g` of `all`
/// is due at `(n × all + g) / rate`. One generator has the connections from `first`, `count` of them.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// From one request of the run to the next, ns.
    gap: f64,
    all: u64,
    first: u64,
    count: u64,
    /// Requests of this generator that have become due.
    next: u64,
}

impl Schedule {
    /// `rate` requests a second in all, above 0.
    pub fn new(rate: f64, all: u64, first: u64, count: u64) -> Schedule {
        Schedule { gap: 1e9 / rate, all, first, count: count.max(1), next: 0 }
    }

    /// When the `n`th request (from 0) of this generator's connection `local` is due, since the start.
    pub fn at(&self, local: u64, n: u64) -> u64 {
        ((n * self.all + self.first + local) as f64 * self.gap) as u64
    }

    /// When the next request becomes due, since the start.
    pub fn next_at(&self) -> u64 {
        self.at(self.next % self.count, self.next / self.count)
    }

    /// The connection whose request has become due by `elapsed`, and when that was.
    pub fn due(&mut self, elapsed: u64) -> Option<(usize, u64)> {
        let at = self.next_at();
        if at > elapsed {
            return None;
        }
        let local = self.next % self.count;
        self.next += 1;
        Some((local as usize, at))
    }
}

/// How many of `count` connections may have been opened `elapsed` into a ramp of `length`.
pub fn ramped(elapsed: u64, length: u64, count: usize) -> usize {
    if elapsed >= length {
        return count;
    }
    let share = elapsed as f64 / length as f64;
    // The first at once, the last at the end.
    ((count as f64 * share) as usize + 1).min(count)
}

/// When connection `index` of `count` may be opened, into a ramp of `length`.
pub fn ramp_at(index: usize, length: u64, count: usize) -> u64 {
    (length as f64 * index as f64 / count.max(1) as f64).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generators_together_send_at_a_constant_rate_each_connection_in_turn() {
        // 1,000 a second over 5 connections, in two generators.
        let mut shares = [Schedule::new(1_000.0, 5, 0, 2), Schedule::new(1_000.0, 5, 2, 3)];
        let mut sent = Vec::new();
        for (share, first) in shares.iter_mut().zip([0, 2]) {
            while let Some((local, at)) = share.due(99_999_999) {
                sent.push((at, first + local));
            }
        }
        sent.sort_unstable();
        let expected: Vec<(u64, usize)> = (0..100).map(|i| (i * 1_000_000, i as usize % 5)).collect();
        assert_eq!(sent, expected);
    }

    #[test]
    fn what_was_not_looked_at_in_time_is_due_at_its_own_time_all_the_same() {
        let mut schedule = Schedule::new(10.0, 1, 0, 1);
        assert_eq!(schedule.due(0), Some((0, 0)));
        assert_eq!(schedule.due(99_999_999), None);
        assert_eq!(schedule.next_at(), 100_000_000);
        let late: Vec<u64> = std::iter::from_fn(|| schedule.due(350_000_000)).map(|(_, at)| at).collect();
        assert_eq!(late, [100_000_000, 200_000_000, 300_000_000]);
        assert_eq!(schedule.at(0, 7), 700_000_000);
    }

    #[test]
    fn a_ramp_opens_the_first_at_once_and_all_by_its_end() {
        assert_eq!(ramped(0, 0, 10), 10);
        assert_eq!(ramped(0, 1_000, 10), 1);
        assert_eq!(ramped(500, 1_000, 10), 6);
        assert_eq!(ramped(1_000, 1_000, 10), 10);
        for index in 0..10 {
            let at = ramp_at(index, 1_000, 10);
            assert!(ramped(at, 1_000, 10) > index, "the {index}th is not due at its own time");
        }
    }
}
