//! The report as text, at most 120 columns wide.

use std::fmt::Write;

use super::{BUSY, Case, FLOOR, Report, Row, thousands};

const WIDTH: usize = 120;
const NAME: usize = 14;
/// Columns of one case in the summary.
const CELL: usize = 9;

/// Every case with every server, then a summary, then the verdicts.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    for row in &report.rows {
        out += &match row.case {
            Case::Idle => idle(row),
            _ => block(row),
        };
        out.push('\n');
    }
    out += &summary(report);
    out += &disturbed(report);
    for verdict in &report.verdicts {
        let said = if verdict.within { "within" } else { "OVER" };
        let case = format!("tidegate, {}", verdict.case);
        let (medians, bests) = (verdict.of_medians, verdict.of_bests);
        line(&mut out, format_args!("{case:<52} {medians:>7.3} {bests:>7.3}   {said} {:.2}", verdict.budget));
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{text}");
}

fn block(row: &Row) -> String {
    let mut out = format!("{}\n", row.case);
    let unit = row.case.unit();
    line(
        &mut out,
        format_args!(
            "{:<NAME$} {unit:>29} {:>15} {:>26} {:>15} {:>8}",
            "", "ratio to floor", "per second", "ratio to floor", "CPU"
        ),
    );
    line(
        &mut out,
        format_args!(
            "{:<NAME$} {:>9} {:>9} {:>9} {:>8} {:>6} {:>13} {:>12} {:>8} {:>6} {:>8}",
            "", "median", "best", "spread", "medians", "bests", "median", "best", "medians", "bests", "busy"
        ),
    );
    for entry in &row.entries {
        let (cost, rate) = (&entry.cost, &entry.rate);
        let spread = 100.0 * (cost.most - cost.least) / cost.median.max(f64::MIN_POSITIVE);
        line(
            &mut out,
            format_args!(
                "{:<NAME$} {:>9} {:>9} {:>8.0}% {:>8.3} {:>6.3} {:>13} {:>12} {:>8.3} {:>6.3} {:>8.2}",
                entry.peer,
                amount(cost.median),
                amount(cost.least),
                spread,
                entry.cost_of_medians,
                entry.cost_of_bests,
                thousands(rate.median),
                thousands(rate.most),
                entry.rate_of_medians,
                entry.rate_of_bests,
                entry.busy.median,
            ),
        );
    }
    out
}

fn idle(row: &Row) -> String {
    let mut out = format!("{}, bytes\n", row.case);
    for entry in &row.entries {
        line(&mut out, format_args!("{:<NAME$} {:>9}", entry.peer, thousands(entry.cost.median)));
    }
    out
}

fn amount(number: f64) -> String {
    if number < 10_000.0 { format!("{number:.1}") } else { thousands(number) }
}

/// The ratios of the medians, as many cases side by side as fit.
fn summary(report: &Report) -> String {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.case != Case::Idle).collect();
    let mut out = String::new();
    for rows in rows.chunks((WIDTH - NAME) / CELL) {
        out += "server CPU beside the floor's: ratio of the medians\n";
        for part in 0..3 {
            let heads: String = rows.iter().map(|row| format!("{:>CELL$}", head(row.case, part))).collect();
            line(&mut out, format_args!("{:<NAME$}{heads}", ["connections", "depth", "payload"][part]));
        }
        let peers = rows.first().map(|row| &row.entries[..]).unwrap_or_default();
        for peer in peers.iter().map(|entry| &entry.peer) {
            let cell = |row: &&Row| match row.entry(peer) {
                Some(entry) => format!("{:>CELL$.2}", entry.cost_of_medians),
                None => format!("{:>CELL$}", "-"),
            };
            let cells: String = rows.iter().map(cell).collect();
            line(&mut out, format_args!("{peer:<NAME$}{cells}"));
        }
        out.push('\n');
    }
    out
}

fn head(case: Case, part: usize) -> String {
    match (case, part) {
        (Case::Echo { connections, .. }, 0) => thousands(connections as f64),
        (Case::Echo { depth, .. }, 1) => depth.to_string(),
        (Case::Echo { payload, .. }, 2) => format!("{payload} B"),
        (Case::Storm { .. }, 1) => "connect".to_owned(),
        (Case::Storm { .. }, 2) => "+ AUTH".to_owned(),
        _ => String::new(),
    }
}

/// Where the floor did not have its CPU for itself, or waited for its client.
fn disturbed(report: &Report) -> String {
    let echo = |row: &&Row| matches!(row.case, Case::Echo { .. });
    let idle = |row: &&Row| row.entry(FLOOR).is_some_and(|floor| floor.busy.median < BUSY);
    let cases: Vec<String> = report.rows.iter().filter(echo).filter(idle).map(|row| row.case.to_string()).collect();
    if cases.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "The floor was busy for less than {BUSY} of the time: other work on these CPUs, or a client slower than it.\n\
         Trust the best rounds at\n"
    );
    for case in cases {
        line(&mut out, format_args!("  {case}"));
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Budgets;

    #[test]
    fn no_line_is_wider_than_a_page() {
        let mut lines = String::new();
        for connections in [64, 1_000, 15_000, 18_000] {
            for (depth, payload) in [(1, 32), (16, 32), (64, 4_096), (1_024, 32_768)] {
                for peer in ["floor", "tidegate", "tokio-framed"] {
                    lines += &format!(
                        "echo {peer} {connections} {depth} {payload} rate=123456789 server_ns_per_frame=987654.3 server_cpu=0.99\n"
                    );
                }
            }
        }
        lines += "storm floor 64 0 0 rate=1 server_ns_per_connection=7 server_cpu=1\nidle floor 0 0 0 private_per_connection=8\n";
        let report = Report::parse(&lines, &Budgets { one: 1.0, more: 1.0, storm: 1.0 }).unwrap();
        let text = text(&report);
        let widest = text.lines().map(str::len).max().unwrap();
        assert!(widest <= WIDTH, "{widest}: {text}");
    }
}
