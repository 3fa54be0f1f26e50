//! What the journal has promised, and whether it keeps it.

use std::collections::BTreeMap;

use tidegate::journal::{LogOptions, LogRoute, Message, Progress, Staged};

use super::entry::{Elsewhere, Entry, Made, Standing};

pub struct Model {
    options: LogOptions,
    pub entries: BTreeMap<u64, Entry>,
    /// The id above which what waits was staged, and the highest that this process gave.
    from: u64,
    given: u64,
    /// The highest that was ever stored.
    pub highest: u64,
    /// Routes whose progress goes with the next commit.
    staged_progress: Vec<bool>,
    pub tally: Tally,
}

/// For the summary: what a life came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub stored: u64,
    pub duplicates: u64,
    pub deleted: u64,
    /// Unacknowledged messages that were found after all, and those that were not.
    pub found: u64,
    pub lost: u64,
    pub refused: u64,
}

impl Model {
    pub fn new(options: LogOptions) -> Model {
        let (entries, tally, staged_progress) = (BTreeMap::new(), Tally::default(), vec![false; options.routes.len()]);
        Model { options, entries, from: 0, given: 0, highest: 0, staged_progress, tally }
    }

    pub fn route(&self, topic: &str) -> usize {
        let routes = &self.options.routes;
        routes.iter().position(|route| route.pattern.matches(topic)).unwrap_or(routes.len())
    }

    fn window_ms(&self) -> u64 {
        self.options.dedup_window.as_millis() as u64
    }

    /// A message was staged: it has a new id, or the first one of its key.
    pub fn staged(&mut self, made: Made, staged: Staged, latest: u64) {
        let Staged { id, route, duplicate } = staged;
        assert_eq!(route, self.route(made.topic), "the first pattern that matches decides");
        if duplicate {
            self.duplicate(&made, id);
            return;
        }
        let floor = self.given.max(self.highest);
        assert!(id > floor, "{id} was given, and {floor} before");
        self.given = id;
        if let Some((first, entry)) = self.remembered(&made, latest) {
            panic!("stored twice for its key: {id} {made:?}, and before {first} {entry:?}");
        }
        // A message that never was may have had the id before.
        let entry = Entry {
            made,
            route,
            standing: Standing::Waiting,
            deleted: false,
            reported: false,
            durable: false,
            once_done: false,
            elsewhere: None,
        };
        self.entries.insert(id, entry);
    }

    fn duplicate(&mut self, made: &Made, id: u64) {
        let Some(first) = self.entries.get(&id) else { panic!("a duplicate of {id}, which never was") };
        let there = matches!(first.standing, Standing::Stored | Standing::Waiting);
        assert!(there && first.made.same_key(made), "{made:?} is no duplicate of {id}: {first:?}");
        // Where the clock went back, a key is remembered for as long as an older message's that has a later time.
        let since = self.entries.range(..=id).map(|(_, entry)| entry.made.time_ms).max().unwrap_or(0);
        let age = made.time_ms.saturating_sub(since);
        assert!(age <= self.window_ms(), "the key of {id} is forgotten at {}: {first:?}", made.time_ms);
        self.tally.duplicates += 1;
    }

    /// The message that this one has to be a duplicate of.
    fn remembered(&self, made: &Made, latest: u64) -> Option<(u64, &Entry)> {
        made.key?;
        let mut newer = 0;
        for (id, entry) in self.entries.iter().rev() {
            let young = latest.saturating_sub(entry.made.time_ms) < self.window_ms();
            let there = entry.standing != Standing::Gone;
            if there && young && entry.made.same_key(made) && newer < self.options.dedup_max {
                return Some((*id, entry));
            }
            // One that was refused may have taken an older one's place.
            newer += usize::from(entry.made.key.is_some());
        }
        None
    }

    fn settle_waiting(&mut self, standing: Standing) -> u64 {
        let mut n = 0;
        for (_, entry) in self.entries.range_mut(self.from + 1..) {
            if entry.standing == Standing::Waiting {
                entry.standing = standing;
                n += 1;
            }
        }
        self.from = self.given;
        n
    }

    /// The commit returned well. Progress went with it if there was room.
    pub fn committed(&mut self, full: bool) {
        let n = self.settle_waiting(Standing::Stored);
        if n > 0 {
            self.highest = self.given;
        }
        self.tally.stored += n;
        // What was stored went to a segment that begins with the routes of today. Progress alone may have found room.
        if n > 0 {
            self.settled_routes(false);
        } else {
            self.perhaps_settled_routes();
        }
        if full {
            return;
        }
        for entry in self.entries.values_mut() {
            entry.durable |= entry.reported && self.staged_progress.get(entry.route).is_some_and(|staged| *staged);
        }
        self.staged_progress.fill(false);
    }

    /// The commit was refused for want of room: nothing of it is stored.
    pub fn refused(&mut self) {
        self.tally.refused += self.settle_waiting(Standing::Gone);
        self.staged_progress.fill(false);
    }

    /// Nobody knows how the commit ended.
    pub fn doubted(&mut self) {
        self.settle_waiting(Standing::Doubtful);
    }

    /// Messages of a route that are stored and still to be delivered.
    pub fn waits(&self, route: usize) -> Vec<u64> {
        let waits = |(_, e): &(&u64, &Entry)| {
            e.route == route && e.standing == Standing::Stored && !e.reported && !e.deleted && !self.keeps(route)
        };
        self.entries.iter().filter(waits).map(|(id, _)| *id).collect()
    }

    pub fn unfinished(&self, route: usize) -> u64 {
        self.waits(route).len() as u64
    }

    pub fn keeps(&self, route: usize) -> bool {
        self.options.routes.get(route).is_none_or(|route| route.keeps)
    }

    /// A route's runner has done more, up to an id and some beyond: its progress from now on.
    pub fn report(&mut self, route: usize, before: u64, mut done: impl FnMut(u64) -> bool) -> Progress {
        let mut progress = Progress { upto: before, beyond: Vec::new() };
        let mut waits = false;
        for (id, entry) in self.entries.iter_mut().filter(|(_, e)| e.route == route && e.standing == Standing::Stored) {
            entry.reported |= done(*id);
            entry.once_done |= entry.reported;
            match (entry.reported || entry.deleted, waits) {
                (true, false) => progress.upto = before.max(*id),
                (true, true) => progress.beyond.push(*id),
                (false, _) => waits = true,
            }
        }
        self.staged_progress[route] = true;
        progress
    }

    /// Whether it may be deleted.
    fn is_due(&self, entry: &Entry, now: u64, by_size: bool) -> bool {
        // By its route of today, or by the one that it had when it was deleted.
        let kept = self.keeps(entry.route) || matches!(entry.elsewhere, Some(Elsewhere::Free | Elsewhere::Either));
        let old = now.saturating_sub(entry.made.time_ms) >= self.options.retain.as_millis() as u64;
        entry.reported || (kept && (by_size || old))
    }

    /// The log begins with this id now; 0: it is empty. `by_size`: it was too big.
    pub fn begins_with(&mut self, first: u64, now: u64, by_size: bool) {
        let end = if first == 0 { self.highest + 1 } else { first };
        let gone = |e: &Entry| e.standing == Standing::Stored && !e.deleted;
        let ids: Vec<u64> = self.entries.range(..end).filter(|(_, e)| gone(e)).map(|(id, _)| *id).collect();
        for id in ids {
            self.delete(id, now, by_size);
        }
    }

    fn delete(&mut self, id: u64, now: u64, by_size: bool) {
        let entry = &self.entries[&id];
        let known = self.entries.keys().next_back().copied().unwrap_or(0);
        assert!(self.is_due(entry, now, by_size), "{id} of {known} was acknowledged and is lost at {now}: {entry:?}");
        self.tally.deleted += 1;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.deleted = true;
        }
    }

    /// Whether nobody would miss it.
    pub fn may_be_deleted(&self, id: u64, now: u64) -> bool {
        self.entries.get(&id).is_some_and(|entry| self.is_due(entry, now, true))
    }

    /// These are as they were staged, in order, each once.
    pub fn holds_all(&self, found: &[Message]) {
        let mut last = 0;
        for message in found {
            assert!(message.id > last, "{} comes after {last}", message.id);
            last = message.id;
            let known = self.entries.get(&message.id).filter(|entry| entry.standing != Standing::Gone);
            assert!(known.is_some_and(|entry| entry.made.is(message)), "{} is not what it was: {known:?}", message.id);
        }
    }

    /// An open has found these.
    pub fn opened(&mut self, found: &[Message], now: u64, by_size: bool) {
        assert_eq!(self.settle_waiting(Standing::Doubtful), 0, "a process that ends has nothing that waits");
        for message in found {
            let Some(entry) = self.entries.get_mut(&message.id) else { continue };
            // A deleted segment's name may come back.
            entry.deleted = false;
            if entry.standing == Standing::Doubtful {
                entry.standing = Standing::Stored;
                self.highest = self.highest.max(message.id);
                self.tally.found += 1;
            }
        }
        let mut lost = None;
        for (id, entry) in &mut self.entries {
            match entry.standing {
                Standing::Doubtful => {
                    entry.standing = Standing::Gone;
                    self.tally.lost += 1;
                    lost = Some(*id);
                }
                Standing::Stored => {
                    assert!(lost.is_none_or(|lost| lost > *id), "{id} is there, and {lost:?} before is not")
                }
                _ => {}
            }
        }
        // An id that nobody was told of may be given again.
        (self.from, self.given) = (self.highest, self.highest);
        self.check(found, now, by_size);
    }

    /// The log holds these, and nothing else.
    pub fn check(&mut self, found: &[Message], now: u64, by_size: bool) {
        let mut last = 0;
        for message in found {
            assert!(message.id > last, "{} comes after {last}", message.id);
            last = message.id;
            self.holds(message);
        }
        for id in self.missing(found) {
            self.delete(id, now, by_size);
        }
    }

    /// Acknowledged messages that are not among these.
    pub fn missing(&self, found: &[Message]) -> Vec<u64> {
        let there = |id: u64| found.binary_search_by_key(&id, |message| message.id).is_ok();
        let missing = |id: u64, e: &Entry| e.standing == Standing::Stored && !e.deleted && !there(id);
        self.entries.iter().filter(|(id, e)| missing(**id, e)).map(|(id, _)| *id).collect()
    }

    /// The next process has other routes.
    pub fn reroute(&mut self, routes: Vec<LogRoute>) {
        let was_due = |model: &Model, entry: &Entry| !model.keeps(entry.route) && !entry.reported;
        let due: Vec<bool> = self.entries.values().map(|entry| was_due(self, entry)).collect();
        self.staged_progress = vec![false; routes.len()];
        self.options.routes = routes;
        let routes: Vec<usize> = self.entries.values().map(|entry| self.route(entry.made.topic)).collect();
        for ((entry, route), due) in self.entries.values_mut().zip(routes).zip(due) {
            // While the last change is not written down, the one before it counts.
            let was = if due { Elsewhere::Due } else { Elsewhere::Free };
            entry.elsewhere = entry.elsewhere.or(Some(was));
            entry.route = route;
        }
    }

    /// What an open says of a route's progress.
    pub fn recovered(&mut self, route: usize, progress: &Progress) {
        self.staged_progress[route] = false;
        for (id, entry) in self.entries.iter_mut().filter(|(_, e)| e.route == route && e.standing == Standing::Stored) {
            let done = progress.has(*id);
            let may_wait = !entry.durable || entry.deleted || entry.elsewhere.is_some();
            let owed = matches!(entry.elsewhere, None | Some(Elsewhere::Due));
            let may_be_done = entry.once_done || entry.deleted || !owed;
            assert!(done || may_wait, "{id} was done, and is not: {progress:?}, {entry:?}");
            assert!(!done || may_be_done, "{id} was not done, and is: {progress:?}, {entry:?}");
            (entry.durable, entry.reported) = (done, done);
            entry.once_done |= done;
        }
    }

    /// A clean end with little room may have written down the routes.
    pub fn perhaps_settled_routes(&mut self) {
        let unsettled = self.entries.values_mut().filter(|entry| entry.elsewhere.is_some());
        unsettled.for_each(|entry| entry.elsewhere = Some(Elsewhere::Either));
    }

    /// The routes of this process are those of the log, unless it had no room to write them down.
    pub fn settled_routes(&mut self, full: bool) {
        if !full {
            self.entries.values_mut().for_each(|entry| entry.elsewhere = None);
        }
    }

    /// What goes with the next commit.
    pub fn waiting(&self) -> Vec<u64> {
        let waits = |(_, e): &(&u64, &Entry)| e.standing == Standing::Waiting;
        self.entries.range(self.from + 1..).filter(waits).map(|(id, _)| *id).collect()
    }

    /// This message is as it was staged.
    pub fn holds(&self, message: &Message) {
        let Some(entry) = self.entries.get(&message.id) else { panic!("{} never was: {message:?}", message.id) };
        assert!(entry.standing == Standing::Stored, "{} should not be there: {entry:?}", message.id);
        assert!(entry.made.is(message), "{} was {entry:?} and is {message:?}", message.id);
    }

    /// A reader went from one message to another: nothing that is there was left out.
    pub fn read(&self, after: u64, to: u64) {
        let left_out = |(_, e): &(&u64, &Entry)| e.standing == Standing::Stored && !e.deleted;
        if to > after + 1 {
            let first = self.entries.range(after + 1..to).find(left_out);
            assert!(first.is_none(), "a reader went from {after} to {to} and left out {first:?}");
        }
    }
}
