//! The account of what became of every request, and how accounts add up. PURE.

use serde::{Deserialize, Serialize};

use super::report::Account;

/// Different errors that are told apart; the rest are counted as one.
const MAX_ERRORS: usize = 32;
/// Bytes of an error's text that are kept.
const MAX_ERROR_TEXT: usize = 160;

/// An [`Account`] with what the comparison with a ledger needs besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// For the report.
    pub account: Account,
    /// Connections that the server's side took, let in or not.
    pub opened: u64,
    /// Replies and ERRORs that named a request of ours, right or wrong.
    pub received: u64,
    /// ERRORs among them.
    pub errors: u64,
}

impl Account {
    /// Whether every request that was sent has one fate.
    pub fn adds_up(&self) -> bool {
        self.sent == self.settled()
    }

    /// Requests that have a fate. More than can be counted is as much as can be.
    pub fn settled(&self) -> u64 {
        [self.answered, self.failed, self.safe, self.retried, self.unknown, self.lost]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Adds the account of other connections.
    pub fn add(&mut self, other: &Account) {
        let Account { sent, answered, failed, safe, retried, unknown, lost, .. } = other;
        let Account { wrong, duplicates, forgotten, connections, broken, refused, heartbeats, .. } = other;
        self.sent += sent;
        self.answered += answered;
        self.failed += failed;
        self.safe += safe;
        self.retried += retried;
        self.unknown += unknown;
        self.lost += lost;
        self.wrong += wrong;
        self.duplicates += duplicates;
        self.forgotten += forgotten;
        self.connections += connections;
        self.broken += broken;
        self.refused += refused;
        self.heartbeats += heartbeats;
    }
}

impl Tally {
    /// Adds the tally of other connections.
    pub fn add(&mut self, other: &Tally) {
        self.account.add(&other.account);
        self.opened += other.opened;
        self.received += other.received;
        self.errors += other.errors;
    }
}

/// What went wrong, in words, and how often. Bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors(Vec<(String, u64)>);

impl Errors {
    /// Counts `count` of the same.
    pub fn note_many(&mut self, what: &str, count: u64) {
        let what = &what[..what.floor_char_boundary(MAX_ERROR_TEXT)];
        if let Some((_, counted)) = self.0.iter_mut().find(|(text, _)| text == what) {
            *counted += count;
        } else if self.0.len() < MAX_ERRORS {
            self.0.push((what.to_owned(), count));
        } else {
            match self.0.iter_mut().find(|(text, _)| text == "others") {
                Some((_, counted)) => *counted += count,
                None => self.0.push(("others".to_owned(), count)),
            }
        }
    }

    /// Adds those of another generator.
    pub fn add(&mut self, other: &Errors) {
        for (what, count) in &other.0 {
            self.note_many(what, *count);
        }
    }

    /// Most often first.
    pub fn sorted(mut self) -> Vec<(String, u64)> {
        self.0.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        self.0
    }

    /// The last kind that was met for the first time.
    pub fn latest(&self) -> Option<&str> {
        self.0.last().map(|(what, _)| what.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_adds_up_only_when_each_request_has_one_fate() {
        let account = Account {
            sent: 21,
            answered: 5,
            failed: 4,
            safe: 3,
            retried: 6,
            unknown: 2,
            lost: 1,
            ..Account::default()
        };
        assert!(account.adds_up());
        assert!(!Account { sent: 22, ..account }.adds_up());
        assert!(!Account { lost: 2, ..account }.adds_up());
        let mut sum = account;
        sum.add(&account);
        assert_eq!((sum.sent, sum.settled(), sum.adds_up()), (42, 42, true));
    }

    #[test]
    fn errors_are_counted_by_kind_and_bounded() {
        let mut errors = Errors::default();
        (0..100).for_each(|i| errors.note_many(&format!("error {i}"), 1));
        errors.note_many("error 3", 5);
        errors.note_many(&"ü".repeat(500), 1);
        let mut sum = Errors::default();
        sum.add(&errors);
        let sorted = sum.sorted();
        assert_eq!(sorted.len(), MAX_ERRORS + 1);
        assert_eq!(sorted[0], ("others".to_owned(), 100 - MAX_ERRORS as u64 + 1));
        assert_eq!(sorted[1], ("error 3".to_owned(), 6));
    }
}
