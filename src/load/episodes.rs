//! What happens in the middle of a run, as one event for all the connections that it happens to. PURE.

use serde::{Deserialize, Serialize};

use super::report::Event;

/// What happens within one of these is counted together. Nanoseconds.
const STEP: u64 = 50_000_000;
/// The same thing within this much time is one event: notices are spread out.
const NEAR: u64 = 200_000_000;
/// And within this much, if nothing undid it in between: connections come back one after the other.
const GAP: u64 = 2_000_000_000;
/// Steps that are kept.
const MAX: usize = 10_000;

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

/// Something that happened to so many connections, within a step of time or as one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Episode {
    kind: Kind,
    /// Since the run began, ns.
    first: u64,
    last: u64,
    connections: u64,
}

/// All that happened, in steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episodes(Vec<Episode>);

impl Episodes {
    /// It happens to one connection, `now`: not before what was noted last.
    pub fn note(&mut self, kind: Kind, now: u64) {
        let recent = self.0.iter().rev().take_while(|step| now / STEP == step.first / STEP);
        let back = recent.enumerate().find(|(_, step)| step.kind == kind).map(|(back, _)| back);
        if let Some(step) = back.and_then(|back| self.0.iter_mut().nth_back(back)) {
            (step.last, step.connections) = (now, step.connections + 1);
        } else if self.0.len() < MAX {
            self.0.push(Episode { kind, first: now, last: now, connections: 1 });
        }
    }

    /// Adds those of another generator.
    pub fn add(&mut self, other: &Episodes) {
        self.0.extend_from_slice(&other.0);
    }

    /// For the report.
    pub fn events(mut self) -> Vec<Event> {
        self.0.sort_by_key(|step| step.first);
        let of = |kind| self.0.iter().filter(move |step| step.kind == kind).copied().collect::<Vec<_>>();
        let returns = of(Kind::Back);
        // What takes connections away is over when some have come back, unless they overlap.
        let took = |kind| join(&of(kind), |from, to| to - from > NEAR && any_within(&returns, from, to));
        let (notices, lost) = (took(Kind::Notice), took(Kind::Lost));
        let back = join(&returns, |from, to| any_within(&notices, from, to) || any_within(&lost, from, to));
        let mut all = [notices, took(Kind::Final), lost, back].concat();
        all.sort_by_key(|episode| (episode.first, episode.kind as u8));
        all.iter().map(Episode::event).collect()
    }
}

/// Joins steps that follow each other, but where `ends` says that in this time another one has begun.
fn join(steps: &[Episode], ends: impl Fn(u64, u64) -> bool) -> Vec<Episode> {
    let mut joined: Vec<Episode> = Vec::new();
    for step in steps {
        match joined.last_mut() {
            Some(before)
                if step.first <= before.last.saturating_add(GAP) && !ends(before.last, step.first.max(before.last)) =>
            {
                before.last = before.last.max(step.last);
                before.connections += step.connections;
            }
            _ => joined.push(*step),
        }
    }
    joined
}

/// Whether one of them begins between these instants.
fn any_within(episodes: &[Episode], from: u64, to: u64) -> bool {
    episodes.iter().any(|episode| episode.first > from && episode.first < to)
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
