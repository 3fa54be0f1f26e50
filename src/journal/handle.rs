//! The journal, as the rest of the server holds it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::intake::Intake;
use super::options::Progress;
use super::{Draft, Key};
use crate::config::SubmitAck;
use crate::proto::{ErrorCode, Trace};
use crate::service::{Failure, Outcome, PendingKey};
use crate::stats::{Counter, Histogram, JournalState, JournalView};

/// How long a client should wait before it tries again when the journal has no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The same when only its queue is full: a disk empties that soon.
const RETRY_SOON: Duration = Duration::from_millis(50);

/// What the writer is asked to do.
#[derive(Debug)]
pub enum Order {
    /// Messages of a worker, whose requests wait.
    Submit {
        /// Whose.
        worker: u16,
        /// Which.
        intake: Intake,
    },
    /// One message of our own; its id is told when it is durable.
    Append(Box<OwnDraft>, Sender<Result<u64, String>>),
    /// A route has come so far.
    Progress(usize, Progress),
    /// The end: everything before this is brought to the disk, and the log is closed.
    Close,
}

/// A message of the server's own.
#[derive(Clone, Debug)]
pub struct OwnDraft {
    pub topic: String,
    pub principal: String,
    pub key: Option<Key>,
    pub trace: Option<Trace>,
    pub session: Option<[u8; 16]>,
    pub body: Vec<u8>,
}

impl OwnDraft {
    pub fn of(draft: &Draft<'_>) -> OwnDraft {
        let Draft { topic, principal, key, trace, session, body } = *draft;
        OwnDraft { topic: topic.to_owned(), principal: principal.to_owned(), key, trace, session, body: body.to_vec() }
    }

    pub fn as_draft(&self) -> Draft<'_> {
        let OwnDraft { topic, principal, key, trace, session, body } = self;
        Draft { topic, principal, key: *key, trace: *trace, session: *session, body }
    }
}

/// Where a worker takes what has become of its messages. Any thread.
pub trait Settle: Send + Sync {
    /// Answers for requests that wait, and an emptied intake to be used again. Never blocks.
    fn settle(&self, settled: Settled);
}

/// What has become of a worker's messages: one wake-up for all of them.
#[derive(Debug, Default)]
pub struct Settled {
    /// Each request, and its answer.
    pub answers: Vec<(PendingKey, Outcome)>,
    /// To be used again.
    pub spare: Option<Intake>,
}

/// The journal of a running server. All threads share it; its one writer thread does the work.
pub struct Journal {
    orders: Sender<Order>,
    /// 0 open, 1 full, 2 poisoned; what it is in words is in `state`.
    gate: AtomicU8,
    state: Mutex<JournalState>,
    durable: AtomicU64,
    /// Whoever waits for newer messages: how often it was woken.
    news: (Mutex<u64>, Condvar),
    stopping: AtomicBool,
    queue_bytes: u64,
    pub(super) queued: AtomicU64,
    pub(super) queued_bytes: AtomicU64,
    pub(super) routes: Vec<Route>,
    ack: SubmitAck,
    /// Requests whose message is durable and not yet delivered, with `TIDEGATE_SUBMIT_ACK=sink`: by id.
    held: Mutex<HashMap<u64, Vec<Waiter>>>,
    settle: Vec<Arc<dyn Settle>>,
    pub(super) told: Told,
}

/// A request that waits for its message's delivery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub worker: u16,
    pub pending: PendingKey,
    pub duplicate: bool,
}

/// What the journal knows of a route.
#[derive(Debug)]
pub(super) struct Route {
    /// Its sink is `none`.
    pub keeps: bool,
    /// Messages of this route that are still to be delivered, as the log has it.
    pub unfinished: AtomicU64,
    done: Mutex<Progress>,
}

/// Numbers that the writer writes and anybody reads.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub first_id: Counter,
    pub bytes: Counter,
    pub capacity: u64,
    pub segments: Counter,
    /// Bytes free, and 1; 0: not known.
    pub free: Counter,
    pub stored: Counter,
    pub duplicates: Counter,
    pub refused: Counter,
    pub written: Counter,
    pub sync: Histogram,
    pub keys: Counter,
    pub keys_forgotten: Counter,
    pub recovered: u64,
    pub recovery: Duration,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("durable", &self.durable()).finish_non_exhaustive()
    }
}

/// What a [`Journal`] begins with.
pub(super) struct Beginning {
    pub orders: Sender<Order>,
    pub durable: u64,
    pub queue_bytes: u64,
    /// Of each route: whether it keeps, how many messages are unfinished, and how far it is.
    pub routes: Vec<(bool, u64, Progress)>,
    pub ack: SubmitAck,
    pub settle: Vec<Arc<dyn Settle>>,
    pub told: Told,
}

impl Journal {
    pub(super) fn new(beginning: Beginning) -> Journal {
        let Beginning { orders, durable, queue_bytes, routes, ack, settle, told } = beginning;
        let route = |(keeps, unfinished, progress)| Route {
            keeps,
            unfinished: AtomicU64::new(unfinished),
            done: Mutex::new(progress),
        };
        Journal {
            orders,
            gate: AtomicU8::new(0),
            state: Mutex::default(),
            durable: AtomicU64::new(durable),
            news: Default::default(),
            stopping: AtomicBool::new(false),
            queue_bytes,
            queued: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            routes: routes.into_iter().map(route).collect(),
            ack,
            held: Mutex::default(),
            settle,
            told,
        }
    }

    /// Whether so many bytes more would be taken now.
    ///
    /// # Errors
    /// What a request is told instead.
    pub fn admits(&self, bytes: usize) -> Result<(), Failure> {
        match self.gate.load(Ordering::Acquire) {
            0 if self.queued_bytes.load(Ordering::Relaxed) + bytes as u64 <= self.queue_bytes => Ok(()),
            0 => Err(Failure::overloaded(RETRY_SOON)),
            1 => Err(no_room()),
            _ => Err(poisoned()),
        }
    }

    /// Gives the writer something to do. Never blocks.
    pub fn order(&self, order: Order) {
        if let Order::Submit { intake, .. } = &order {
            self.queued.fetch_add(intake.len() as u64, Ordering::Relaxed);
            self.queued_bytes.fetch_add(intake.bytes() as u64, Ordering::Relaxed);
        }
        // The writer has ended: so has the drain, and what waits is counted as cut.
        let _ = self.orders.send(order);
    }

    /// The id of the newest message that is on the disk; 0: there is none.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Waits until a message newer than `after` is on the disk, it is woken, or the time is over. Returns
    /// the newest id.
    pub fn wait(&self, after: u64, timeout: Duration) -> u64 {
        let until = Instant::now() + timeout;
        let mut woken = lock(&self.news.0);
        let begun = *woken;
        loop {
            let durable = self.durable();
            let left = until.saturating_duration_since(Instant::now());
            if durable > after || *woken != begun || left.is_zero() || self.is_stopping() {
                return durable;
            }
            woken = self.news.1.wait_timeout(woken, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whoever waits looks up.
    pub fn wake(&self) {
        *lock(&self.news.0) += 1;
        self.news.1.notify_all();
    }

    /// Tells whoever delivers to come to an end.
    pub fn stop_waiting(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the server ends.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// How far a route is.
    pub fn progress(&self, route: usize) -> Progress {
        self.routes.get(route).map(|route| lock(&route.done).clone()).unwrap_or_default()
    }

    /// Messages of a route that are still to be delivered, as far as their delivery was reported.
    pub fn unfinished(&self, route: usize) -> u64 {
        self.routes.get(route).map_or(0, |route| route.unfinished.load(Ordering::Relaxed))
    }

    /// A route has come so far: written down with the next commit, and not waited for.
    pub fn report(&self, route: usize, progress: Progress) {
        if let Some(known) = self.routes.get(route) {
            *lock(&known.done) = progress.clone();
        }
        self.order(Order::Progress(route, progress));
    }

    /// Stores a message of our own, and waits until it is on the disk. Returns its id, or that of the one that has
    /// its key.
    ///
    /// # Errors
    /// It is not stored, and why.
    pub fn append(&self, draft: &Draft<'_>) -> Result<u64, String> {
        let (told, answer) = crossbeam_channel::bounded(1);
        self.order(Order::Append(Box::new(OwnDraft::of(draft)), told));
        answer.recv().unwrap_or_else(|_| Err("the journal is closed".to_owned()))
    }

    /// Messages are delivered: requests that wait for that are answered.
    pub fn delivered(&self, route: usize, ids: &[u64]) {
        if self.ack == SubmitAck::Journal {
            return;
        }
        let Some(known) = self.routes.get(route) else { return };
        {
            let mut done = lock(&known.done);
            let upto = done.upto;
            done.beyond.extend(ids.iter().copied().filter(|id| *id > upto));
            done.beyond.sort_unstable();
        }
        let mut answers: Vec<Vec<(PendingKey, Outcome)>> = self.settle.iter().map(|_| Vec::new()).collect();
        {
            let mut held = lock(&self.held);
            for id in ids {
                for waiter in held.remove(id).unwrap_or_default() {
                    if let Some(of_worker) = answers.get_mut(usize::from(waiter.worker)) {
                        of_worker.push((waiter.pending, Outcome::Stored { id: *id, duplicate: waiter.duplicate }));
                    }
                }
            }
        }
        for (worker, answers) in answers.into_iter().enumerate().filter(|(_, answers)| !answers.is_empty()) {
            self.settle_worker(worker, Settled { answers, spare: None });
        }
    }

    /// Holds a request until its message is delivered; whether it has to wait for that.
    pub(super) fn hold(&self, route: usize, id: u64, waiter: Waiter) -> bool {
        let Some(known) = self.routes.get(route).filter(|route| self.ack == SubmitAck::Sink && !route.keeps) else {
            return false;
        };
        let mut held = lock(&self.held);
        // Looked at with the other lock held: who delivers does one and then the other.
        if waiter.duplicate && lock(&known.done).has(id) {
            return false;
        }
        held.entry(id).or_default().push(waiter);
        true
    }

    pub(super) fn settle_worker(&self, worker: usize, settled: Settled) {
        if let Some(settle) = self.settle.get(worker) {
            settle.settle(settled);
        }
    }

    /// Everything up to this id is on the disk; whether whoever waits for that is to be woken.
    pub(super) fn advance(&self, durable: u64) -> bool {
        let news = durable > self.durable();
        if news {
            self.durable.store(durable, Ordering::Release);
        }
        news
    }

    /// Whether it takes messages.
    pub fn state(&self) -> JournalState {
        lock(&self.state).clone()
    }

    pub(super) fn set_state(&self, state: JournalState) {
        let gate = match state {
            JournalState::Open => 0,
            JournalState::Full(_) => 1,
            JournalState::Poisoned(_) => 2,
        };
        *lock(&self.state) = state;
        self.gate.store(gate, Ordering::Release);
    }

    /// The end: everything before this is brought to the disk.
    pub fn close(&self) {
        self.order(Order::Close);
    }

    /// Where it stands.
    pub fn view(&self) -> JournalView {
        let told = &self.told;
        JournalView {
            state: self.state(),
            first_id: told.first_id.get(),
            durable_id: self.durable(),
            bytes: told.bytes.get(),
            capacity: told.capacity,
            segments: told.segments.get(),
            free: told.free.get().checked_sub(1),
            queued: self.queued.load(Ordering::Relaxed),
            queued_bytes: self.queued_bytes.load(Ordering::Relaxed),
            stored: told.stored.get(),
            duplicates: told.duplicates.get(),
            refused: told.refused.get(),
            written: told.written.get(),
            sync: told.sync.read(),
            keys: told.keys.get(),
            keys_forgotten: told.keys_forgotten.get(),
            recovered: told.recovered,
            recovery: told.recovery,
        }
    }
}

/// The journal has no room for now.
pub(super) fn no_room() -> Failure {
    let text = "the journal has no room: nothing was stored; try again later".into();
    Failure { text, ..Failure::overloaded(RETRY_AFTER) }
}

/// The journal's disk has failed.
pub(super) fn poisoned() -> Failure {
    Failure::new(ErrorCode::Unavailable, "the journal's disk has failed: nothing is stored until it is repaired")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
