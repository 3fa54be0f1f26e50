//! The account that a drain closes with, for machines and for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What became of everything that was accepted.
#[derive(Serialize, Deserialize, Default, Clone, Debug, PartialEq)]
pub struct Ledger {
    /// Requests accepted, AUTH, PING and BYE included.
    pub accepted: u64,
    /// Requests answered with a reply.
    pub answered: u64,
    /// Requests answered with an ERROR.
    pub failed: u64,
    /// Requests that were ended without an answer, and whose message the journal keeps for the next start.
    pub pending: u64,
    /// Requests that were ended without an answer.
    pub cut: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections turned away in good order.
    pub refused: u64,
    /// Connections ended by force.
    pub connections_cut: u64,
    /// Answers whose connection was gone, by the peer's doing, before they could be sent.
    pub undelivered: u64,
    /// Bytes that the peer had not acknowledged when its connection was closed.
    pub bytes_unacked: u64,
    /// How long each phase took.
    pub durations: PhaseDurations,
    /// Who was cut: the first [`crate::limits::MAX_NAMED_CUTS`].
    pub cuts: Vec<Cut>,
    /// How many more were.
    pub cuts_unnamed: u64,
    /// Workers that did not report by the end: what they had in hand counts as cut.
    pub missing_workers: Vec<usize>,
    /// What became of messages, where there is a journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalAccount>,
}

/// What became of messages that were submitted.
#[derive(Serialize, Deserialize, Default, Clone, Debug, PartialEq)]
pub struct JournalAccount {
    /// Messages stored since the start.
    pub stored: u64,
    /// Retries recognised as such, and not stored again.
    pub duplicates: u64,
    /// Messages delivered to their sinks since the start.
    pub delivered: u64,
    /// Messages on the disk that their sinks have not got yet: the next start delivers them first.
    pub pending: u64,
    /// Whether everything was brought to the disk, and the journal closed in good order.
    pub closed: bool,
}

/// How long each phase of a drain took. Milliseconds.
#[derive(Serialize, Deserialize, Default, Clone, Debug, PartialEq)]
pub struct PhaseDurations {
    /// Not ready, still accepting.
    pub announce_ms: u64,
    /// Accepting what had begun to connect.
    pub gate_ms: u64,
    /// Clients told to move, still served.
    pub notice_ms: u64,
    /// Answering what was accepted.
    pub finish_ms: u64,
    /// Sending what was answered.
    pub flush_ms: u64,
    /// Storing what must last.
    pub persist_ms: u64,
    /// From the signal to the ledger.
    pub total_ms: u64,
}

/// One connection that was cut, with the requests that ended with it.
#[derive(Serialize, Deserialize, Default, Clone, Debug, PartialEq)]
pub struct Cut {
    /// The worker that it lived on.
    pub worker: usize,
    /// The peer's address.
    pub peer: Option<String>,
    /// Whom it spoke for, when it had come that far.
    pub principal: Option<String>,
    /// Its session, by [`crate::session::log_name`].
    pub session: Option<String>,
    /// Requests that were not answered.
    pub requests: u64,
    /// Why it was cut.
    pub reason: String,
}

impl Ledger {
    /// The ledger's law: accepted = answered + failed + pending + cut.
    pub fn balanced(&self) -> bool {
        self.accounted() == Some(self.accepted)
    }

    /// Nothing was cut, every worker reported, and the ledger balances.
    pub fn clean(&self) -> bool {
        self.balanced() && !self.anything_cut()
    }

    /// What the process exits with: 0 clean, 3 something was cut, 1 the ledger does not balance.
    pub fn exit_code(&self) -> u8 {
        match (self.anything_cut(), self.balanced()) {
            (true, _) => 3,
            (false, false) => 1,
            (false, true) => 0,
        }
    }

    fn anything_cut(&self) -> bool {
        self.cut != 0 || self.connections_cut != 0 || !self.missing_workers.is_empty()
    }

    /// Where accepted requests went; `None` if that is more than can be counted.
    fn accounted(&self) -> Option<u64> {
        self.answered.checked_add(self.failed)?.checked_add(self.pending)?.checked_add(self.cut)
    }
}

/// For a person at a terminal: the verdict first, then the account.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict())?;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, text: String| writeln!(f, "  {name:<13}{text}");
        line(
            f,
            "connections",
            format!("{} served, {} refused, {} cut", n(self.connections), n(self.refused), n(self.connections_cut)),
        )?;
        line(f, "drained in", self.durations.to_string())?;
        if self.undelivered > 0 {
            let text = format!("{} whose client was gone before the answer", count(self.undelivered, "request"));
            line(f, "undelivered", text)?;
        }
        if self.bytes_unacked > 0 {
            line(f, "unconfirmed", format!("{} at close, not yet acknowledged", count(self.bytes_unacked, "byte")))?;
        }
        for (at, cut) in self.cuts.iter().enumerate() {
            line(f, if at == 0 { "cut" } else { "" }, cut.to_string())?;
        }
        if self.cuts_unnamed > 0 {
            line(f, "", format!("and {} more", n(self.cuts_unnamed)))?;
        }
        if let Some(journal) = &self.journal {
            line(f, "journal", journal.to_string())?;
        }
        for worker in &self.missing_workers {
            line(f, "missing", format!("worker {worker} did not report: what it had in hand is cut"))?;
        }
        Ok(())
    }
}

impl Ledger {
    fn verdict(&self) -> String {
        let account = self.account();
        if !self.balanced() {
            let sum = self.accounted().map_or("more than can be counted".to_owned(), n);
            return format!("The ledger does not balance: {account}. These are {sum} of {}.", n(self.accepted));
        }
        if self.cut > 0 {
            return format!("{} cut: {account}.", was(self.cut, "request"));
        }
        if !self.missing_workers.is_empty() {
            return format!("{} missing: {account}.", was(self.missing_workers.len() as u64, "worker"));
        }
        if self.connections_cut > 0 {
            return format!("No request was lost, but {} cut: {account}.", was(self.connections_cut, "connection"));
        }
        format!("Nothing was lost: {account}.")
    }

    fn account(&self) -> String {
        let mut parts = vec![format!("{} accepted", count(self.accepted, "request"))];
        parts.push(format!("{} answered", n(self.answered)));
        let rest =
            [(self.failed, "answered with an error"), (self.pending, "kept for the next start"), (self.cut, "cut")];
        parts.extend(
            rest.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{} {what}", n(*number))),
        );
        parts.join(", ")
    }
}

impl fmt::Display for JournalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stored", count(self.stored, "message"))?;
        if self.duplicates > 0 {
            write!(
                f,
                ", {} recognised",
                n(self.duplicates) + if self.duplicates == 1 { " retry" } else { " retries" }
            )?;
        }
        if self.delivered > 0 {
            write!(f, ", {} delivered", n(self.delivered))?;
        }
        if self.pending > 0 {
            write!(f, ", {} to be delivered by the next start", n(self.pending))?;
        }
        if !self.closed {
            write!(f, "; it could not be closed in good order, see the log")?;
        }
        Ok(())
    }
}

impl fmt::Display for PhaseDurations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases = [
            ("announce", self.announce_ms),
            ("gate", self.gate_ms),
            ("notice", self.notice_ms),
            ("finish", self.finish_ms),
            ("flush", self.flush_ms),
            ("persist", self.persist_ms),
        ];
        let taken: Vec<String> =
            phases.iter().filter(|(_, ms)| *ms > 0).map(|(name, ms)| format!("{name} {}", time(*ms))).collect();
        let colon = if taken.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", time(self.total_ms), taken.join(", "))
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer.as_deref().unwrap_or("unknown peer");
        write!(f, "{peer}")?;
        if let Some(principal) = &self.principal {
            write!(f, ", principal {principal}")?;
        }
        if let Some(session) = &self.session {
            write!(f, ", session {session}")?;
        }
        write!(f, ", worker {}: {}, {} unanswered", self.worker, self.reason, count(self.requests, "request"))
    }
}

/// `12,345`.
fn n(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// `1 request`, `2 requests`.
fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", n(number), if number == 1 { "" } else { "s" })
}

fn was(number: u64, what: &str) -> String {
    format!("{} {}", count(number, what), if number == 1 { "was" } else { "were" })
}

fn time(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{:02} s", n(ms / 1000), ms % 1000 / 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Ledger {
        let durations = PhaseDurations { notice_ms: 1000, flush_ms: 12, total_ms: 1234, ..PhaseDurations::default() };
        let base = Ledger { accepted: 48_210, answered: 48_190, failed: 12, pending: 8, ..Ledger::default() };
        Ledger { connections: 1_204, refused: 3, durations, ..base }
    }

    #[test]
    fn the_law_holds_only_when_every_accepted_request_is_accounted_for_once() {
        let ledger = clean();
        assert!(ledger.balanced() && ledger.clean());
        assert!(!Ledger { accepted: 48_211, ..ledger.clone() }.balanced());
        assert!(!Ledger { answered: 48_191, ..ledger.clone() }.balanced());
        assert!(!Ledger { failed: u64::MAX, ..ledger }.balanced());
    }

    #[test]
    fn whatever_was_cut_or_is_missing_is_not_clean() {
        let cut = Ledger { accepted: 48_211, cut: 1, ..clean() };
        let connection = Ledger { connections_cut: 1, ..clean() };
        let worker = Ledger { missing_workers: vec![3], ..clean() };
        let unbalanced = Ledger { accepted: 1, ..clean() };
        for (ledger, code) in [(cut, 3), (connection, 3), (worker, 3), (unbalanced, 1), (clean(), 0)] {
            assert_eq!((ledger.clean(), ledger.exit_code()), (code == 0, code), "{ledger:?}");
        }
    }

    #[test]
    fn a_clean_ledger_says_first_that_nothing_was_lost() {
        let expected = "\
Nothing was lost: 48,210 requests accepted, 48,190 answered, 12 answered with an error, 8 kept for the next start.
  connections  1,204 served, 3 refused, 0 cut
  drained in   1.23 s: notice 1.00 s, flush 12 ms
";
        assert_eq!(clean().to_string(), expected);
    }

    #[test]
    fn a_ledger_with_cuts_says_who_was_cut() {
        let named = Cut {
            worker: 1,
            peer: Some("192.0.2.7:5512".to_owned()),
            principal: Some("sensor-7".to_owned()),
            session: Some("0a1b".to_owned()),
            requests: 2,
            reason: "deadline".to_owned(),
        };
        let silent = Cut { peer: None, principal: None, session: None, requests: 1, ..named.clone() };
        let ledger = Ledger { accepted: 48_213, cut: 3, connections_cut: 9, undelivered: 1, ..clean() };
        let ledger = Ledger { cuts: vec![named, silent], cuts_unnamed: 7, bytes_unacked: 512, ..ledger };
        let expected = "\
3 requests were cut: 48,213 requests accepted, 48,190 answered, 12 answered with an error, 8 kept for the next start, 3 cut.
  connections  1,204 served, 3 refused, 9 cut
  drained in   1.23 s: notice 1.00 s, flush 12 ms
  undelivered  1 request whose client was gone before the answer
  unconfirmed  512 bytes at close, not yet acknowledged
  cut          192.0.2.7:5512, principal sensor-7, session 0a1b, worker 1: deadline, 2 requests unanswered
               unknown peer, worker 1: deadline, 1 request unanswered
               and 7 more
";
        assert_eq!(ledger.to_string(), expected);
    }

    #[test]
    fn the_verdict_never_says_that_nothing_was_lost_when_the_ledger_is_not_clean() {
        let missing = Ledger { missing_workers: vec![3], ..clean() };
        assert!(missing.to_string().starts_with("1 worker was missing: ") && missing.to_string().contains("worker 3"));
        let connection = Ledger { connections_cut: 1, ..clean() };
        assert!(connection.to_string().starts_with("No request was lost, but 1 connection was cut: "));
        let unbalanced = Ledger { accepted: 1, ..clean() };
        assert!(unbalanced.to_string().starts_with("The ledger does not balance: 1 request accepted"));
    }

    #[test]
    fn a_ledger_survives_json() {
        let ledger = Ledger { cuts: vec![Cut::default()], missing_workers: vec![0], ..clean() };
        let text = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
    }
}
