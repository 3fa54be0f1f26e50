//! From one configuration to the next while the server runs: SIGHUP, or a secret's file that has changed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::audit::AuditLog;
use super::plan::Drain;
use super::watch::Watch;
use crate::auth::Authenticator;
use crate::config::{Change, Config, Reload};
use crate::reactor::{Live, LiveCell};

/// Gives the configuration as it is wanted now; the error says what is wrong with it, in lines.
pub(super) type Source = Box<dyn Fn() -> Result<Config, Vec<String>> + Send>;

/// Is told of every configuration that takes effect.
pub(super) type Hook = Box<dyn Fn(&Config) + Send>;

/// The supervisor's part that changes what is in effect.
pub(super) struct Reloader {
    live: Arc<LiveCell>,
    drain: Arc<Drain>,
    source: Option<Source>,
    hooks: Vec<Hook>,
    #[cfg(feature = "admin")]
    admin_token: Option<Arc<crate::admin::AdminToken>>,
    watch: Watch,
    looked: Instant,
}

/// A reload's own fields in the audit log.
#[derive(Debug, Serialize)]
struct Told {
    changed: Vec<Change>,
    /// What takes a restart.
    waiting: Vec<Change>,
    /// Files of secrets that are not as they were.
    files: Vec<PathBuf>,
    /// Nothing has changed, because of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

impl Reloader {
    /// Looks at the files once, so that only what changes from here on is a change.
    pub fn new(live: Arc<LiveCell>, drain: Arc<Drain>, source: Option<Source>, hooks: Vec<Hook>) -> Reloader {
        let mut watch = Watch::default();
        watch.look(&live.get().config.secret_files());
        Reloader {
            live,
            drain,
            source,
            hooks,
            #[cfg(feature = "admin")]
            admin_token: None,
            watch,
            looked: Instant::now(),
        }
    }

    /// The admin port's token is one of the things that are reloaded.
    #[cfg(feature = "admin")]
    pub fn with_admin_token(self, token: Arc<crate::admin::AdminToken>) -> Reloader {
        Reloader { admin_token: Some(token), ..self }
    }

    /// When files are to be looked at again.
    pub fn next_look(&self) -> Option<Instant> {
        let config = self.live.get().config;
        let watched = !config.watch.is_zero() && !config.secret_files().is_empty();
        watched.then(|| self.looked + config.watch)
    }

    /// Looks at the files of secrets if it is time to, and takes them over if they have changed.
    pub fn look(&mut self, audit: &AuditLog) {
        if self.next_look().is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.looked = Instant::now();
        let config = self.live.get().config;
        let files = self.watch.look(&config.secret_files());
        if !files.is_empty() {
            let reload = Reload { config: (*config).clone(), applied: Vec::new(), waiting: Vec::new() };
            self.finish("file", reload, files, audit);
        }
    }

    /// Reads everything again. What is wrong is told, and then nothing has changed.
    pub fn reload(&mut self, reason: &str, audit: &AuditLog) {
        let config = self.live.get().config;
        let wanted = match self.source.as_ref().map(|source| source()) {
            None => (*config).clone(),
            Some(Ok(wanted)) => wanted,
            Some(Err(errors)) => return tell(audit, reason, Told::refused(errors)),
        };
        let reload = config.reload(&wanted);
        let files = self.watch.look(&reload.config.secret_files());
        self.looked = Instant::now();
        self.finish(reason, reload, files, audit);
    }

    fn finish(&mut self, reason: &str, reload: Reload, files: Vec<PathBuf>, audit: &AuditLog) {
        let auth = match Authenticator::new(&reload.config) {
            Ok(auth) => auth,
            Err(error) => return tell(audit, reason, Told { files, ..Told::refused(vec![error.to_string()]) }),
        };
        // The last one that may be refused, because it takes effect at once.
        #[cfg(feature = "admin")]
        if let Some(Err(error)) = self.admin_token.as_ref().map(|token| token.reload(&reload.config.admin_auth)) {
            return tell(audit, reason, Told { files, ..Told::refused(vec![error.to_string()]) });
        }
        let Reload { config, applied: changed, waiting } = reload;
        let config = Arc::new(config);
        self.drain.adopt(&config);
        self.live.put(Live { config: Arc::clone(&config), auth: Arc::new(auth) });
        self.drain.wake_workers();
        self.hooks.iter().for_each(|hook| hook(&config));
        tell(audit, reason, Told { changed, waiting, files, errors: Vec::new() });
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl Told {
    fn refused(errors: Vec<String>) -> Told {
        Told { changed: Vec::new(), waiting: Vec::new(), files: Vec::new(), errors }
    }
}

/// To the log and to the audit log.
fn tell(audit: &AuditLog, reason: &str, told: Told) {
    for error in &told.errors {
        log::error!(reason = reason; "reload ({reason}): {error}; everything stays as it was");
    }
    for Change { setting, from, to } in &told.changed {
        log::info!(reason = reason, setting = setting.as_str(); "reload ({reason}): {setting} is {to:?} now, it was {from:?}");
    }
    for Change { setting, from, to } in &told.waiting {
        log::warn!(reason = reason, setting = setting.as_str(); "reload ({reason}): {setting}={to:?} waits for a restart, {from:?} stays in effect");
    }
    if told.errors.is_empty() {
        for path in &told.files {
            log::info!(reason = reason, file:% = path.display(); "reload ({reason}): {} is read anew", path.display());
        }
        let (changed, waiting) = (told.changed.len(), told.waiting.len());
        log::info!(reason = reason; "reload ({reason}) done: {changed} settings changed, {waiting} wait for a restart");
    }
    let event_type = if told.errors.is_empty() { "reload" } else { "reload_refused" };
    if let Err(error) = audit.record(event_type, reason, &told) {
        log::error!("{error}");
    }
}
