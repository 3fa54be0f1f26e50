//! From values to places on an axis, with round ticks.

use super::super::units::{compact, finite, latency_tick, trimmed};

/// What runs along an axis.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measure {
    /// From 0 up to at least `max`; of `whole` things there is no half tick.
    Amount { max: f64, whole: bool },
    /// Nanoseconds: from 0, or logarithmic where they differ by more than a factor of ten.
    Latency { min: f64, max: f64 },
    /// Milliseconds of the run.
    Time { from: f64, to: f64 },
    /// Percentiles of `count` values, by the number of [`nines`].
    Percentiles { count: u64 },
}

/// A value that is named on an axis.
#[derive(Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

/// An axis with its ticks, ascending.
#[derive(Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    pub(super) ticks: Vec<Tick>,
}

/// No axis goes further: room to calculate.
const MOST: f64 = 1e300;

impl Axis {
    /// An axis with `about` so many ticks.
    pub(super) fn new(measure: Measure, about: usize) -> Axis {
        match measure {
            Measure::Amount { max, whole } => amount(max, if whole { 1.0 } else { 0.001 }, about, compact),
            Measure::Latency { min, max } => latency(min, max, about),
            Measure::Time { from, to } => time(from, to, about),
            Measure::Percentiles { count } => percentiles(count),
        }
    }

    /// Where on the axis: 0 at its beginning, 1 at its end, whatever the value.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = if self.log {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) }
    }
}

/// Whether latencies from `min` to `max` are drawn on a logarithmic axis.
pub(super) fn logarithmic(min: f64, max: f64) -> bool {
    min >= 1.0 && max > 10.0 * min
}

/// Percentile to a place on the axis: 90 is 1, 99 is 2, 99.9 is 3. The last of `count` values stands
/// where `1 / count` of them is left; 100 would be infinitely far away.
pub(super) fn nines(percentile: f64, count: u64) -> f64 {
    let end = (count.max(1) as f64).log10();
    let left = 1.0 - finite(percentile) / 100.0;
    if left > 0.0 { (-left.log10()).clamp(0.0, end) } else { end }
}

fn amount(max: f64, least_step: f64, about: usize, label: fn(f64) -> String) -> Axis {
    let max = finite(max).min(MOST);
    let step = round_step(max, about).max(least_step);
    let steps = (max / step).ceil().max(1.0);
    let ticks = (0..=steps as usize).map(|n| n as f64 * step).map(|value| Tick { value, label: label(value) });
    Axis { low: 0.0, high: steps * step, log: false, ticks: ticks.collect() }
}

fn latency(min: f64, max: f64, about: usize) -> Axis {
    if !logarithmic(min, max) {
        return amount(max, 1.0, about, latency_tick);
    }
    // With some ground under the lowest curve.
    let (low, high) = (below(min / 1.2), above(max));
    let all: Vec<f64> = successive(low).take_while(|value| *value < high * 1.5).collect();
    let decades = all.iter().filter(|value| is_decade(**value)).count();
    // 1, 2, 5, or only powers of ten, or only some of those.
    let each = if all.len() <= about + 2 { 0 } else { decades.div_ceil(about.max(1)).max(1) };
    let ticks = all
        .iter()
        .filter(|value| each == 0 || (is_decade(**value) && (value.log10().round() as usize).is_multiple_of(each)));
    let ticks = ticks.map(|value| Tick { value: *value, label: latency_tick(*value) }).collect();
    Axis { low, high, log: true, ticks }
}

fn time(from: f64, to: f64, about: usize) -> Axis {
    let low = finite(from).min(MOST);
    let high = finite(to).min(MOST).max(low + 1.0).max(low * (1.0 + 1e-9));
    const TENTHS: &[f64] = &[0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0];
    let (unit, name, steps): (f64, &str, &[f64]) = match high {
        0.0..=1000.0 => (1.0, "ms", &[]),
        ..=120e3 => (1e3, "s", TENTHS),
        ..=7200e3 => (60e3, "min", TENTHS),
        ..=172_800e3 => (3600e3, "h", &[0.5, 1.0, 2.0, 3.0, 6.0, 12.0]),
        _ => (86_400e3, "d", &[]),
    };
    let wanted = (high - low) / unit / about.max(1) as f64;
    let step = steps.iter().copied().find(|step| *step >= wanted);
    let step = step.unwrap_or_else(|| round_step((high - low) / unit, about));
    let step = if name == "ms" { step.max(1.0) } else { step };
    let (first, last) = ((low / unit / step).ceil(), (high / unit / step + 1e-9).floor());
    let ticks = (0..=(last - first).clamp(0.0, 1000.0) as usize).map(|n| {
        let value = (first + n as f64) * step;
        let number = if value < 1e6 { trimmed(value) } else { format!("{value:.1e}") };
        Tick { value: value * unit, label: format!("{number} {name}") }
    });
    Axis { low, high, log: false, ticks: ticks.filter(|tick| tick.value <= high * (1.0 + 1e-9)).collect() }
}

fn percentiles(count: u64) -> Axis {
    let high = (count.max(1) as f64).log10().max(1.0);
    let mut ticks =
        vec![Tick { value: 0.0, label: "0 %".into() }, Tick { value: nines(50.0, 10), label: "50 %".into() }];
    ticks.extend((1..=high.floor() as usize).map(|n| {
        let label = match n {
            1 => "90 %".into(),
            2 => "99 %".into(),
            _ => format!("99.{} %", "9".repeat(n - 2)),
        };
        Tick { value: n as f64, label }
    }));
    Axis { low: 0.0, high, log: false, ticks }
}

/// The least of 1, 2, 5, 10, 20, 50… that takes no more than `about` steps to `span`.
fn round_step(span: f64, about: usize) -> f64 {
    let raw = span / about.max(1) as f64;
    if raw > 0.0 { above(raw) } else { 0.0 }
}

/// The greatest of 1, 2, 5, 10, 20… up to `value`.
fn below(value: f64) -> f64 {
    // A hair's breadth for the error of calculation.
    let value = value * (1.0 + 1e-9);
    let decade = 10f64.powf(value.log10().floor());
    [5.0, 2.0].into_iter().find(|n| n * decade <= value).unwrap_or(1.0) * decade
}

/// The least of 1, 2, 5, 10, 20… from `value`.
fn above(value: f64) -> f64 {
    let below = below(value);
    if below >= value * (1.0 - 1e-9) { below } else { next(below) }
}

fn successive(first: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(first), |value| Some(next(*value)))
}

/// 1, 2, 5, 10: what follows.
fn next(value: f64) -> f64 {
    let decade = 10f64.powf((value * (1.0 + 1e-9)).log10().floor());
    match (value / decade).round() as u32 {
        1 => 2.0 * decade,
        2 => 5.0 * decade,
        _ => 10.0 * decade,
    }
}

fn is_decade(value: f64) -> bool {
    let log = value.log10();
    (log - log.round()).abs() < 1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(measure: Measure, about: usize) -> Vec<String> {
        Axis::new(measure, about).ticks.into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn amounts_have_round_ticks_from_nothing_to_above_the_greatest() {
        let amount = |max, whole| labels(Measure::Amount { max, whole }, 5);
        assert_eq!(amount(48_900.0, false), ["0", "10 k", "20 k", "30 k", "40 k", "50 k"]);
        assert_eq!(amount(1_000_000.0, true), ["0", "200 k", "400 k", "600 k", "800 k", "1 M"]);
        assert_eq!(amount(0.7, false), ["0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(amount(2.0, true), ["0", "1", "2"]);
        assert_eq!(amount(0.0, true), ["0", "1"]);
    }

    #[test]
    fn latencies_close_together_are_linear_and_from_nothing() {
        let ticks = labels(Measure::Latency { min: 2e5, max: 4.4e5 }, 5);
        assert_eq!(ticks, ["0", "100 µs", "200 µs", "300 µs", "400 µs", "500 µs"]);
    }

    #[test]
    fn latencies_far_apart_are_logarithmic() {
        assert_eq!(
            labels(Measure::Latency { min: 1.7e5, max: 3.8e6 }, 5),
            ["100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms"]
        );
        assert_eq!(
            labels(Measure::Latency { min: 1.7e5, max: 2.68e9 }, 5),
            ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]
        );
        let few = labels(Measure::Latency { min: 1.0, max: 1e12 }, 5);
        assert_eq!(few, ["1 ns", "1 µs", "1 ms", "1 s", "1,000 s"]);
        let axis = Axis::new(Measure::Latency { min: 1.3e5, max: 1e9 }, 5);
        assert_eq!([1e5, 1e7, 1e9].map(|ns| (axis.place(ns) * 1e6).round()), [0.0, 5e5, 1e6]);
    }

    #[test]
    fn time_is_in_the_unit_that_suits_it() {
        let time = |from, to| labels(Measure::Time { from, to }, 6);
        assert_eq!(time(0.0, 60_000.0), ["0 s", "10 s", "20 s", "30 s", "40 s", "50 s", "60 s"]);
        assert_eq!(time(0.0, 3.0), ["0 ms", "1 ms", "2 ms", "3 ms"]);
        assert_eq!(time(0.0, 600_000.0), ["0 min", "2 min", "4 min", "6 min", "8 min", "10 min"]);
        assert_eq!(time(0.0, 86_400_000.0), ["0 h", "6 h", "12 h", "18 h", "24 h"]);
        assert_eq!(time(2_500.0, 5_100.0), ["2.5 s", "3 s", "3.5 s", "4 s", "4.5 s", "5 s"]);
    }

    #[test]
    fn percentiles_are_spaced_by_their_nines() {
        let axis = Axis::new(Measure::Percentiles { count: 2_000_000 }, 5);
        let names: Vec<&str> = axis.ticks.iter().map(|tick| tick.label.as_str()).collect();
        assert_eq!(names, ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"]);
        for (percentile, at) in [(0.0, 0.0), (90.0, 1.0), (99.0, 2.0), (99.99, 4.0)] {
            assert!((nines(percentile, 2_000_000) - at).abs() < 1e-6, "{percentile}");
        }
        // The last value is at the end, and the end is where one of so many is left.
        assert_eq!(axis.place(nines(100.0, 2_000_000)), 1.0);
        assert_eq!(nines(100.0, 1000), 3.0);
        assert_eq!(nines(99.999999, 1000), 3.0);
    }

    #[test]
    fn no_axis_is_without_extent_or_ticks_or_ends() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1.0, 1e19, f64::MAX];
        for a in odd {
            for b in odd {
                let measures = [
                    Measure::Amount { max: a, whole: b > 0.0 },
                    Measure::Latency { min: a, max: b },
                    Measure::Time { from: a, to: b },
                    Measure::Percentiles { count: b as u64 },
                ];
                for measure in measures {
                    for about in [0, 1, 6] {
                        let axis = Axis::new(measure, about);
                        assert!(axis.low < axis.high, "{measure:?} {axis:?}");
                        assert!(axis.ticks.len() <= 30, "{measure:?} {}", axis.ticks.len());
                        for value in odd {
                            assert!((0.0..=1.0).contains(&axis.place(value)), "{measure:?} {value}");
                        }
                    }
                }
            }
        }
    }
}
