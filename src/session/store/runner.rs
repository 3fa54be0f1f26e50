//! The threads that use a session store, and the way to them.
//!
//! ```text
//! worker ── asks of a tick, one parcel for each thread ──► thread: takes everything that waits,
//!   ▲                                                       one commit, one round of claims
//!   └────── what became of them, one wake-up ──────────────┘
//! ```
//! A session's asks go to one thread, by its key, and keep their order there. Workers never wait.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::breaker::Breaker;
use super::thread::Thread;
use super::{MakeStore, SessionStore, StoreKey, Stored, Wanted, Write, Written};
use crate::config::Config;
use crate::proto::SessionId;
use crate::stats::{Counter, Histogram, Latency, StoreView};

/// How a store is used.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// `embedded`, `redis` or `mysql`.
    pub kind: &'static str,
    /// Threads, each with a store of its own.
    pub threads: usize,
    /// Whether it knows nothing of its owner's life, so that sessions in use have to be touched.
    pub touches: bool,
    /// Operations that requests wait for, all workers together.
    pub queue: usize,
    /// How long an operation may take.
    pub timeout: Duration,
    /// Failures in a row after which it is taken for down.
    pub failures: u32,
    /// How long it is left alone then.
    pub retry: Duration,
}

impl StoreOptions {
    /// By the settings, for a store of this kind.
    pub fn of(config: &Config, kind: &'static str) -> StoreOptions {
        let embedded = kind == "embedded";
        StoreOptions {
            kind,
            threads: if embedded { 1 } else { config.session_store_connections },
            touches: !embedded,
            queue: config.session_store_queue,
            timeout: config.session_store_timeout,
            failures: config.session_store_failures,
            retry: config.session_store_retry,
        }
    }
}

/// What a worker wants of the store.
#[derive(Debug)]
pub enum Ask {
    /// Writes of one session, all in one commit.
    Write {
        /// The worker's own name for this.
        flight: u32,
        /// In order.
        writes: Vec<Write>,
    },
    /// A session.
    Claim {
        /// Its id.
        id: SessionId,
        /// What the store knows of it, and whose it has to be.
        wanted: Wanted,
        /// Nobody waits for it any more after that.
        until: Instant,
    },
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// One for each write.
    Written {
        /// The worker's own name.
        flight: u32,
        /// In order.
        result: Result<Vec<Written>, Failed>,
    },
    /// The session, if it is to be had.
    Claimed {
        /// Its id.
        id: SessionId,
        /// The session.
        result: Result<Option<Stored>, Failed>,
    },
}

/// The store was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// It may have been done all the same.
    pub tried: bool,
}

/// Wakes workers.
pub trait Wake: Send + Sync {
    /// There is something for this worker to read.
    fn wake(&self, worker: u16);
}

/// The threads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stores(Arc<Shared>);

/// One worker's way to the threads and back.
#[derive(Debug)]
pub struct Courier {
    worker: u16,
    stores: Stores,
    out: Vec<Vec<Ask>>,
    told: Receiver<Vec<Told>>,
}

/// What the threads, and whoever asks them, share.
#[derive(Debug)]
pub(super) struct Shared {
    pub options: StoreOptions,
    threads: Vec<Sender<Parcel>>,
    /// Closed when the last thread has ended; nothing is ever sent.
    ended: Receiver<()>,
    waiting: AtomicUsize,
    breaker: Mutex<Breaker>,
    pub counts: Counts,
    /// One for each thread.
    pub latencies: Vec<Histogram>,
    workers: Vec<OfWorker>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub written: AtomicU64,
    pub commits: AtomicU64,
    pub claims: AtomicU64,
    pub failures: AtomicU64,
    pub broken: AtomicU64,
    pub swept: AtomicU64,
}

/// What one worker counts of its sessions.
#[derive(Debug, Default)]
pub struct OfWorker {
    /// Sessions that are in memory alone.
    pub unsaved: Counter,
    /// Sessions that another gateway has taken over.
    pub lost: Counter,
}

/// To a thread.
#[derive(Debug)]
pub(super) enum Parcel {
    /// A worker's asks.
    Asks(u16, Vec<Ask>),
    /// Nothing comes after this.
    Close,
}

impl Stores {
    /// Starts the threads; `first` is used by the first of them before anything is made. One courier for each
    /// worker.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        options: StoreOptions,
        make: &MakeStore,
        mut first: Option<Box<dyn SessionStore>>,
        workers: usize,
        wake: &Arc<dyn Wake>,
    ) -> std::io::Result<(Stores, Vec<Courier>)> {
        let (threads, asks): (Vec<_>, Vec<_>) = (0..options.threads.max(1)).map(|_| unbounded()).unzip();
        let (told, told_in): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded()).unzip();
        let (alive, ended) = bounded(0);
        let count = threads.len();
        let shared = Arc::new(Shared {
            breaker: Mutex::new(Breaker::new(options.failures, options.retry)),
            options,
            threads,
            ended,
            waiting: AtomicUsize::new(0),
            counts: Counts::default(),
            latencies: (0..count).map(|_| Histogram::default()).collect(),
            workers: (0..workers).map(|_| OfWorker::default()).collect(),
        });
        for (index, asks) in asks.into_iter().enumerate() {
            let (make, wake, alive) = (Arc::clone(make), Arc::clone(wake), alive.clone());
            let (shared, told, store) = (Arc::clone(&shared), told.clone(), first.take());
            let thread =
                Thread { index, asks, make, store, shared, told, wake, backlog: VecDeque::new(), _alive: alive };
            std::thread::Builder::new().name(format!("store-{index}")).spawn(move || thread.run())?;
        }
        let stores = Stores(shared);
        let couriers = told_in.into_iter().enumerate().map(|(worker, told)| Courier {
            worker: worker as u16,
            stores: stores.clone(),
            out: (0..count).map(|_| Vec::new()).collect(),
            told,
        });
        let couriers = couriers.collect();
        Ok((stores, couriers))
    }

    /// Ends the threads, each after everything that was asked of it, and waits for that until `deadline`.
    /// Returns whether they have ended; if not, they are left to themselves.
    pub fn close(&self, deadline: Instant) -> bool {
        for thread in &self.0.threads {
            // One that has ended already needs no telling.
            let _ = thread.send(Parcel::Close);
        }
        let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.0.ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }

    /// How it stands.
    pub fn view(&self) -> StoreView {
        let Shared { options, waiting, counts, latencies, workers, .. } = &*self.0;
        let mut latency = Latency::default();
        latencies.iter().for_each(|histogram| latency.merge(&histogram.read()));
        StoreView {
            kind: options.kind,
            down: self.0.breaker().down().map(str::to_owned),
            queued: waiting.load(Relaxed) as u64,
            queue: options.queue as u64,
            written: counts.written.load(Relaxed),
            commits: counts.commits.load(Relaxed),
            claims: counts.claims.load(Relaxed),
            failures: counts.failures.load(Relaxed),
            broken: counts.broken.load(Relaxed),
            unsaved: workers.iter().map(|worker| worker.unsaved.get()).sum(),
            lost: workers.iter().map(|worker| worker.lost.get()).sum(),
            swept: counts.swept.load(Relaxed),
            latency,
        }
    }
}

impl Courier {
    /// How the store is used.
    pub fn options(&self) -> &StoreOptions {
        &self.stores.0.options
    }

    /// This worker's counters.
    pub fn counters(&self) -> Option<&OfWorker> {
        self.stores.0.workers.get(usize::from(self.worker))
    }

    /// One more operation that a request waits for; `false`: there are as many as there may be.
    pub fn enter(&self) -> bool {
        let Shared { waiting, options, .. } = &*self.stores.0;
        let entered = waiting.fetch_add(1, Relaxed) < options.queue;
        if !entered {
            waiting.fetch_sub(1, Relaxed);
        }
        entered
    }

    /// So many operations have come to their end.
    pub fn leave(&self, operations: usize) {
        self.stores.0.waiting.fetch_sub(operations, Relaxed);
    }

    /// Puts an ask about this session into the next parcel.
    pub fn put(&mut self, key: &StoreKey, ask: Ask) {
        let number = key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let thread = (number % self.out.len() as u64) as usize;
        self.out[thread].push(ask);
    }

    /// Sends the parcels.
    pub fn send(&mut self) {
        for (thread, asks) in self.stores.0.threads.iter().zip(&mut self.out) {
            if !asks.is_empty() {
                // A thread that has ended: the server ends, and nobody waits any more.
                let _ = thread.send(Parcel::Asks(self.worker, std::mem::take(asks)));
            }
        }
    }

    /// What has come back. Waits for it until then, if that is told.
    pub fn take_told(&self, until: Option<Instant>) -> Option<Vec<Told>> {
        match until {
            None => self.told.try_recv().ok(),
            Some(until) => self.told.recv_deadline(until).ok(),
        }
    }

    /// The only worker's, and what it asks for: nobody answers by itself.
    #[cfg(test)]
    pub fn of_a_test(options: StoreOptions) -> (Courier, impl Fn() -> Vec<Ask>) {
        let ((thread, asks), (_, told), (_, ended)) = (unbounded(), unbounded(), bounded(0));
        let shared = Shared {
            breaker: Mutex::new(Breaker::new(options.failures, options.retry)),
            options,
            threads: vec![thread],
            ended,
            waiting: AtomicUsize::new(0),
            counts: Counts::default(),
            latencies: Vec::new(),
            workers: vec![OfWorker::default()],
        };
        let courier = Courier { worker: 0, stores: Stores(Arc::new(shared)), out: vec![Vec::new()], told };
        let asked = move || {
            let parcels = asks.try_iter().map(|parcel| match parcel {
                Parcel::Asks(_, asks) => asks,
                Parcel::Close => Vec::new(),
            });
            parcels.flatten().collect()
        };
        (courier, asked)
    }

    /// How the store stands.
    #[cfg(test)]
    pub fn view(&self) -> StoreView {
        self.stores.view()
    }
}

impl Shared {
    pub fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
