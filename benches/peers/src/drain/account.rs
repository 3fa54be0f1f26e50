//! The clients' account of a drain, and how it compares with the server's ledger.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::Kind;

/// Violations that are told one by one; the rest are counted.
const NAMED_VIOLATIONS: usize = 20;

/// What became of the requests of some connections.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that were made.
    pub connections: u64,
    /// Requests, AUTH and BYE included, that were written whole.
    pub sent: u64,
    /// Of those: with a reply or an ERROR, checked.
    pub answered: u64,
    /// Of those: the server has said, or shown, that it did not accept them.
    pub safe_to_retry: u64,
    /// Of those: accepted, or not known not to be, and never answered.
    pub lost: u64,
    /// Connections that ended with a reset and not with an EOF.
    pub resets: u64,
    /// AUTHs that met a connection's DRAINING: the server may have accepted them, and failed them.
    pub auth_drained: u64,
}

/// The account of all clients.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// All connections together.
    pub total: Tally,
    /// By what the client does.
    pub by_kind: BTreeMap<String, Tally>,
    /// Requests answered with an ERROR, by code.
    pub errors: BTreeMap<u16, u64>,
    /// Connects that were refused: the server was gone by then.
    pub refused: u64,
    /// Whatever the protocol does not allow, in words.
    pub violations: Vec<String>,
    /// All of them.
    pub violation_count: u64,
    /// From the first word of the drain to the last close. Milliseconds.
    pub drain_ms: u64,
}

impl Account {
    /// Adds what one connection has come to.
    pub fn add(&mut self, kind: &str, tally: &Tally, errors: &BTreeMap<u16, u64>, violations: &[String]) {
        self.total.add(tally);
        self.by_kind.entry(kind.to_owned()).or_default().add(tally);
        for (code, count) in errors {
            *self.errors.entry(*code).or_default() += count;
        }
        for violation in violations {
            self.violate(format!("{kind}: {violation}"));
        }
    }

    /// Adds something that must not be.
    pub fn violate(&mut self, what: String) {
        self.violation_count += 1;
        if self.violations.len() < NAMED_VIOLATIONS {
            self.violations.push(what);
        }
    }

    /// Requests lost and connections reset among those that could be served.
    pub fn lost_and_reset(&self) -> (u64, u64) {
        let deaf = self.deaf();
        (self.total.lost - deaf.lost, self.total.resets - deaf.resets)
    }

    fn deaf(&self) -> Tally {
        self.by_kind.get(Kind::Deaf.name()).cloned().unwrap_or_default()
    }

    /// What speaks against a drain, by this account and by the `shutdown` line of the audit log.
    pub fn judge(&self, shutdown: &Value) -> Vec<String> {
        let ledger = |name: &str| shutdown.get(name).and_then(Value::as_u64).unwrap_or(u64::MAX);
        let mut against = self.violations.clone();
        let mut check = |right: bool, what: String| {
            if !right {
                against.push(what);
            }
        };
        let total = &self.total;
        // Who never reads is cut, and says nothing about the others; but that it was cut must be told.
        let deaf = self.deaf();
        let cut = ledger("connections_cut");
        let (lost, resets) = self.lost_and_reset();
        check(lost == 0, format!("{lost} requests were lost"));
        check(deaf.connections == cut, format!("{} connections never read, {cut} were cut", deaf.connections));
        check(resets == 0, format!("{resets} connections were reset and not cut"));
        check(self.violation_count == self.violations.len() as u64, format!("{} violations", self.violation_count));
        check(
            total.sent == total.answered + total.safe_to_retry + total.lost,
            "the clients' account does not add up".into(),
        );
        check(balanced(shutdown), format!("the ledger does not balance: {shutdown}"));
        let accepted = ledger("accepted");
        check(
            accepted >= total.answered,
            format!("{accepted} accepted, but the clients have {} answers", total.answered),
        );
        // Clients read to the end, so that what they have is exactly what was answered.
        let gone = ledger("answered").wrapping_add(ledger("failed")).wrapping_sub(ledger("undelivered"));
        let (least, most) = (total.answered, total.answered + total.auth_drained);
        check(
            (least..=most).contains(&gone) || (deaf.connections > 0 && gone >= least),
            format!("{gone} answers went out, {least} came (AUTH drained: {})", total.auth_drained),
        );
        check(
            ledger("connections") == total.connections,
            format!("{} connections served, {} made", ledger("connections"), total.connections),
        );
        let code = ledger("exit_code");
        check(
            (code == 3) == (ledger("cut") > 0 || cut > 0),
            format!("exit code {code}, but {} requests and {cut} connections cut", ledger("cut")),
        );
        against
    }
}

/// The ledger's law.
pub fn balanced(shutdown: &Value) -> bool {
    let field = |name: &str| shutdown.get(name).and_then(Value::as_u64);
    let sum = || {
        let parts = [field("answered")?, field("failed")?, field("pending")?, field("cut")?];
        Some(field("accepted")? == parts.iter().sum::<u64>())
    };
    sum().unwrap_or(false)
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.connections += other.connections;
        self.sent += other.sent;
        self.answered += other.answered;
        self.safe_to_retry += other.safe_to_retry;
        self.lost += other.lost;
        self.resets += other.resets;
        self.auth_drained += other.auth_drained;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ledger() -> Value {
        json!({"accepted": 12, "answered": 9, "failed": 1, "pending": 0, "cut": 0, "undelivered": 0,
               "connections": 3, "connections_cut": 0, "exit_code": 0})
    }

    fn account() -> Account {
        let mut account = Account::default();
        let tally = Tally { connections: 3, sent: 14, answered: 10, safe_to_retry: 4, ..Tally::default() };
        account.add("fast", &tally, &BTreeMap::new(), &[]);
        account
    }

    #[test]
    fn a_ledger_that_does_not_balance_is_told() {
        assert_eq!(account().judge(&ledger()).len(), 1, "12 accepted are not 9 + 1");
        let mut right = ledger();
        right["accepted"] = json!(10);
        assert_eq!(account().judge(&right), Vec::<String>::new());
    }

    #[test]
    fn every_way_to_lose_something_is_told() {
        let mut right = ledger();
        right["accepted"] = json!(10);
        let spoil: [fn(&mut Account); 6] = [
            |a| (a.total.lost, a.total.safe_to_retry) = (1, 3),
            |a| a.total.resets = 1,
            |a| a.total.answered = 9,
            |a| a.total.connections = 4,
            |a| a.violate("a reply nobody asked for".into()),
            |a| (a.total.answered, a.total.sent) = (11, 15),
        ];
        for spoil in spoil {
            let mut account = account();
            spoil(&mut account);
            assert_ne!(account.judge(&right), Vec::<String>::new(), "{account:?}");
        }
    }
}
