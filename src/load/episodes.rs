//! What happens in the middle of a run, as one event for all the connections that it happens to. PURE.

use serde::{Deserialize, Serialize};

use super::report::Event;

/// The same thing within this much time is one event, nanoseconds: notices are spread out, and
/// connections come back one after the other.
const NEAR: u64 = 250_000_000;
/// And within this much, if nothing undid it in between.
const GAP: u64 = 2_000_000_000;
/// Episodes that are kept.
const MAX: usize = 1_000;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A GOAWAY of stage 0.
    Notice,
    /// A GOAWAY of stage 1 that was not asked for.
    Final,
    /// A connection ended without an announcement.
    Lost,
    /// A connection became READY again.
    Back,
}

/// One thing that happened, to how many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Episode {
    kind: Kind,
    /// Since the run began, ns.
    first: u64,
    last: u64,
    connections: u64,
}

/// All of them, in order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episodes(Vec<Episode>);

impl Episodes {
    /// It happens to one connection, `now`.
    pub fn note(&mut self, kind: Kind, now: u64) {
        self.insert(Episode { kind, first: now, last: now, connections: 1 });
    }

    /// Adds those of another generator.
    pub fn add(&mut self, other: &Episodes) {
        other.0.iter().for_each(|episode| self.insert(*episode));
    }

    fn insert(&mut self, new: Episode) {
        let found = self.0.iter().rposition(|old| old.kind == new.kind && self.is_one(old, &new));
        if let Some(old) = found.and_then(|index| self.0.get_mut(index)) {
            old.first = old.first.min(new.first);
            old.last = old.last.max(new.last);
            old.connections += new.connections;
        } else if self.0.len() < MAX {
            self.0.push(new);
        }
    }

    fn is_one(&self, one: &Episode, other: &Episode) -> bool {
        let (earlier, later) = if one.first <= other.first { (one, other) } else { (other, one) };
        let between = later.first.saturating_sub(earlier.last);
        let undoes = |third: &&Episode| {
            let is_return = third.kind == Kind::Back;
            is_return != (one.kind == Kind::Back) && third.first > earlier.last && third.first < later.first
        };
        between <= NEAR || (between <= GAP && !self.0.iter().any(|third| undoes(&third)))
    }

    /// For the report.
    pub fn events(mut self) -> Vec<Event> {
        self.0.sort_by_key(|episode| episode.first);
        self.0.iter().map(Episode::event).collect()
    }
}

impl Episode {
    fn event(&self) -> Event {
        let on = match self.connections {
            1 => "1 connection".to_owned(),
            n => format!("{n} connections"),
        };
        let (kind, text) = match self.kind {
            Kind::Notice => ("drain", format!("The server asked {on} to move (GOAWAY).")),
            Kind::Final => ("final", format!("The server ended {on} in good order (final GOAWAY).")),
            Kind::Lost => ("lost connection", format!("{on} ended without a word from the server.")),
            Kind::Back => ("restart", format!("{on} let in again.")),
        };
        Event { at_ms: self.first / 1_000_000, kind: kind.to_owned(), text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn what_happens_to_many_connections_at_about_one_time_is_one_event() {
        let (mut one, mut other) = (Episodes::default(), Episodes::default());
        (0..50).for_each(|i| one.note(Kind::Notice, 10 * S + i));
        one.note(Kind::Back, 12 * S);
        one.note(Kind::Notice, 20 * S);
        other.note(Kind::Notice, 9 * S);
        one.add(&other);
        let events = one.events();
        let told: Vec<(u64, &str)> = events.iter().map(|event| (event.at_ms, event.kind.as_str())).collect();
        assert_eq!(told, [(9_000, "drain"), (12_000, "restart"), (20_000, "drain")]);
        assert!(events[0].text.contains("51 connections") && events[1].text.contains("1 connection let in"));
    }

    #[test]
    fn two_restarts_within_a_short_time_are_two_in_all_generators() {
        let one = |offset: u64| {
            let mut episodes = Episodes::default();
            for at in [10 * S, 11 * S] {
                (0..3).for_each(|i| episodes.note(Kind::Notice, at + offset + i));
                (0..3).for_each(|i| episodes.note(Kind::Final, at + offset + 5 + i));
                // One after the other.
                (1..4).for_each(|i| episodes.note(Kind::Back, at + offset + i * S / 8));
            }
            episodes
        };
        let mut all = one(0);
        all.add(&one(S / 100));
        let events = all.events();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["drain", "final", "restart", "drain", "final", "restart"]);
        assert!(events.iter().all(|event| event.text.contains("6 connections")), "{events:?}");
    }
}
