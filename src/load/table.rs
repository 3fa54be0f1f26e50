//! The closing table: a run on one screen of a terminal, the verdict last.

use super::reading::{Grade, PERCENTILES, Verdict, percentile, verdict};
use super::report::{Latency, LedgerCheck, Report};
use super::units::{self, clean, count, counted, duration, latency, latency_of, share, short};

/// No line is wider, in columns.
const WIDTH: usize = 80;
/// Of errors, events and differences no more are shown: the page has them all.
const MOST: usize = 8;

/// What a person reads in the terminal when a run is over: plain text, no line wider than 80 columns,
/// the verdict last. Whatever comes from outside has lost its control characters.
pub fn table(report: &Report) -> String {
    let verdict = verdict(report);
    let mut out = Lines::default();
    head(&mut out, report);
    latencies(&mut out, report);
    account(&mut out, report);
    if let Some(ledger) = &report.ledger {
        ledger_check(&mut out, ledger);
    }
    events(&mut out, report);
    errors(&mut out, report);
    generator(&mut out, report);
    close(&mut out, &verdict);
    out.text
}

fn head(out: &mut Lines, report: &Report) {
    let Report { version, shape, address, started, .. } = report;
    out.wrapped("", 2, &format!("tidegate {version} load: {shape} on {address}, {started}"));
    let settings: Vec<String> =
        report.settings.iter().map(|(name, value)| together(&format!("{name} {value}"))).collect();
    if !settings.is_empty() {
        out.wrapped("  ", 2, &settings.join(", "));
    }
    out.blank();
    let what = if report.shape == "connect" { "connections" } else { "replies" };
    out.line(&format!("{:<12}{} {what}/s over {}", "rate", units::rate(report.rate), duration(report.duration_ms)));
    out.blank();
}

fn latencies(out: &mut Lines, report: &Report) {
    if report.latency.is_none() && report.connect.is_none() {
        out.line("latency     nothing was answered");
        return;
    }
    let names = PERCENTILES.map(|p| format!("{:>10}", units::percentile(p))).concat();
    out.line(&format!("{:<10}{names}{:>10}{:>10}", "latency", "max", "mean"));
    for (name, all) in [("requests", &report.latency), ("connect", &report.connect)] {
        out.line(&match all {
            Some(all) => format!("  {name:<8}{}", latency_row(all)),
            None => format!("  {name:<8}{:>10}", "–"),
        });
    }
}

fn latency_row(all: &Latency) -> String {
    let mut row: Vec<String> = PERCENTILES.iter().map(|p| latency(percentile(all, *p))).collect();
    row.extend([latency(all.max), latency_of(all.mean)]);
    row.iter().map(|cell| format!("{cell:>10}")).collect()
}

fn account(out: &mut Lines, report: &Report) {
    let account = &report.account;
    let connections = [
        ("connections", account.connections),
        ("refused", account.refused),
        ("broken", account.broken),
        ("heartbeats", account.heartbeats),
    ];
    let mut fates = vec![
        ("= answered", account.answered),
        ("+ failed", account.failed),
        ("+ safe to retry", account.safe),
        ("+ unknown", account.unknown),
        ("+ lost", account.lost),
    ];
    if account.retried > 0 {
        fates.insert(3, ("+ sent again", account.retried));
    }
    let width = fates.iter().chain(&connections).map(|(_, n)| count(*n).len()).max().unwrap_or(0).max(9);
    out.blank();
    out.line(&format!("{:<17}{:>width$}", "requests sent", count(account.sent)));
    for (at, (name, n)) in fates.iter().enumerate() {
        let left = format!("{name:<17}{:>width$}  {:>10}", count(*n), share(*n, account.sent));
        // Two blocks side by side, as long as both fit.
        out.line(&match connections.get(at).filter(|_| width <= 13) {
            Some((name, n)) => format!("{left}     {name:<13}{:>width$}", count(*n)),
            None => left,
        });
    }
    if width > 13 {
        for (name, n) in connections {
            out.line(&format!("{name:<17}{:>width$}", count(n)));
        }
    }
    if account.wrong > 0 {
        out.line(&format!("{:<17}{:>width$}  counted as lost", "  wrong replies", count(account.wrong)));
    }
    if account.duplicates > 0 {
        out.line(&format!(
            "{:<17}{:>width$}  answered with the id of an earlier try",
            "  duplicates",
            count(account.duplicates)
        ));
    }
    if account.forgotten > 0 {
        out.line(&format!("{:<17}{:>width$}  acknowledged, and no more", "  values", count(account.forgotten)));
    }
    if !account.adds_up() {
        out.line(&format!("{:<17}{:>width$}  DOES NOT ADD UP", "  sum", count(account.settled())));
    }
}

fn ledger_check(out: &mut Lines, ledger: &LedgerCheck) {
    out.blank();
    let parts = [
        ("accepted", ledger.accepted),
        ("answered", ledger.answered),
        ("failed", ledger.failed),
        ("cut", ledger.cut),
        ("undelivered", ledger.undelivered),
    ];
    let text: Vec<String> = parts.iter().map(|(name, n)| together(&format!("{name} {}", count(*n)))).collect();
    out.wrapped("ledger      ", 12, &format!("{}: {}", counted(ledger.ledgers, "drain"), text.join(", ")));
    if ledger.differences.is_empty() {
        out.line("            agrees with the clients' account");
    }
    out.list(ledger.differences.iter().map(|text| ("  DIFFERS   ", 12, text.clone())));
}

fn events(out: &mut Lines, report: &Report) {
    if report.events.is_empty() {
        return;
    }
    out.blank();
    out.line("events");
    out.list(report.events.iter().map(|event| {
        let at = format!("{:>15}  ", duration(event.at_ms));
        (at, 17, format!("{}: {}", short(&event.kind, 20), event.text))
    }));
}

fn errors(out: &mut Lines, report: &Report) {
    if report.errors.is_empty() {
        return;
    }
    out.blank();
    out.line("errors");
    out.list(report.errors.iter().map(|(text, n)| (format!("{:>15}  ", count(*n)), 17, text.clone())));
}

fn generator(out: &mut Lines, report: &Report) {
    let generator = &report.generator;
    out.blank();
    let mut text = format!(
        "{}, {} of CPU, the busiest {} of the time",
        if generator.processes == 1 { "1 process".into() } else { format!("{} processes", count(generator.processes)) },
        duration(generator.cpu_ms),
        units::percent(generator.busiest)
    );
    if generator.latest > 0 {
        text += &format!(", at most {} late", latency(generator.latest));
    }
    out.wrapped("generator   ", 12, &text);
    if generator.saturated.is_some() {
        out.line("  WARNING   SATURATED: the figures are its own, not the server's");
    }
}

fn close(out: &mut Lines, verdict: &Verdict) {
    out.blank();
    for note in &verdict.notes {
        out.wrapped("  ! ", 4, note);
    }
    if !verdict.notes.is_empty() {
        out.blank();
    }
    let doubt = if verdict.grade == Grade::Doubtful { ", but see above" } else { "" };
    out.wrapped("", 2, &format!("{}{doubt}: {}.", verdict.headline, verdict.detail));
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A line of our own making.
    fn line(&mut self, text: &str) {
        let text = text.trim_end();
        if columns(text) > WIDTH {
            return self.wrapped("", 2, text);
        }
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// Text from anywhere after `lead`, over as many lines as it takes, all but the first indented.
    fn wrapped(&mut self, lead: &str, indent: usize, text: &str) {
        let text = clean(text);
        let mut line = lead.to_string();
        let mut used = columns(&line);
        // A line that holds nothing but its indentation has to take what comes.
        let mut fresh = true;
        for word in text.split_inclusive(' ') {
            if !fresh && used + columns(word.trim_end()) > WIDTH {
                self.end(&mut line, &mut used, indent);
            }
            for c in word.chars() {
                if c != ' ' && used + column(c) > WIDTH {
                    self.end(&mut line, &mut used, indent);
                }
                line.push(if c == '\u{a0}' { ' ' } else { c });
                used += column(c);
                fresh = false;
            }
        }
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn end(&mut self, line: &mut String, used: &mut usize, indent: usize) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
        *line = " ".repeat(indent);
        *used = indent;
    }

    /// The first few, each with its lead and the indentation of its further lines, and how many more there are.
    fn list<L: AsRef<str>>(&mut self, mut all: impl ExactSizeIterator<Item = (L, usize, String)>) {
        let more = all.len().saturating_sub(MOST);
        for (lead, indent, text) in all.by_ref().take(MOST) {
            self.wrapped(lead.as_ref(), indent, &text);
        }
        if more > 0 {
            self.line(&format!("  and {} more", count(more as u64)));
        }
    }
}

/// Not to be parted at the end of a line, if there is another way.
fn together(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

/// What a terminal gives a character; where that is in doubt, the more.
fn column(c: char) -> usize {
    if c < '\u{1100}' || ('\u{2010}'..'\u{2030}').contains(&c) { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn last_line(text: &str) -> &str {
        text.lines().last().unwrap()
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        for (name, report) in samples::all() {
            for line in table(&report).lines() {
                assert!(columns(line) <= WIDTH, "{name}: {line}");
                assert_eq!(line.trim_end(), line, "{name}");
            }
        }
    }

    #[test]
    fn the_last_line_is_the_verdict() {
        let last = |report| last_line(&table(&report)).to_string();
        assert_eq!(last(samples::success()), "Nothing was lost: all 2,900,928 requests answered.");
        assert_eq!(
            last(samples::restart()),
            "Nothing was lost: 1,220,235 answered, 1,204 safe to retry; the ledger agrees."
        );
        assert_eq!(last(samples::nothing()), "FAILED, nothing was measured: 0 answered.");
        let text = table(&samples::bad());
        assert!(text.contains("\n\n17 requests LOST: 3,359,209 answered, 320 failed, 41 safe"), "{text}");
    }

    #[test]
    fn a_doubt_is_told_in_the_last_line_and_above_it() {
        let mut report = samples::success();
        report.account.broken = 3;
        let text = table(&report);
        assert!(last_line(&text).starts_with("Nothing was lost, but see above: all "), "{text}");
        assert!(text.contains("\n  ! 3 connections were closed by reset"), "{text}");
    }

    #[test]
    fn every_percentile_stands_under_its_name() {
        let text = table(&samples::success());
        let lines: Vec<&str> = text.lines().collect();
        let head = lines.iter().position(|line| line.starts_with("latency")).unwrap();
        let names: Vec<&str> = lines[head].split_whitespace().collect();
        assert_eq!(names, ["latency", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"]);
        // Every cell ends where the name of its column does: at the tens.
        for line in &lines[head..head + 3] {
            let chars: Vec<char> = line.chars().chain([' ']).collect();
            let ends = (20..=80).step_by(10).filter(|end| chars[end - 1] != ' ' && chars.get(*end) != Some(&'s'));
            assert_eq!((ends.count(), chars.len()), (7, 81), "{line}");
        }
        assert!(lines[head + 1].starts_with("  requests    213 µs"), "{}", lines[head + 1]);
        assert!(lines[head + 2].starts_with("  connect "), "{}", lines[head + 2]);
    }

    #[test]
    fn every_part_of_the_account_has_its_figure() {
        let text = table(&samples::bad());
        let parts = [
            ("+ failed", "320"),
            ("+ safe to retry", "41"),
            ("+ unknown", "9,020"),
            ("+ lost", "17"),
            ("  wrong replies", "3"),
        ];
        for (name, figure) in parts {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in\n{text}"));
            assert_eq!(line[name.len()..].split_whitespace().next(), Some(figure), "{line}");
        }
        for part in ["connections     20,000", "refused            212", "broken           4,060"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn an_account_that_does_not_add_up_is_shown_with_its_sum() {
        let mut report = samples::success();
        report.account.sent += 1;
        let text = table(&report);
        assert!(text.contains("DOES NOT ADD UP"), "{text}");
        assert!(last_line(&text).starts_with("FAILED, the account does not add up: "), "{text}");
    }

    #[test]
    fn a_saturated_generator_is_a_warning() {
        let text = table(&samples::bad());
        assert!(text.contains("\n  WARNING   SATURATED: the figures are its own"), "{text}");
        assert!(!table(&samples::success()).contains("WARNING"));
    }

    #[test]
    fn ledger_events_and_errors_are_listed() {
        let text = table(&samples::restart());
        assert!(text.contains("\nledger      2 drains: accepted "), "{text}");
        assert!(text.contains("agrees with the clients' account"), "{text}");
        assert!(text.contains("\n         28.3 s  drain: the server says"), "{text}");
        assert!(text.contains("\n          1,180  DRAINING: the server is going"), "{text}");
        let text = table(&samples::bad());
        assert!(text.contains("  DIFFERS   the server answered 20 requests more"), "{text}");
        assert!(!text.contains("agrees"), "{text}");
    }

    #[test]
    fn no_more_than_a_screen_of_events_is_listed() {
        let text = table(&samples::long());
        assert!(text.contains("\n  and 4,992 more\n"), "{text}");
        assert!(text.lines().count() < 45, "{text}");
    }

    #[test]
    fn foreign_text_cannot_command_the_terminal() {
        for (_, report) in samples::all() {
            assert!(table(&report).chars().all(|c| c == '\n' || !c.is_control()));
        }
        assert!(table(&samples::bad()).contains("\u{fffd}[31mhandler"));
    }

    #[test]
    fn connections_are_what_connect_counts() {
        let mut report = samples::success();
        report.shape = "connect".into();
        assert!(table(&report).contains("48,012 connections/s over 60.0 s"));
        assert!(table(&samples::success()).contains("48,012 replies/s over 60.0 s"));
    }
}
