//! Figures and foreign text as a person reads them.

/// With a comma at every third digit: `1,234,567`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 request`, `2 requests`.
pub(super) fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A latency, ns, in the unit that suits it, to three digits: `112 µs`, `1.20 ms`. At most 9 columns.
pub(super) fn latency(ns: u64) -> String {
    latency_of(ns as f64)
}

/// [`latency`] of a mean.
pub(super) fn latency_of(ns: f64) -> String {
    let ns = finite(ns);
    // Just below the step, so that nothing is rounded to `1000 µs`.
    if ns < 999.5 {
        format!("{ns:.0} ns")
    } else if ns < 999.5e3 {
        format!("{} µs", three_digits(ns / 1e3))
    } else if ns < 999.5e6 {
        format!("{} ms", three_digits(ns / 1e6))
    } else if ns < 999_999.5e9 {
        let seconds = ns / 1e9;
        if seconds < 999.5 { format!("{} s", three_digits(seconds)) } else { format!("{} s", count(seconds as u64)) }
    } else {
        format!("{:.1e} s", ns / 1e9)
    }
}

/// A length of time or an instant of the run, ms: `340 ms`, `12.5 s`, `2 min 05 s`, `3 h 00 min`.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{}.{} s", seconds, ms % 1000 / 100),
        120_000..7_200_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", count(seconds / 3600), seconds / 60 % 60),
    }
}

/// Something a second: `0`, `0.25`, `12.3`, `1,234`. At most 9 columns up to 9,999,999.
pub(super) fn rate(per_second: f64) -> String {
    let rate = finite(per_second);
    if rate == 0.0 {
        "0".into()
    } else if rate < 99.95 {
        three_digits(rate)
    } else if rate < 1e15 {
        count(rate.round() as u64)
    } else {
        format!("{rate:.2e}")
    }
}

/// A large figure for an axis: `950`, `2.5 k`, `10 M`.
pub(super) fn compact(value: f64) -> String {
    let value = finite(value);
    for (unit, name) in [(1e15, ""), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")] {
        if value >= unit {
            return if name.is_empty() { format!("{value:.0e}") } else { trimmed(value / unit) + name };
        }
    }
    trimmed(value)
}

/// A round latency, ns, for an axis: `100 µs`, `2.5 ms`.
pub(super) fn latency_tick(ns: f64) -> String {
    // Powers of ten are not exact: what is short of the next unit by a hair is there.
    let ns = finite(ns) * (1.0 + 1e-12);
    let rounded = |value: f64, unit: &str| format!("{} {unit}", trimmed(value));
    match ns {
        0.0 => "0".into(),
        ..1e3 => rounded(ns, "ns"),
        ..1e6 => rounded(ns / 1e3, "µs"),
        ..1e9 => rounded(ns / 1e6, "ms"),
        ..1e12 => rounded(ns / 1e9, "s"),
        ..1e15 => format!("{} s", count((ns / 1e9).round() as u64)),
        _ => format!("{:.1e} s", ns / 1e9),
    }
}

/// A part of a whole, in percent; 100 only where it is all, and 0 only where it is nothing.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 || part == 0 {
        return "0 %".into();
    }
    if part == whole {
        return "100 %".into();
    }
    match part as f64 / whole as f64 * 100.0 {
        percent if percent < 0.001 => "< 0.001 %".into(),
        percent if percent < 1.0 => format!("{percent:.3} %"),
        percent if percent < 99.0 => format!("{percent:.1} %"),
        percent if percent <= 99.999 => format!("{percent:.3} %"),
        _ => "> 99.999 %".into(),
    }
}

/// A share from 0 to 1, in whole percent: `45 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", (finite(share) * 100.0).min(1e6))
}

/// The name of a percentile: `p50`, `p99.9`.
pub(super) fn percentile(p: f64) -> String {
    format!("p{p}")
}

/// At most three decimals, without trailing zeros.
pub(super) fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text == "-0" { "0".into() } else { text.into() }
}

/// What JSON or a division by nothing may have left: never NaN, infinite or below zero.
pub(super) fn finite(value: f64) -> f64 {
    if value.is_finite() { value.max(0.0) } else { 0.0 }
}

/// Text from outside, for a terminal or a page: no control characters, which could move the cursor,
/// and none of those that turn the direction of writing or have no width.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// The first `most` characters of [`clean`]ed text, with an ellipsis for the rest.
pub(super) fn short(text: &str, most: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_three_digits() {
        let all = [0, 999, 1000, 12_345, 123_456, 1_234_567, u64::MAX].map(count);
        assert_eq!(all, ["0", "999", "1,000", "12,345", "123,456", "1,234,567", "18,446,744,073,709,551,615"]);
        assert_eq!(counted(1, "request"), "1 request");
        assert_eq!(counted(0, "request"), "0 requests");
    }

    #[test]
    fn a_latency_has_three_digits_and_its_unit() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (112_300, "112 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (1_204_000, "1.20 ms"),
            (12_000_000, "12.0 ms"),
            (1_240_000_000, "1.24 s"),
            (999_400_000_000, "999 s"),
            (86_400_000_000_000, "86,400 s"),
        ];
        for (ns, text) in cases {
            assert_eq!(latency(ns), text);
        }
    }

    #[test]
    fn no_latency_is_wider_than_nine_columns() {
        let mut ns: u64 = 1;
        while let Some(next) = ns.checked_mul(3) {
            assert!(latency(ns).chars().count() <= 9, "{}", latency(ns));
            ns = next;
        }
        assert!(latency(u64::MAX).chars().count() <= 9, "{}", latency(u64::MAX));
    }

    #[test]
    fn what_is_not_a_number_is_shown_as_nothing() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.0] {
            assert_eq!(
                [rate(odd), compact(odd), percent(odd), latency_of(odd)],
                ["0", "0", "0 %", "0 ns"].map(String::from)
            );
        }
        assert_eq!(rate(f64::MAX).len(), "1.80e308".len());
    }

    #[test]
    fn instants_and_lengths_read_like_a_clock() {
        let all = [0, 999, 1000, 12_560, 125_000, 3_600_000, 7_200_000, 90_061_000].map(duration);
        assert_eq!(
            all,
            ["0 ms", "999 ms", "1.0 s", "12.5 s", "2 min 05 s", "60 min 00 s", "2 h 00 min", "25 h 01 min"]
        );
    }

    #[test]
    fn rates_and_axis_figures_are_short() {
        assert_eq!([0.0, 0.25, 12.34, 99.96, 20_000.4].map(rate), ["0", "0.25", "12.3", "100", "20,000"]);
        assert_eq!([0.0, 0.5, 950.0, 2500.0, 1e7, 3e9].map(compact), ["0", "0.5", "950", "2.5 k", "10 M", "3 G"]);
    }

    #[test]
    fn a_share_is_everything_only_when_nothing_is_missing() {
        assert_eq!(share(10_000_000, 10_000_000), "100 %");
        assert_eq!(share(9_999_999, 10_000_000), "> 99.999 %");
        assert_eq!(share(1, 10_000_000), "< 0.001 %");
        assert_eq!(share(0, 0), "0 %");
        assert_eq!(share(1, 3), "33.3 %");
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor_or_turn_the_writing() {
        assert_eq!(clean("a\x1b[2Jb\u{202e}c\nd\u{7}"), "a\u{fffd}[2Jb\u{fffd}c d\u{fffd}");
        assert_eq!(short("déjà vu", 7), "déjà vu");
        assert_eq!(short("déjà vus", 7), "déjà v…");
    }
}
