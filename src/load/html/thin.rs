//! Fewer points for a picture that has not a pixel for each, without losing a peak or a gap.

/// A place on the x axis, 0 to 1, and a value; none where there is a gap.
pub(super) type Dot = (f64, Option<f64>);

/// At most five points for each of `columns` equal parts of the x axis: the first, the last, the least,
/// the greatest, and a gap. Points have to be in order of x, and stay so.
pub(super) fn thinned(points: &[Dot], columns: usize) -> Vec<Dot> {
    if points.len() <= columns.saturating_mul(2) {
        return points.to_vec();
    }
    let column = |point: &Dot| (point.0 * columns as f64).floor() as i64;
    points.chunk_by(|a, b| column(a) == column(b)).flat_map(extremes).collect()
}

fn extremes(points: &[Dot]) -> Vec<Dot> {
    let known = || points.iter().enumerate().filter_map(|(at, (_, y))| Some((at, (*y)?)));
    let keep = [
        Some(0),
        known().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at),
        known().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at),
        points.iter().position(|(_, y)| y.is_none()),
        Some(points.len() - 1),
    ];
    let mut keep: Vec<usize> = keep.into_iter().flatten().collect();
    keep.sort_unstable();
    keep.dedup();
    keep.into_iter().map(|at| points[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_points_all_stay() {
        let points: Vec<Dot> = (0..100).map(|n| (n as f64 / 100.0, Some(n as f64))).collect();
        assert_eq!(thinned(&points, 50), points);
    }

    #[test]
    fn of_many_points_extremes_and_gaps_stay_in_their_order() {
        let mut points: Vec<Dot> = (0..100_000).map(|n| (n as f64 / 1e5, Some(50.0 + (n % 7) as f64))).collect();
        points[12_345].1 = Some(9999.0);
        points[54_321].1 = Some(0.5);
        points[77_777].1 = None;
        let thin = thinned(&points, 400);
        assert!(thin.len() <= 2000, "{}", thin.len());
        for kept in [12_345, 54_321, 77_777, 0, 99_999] {
            assert!(thin.contains(&points[kept]), "{kept}");
        }
        assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_stretch_without_values_stays_a_gap() {
        let points: Vec<Dot> = (0..1000).map(|n| (n as f64 / 1e3, None)).collect();
        assert!(thinned(&points, 10).iter().all(|(_, y)| y.is_none()));
        assert_eq!(thinned(&[], 10), []);
    }
}
