//! The writer: one thread for all workers. It takes everything that waits, writes once, syncs once, and
//! wakes each worker once; what comes meanwhile is the next batch.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};

use super::Log;
use super::handle::{Beginning, Journal, Order, Settle, Settled, Told, Waiter, no_room, poisoned};
use super::intake::Intake;
use super::options::{CommitError, LogOptions, Recovery, Staged};
use super::storage::Storage;
use crate::config::Config;
use crate::service::{Failure, Outcome, PendingKey};
use crate::stats::JournalState;

/// Bytes that are written and synced at once, at most: what waits behind them should not wait for long.
const BATCH_BYTES: usize = 4 << 20;
/// How often it is looked whether something can be deleted, and whether there is room.
const LOOK: Duration = Duration::from_secs(1);

/// Told, once, that the disk has failed and how.
pub type OnPoison = Box<dyn FnOnce(&str) + Send>;

/// A log that was opened, and nothing runs yet.
#[derive(Debug)]
pub struct Opened<S: Storage> {
    log: Log<S>,
    storage: Arc<S>,
    recovery: Recovery,
    took: Duration,
}

impl<S: Storage> Opened<S> {
    /// Opens the log in `storage`: verifies it, and finds what is unfinished.
    ///
    /// # Errors
    /// It is damaged, or can't be read or written; in words.
    pub fn open(storage: Arc<S>, options: LogOptions) -> Result<Opened<S>, String> {
        let begun = Instant::now();
        let (log, recovery) = Log::open(Arc::clone(&storage), options, now_ms()).map_err(|error| error.to_string())?;
        Ok(Opened { log, storage, recovery, took: begun.elapsed() })
    }

    /// What was found.
    pub fn recovery(&self) -> (&Recovery, Duration) {
        (&self.recovery, self.took)
    }

    /// Where its messages are read back from.
    pub fn storage(&self) -> &Arc<S> {
        &self.storage
    }

    /// Starts the writer; `settle` are the workers, in their order.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        self,
        config: &Config,
        settle: Vec<Arc<dyn Settle>>,
        on_poison: OnPoison,
    ) -> std::io::Result<(Arc<Journal>, JoinHandle<()>)> {
        let Opened { log, took, .. } = self;
        let (orders, orders_in) = unbounded();
        let routes: Vec<_> = (0..config.sinks.len())
            .map(|route| {
                let keeps = config.sinks[route].sink.kind == crate::config::SinkKind::None;
                (keeps, log.unfinished(route), log.progress(route).clone())
            })
            .collect();
        let recovered = routes.iter().map(|(_, unfinished, _)| unfinished).sum();
        let workers = settle.len();
        let journal = Arc::new(Journal::new(Beginning {
            orders,
            durable: log.durable_id(),
            queue_bytes: config.journal_queue_bytes as u64,
            routes,
            ack: config.submit_ack,
            settle,
            told: Told { capacity: config.journal_max_bytes, recovered, recovery: took, ..Told::default() },
        }));
        let writer = Writer {
            log,
            orders: orders_in,
            journal: Arc::clone(&journal),
            staged: Vec::new(),
            appended: Vec::new(),
            staged_bytes: 0,
            busy_poll: Duration::from_micros(config.journal_busy_poll_us.into()),
            settled: (0..workers).map(|_| Settled::default()).collect(),
            on_poison: Some(on_poison),
        };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run())?;
        Ok((journal, thread))
    }
}

struct Writer<S: Storage> {
    log: Log<S>,
    orders: Receiver<Order>,
    journal: Arc<Journal>,
    /// Requests whose messages are in the next commit.
    staged: Vec<StagedRequest>,
    /// The same of messages of our own.
    appended: Vec<(Sender<Result<u64, String>>, Staged)>,
    staged_bytes: usize,
    busy_poll: Duration,
    /// What each worker is told after the commit.
    settled: Vec<Settled>,
    on_poison: Option<OnPoison>,
}

struct StagedRequest {
    route: usize,
    id: u64,
    waiter: Waiter,
}

impl<S: Storage> Writer<S> {
    fn run(mut self) {
        self.publish();
        let mut look_at = Instant::now() + LOOK;
        loop {
            let closing = match self.next_order(look_at) {
                Ok(order) => self.take_all(order),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            self.commit();
            if closing {
                return self.close();
            }
            if Instant::now() >= look_at {
                look_at = Instant::now() + LOOK;
                self.look();
            }
        }
    }

    fn next_order(&mut self, look_at: Instant) -> Result<Order, RecvTimeoutError> {
        match self.orders.try_recv() {
            Ok(order) => Ok(order),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => match self.poll_on() {
                Some(order) => Ok(order),
                None => {
                    self.log.mark_synced();
                    self.orders.recv_deadline(look_at)
                }
            },
        }
    }

    /// Looks for orders for a while before it sleeps: to be woken takes longer than to look. Others may have the CPU.
    fn poll_on(&mut self) -> Option<Order> {
        if self.busy_poll.is_zero() {
            return None;
        }
        let begun = Instant::now();
        while begun.elapsed() < self.busy_poll {
            match self.orders.try_recv() {
                Err(TryRecvError::Empty) => std::thread::yield_now(),
                got => return got.ok(),
            }
        }
        None
    }

    /// Stages everything that waits, up to a bound; whether the end has come.
    fn take_all(&mut self, first: Order) -> bool {
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Submit { worker, intake } => self.stage(worker, intake),
                Order::Append(draft, told) => match self.log.stage_own(&draft.as_draft(), now_ms()) {
                    Ok(staged) => self.appended.push((told, staged)),
                    // Whoever asked may have given up.
                    Err(why) => drop(told.send(Err(why.to_string()))),
                },
                Order::Progress(route, progress) => self.log.stage_progress(route, &progress),
                Order::Close => return true,
            }
            next = if self.staged_bytes < BATCH_BYTES { self.orders.try_recv().ok() } else { None };
        }
        false
    }

    fn stage(&mut self, worker: u16, mut intake: Intake) {
        let now = now_ms();
        for (pending, draft) in intake.drafts() {
            match self.log.stage(&draft, now) {
                Ok(staged) => {
                    self.staged_bytes += draft.body.len();
                    let waiter = Waiter { worker, pending, duplicate: staged.duplicate };
                    self.staged.push(StagedRequest { route: staged.route, id: staged.id, waiter });
                }
                Err(why) => {
                    self.fill(why.0.to_string());
                    let failure = self.failure();
                    self.journal.told.refused.add(1);
                    self.answer(worker, pending, Outcome::Error(failure));
                }
            }
            if self.staged_bytes >= BATCH_BYTES {
                self.commit();
            }
        }
        self.journal.queued.fetch_sub(intake.len() as u64, Ordering::Relaxed);
        self.journal.queued_bytes.fetch_sub(intake.bytes() as u64, Ordering::Relaxed);
        intake.clear();
        if let Some(settled) = self.settled.get_mut(usize::from(worker)) {
            settled.spare = Some(intake);
        }
    }

    fn answer(&mut self, worker: u16, pending: PendingKey, outcome: Outcome) {
        if let Some(settled) = self.settled.get_mut(usize::from(worker)) {
            settled.answers.push((pending, outcome));
        }
    }

    /// Persist, then reply.
    fn commit(&mut self) {
        let (begun, bytes) = (Instant::now(), self.log.staged_bytes());
        let committed = self.log.commit();
        let staged = std::mem::take(&mut self.staged);
        let appended = std::mem::take(&mut self.appended);
        self.staged_bytes = 0;
        let mut news = false;
        match committed {
            Ok(()) => {
                if bytes > 0 {
                    self.journal.told.written.add(bytes);
                    self.journal.told.sync.observe(begun.elapsed());
                }
                let all = staged.iter().map(|staged| staged.waiter.duplicate);
                let duplicates = all.chain(appended.iter().map(|(_, staged)| staged.duplicate)).filter(|d| *d).count();
                self.journal.told.duplicates.add(duplicates as u64);
                self.journal.told.stored.add((staged.len() + appended.len() - duplicates) as u64);
                self.release(&staged);
                // Whoever asked may have given up.
                appended.into_iter().for_each(|(told, staged)| drop(told.send(Ok(staged.id))));
                news = self.journal.advance(self.log.durable_id());
            }
            Err(error) => {
                let failure = self.fail(error);
                self.journal.told.refused.add((staged.len() + appended.len()) as u64);
                for StagedRequest { waiter, .. } in &staged {
                    self.answer(waiter.worker, waiter.pending, Outcome::Error(failure.clone()));
                }
                appended.into_iter().for_each(|(told, _)| drop(told.send(Err(failure.text.to_string()))));
            }
        }
        // The vectors' memory is used again.
        self.staged = staged;
        self.staged.clear();
        self.publish();
        for worker in 0..self.settled.len() {
            let settled = std::mem::take(&mut self.settled[worker]);
            if !settled.answers.is_empty() || settled.spare.is_some() {
                self.journal.settle_worker(worker, settled);
            }
        }
        // Who delivers may come later than who waits.
        if news {
            self.journal.wake();
        }
    }

    /// The messages are on the disk: their requests are answered, or wait for the sink.
    fn release(&mut self, staged: &[StagedRequest]) {
        for StagedRequest { route, id, waiter } in staged {
            let outcome = match self.journal.hold(*route, *id, *waiter) {
                true => Outcome::Kept,
                false => Outcome::Stored { id: *id, duplicate: waiter.duplicate },
            };
            self.answer(waiter.worker, waiter.pending, outcome);
        }
    }

    fn fail(&mut self, error: CommitError) -> Failure {
        match error {
            CommitError::NoRoom(why) => self.fill(why.0.to_string()),
            CommitError::Failed(error) => {
                let why = error.to_string();
                if let Some(tell) = self.on_poison.take() {
                    log::error!(
                        "the journal's disk has failed: {why}; SUBMIT is UNAVAILABLE until a restart, everything else is served"
                    );
                    self.journal.set_state(JournalState::Poisoned(why.clone()));
                    tell(&why);
                }
            }
        }
        self.failure()
    }

    fn fill(&mut self, why: String) {
        if !matches!(self.journal.state(), JournalState::Full(_)) {
            log::warn!("the journal has no room: {why}; SUBMIT is OVERLOADED until there is");
        }
        self.journal.set_state(JournalState::Full(why));
    }

    /// What a request is told that is not stored.
    fn failure(&self) -> Failure {
        match self.journal.state() {
            JournalState::Poisoned(_) => poisoned(),
            _ => no_room(),
        }
    }

    /// Now and then: deletes what is done, and sees whether there is room.
    fn look(&mut self) {
        self.log.tend(now_ms());
        match (self.log.full(), self.journal.state()) {
            (Some(why), JournalState::Open) => {
                let why = why.to_owned();
                self.fill(why);
            }
            (None, JournalState::Full(_)) => {
                log::info!("the journal has room again");
                self.journal.set_state(JournalState::Open);
            }
            _ => {}
        }
        self.publish();
    }

    fn publish(&self) {
        let (told, log) = (&self.journal.told, &self.log);
        told.first_id.set(log.first_id());
        told.bytes.set(log.bytes());
        told.segments.set(log.segments());
        told.free.set(log.free().map_or(0, |free| free.saturating_add(1)));
        told.keys.set(log.keys());
        told.keys_forgotten.set(log.keys_forgotten());
        for (index, route) in self.journal.routes.iter().enumerate() {
            route.unfinished.store(log.unfinished(index), Ordering::Relaxed);
        }
    }

    fn close(self) {
        if let Err(error) = self.log.close() {
            log::error!("the journal could not be closed: {error}; what was acknowledged is in it");
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis().min(u128::from(u64::MAX)) as u64
}
