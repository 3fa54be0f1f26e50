//! The journal, for the threads that deliver.

use std::sync::Arc;
use std::time::Duration;

use super::handle::Journal;
use super::sink::{Feed, Messages};
use super::storage::Storage;
use super::{Draft, Message, Progress, Reader, TopicPattern};

/// A journal and the disk that its messages are read back from.
#[derive(Debug)]
pub struct JournalFeed<S: Storage> {
    journal: Arc<Journal>,
    storage: Arc<S>,
    /// In the order of `TIDEGATE_SINKS`.
    patterns: Arc<[TopicPattern]>,
}

impl<S: Storage> JournalFeed<S> {
    /// The feed of a running journal.
    pub fn new(journal: Arc<Journal>, storage: Arc<S>, patterns: impl Iterator<Item = TopicPattern>) -> Self {
        JournalFeed { journal, storage, patterns: patterns.collect() }
    }
}

impl<S: Storage> Feed for JournalFeed<S> {
    fn wait(&self, _route: usize, after: u64, timeout: Duration) -> u64 {
        self.journal.wait(after, timeout)
    }

    fn stop(&self) {
        self.journal.stop_waiting();
    }

    fn messages(&self, route: usize, after: u64) -> Box<dyn Messages> {
        let reader = Reader::new(Arc::clone(&self.storage), after);
        Box::new(RouteMessages { reader, patterns: Arc::clone(&self.patterns), route })
    }

    fn progress(&self, route: usize) -> Progress {
        self.journal.progress(route)
    }

    fn report(&self, route: usize, progress: Progress) {
        self.journal.report(route, progress);
    }

    fn unfinished(&self, route: usize) -> u64 {
        self.journal.unfinished(route)
    }

    fn append(&self, draft: &Draft<'_>) -> Result<u64, String> {
        self.journal.append(draft)
    }

    fn delivered(&self, route: usize, ids: &[u64]) {
        self.journal.delivered(route, ids);
    }
}

/// One route's messages among all.
struct RouteMessages<S: Storage> {
    reader: Reader<S>,
    patterns: Arc<[TopicPattern]>,
    route: usize,
}

impl<S: Storage> Messages for RouteMessages<S> {
    fn next(&mut self, upto: u64) -> Result<Option<Message>, String> {
        let RouteMessages { reader, patterns, route } = self;
        // The first pattern that matches is a topic's route.
        let ours = |topic: &str| patterns.iter().position(|pattern| pattern.matches(topic)) == Some(*route);
        reader.next_of(upto, ours).map_err(|error| error.to_string())
    }
}
