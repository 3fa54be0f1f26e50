//! What was acknowledged, against what is found in journal and sink.

use std::collections::BTreeMap;
use std::fmt;

/// The most violations that are told one by one.
const TOLD: usize = 20;

/// What one client was promised: it sends its messages one after the other on a topic of its own.
#[derive(Clone, Debug, Default)]
pub struct Promised {
    /// Its topic goes to a sink.
    pub sunk: bool,
    /// Ids of the messages acknowledged; a message's number is its place.
    pub ids: Vec<u64>,
    /// Messages sent at least once: as many, or one more, which may be found or not.
    pub sent: u64,
}

/// One message as it was found, known by client and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub client: u32,
    /// Which of its messages: stands for the idempotency key.
    pub n: u64,
    /// Its id in the journal.
    pub id: u64,
}

/// What came of looking through one place.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Messages that had to be there.
    pub acknowledged: u64,
    /// Of those, not there.
    pub lost: u64,
    /// Ids beyond the first that a key has.
    pub duplicated: u64,
    /// Messages that came behind a later one of their topic.
    pub reordered: u64,
    /// What nobody sent, or is not as it was sent or acknowledged.
    pub strange: u64,
    /// Times that an id was there again: at least once is what a sink is promised.
    pub redelivered: u64,
    /// Messages gone from the journal because they are done, by whole segments.
    pub deleted: u64,
    /// The first violations, in words.
    pub told: Vec<String>,
}

impl Verdict {
    /// Whether every promise was kept.
    pub fn is_good(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.strange == 0
    }

    /// Adds another's counts to these.
    pub fn add(&mut self, other: &Verdict) {
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.strange += other.strange;
        self.redelivered += other.redelivered;
        self.deleted += other.deleted;
        self.told.extend(other.told.iter().take(TOLD.saturating_sub(self.told.len())).cloned());
    }

    /// Something is found that must not be.
    pub fn stranger(&mut self, what: String) {
        self.strange += 1;
        self.tell(what);
    }

    fn tell(&mut self, what: String) {
        if self.told.len() < TOLD {
            self.told.push(what);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "acknowledged={} lost={} duplicated={} reordered={} strange={} redelivered={} deleted={}",
            self.acknowledged, self.lost, self.duplicated, self.reordered, self.strange, self.redelivered, self.deleted
        )
    }
}

/// Judges the journal, read from its first message to its last. What went to a sink and has an id below all
/// that are left may have been deleted; what stays in the journal may not.
pub fn journal(promised: &[Promised], found: &[Found]) -> Verdict {
    let mut verdict = Verdict::default();
    for pair in found.windows(2) {
        if pair[0].id >= pair[1].id {
            verdict.reordered += 1;
            verdict.tell(format!("journal: id {} is followed by {}", pair[0].id, pair[1].id));
        }
    }
    let first = found.iter().map(|found| found.id).min().unwrap_or(u64::MAX);
    let has = gather("journal", promised, found, &mut verdict);
    for (client, promised) in promised.iter().enumerate() {
        check_promises("journal", (client as u32, promised), &has, &mut verdict, |id| promised.sunk && id < first);
    }
    verdict
}

/// Judges a sink, read in the order in which it was given messages.
pub fn sink(promised: &[Promised], found: &[Found]) -> Verdict {
    let mut verdict = Verdict::default();
    let has = gather("sink", promised, found, &mut verdict);
    for (client, promised) in promised.iter().enumerate().filter(|(_, promised)| promised.sunk) {
        check_promises("sink", (client as u32, promised), &has, &mut verdict, |_| false);
    }
    verdict
}

/// By client and number: the ids found, each once, in the order of their appearance.
type Has = BTreeMap<(u32, u64), Vec<u64>>;

fn gather(place: &str, promised: &[Promised], found: &[Found], verdict: &mut Verdict) -> Has {
    let mut has = Has::new();
    let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
    for &Found { client, n, id } in found {
        let sent = promised.get(client as usize).map_or(0, |promised| promised.sent);
        if n >= sent {
            verdict.stranger(format!("{place}: message {n} of client {client} (id {id}) was never sent"));
            continue;
        }
        let ids = has.entry((client, n)).or_default();
        if ids.contains(&id) {
            verdict.redelivered += u64::from(place == "sink");
            if place != "sink" {
                verdict.stranger(format!("{place}: id {id} is there twice"));
            }
            continue;
        }
        ids.push(id);
        if ids.len() > 1 {
            verdict.duplicated += 1;
            verdict.tell(format!("{place}: message {n} of client {client} has the ids {ids:?}"));
            continue;
        }
        let before = newest.entry(client).or_insert(n);
        if n < *before {
            verdict.reordered += 1;
            verdict.tell(format!("{place}: message {n} of client {client} (id {id}) comes behind {before}"));
        }
        *before = n.max(*before);
    }
    has
}

fn check_promises(
    place: &str,
    (client, promised): (u32, &Promised),
    has: &Has,
    verdict: &mut Verdict,
    may_be_gone: impl Fn(u64) -> bool,
) {
    for (n, &id) in (0..).zip(&promised.ids) {
        verdict.acknowledged += 1;
        match has.get(&(client, n)) {
            Some(ids) if ids.contains(&id) => {}
            Some(ids) => verdict
                .stranger(format!("{place}: message {n} of client {client} was acknowledged as {id}, and is {ids:?}")),
            None if may_be_gone(id) => verdict.deleted += 1,
            None => {
                verdict.lost += 1;
                verdict.tell(format!("{place}: message {n} of client {client}, acknowledged as {id}, is not there"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Client 0 goes to the sink, client 1 stays; ids alternate, ten each.
    fn promised() -> Vec<Promised> {
        let ids = |first: u64| (0..10).map(|n| first + 2 * n).collect();
        vec![Promised { sunk: true, ids: ids(1), sent: 11 }, Promised { sunk: false, ids: ids(2), sent: 10 }]
    }

    fn all() -> Vec<Found> {
        (0..20).map(|i| Found { client: (i % 2) as u32, n: i / 2, id: i + 1 }).collect()
    }

    fn sunk() -> Vec<Found> {
        all().into_iter().filter(|found| found.client == 0).collect()
    }

    #[test]
    fn what_is_there_in_order_and_once_is_good() {
        let (journal, sink) = (journal(&promised(), &all()), sink(&promised(), &sunk()));
        assert!(journal.is_good() && sink.is_good(), "{journal} {sink}");
        assert_eq!((journal.acknowledged, sink.acknowledged), (20, 10));
    }

    #[test]
    fn a_message_sent_and_not_acknowledged_may_be_there_and_one_never_sent_may_not() {
        let mut found = all();
        found.push(Found { client: 0, n: 10, id: 21 });
        assert!(journal(&promised(), &found).is_good());
        found.push(Found { client: 1, n: 10, id: 22 });
        assert_eq!(journal(&promised(), &found).strange, 1);
    }

    #[test]
    fn every_single_loss_is_found() {
        for gone in 0..20 {
            let mut found = all();
            let lost = found.remove(gone);
            let verdict = journal(&promised(), &found);
            // The first one went to the sink: it may have been deleted. The next one stays.
            let deleted = u64::from(gone == 0);
            assert_eq!((verdict.lost, verdict.deleted), (1 - deleted, deleted), "{lost:?}: {verdict}");
        }
        for gone in 0..10 {
            let mut found = sunk();
            found.remove(gone);
            assert_eq!(sink(&promised(), &found).lost, 1);
        }
    }

    #[test]
    fn only_what_went_to_the_sink_may_be_deleted_and_only_from_the_front() {
        let only_sunk = vec![promised().remove(0)];
        let verdict = journal(&only_sunk, &sunk()[4..]);
        assert_eq!((verdict.lost, verdict.deleted), (0, 4));
        let verdict = journal(&promised(), &all()[4..]);
        assert_eq!((verdict.lost, verdict.deleted), (2, 2));
        assert_eq!(journal(&only_sunk, &[]).deleted, 10);
    }

    #[test]
    fn a_second_id_for_a_key_is_a_duplicate_and_the_same_id_again_is_not_in_a_sink() {
        let mut found = all();
        found.push(Found { id: 30, ..found[3] });
        let verdict = journal(&promised(), &found);
        assert_eq!((verdict.duplicated, verdict.reordered), (1, 0));
        let mut found = sunk();
        found.extend([found[3], found[4], Found { id: 30, ..found[5] }]);
        let verdict = sink(&promised(), &found);
        assert_eq!((verdict.duplicated, verdict.redelivered, verdict.reordered), (1, 2, 0));
    }

    #[test]
    fn an_order_that_is_not_kept_is_found_by_first_appearance() {
        let mut found = sunk();
        found.swap(3, 4);
        assert_eq!(sink(&promised(), &found).reordered, 1);
        let mut found = all();
        found.swap(3, 4);
        assert_eq!(journal(&promised(), &found).reordered, 1, "ids go up, whatever the topics");
        let (mut found, swapped) = (all(), (all()[2], all()[4]));
        found[2] = Found { id: swapped.0.id, ..swapped.1 };
        found[4] = Found { id: swapped.1.id, ..swapped.0 };
        let verdict = journal(&promised(), &found);
        assert!(verdict.reordered == 1 && verdict.strange == 2, "{verdict}");
    }

    #[test]
    fn verdicts_are_added_up_and_tell_a_bounded_number_of_violations() {
        let mut sum = Verdict::default();
        (0..5).for_each(|_| sum.add(&journal(&promised(), &[])));
        assert_eq!((sum.lost, sum.deleted, sum.told.len()), (50, 50, TOLD));
    }
}
