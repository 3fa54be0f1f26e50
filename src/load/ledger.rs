//! The generator's account beside the server's ledger.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use super::account::Tally;
use super::report::LedgerCheck;
use crate::server::Ledger;

/// Between two looks at a log whose server still runs.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What the servers wrote down since the run began.
#[derive(Clone, Debug, Default, PartialEq)]
struct Written {
    ledgers: u64,
    /// Servers that ended without a ledger.
    crashes: u64,
    /// A server has started, and not ended yet.
    running: bool,
    sum: Ledger,
}

/// Whoever waits with us.
pub trait Company {
    /// Tells that there is a wait.
    fn say(&mut self, text: &str);
    /// Lets some time pass. Returns whether to wait on.
    fn pass(&mut self, time: Duration) -> bool;
}

/// Reads the audit logs and compares. Where a server still runs it is waited for.
pub fn check(
    files: &[PathBuf],
    since: SystemTime,
    tally: &Tally,
    wait: Duration,
    company: &mut dyn Company,
) -> LedgerCheck {
    let end = Instant::now() + wait;
    let mut all = Written::default();
    let mut differences = Vec::new();
    for file in files {
        match await_end(file, since, end, company) {
            Ok(written) => {
                let name = file.display();
                if written.running {
                    differences.push(format!("{name} has no shutdown line yet: its server still runs."));
                } else if written.ledgers + written.crashes == 0 {
                    differences.push(format!("{name} has no shutdown line since the run began."));
                }
                all.add(&written);
            }
            Err(error) => differences.push(format!("{} can't be read: {error}", file.display())),
        }
    }
    if differences.is_empty() {
        differences = compare(&all, tally);
    }
    let Ledger { accepted, answered, failed, cut, undelivered, .. } = all.sum;
    LedgerCheck { ledgers: all.ledgers, accepted, answered, failed, cut, undelivered, differences }
}

fn await_end(file: &Path, since: SystemTime, end: Instant, company: &mut dyn Company) -> io::Result<Written> {
    let mut told = false;
    loop {
        let written = read(&fs::read_to_string(file)?, since);
        if !written.running || Instant::now() >= end {
            return Ok(written);
        }
        if !std::mem::replace(&mut told, true) {
            let left = end.saturating_duration_since(Instant::now()).as_secs_f64();
            company.say(&format!("waiting up to {left:.0} s for the shutdown line in {}", file.display()));
        }
        if !company.pass(LOOK_AGAIN) {
            return Ok(written);
        }
    }
}

#[derive(Deserialize)]
struct Line {
    timestamp: String,
    event_type: String,
}

fn read(text: &str, since: SystemTime) -> Written {
    let mut written = Written::default();
    for line in text.lines() {
        let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
        let Ok(Line { timestamp, event_type }) = Line::deserialize(&value) else { continue };
        match event_type.as_str() {
            "start" => written.running = true,
            "shutdown" => {
                written.running = false;
                let at = humantime::parse_rfc3339(&timestamp);
                // The log's instants have milliseconds.
                if !at.is_ok_and(|at| at + Duration::from_millis(1) > since) {
                    continue;
                }
                match serde_json::from_value::<Ledger>(value) {
                    Ok(ledger) => {
                        written.ledgers += 1;
                        add(&mut written.sum, &ledger);
                    }
                    Err(_) => written.crashes += 1,
                }
            }
            _ => {}
        }
    }
    written
}

impl Written {
    fn add(&mut self, other: &Written) {
        self.ledgers += other.ledgers;
        self.crashes += other.crashes;
        self.running |= other.running;
        add(&mut self.sum, &other.sum);
    }
}

fn add(sum: &mut Ledger, other: &Ledger) {
    sum.accepted += other.accepted;
    sum.answered += other.answered;
    sum.failed += other.failed;
    sum.pending += other.pending;
    sum.cut += other.cut;
    sum.undelivered += other.undelivered;
    sum.connections += other.connections;
    sum.connections_cut += other.connections_cut;
}

/// One sentence for each thing that can't be, if both tell the truth.
fn compare(written: &Written, tally: &Tally) -> Vec<String> {
    let (ours, theirs) = (&tally.account, &written.sum);
    let mut differences = Vec::new();
    let mut check = |right: bool, what: String| {
        if !right {
            differences.push(what);
        }
    };
    if written.crashes > 0 {
        check(false, "A server crashed or was killed during the run: there is no ledger of it.".to_owned());
        return differences;
    }
    check(theirs.balanced(), "The ledger does not balance in itself.".to_owned());
    check(theirs.cut == 0, format!("{} accepted requests were cut by the server.", theirs.cut));
    let reached = (theirs.answered + theirs.failed).saturating_sub(theirs.undelivered);
    let received = tally.received;
    if theirs.connections > tally.opened {
        // Others were served too, and nobody can tell their requests from ours.
        check(reached >= received, format!("{received} answers came here, the server sent only {reached} to anyone."));
        return differences;
    }
    check(
        theirs.connections == tally.opened,
        format!("{} connections were made, the server took {}.", tally.opened, theirs.connections),
    );
    check(reached == received, format!("The server sent {reached} answers, {received} came here."));
    check(
        theirs.undelivered > 0 || theirs.failed == tally.errors,
        format!("The server sent {} ERRORs, {} came here.", theirs.failed, tally.errors),
    );
    check(
        theirs.accepted <= ours.sent,
        format!("The server accepted {} requests, only {} were sent.", theirs.accepted, ours.sent),
    );
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::Account;

    fn line(timestamp: &str, event: &str, ledger: Option<Ledger>) -> String {
        let mut value = ledger.map_or_else(|| serde_json::json!({}), |ledger| serde_json::to_value(ledger).unwrap());
        value["timestamp"] = timestamp.into();
        value["event_type"] = event.into();
        format!("{value}\n")
    }

    fn ledger(accepted: u64) -> Ledger {
        Ledger { accepted, answered: accepted - 1, failed: 1, connections: 2, ..Ledger::default() }
    }

    fn tally(received: u64) -> Tally {
        let account = Account { sent: received + 3, answered: received, safe: 3, ..Account::default() };
        Tally { account, opened: 2, received, errors: 1 }
    }

    /// Waits three times and no longer.
    #[derive(Debug, Default)]
    struct Waiting {
        said: Vec<String>,
        passed: u32,
    }

    impl Company for Waiting {
        fn say(&mut self, text: &str) {
            self.said.push(text.to_owned());
        }
        fn pass(&mut self, _: Duration) -> bool {
            self.passed += 1;
            self.passed < 3
        }
    }

    #[test]
    fn only_shutdowns_since_the_run_began_count_and_all_of_them() {
        let since = humantime::parse_rfc3339("2026-01-01T12:00:00Z").unwrap();
        let mut text = line("2026-01-01T11:00:00.000Z", "start", None);
        text += &line("2026-01-01T11:59:59.000Z", "shutdown", Some(ledger(1_000)));
        text += &line("2026-01-01T11:59:59.500Z", "start", None);
        assert!(read(&text, since).running);
        text += &line("2026-01-01T12:00:10.000Z", "shutdown", Some(ledger(10)));
        text += "torn {\n";
        text += &line("2026-01-01T12:00:11.000Z", "start", None);
        text += &line("2026-01-01T12:00:20.000Z", "shutdown", Some(ledger(20)));
        let written = read(&text, since);
        assert_eq!((written.ledgers, written.sum.accepted, written.running, written.crashes), (2, 30, false, 0));
        text += &line("2026-01-01T12:00:21.000Z", "shutdown", None);
        assert_eq!(read(&text, since).crashes, 1);
    }

    #[test]
    fn the_only_client_has_every_answer_that_was_sent() {
        let written = Written { ledgers: 1, sum: ledger(10), ..Written::default() };
        assert_eq!(compare(&written, &tally(10)), Vec::<String>::new());
        for (wrong, part) in [
            (tally(9), "sent 10 answers, 9 came"),
            (Tally { opened: 3, ..tally(10) }, "3 connections were made, the server took 2"),
            (Tally { errors: 0, ..tally(10) }, "sent 1 ERRORs, 0 came"),
        ] {
            let told = compare(&written, &wrong);
            assert!(told.len() == 1 && told[0].contains(part), "{told:?}");
        }
        let cut = Written { sum: Ledger { accepted: 11, cut: 1, ..ledger(10) }, ..written.clone() };
        assert!(compare(&cut, &tally(10)).iter().any(|what| what.contains("1 accepted requests were cut")));
        let crash = Written { crashes: 1, ..written };
        assert!(compare(&crash, &tally(10))[0].contains("crashed"));
    }

    #[test]
    fn a_server_with_other_clients_only_has_to_have_sent_what_came() {
        let written = Written { ledgers: 1, sum: Ledger { connections: 5, ..ledger(100) }, ..Written::default() };
        assert_eq!(compare(&written, &tally(10)), Vec::<String>::new());
        assert_eq!(compare(&written, &tally(101)).len(), 1);
    }

    #[test]
    fn a_log_that_is_not_there_or_says_nothing_is_a_difference() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.jsonl");
        let now = SystemTime::now();
        let mut waiting = Waiting::default();
        let mut look = |wait| {
            let files = [file.clone()];
            check(&files, now, &tally(10), wait, &mut waiting).differences
        };
        assert!(look(Duration::ZERO)[0].contains("can't be read"));
        fs::write(&file, "").unwrap();
        assert!(look(Duration::ZERO)[0].contains("no shutdown line since"));
        fs::write(&file, line("2026-01-01T11:00:00.000Z", "start", None)).unwrap();
        assert!(look(Duration::from_secs(3_600))[0].contains("still runs"), "until it is told not to wait on");
        assert!(waiting.said.len() == 1 && waiting.said[0].contains("waiting") && waiting.passed == 3, "{waiting:?}");
    }
}
