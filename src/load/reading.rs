//! What a report says, before it is laid out: the verdict, and single percentiles.

use super::report::{Latency, Report};
use super::units::{count, counted};

/// The percentiles that are shown by name.
pub(super) const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

const NOTHING_LOST: &str = "Nothing was lost";

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Every request has a known fate, and none was lost.
    Good,
    /// Nothing is known to be lost, but something is in doubt: see the notes.
    Doubtful,
    /// Something was lost, or the accounts contradict each other.
    Bad,
}

/// What is to be said of a run before any figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// In a word.
    pub grade: Grade,
    /// A few words: `Nothing was lost`.
    pub headline: String,
    /// Figures that bears it out, without a full stop.
    pub detail: String,
    /// What stands against it or has to be known beside it, one sentence each, the worst first.
    pub notes: Vec<String>,
    passes: bool,
}

impl Verdict {
    /// Whether a script should go on: every request has a known fate, and the accounts agree. What is
    /// refused, failed or broken in good order is the server's right.
    pub fn passes(&self) -> bool {
        self.passes
    }
}

/// The verdict on a run.
pub fn verdict(report: &Report) -> Verdict {
    let account = &report.account;
    let bad = contradictions(report);
    let doubts = doubts(report);
    let (grade, headline) = match bad.first() {
        _ if account.lost > 0 => (Grade::Bad, format!("{} LOST", counted(account.lost, "request"))),
        Some((what, _)) => (Grade::Bad, format!("FAILED, {what}")),
        None if account.unknown > 0 => {
            (Grade::Doubtful, format!("The fate of {} is unknown", counted(account.unknown, "request")))
        }
        None if doubts.is_empty() => (Grade::Good, NOTHING_LOST.into()),
        None => (Grade::Doubtful, NOTHING_LOST.into()),
    };
    let passes = grade != Grade::Bad && account.unknown == 0;
    let notes = bad.into_iter().map(|(_, note)| note).chain(doubts).collect();
    Verdict { grade, headline, detail: detail(report), notes, passes }
}

/// The latency, ns, that `p` percent of all did not exceed; between two recorded steps, the upper.
pub fn percentile(latency: &Latency, p: f64) -> u64 {
    step(latency, p).1
}

/// The recorded step, percentile and ns, that answers for `p`.
pub(super) fn step(latency: &Latency, p: f64) -> (f64, u64) {
    let rank = (p / 100.0 * latency.count as f64).ceil();
    let step = latency.percentiles.iter().find(|(at, _, up_to)| *at >= p || *up_to as f64 >= rank);
    step.map_or((100.0, latency.max), |(at, ns, _)| (*at, *ns))
}

fn detail(report: &Report) -> String {
    let account = &report.account;
    let answered = match account.answered {
        all if all == account.sent && all > 1 => format!("all {} requests answered", count(all)),
        some => format!("{} answered", count(some)),
    };
    let more = [
        (account.failed, "failed"),
        (account.safe, "safe to retry"),
        (account.retried, "sent again"),
        (account.unknown, "unknown"),
    ];
    let more = more.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!(", {} {name}", count(*n)));
    let ledger = match &report.ledger {
        Some(ledger) if ledger.differences.is_empty() => "; the ledger agrees",
        Some(_) => "; the ledger differs",
        None => "",
    };
    answered + &more.collect::<String>() + ledger
}

/// What no run may show: in a few words, and as a sentence.
fn contradictions(report: &Report) -> Vec<(&'static str, String)> {
    let account = &report.account;
    let mut notes = vec![];
    if account.lost > 0 {
        notes.push((
            "requests were lost",
            format!("{} accepted by the server and never answered.", were(account.lost, "request")),
        ));
    }
    if account.wrong > 0 {
        let wrong = has(account.wrong, "reply", "replies");
        notes.push(("replies were wrong", format!("{wrong} the wrong seq, command or payload.")));
    }
    if account.forgotten > 0 {
        let values = were(account.forgotten, "value");
        notes.push(("values were lost", format!("{values} acknowledged, and their session was not resumed.")));
    }
    if !account.adds_up() {
        let (sent, sum) = (count(account.sent), count(account.settled()));
        let note = format!("The account does not add up: {sent} were sent, but the fates of {sum} are recorded.");
        notes.push(("the account does not add up", note));
    }
    if let Some(ledger) = report.ledger.as_ref().filter(|ledger| !ledger.differences.is_empty()) {
        let differences = counted(ledger.differences.len() as u64, "difference");
        let note = format!("The server's ledger does not agree with the clients' account: {differences}.");
        notes.push(("the ledger differs", note));
    }
    if account.answered == 0 {
        let why = match (account.connections, account.sent) {
            (0, _) => "No connection became READY.",
            (_, 0) => "No request was sent.",
            _ => "No request was answered.",
        };
        notes.push(("nothing was measured", why.into()));
    }
    notes
}

/// What leaves a doubt.
fn doubts(report: &Report) -> Vec<String> {
    let account = &report.account;
    let mut notes = vec![];
    if account.unknown > 0 {
        let left = were(account.unknown, "request");
        notes.push(format!("{left} cut off without a word: processed or not, nobody can say."));
    }
    if let Some(why) = &report.generator.saturated {
        let why = why.trim_end_matches('.');
        notes.push(format!("The generator was saturated, so the figures are its own, not the server's: {why}."));
    }
    if report.missing > 0 {
        notes.push(format!("{} still missing when the load began.", were(report.missing, "connection")));
    }
    if account.broken > 0 {
        notes.push(format!("{} closed by reset, or without the announced end.", were(account.broken, "connection")));
    }
    if account.refused > 0 {
        notes.push(format!("{} refused, or failed to open.", were(account.refused, "connection")));
    }
    if account.failed > 0 {
        notes.push(format!("{} answered with an ERROR.", were(account.failed, "request")));
    }
    notes
}

fn were(n: u64, one: &str) -> String {
    format!("{} {}", counted(n, one), if n == 1 { "was" } else { "were" })
}

fn has(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one} has") } else { format!("{} {many} have", count(n)) }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::load::report::Account;

    #[test]
    fn a_run_with_a_restart_and_nothing_lost_is_good() {
        for report in [samples::restart(), samples::success()] {
            let verdict = verdict(&report);
            assert_eq!((verdict.grade, verdict.headline.as_str()), (Grade::Good, "Nothing was lost"));
            assert_eq!(verdict.notes, Vec::<String>::new());
        }
    }

    #[test]
    fn a_lost_request_is_the_headline_and_every_contradiction_a_note() {
        let verdict = verdict(&samples::bad());
        assert_eq!((verdict.grade, verdict.headline.as_str()), (Grade::Bad, "17 requests LOST"));
        let notes = verdict.notes.join("\n");
        for part in ["17 requests were accepted", "3 replies have", "ledger does not agree", "saturated"] {
            assert!(notes.contains(part), "{part} in {notes}");
        }
    }

    #[test]
    fn whatever_is_lost_wrong_unknown_or_differs_fails_a_run_and_refusals_do_not() {
        type Spoil = fn(&mut Report);
        let spoil: [(Spoil, bool); 8] = [
            (|_| {}, true),
            (|r| (r.account.refused, r.account.broken) = (3, 2), true),
            (|r| (r.account.failed, r.account.sent) = (r.account.failed + 1, r.account.sent + 1), true),
            (|r| (r.account.unknown, r.account.sent) = (1, r.account.sent + 1), false),
            (|r| (r.account.lost, r.account.sent) = (1, r.account.sent + 1), false),
            (|r| r.account.wrong = 1, false),
            (|r| r.account.sent += 1, false),
            (|r| r.ledger.as_mut().unwrap().differences.push("One is missing.".into()), false),
        ];
        for (at, (spoil, passes)) in spoil.into_iter().enumerate() {
            let mut report = samples::restart();
            spoil(&mut report);
            assert_eq!(verdict(&report).passes(), passes, "{at}");
        }
    }

    #[test]
    fn each_contradiction_alone_makes_a_run_bad() {
        let spoil: [fn(&mut Report); 6] = [
            |r| r.account.forgotten = 1,
            |r| (r.account.wrong, r.account.failed) = (1, 0),
            |r| r.account.sent += 1,
            |r| r.ledger.as_mut().unwrap().differences.push("x".into()),
            |r| (r.account.lost, r.account.sent) = (1, r.account.sent + 1),
            |r| r.account = Account::default(),
        ];
        for (at, spoil) in spoil.iter().enumerate() {
            let mut report = samples::restart();
            spoil(&mut report);
            let verdict = verdict(&report);
            assert_eq!(verdict.grade, Grade::Bad, "{at}");
            assert_ne!(verdict.headline, "Nothing was lost", "{at}");
            assert_eq!(verdict.notes.len(), 1, "{at}");
        }
    }

    #[test]
    fn each_doubt_alone_is_told_and_no_loss() {
        let spoil: [fn(&mut Report); 6] = [
            |r| r.missing = 1,
            |r| (r.account.unknown, r.account.sent) = (1, r.account.sent + 1),
            |r| (r.account.failed, r.account.sent) = (1, r.account.sent + 1),
            |r| r.account.broken = 1,
            |r| r.account.refused = 1,
            |r| r.generator.saturated = Some("one process was busy".into()),
        ];
        for (at, spoil) in spoil.iter().enumerate() {
            let mut report = samples::success();
            spoil(&mut report);
            let verdict = verdict(&report);
            assert_eq!((verdict.grade, verdict.notes.len()), (Grade::Doubtful, 1), "{at}");
        }
    }

    #[test]
    fn a_percentile_between_two_steps_is_the_upper() {
        let percentiles = vec![(0.0, 10, 1), (50.0, 20, 50), (75.0, 30, 75), (100.0, 40, 100)];
        let latency = Latency { count: 100, min: 10, mean: 20.0, max: 40, percentiles };
        assert_eq!([0.0, 50.0, 50.1, 75.0, 90.0, 100.0].map(|p| percentile(&latency, p)), [10, 20, 30, 30, 40, 40]);
        let none = Latency { percentiles: vec![], ..latency };
        assert_eq!(percentile(&none, 50.0), 40);
    }
}
