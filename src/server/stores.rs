//! The session store: opened before anything is served, told the rest and closed at the end.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StartError;
use super::drain::Drained;
use crate::config::{Config, SessionStoreSpec};
use crate::limits::STORE_GRACE_MS;
use crate::reactor::Mailbox;
use crate::session::store::runner::{Courier, StoreOptions, Stores, Wake};
use crate::session::store::{MakeStore, SessionStore, elsewhere, embedded};
use crate::stats::StoreView;

/// A store that can be used, and nothing runs yet.
pub(super) struct OpenedStore {
    options: StoreOptions,
    make: MakeStore,
    /// Opened already, where that shows whether it can be had at all.
    first: Option<Box<dyn SessionStore>>,
}

/// Opens the store of the settings, or an embedder's own. `None`: sessions live in memory alone.
pub(super) fn open(config: &Config, own: Option<MakeStore>) -> Result<Option<OpenedStore>, StartError> {
    if let Some(make) = own {
        return Ok(Some(OpenedStore { options: StoreOptions::of(config, "own"), make, first: None }));
    }
    match (&config.session_store, &config.data_dir) {
        (SessionStoreSpec::Memory, _) | (SessionStoreSpec::Auto, None) => Ok(None),
        (SessionStoreSpec::Auto | SessionStoreSpec::Embedded, Some(dir)) => in_directory(config, dir).map(Some),
        (SessionStoreSpec::Embedded, None) => {
            Err(StartError::Config("TIDEGATE_SESSION_STORE=embedded: set TIDEGATE_DATA_DIR, too".to_owned()))
        }
        // Such a store may be down now: nobody is asked yet.
        (SessionStoreSpec::Redis(_) | SessionStoreSpec::MySql(_), _) => {
            let elsewhere = elsewhere(config).map_err(StartError::Config)?;
            let opened = |(kind, make)| OpenedStore { options: StoreOptions::of(config, kind), make, first: None };
            Ok(elsewhere.map(opened))
        }
    }
}

fn in_directory(config: &Config, dir: &Path) -> Result<OpenedStore, StartError> {
    let began = Instant::now();
    let make = embedded::maker(dir, config.session_ttl);
    let first = make().map_err(|down| StartError::System(down.to_string()))?;
    let took = began.elapsed().as_millis() as u64;
    log::info!(took_ms = took; "the session store in {} is sound: looked through in {took} ms", dir.display());
    Ok(OpenedStore { options: StoreOptions::of(config, "embedded"), make, first: Some(first) })
}

/// The store, once its threads run.
#[derive(Clone, Default)]
pub(super) struct SessionStores(Option<Stores>);

impl SessionStores {
    /// Starts the threads. One courier for each worker, or none.
    pub fn start(
        opened: Option<OpenedStore>,
        mailboxes: &[Arc<Mailbox>],
    ) -> Result<(SessionStores, Vec<Courier>), StartError> {
        let Some(OpenedStore { options, make, first }) = opened else {
            return Ok((SessionStores::default(), Vec::new()));
        };
        let wake: Arc<dyn Wake> = Arc::new(Wakes(mailboxes.to_vec()));
        let (stores, couriers) = Stores::start(options, &make, first, mailboxes.len(), &wake)
            .map_err(|error| StartError::System(format!("start the session store's threads: {error}")))?;
        Ok((SessionStores(Some(stores)), couriers))
    }

    /// How it stands.
    pub fn view(&self) -> Option<StoreView> {
        self.0.as_ref().map(Stores::view)
    }

    /// The end: the store is told what it does not know, until then, and closed.
    pub fn persist(self, drained: &mut [Option<Drained>], drained_from: Instant, until: Instant) {
        let Some(stores) = self.0 else { return };
        // What connections' ends have left to be told takes a moment, also where they were cut at the last one.
        let until = until.max(Instant::now() + Duration::from_millis(STORE_GRACE_MS));
        let mut unsaved = 0;
        for mut leftover in drained.iter_mut().flatten().filter_map(|drained| drained.sessions.take()) {
            unsaved += leftover.persist(drained_from, until);
        }
        if unsaved > 0 {
            log::error!(
                sessions = unsaved;
                "{unsaved} sessions end with this process: the session store did not take them in time; their clients \
                 get new ones"
            );
        }
        if !stores.close(until) {
            log::error!(
                "the session store does not answer: its threads are left behind; what was acknowledged is in it"
            );
        }
    }
}

struct Wakes(Vec<Arc<Mailbox>>);

impl Wake for Wakes {
    fn wake(&self, worker: u16) {
        if let Some(mailbox) = self.0.get(usize::from(worker)) {
            mailbox.wake();
        }
    }
}

impl fmt::Debug for SessionStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionStores").field(&self.0.is_some()).finish()
    }
}
