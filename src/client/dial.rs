//! Where to connect next. PURE.

use std::collections::VecDeque;
use std::time::Instant;

use crate::client::backoff::Backoff;
use crate::client::manager::LinkId;

/// How far the next connection is. There is at most one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// None is wanted.
    Idle,
    /// One is to be made, at this instant.
    At(Instant),
    /// The transport is being connected.
    Connecting { give_up: Instant },
    /// AUTH is sent, READY is not here.
    Authenticating { link: LinkId, give_up: Instant },
}

/// Addresses in the order in which they are to be tried.
#[derive(Debug)]
pub struct Targets {
    configured: Vec<String>,
    order: VecDeque<String>,
}

impl Targets {
    /// Begins at a random address, so that clients with one configuration spread.
    pub fn new(configured: Vec<String>, random: &mut Backoff) -> Targets {
        let mut order: VecDeque<String> = configured.iter().cloned().collect();
        order.rotate_left(random.pick(configured.len()));
        Targets { configured, order }
    }

    /// The address to try now.
    pub fn current(&self) -> String {
        self.order.front().cloned().unwrap_or_default()
    }

    /// It did not answer: the next one is tried, and so on in a circle.
    pub fn handle_failure(&mut self) {
        self.order.rotate_left(1.min(self.order.len()));
    }

    /// It answered: it stays first, the session lives there. The rest are the configured ones.
    pub fn handle_success(&mut self) {
        let current = self.current();
        self.order.retain(|address| *address == current || self.configured.contains(address));
        for address in &self.configured {
            if !self.order.contains(address) {
                self.order.push_back(address.clone());
            }
        }
    }

    /// The server wishes its clients to be here: these come first, one at random before the others.
    pub fn prefer(&mut self, mut listed: Vec<String>, random: &mut Backoff) {
        if listed.is_empty() {
            return;
        }
        let first = random.pick(listed.len());
        listed.rotate_left(first);
        self.order.retain(|address| !listed.contains(address));
        listed.into_iter().rev().for_each(|address| self.order.push_front(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn random() -> Backoff {
        Backoff::new(Duration::ZERO, Duration::ZERO, fastrand::Rng::with_seed(1))
    }

    fn targets(configured: &[&str]) -> Targets {
        Targets::new(configured.iter().map(ToString::to_string).collect(), &mut random())
    }

    #[test]
    fn failures_lead_through_every_address_in_a_circle() {
        let mut targets = targets(&["a", "b", "c"]);
        let mut tried: Vec<String> = Vec::new();
        for _ in 0..6 {
            tried.push(targets.current());
            targets.handle_failure();
        }
        assert_eq!(tried[..3], tried[3..]);
        tried.truncate(3);
        tried.sort();
        assert_eq!(tried, ["a", "b", "c"]);
    }

    #[test]
    fn listed_addresses_come_first_then_the_configured_ones() {
        let mut targets = targets(&["a"]);
        targets.prefer(vec!["x".to_owned(), "y".to_owned()], &mut random());
        let mut tried = Vec::new();
        for _ in 0..3 {
            tried.push(targets.current());
            targets.handle_failure();
        }
        assert_eq!(tried[2], "a");
        tried.sort();
        assert_eq!(tried, ["a", "x", "y"]);
    }

    #[test]
    fn the_address_that_answered_stays_first_and_other_listed_ones_are_forgotten() {
        let mut targets = targets(&["a"]);
        targets.prefer(vec!["x".to_owned()], &mut random());
        targets.handle_success();
        assert_eq!(targets.current(), "x");
        targets.handle_failure();
        targets.handle_success();
        assert_eq!(targets.current(), "a");
        targets.handle_failure();
        assert_eq!(targets.current(), "a", "x is neither configured nor where we are");
    }

    #[test]
    fn an_empty_list_changes_nothing() {
        let mut targets = targets(&["a"]);
        targets.prefer(Vec::new(), &mut random());
        assert_eq!(targets.current(), "a");
    }
}
