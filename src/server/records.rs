//! What outlives the process: opened before anything is served, brought to the disk at the end.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{JournalAccount, StartError};
use crate::config::Config;
use crate::journal::sink::{Delivery, Sinks};
use crate::journal::{DIR, Disk, Journal, JournalFeed, LogOptions, OnPoison, Opened, Recovery, Settle};
use crate::limits::WORKER_GRACE_MS;
use crate::stats::{JournalState, JournalView, RouteView};

/// How often the end of a thread is looked for.
const LOOK: Duration = Duration::from_millis(2);

/// A journal that was verified, and nothing runs yet.
pub(super) type OpenedJournal = Opened<Disk>;

/// Verifies the journal in the data directory.
pub(super) fn open(data_dir: &Path, config: &Config) -> Result<OpenedJournal, StartError> {
    let wrong = |text: String| StartError::System(format!("the journal in {}: {text}", data_dir.join(DIR).display()));
    let disk = Disk::create(data_dir).map_err(|error| wrong(format!("{error}; see TIDEGATE_DATA_DIR")))?;
    let opened = Opened::open(Arc::new(disk), LogOptions::of(config)).map_err(wrong)?;
    let (recovery, took) = opened.recovery();
    tell(recovery, took);
    Ok(opened)
}

fn tell(recovery: &Recovery, took: Duration) {
    let Recovery { segments, messages, bytes, cut, unfinished } = recovery;
    let unfinished: u64 = unfinished.iter().sum();
    log::info!(
        messages = messages, bytes = bytes, segments = segments, unfinished = unfinished;
        "the journal is sound: {messages} messages verified in {} ms, {unfinished} are still to be delivered",
        took.as_millis()
    );
    if let Some(cut) = cut {
        log::warn!(
            file = cut.file.as_str(), offset = cut.offset, bytes = cut.bytes;
            "{} bytes from byte {} of {} on were cut off: a write that the last end of the process left unfinished; \
             nothing of it was acknowledged",
            cut.bytes, cut.offset, cut.file
        );
    }
}

/// What has to be brought to the disk in the end.
#[derive(Default)]
pub(super) struct Records {
    journal: Option<(Arc<Journal>, JoinHandle<()>)>,
    delivery: Option<Arc<Delivery>>,
}

/// Where it stands, for whoever watches.
#[derive(Clone, Default)]
pub(super) struct Views {
    journal: Option<Arc<Journal>>,
    delivery: Option<Arc<Delivery>>,
}

impl Records {
    /// Starts the journal's threads.
    pub fn start(
        config: &Config,
        journal: Option<OpenedJournal>,
        sinks: Sinks,
        settle: Vec<Arc<dyn Settle>>,
        on_poison: OnPoison,
    ) -> Result<Records, StartError> {
        let Some(opened) = journal else { return Ok(Records::default()) };
        let system = |what: &'static str| move |error| StartError::System(format!("start {what}: {error}"));
        let storage = Arc::clone(opened.storage());
        let journal = opened.start(config, settle, on_poison).map_err(system("the journal's thread"))?;
        let patterns = config.sinks.iter().map(|route| route.pattern.clone());
        let feed = Arc::new(JournalFeed::new(Arc::clone(&journal.0), storage, patterns));
        let delivery = Delivery::start(config, sinks, feed).map_err(system("the threads that deliver"))?;
        Ok(Records { journal: Some(journal), delivery: Some(Arc::new(delivery)) })
    }

    /// The journal.
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref().map(|(journal, _)| journal)
    }

    /// What may be shared.
    pub fn views(&self) -> Views {
        Views { journal: self.journal().cloned(), delivery: self.delivery.clone() }
    }

    /// The end: sinks are given what they take until then, and the journal is closed.
    pub fn persist(self, until: Instant) -> Option<JournalAccount> {
        let (journal, writer) = self.journal?;
        let left = self.delivery.map(|delivery| delivery.flush(until)).unwrap_or_default();
        let grace = Instant::now() + Duration::from_millis(WORKER_GRACE_MS);
        journal.close();
        let closed = join(writer, until.max(grace));
        if !closed {
            log::error!(
                "the journal's disk does not answer: its thread is left behind; what was acknowledged is on it"
            );
        }
        // By now the journal has taken in how far each route has come.
        let pending = (0..left.unfinished.len()).map(|route| journal.unfinished(route)).sum();
        let view = journal.view();
        let sound = !matches!(view.state, JournalState::Poisoned(_));
        Some(JournalAccount {
            stored: view.stored,
            duplicates: view.duplicates,
            delivered: left.delivered.iter().sum(),
            pending,
            closed: closed && sound,
        })
    }
}

impl Views {
    /// The journal.
    pub fn journal(&self) -> Option<JournalView> {
        self.journal.as_ref().map(|journal| journal.view())
    }

    /// Where its messages go.
    pub fn routes(&self) -> Vec<RouteView> {
        self.delivery.as_ref().map(|delivery| delivery.views()).unwrap_or_default()
    }

    /// Whether what must last can be made to.
    #[cfg(feature = "admin")]
    pub fn ready(&self) -> Result<(), String> {
        match self.journal.as_ref().map(|journal| journal.state()) {
            Some(JournalState::Poisoned(why)) => Err(format!(
                "the journal's disk has failed ({why}): SUBMIT is UNAVAILABLE; restart on a sound disk, see the log"
            )),
            _ => Ok(()),
        }
    }
}

/// Waits for a thread's end; whether it came in time.
fn join(thread: JoinHandle<()>, until: Instant) -> bool {
    while !thread.is_finished() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    thread.join().is_ok()
}
