//! What is said of it all: a line for a kill, a table, a page.

use std::fmt::Write;

use super::{Kill, Outcome};
use crate::report::thousands;

/// A kill in one line.
pub fn line(number: usize, kill: &Kill) -> String {
    let time = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    let mut line = format!(
        "{number:4}  life={} after_ms={:.1} acknowledged={} ready_ms={} replay_ms={}",
        kill.life,
        kill.after_ms,
        kill.acknowledged,
        time(kill.ready_ms),
        time(kill.replay_ms)
    );
    if kill.starting {
        line += " while=starting";
    }
    if !kill.others.is_empty() {
        let _ = write!(line, " killed_too={}", kill.others.join(","));
    }
    line
}

/// Median and most of some milliseconds.
fn spread(times: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let spread = crate::report::Spread::of(times.collect());
    (!spread.rounds.is_empty()).then_some((spread.median, spread.most))
}

/// Names and values, for people.
pub fn rows(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let count = |number: u64| thousands(number as f64);
    let times = |of: fn(&Kill) -> Option<f64>| match spread(outcome.kills.iter().filter_map(of)) {
        Some((median, most)) => format!("{median:.0} ms p50, {most:.0} ms max"),
        None => "not measured".to_owned(),
    };
    let (journal, sink, puts) = (&outcome.journal, &outcome.sink, &outcome.puts);
    let starting = outcome.kills.iter().filter(|kill| kill.starting).count();
    vec![
        ("kills (-9) of the gateway", format!("{}, {starting} of them while it started", outcome.kills.len())),
        ("kills (-9) of other servers", outcome.others_killed.to_string()),
        ("connections", count(outcome.connections)),
        ("SUBMIT acknowledged", count(journal.acknowledged)),
        ("  lost in the journal", count(journal.lost)),
        ("  lost in the sink", format!("{} of {}", count(sink.lost), count(sink.acknowledged))),
        ("  duplicated (a second id)", count(journal.duplicated + sink.duplicated + outcome.seen.duplicated)),
        ("  out of order", count(journal.reordered + sink.reordered)),
        ("  redelivered (the same id)", count(sink.redelivered)),
        ("  deleted from the journal, done", count(journal.deleted)),
        ("  retries known by their key", count(outcome.recognised)),
        ("SESSION_PUT acknowledged", count(puts.acknowledged)),
        ("  lost", count(puts.lost)),
        ("  RESUME answered by a new session", count(outcome.turned_away)),
        ("ECHO answered", count(outcome.echoes)),
        ("ERRORs, tried again", count(outcome.errors)),
        ("strange", count(journal.strange + sink.strange + puts.strange + outcome.seen.strange)),
        ("RPO: acknowledged and not there", count(journal.lost + sink.lost + puts.lost)),
        ("RTO: kill to ready", times(|kill| kill.ready_ms)),
        ("RTO: kill to the last replay", times(|kill| kill.replay_ms)),
        ("seed", outcome.seed.to_string()),
    ]
}

/// As a table for the terminal.
pub fn text(outcome: &Outcome) -> String {
    rows(outcome).iter().fold(String::new(), |text, (name, value)| text + &format!("{name:<34} {value}\n"))
}

/// As a page: the table, the violations, every kill.
pub fn markdown(outcome: &Outcome, note: &str) -> String {
    let mut page = format!("# Kills under load\n\n{note}\n\n| | |\n|---|---|\n");
    for (name, value) in rows(outcome) {
        let _ = writeln!(page, "| {} | {value} |", name.trim());
    }
    page += if outcome.is_good() { "\nNothing was lost, nothing is there twice.\n" } else { "\n**FAILED**\n\n" };
    for what in outcome.told() {
        let _ = writeln!(page, "- {what}");
    }
    page += "\n## Every kill\n\n```\n";
    for (index, kill) in outcome.kills.iter().enumerate() {
        page += &line(index + 1, kill);
        page.push('\n');
    }
    page + "```\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_medians_and_mosts_of_what_was_measured() {
        let kill = |ready_ms| Kill { ready_ms, ..Kill::default() };
        let kills = vec![kill(Some(10.0)), kill(None), kill(Some(30.0)), kill(Some(20.0))];
        let outcome = Outcome { kills, ..Outcome::default() };
        let text = text(&outcome);
        assert!(text.contains("20 ms p50, 30 ms max"), "{text}");
        assert!(text.contains("kill to the last replay       not measured"), "{text}");
    }

    #[test]
    fn a_loss_is_told_and_fails() {
        let mut outcome = Outcome::default();
        assert!(outcome.is_good() && markdown(&outcome, "here").contains("Nothing was lost"));
        outcome.puts.lost = 1;
        outcome.puts.told.push("client 3: gone".to_owned());
        let page = markdown(&outcome, "here");
        assert!(!outcome.is_good() && page.contains("**FAILED**") && page.contains("- client 3: gone"));
        assert!(page.contains("| RPO: acknowledged and not there | 1 |"), "{page}");
    }
}
