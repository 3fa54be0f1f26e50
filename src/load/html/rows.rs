//! A timeline in as many rows as a table, or a pointer, has use for.

use super::super::report::Point;

/// Some intervals in a row, as one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Milliseconds of the run.
    pub(super) from: u64,
    pub(super) to: u64,
    /// Sums over all intervals.
    pub(super) answered: u64,
    pub(super) errors: u64,
    /// Replies a second: over all, and of the slowest and the fastest interval.
    pub(super) rate: f64,
    pub(super) least_rate: f64,
    pub(super) most_rate: f64,
    /// Connections: at the end, the fewest, and the most.
    pub(super) connections: u64,
    pub(super) least: u64,
    pub(super) most: u64,
    /// The greatest of any interval, ns; 0: nothing was answered.
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

/// At most `most` rows, each of equally many intervals.
pub(super) fn rows(timeline: &[Point], most: usize) -> Vec<Row> {
    timeline.chunks(timeline.len().div_ceil(most.max(1)).max(1)).filter_map(row).collect()
}

/// Replies a second in an interval, if it had a length.
pub(super) fn per_second(point: &Point) -> Option<f64> {
    (point.length_ms > 0).then(|| point.answered as f64 * 1000.0 / point.length_ms as f64)
}

fn row(points: &[Point]) -> Option<Row> {
    let (first, last) = (points.first()?, points.last()?);
    let sum = |of: fn(&Point) -> u64| points.iter().map(of).fold(0, u64::saturating_add);
    let greatest = |of: fn(&Point) -> u64| points.iter().map(of).max().unwrap_or(0);
    let rates = || points.iter().filter_map(per_second);
    let (answered, length) = (sum(|p| p.answered), sum(|p| p.length_ms));
    Some(Row {
        from: first.at_ms.saturating_sub(first.length_ms),
        to: last.at_ms.max(first.at_ms),
        answered,
        errors: sum(|p| p.errors),
        rate: answered as f64 * 1000.0 / length.max(1) as f64,
        least_rate: rates().reduce(f64::min).unwrap_or(0.0),
        most_rate: rates().reduce(f64::max).unwrap_or(0.0),
        connections: last.connections,
        least: points.iter().map(|p| p.connections).min().unwrap_or(0),
        most: greatest(|p| p.connections),
        p50: greatest(|p| p.p50),
        p99: greatest(|p| p.p99),
        max: greatest(|p| p.max),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn rows_are_few_and_nothing_is_missing_from_their_sums() {
        let timeline = samples::long().timeline;
        let rows = rows(&timeline, 60);
        assert_eq!(rows.len(), 60);
        let answered: u64 = timeline.iter().map(|point| point.answered).sum();
        assert_eq!(rows.iter().map(|row| row.answered).sum::<u64>(), answered);
        assert_eq!(rows.iter().map(|row| row.errors).sum::<u64>(), 1);
        assert_eq!(rows.iter().map(|row| row.max).max(), Some(77_000_000_000));
        assert_eq!((rows[0].from, rows[59].to), (0, 100_000_000));
        assert!(rows.iter().any(|row| row.least_rate == 0.0));
    }

    #[test]
    fn as_many_rows_as_intervals_are_the_intervals() {
        let timeline = samples::restart().timeline;
        let rows = rows(&timeline, 1000);
        assert_eq!(rows.len(), timeline.len());
        for (row, point) in rows.iter().zip(&timeline) {
            assert_eq!((row.to, row.answered, row.p99, row.connections), {
                (point.at_ms, point.answered, point.p99, point.connections)
            });
            assert_eq!(Some(row.rate), per_second(point));
        }
    }

    #[test]
    fn no_interval_is_no_row_and_no_length_no_rate() {
        assert_eq!(rows(&[], 60), []);
        assert_eq!(per_second(&Point { answered: 5, ..Point::default() }), None);
    }
}
