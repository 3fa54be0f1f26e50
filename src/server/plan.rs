//! One drain's plan, shared by all workers: decided once, by whoever asks first.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::reactor::Mailbox;
use crate::service::CutFlag;

/// The instants of a drain.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What asked for it: `signal:SIGTERM`, `admin`, `embedder`.
    pub reason: String,
    /// When.
    pub begun: Instant,
    /// Until here new connections are taken as before.
    pub announce_until: Instant,
    /// From the first GOAWAY notice to the final one.
    pub notice: Duration,
    /// Here the rest is cut.
    pub cut_at: Instant,
}

impl Plan {
    /// Milliseconds until the rest is cut, as GOAWAY tells it.
    pub fn left_ms(&self, now: Instant) -> u32 {
        self.cut_at.saturating_duration_since(now).as_millis().min(u128::from(u32::MAX)) as u32
    }
}

/// How long a drain may take, and its first phases.
#[derive(Clone, Copy, Debug)]
struct Times {
    announce: Duration,
    notice: Duration,
    timeout: Duration,
}

impl From<&Config> for Times {
    fn from(config: &Config) -> Times {
        Times { announce: config.drain_announce, notice: config.drain_notice, timeout: config.drain_timeout }
    }
}

/// The drain of one server: not begun, or on its plan.
#[derive(Debug)]
pub(crate) struct Drain {
    times: Mutex<Times>,
    plan: OnceLock<Plan>,
    cut: CutFlag,
    /// Whether the end came by a second signal, or by an embedder's word, and not by the plan.
    told_to_cut: AtomicBool,
    /// Workers that have nothing left to do but help the others.
    idle: AtomicUsize,
    mailboxes: Vec<Arc<Mailbox>>,
    began: Box<dyn Notify>,
}

/// Told when a drain begins.
pub(crate) trait Notify: Send + Sync + std::fmt::Debug {
    fn notify(&self);
}

impl Drain {
    pub fn new(config: &Config, cut: CutFlag, mailboxes: Vec<Arc<Mailbox>>, began: Box<dyn Notify>) -> Drain {
        Drain {
            times: Mutex::new(Times::from(config)),
            plan: OnceLock::new(),
            cut,
            told_to_cut: AtomicBool::new(false),
            idle: AtomicUsize::new(0),
            mailboxes,
            began,
        }
    }

    /// Other times, for a drain that has not begun.
    pub fn adopt(&self, config: &Config) {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner) = Times::from(config);
    }

    /// Wakes every worker.
    pub fn wake_workers(&self) {
        self.wake_all();
    }

    /// Begins the drain, if it has not begun. Any thread.
    pub fn begin(&self, reason: &str, skip_announce: bool) {
        let mut first = false;
        let plan = self.plan.get_or_init(|| {
            first = true;
            let begun = Instant::now();
            let times = *self.times.lock().unwrap_or_else(PoisonError::into_inner);
            let announce = if skip_announce { Duration::ZERO } else { times.announce };
            Plan {
                reason: reason.to_owned(),
                begun,
                announce_until: begun + announce,
                notice: times.notice,
                cut_at: begun + times.timeout,
            }
        });
        if first {
            let left = plan.cut_at - plan.begun;
            log::info!(
                reason = plan.reason.as_str();
                "drain begins ({}): what is left after {} ms is cut",
                plan.reason,
                left.as_millis()
            );
            self.began.notify();
            self.wake_all();
        }
    }

    /// Cuts what is left, now. Any thread.
    pub fn cut_now(&self) {
        if !self.cut.is_raised() {
            log::warn!("told to cut: what is left ends now");
        }
        self.told_to_cut.store(true, Ordering::Release);
        self.raise_cut();
    }

    /// Whether [`Drain::cut_now`] was called.
    pub fn was_told_to_cut(&self) -> bool {
        self.told_to_cut.load(Ordering::Acquire)
    }

    /// Tells handlers and workers that the end has come.
    pub fn raise_cut(&self) {
        self.cut.raise();
        self.wake_all();
    }

    /// The plan, once there is one.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.get()
    }

    /// Whether the end has come: a second signal, or the plan's last instant.
    pub fn is_over(&self) -> bool {
        self.cut.is_raised() || self.plan.get().is_some_and(|plan| Instant::now() >= plan.cut_at)
    }

    /// A worker has nothing left.
    pub fn worker_is_idle(&self) {
        if self.idle.fetch_add(1, Ordering::AcqRel) + 1 == self.mailboxes.len() {
            self.wake_all();
        }
    }

    /// A worker that had nothing left is started anew after a panic, or will never come.
    pub fn worker_is_not_idle(&self) {
        self.idle.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether no worker has anything left. Until then each stays to answer for its sessions.
    pub fn all_are_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire) >= self.mailboxes.len()
    }

    fn wake_all(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.wake());
    }
}
