//! One thread that uses a session store.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::breaker::Change;
use super::runner::{Ask, Failed, Parcel, Shared, Told, Wake};
use super::{MakeStore, SessionStore, StoreDown, Wanted, Write, WriteOp};
use crate::limits::{MAX_STORE_CLAIMS, MAX_STORE_COMMIT, MAX_STORE_COMMIT_BYTES, STORE_SWEEP_BUDGET, STORE_SWEEP_MS};
use crate::proto::SessionId;
use crate::service::panic_message;

/// What one of the threads has.
pub(super) struct Thread {
    pub index: usize,
    pub asks: Receiver<Parcel>,
    pub make: MakeStore,
    /// None: it is to be made.
    pub store: Option<Box<dyn SessionStore>>,
    pub shared: Arc<Shared>,
    /// To each worker.
    pub told: Vec<Sender<Vec<Told>>>,
    pub wake: Arc<dyn Wake>,
    /// Taken, and more than one commit may have.
    pub backlog: VecDeque<(u16, Ask)>,
    /// Dropped when it ends.
    pub _alive: Sender<()>,
}

impl Thread {
    /// Runs until it is told to close, or nobody is left who could ask.
    pub fn run(mut self) {
        let mut closing = false;
        let mut sweep_at = Instant::now() + Duration::from_millis(STORE_SWEEP_MS);
        while !(closing && self.backlog.is_empty()) {
            if self.backlog.is_empty() {
                match self.asks.recv_deadline(sweep_at) {
                    Ok(parcel) => closing |= self.unpack(parcel),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => closing = true,
                }
            }
            while self.backlog.len() < MAX_STORE_COMMIT
                && let Ok(parcel) = self.asks.try_recv()
            {
                closing |= self.unpack(parcel);
            }
            self.do_some();
            if Instant::now() >= sweep_at {
                // One of them sweeps.
                if self.index == 0 {
                    self.sweep();
                }
                if let Some(store) = &mut self.store {
                    store.rest();
                }
                sweep_at = Instant::now() + Duration::from_millis(STORE_SWEEP_MS);
            }
        }
        if let Some(store) = self.store.take()
            && let Err(error) = store.close()
        {
            log::warn!(kind = self.shared.options.kind; "the session store was not closed in good order: {error}");
        }
    }

    /// Whether it says that this is the end.
    fn unpack(&mut self, parcel: Parcel) -> bool {
        match parcel {
            Parcel::Close => true,
            Parcel::Asks(worker, asks) => {
                self.backlog.extend(asks.into_iter().map(|ask| (worker, ask)));
                false
            }
        }
    }

    /// Does as much of the backlog as goes together, and tells the workers. Writes first: a claim may be of a
    /// session whose end is among them, and never the other way round.
    fn do_some(&mut self) {
        let (mut flights, mut writes, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        let now = Instant::now();
        while let Some((worker, ask)) = self.backlog.pop_front() {
            match ask {
                Ask::Write { flight, writes: more } => {
                    flights.push((worker, flight, more.len()));
                    bytes += more.iter().map(weight).sum::<usize>();
                    writes.extend(more);
                }
                Ask::Claim { id, wanted, until } if until > now => claims.push((worker, id, wanted)),
                Ask::Claim { id, .. } => {
                    let result = Err(Failed { tried: false });
                    self.tell([(worker, Told::Claimed { id, result })]);
                }
            }
            let next = self.backlog.front().map_or(0, |(_, ask)| match ask {
                Ask::Write { writes, .. } => writes.len(),
                Ask::Claim { .. } => 0,
            });
            if writes.len() + next > MAX_STORE_COMMIT
                || bytes >= MAX_STORE_COMMIT_BYTES
                || claims.len() >= MAX_STORE_CLAIMS
            {
                break;
            }
        }
        if !writes.is_empty() {
            self.commit(flights, &writes);
        }
        if !claims.is_empty() {
            self.claim(claims);
        }
    }

    fn commit(&mut self, flights: Vec<(u16, u32, usize)>, writes: &[Write]) {
        let asked = writes.len();
        let result = self.with_store(|store| match store.commit(writes)? {
            written if written.len() == asked => Ok(written),
            written => Err(StoreDown(format!("it answered {} of {asked} writes", written.len()))),
        });
        let counts = &self.shared.counts;
        match &result {
            Ok(_) => {
                counts.commits.fetch_add(1, Relaxed);
                counts.written.fetch_add(asked as u64, Relaxed);
            }
            Err(_) => drop(counts.failures.fetch_add(asked as u64, Relaxed)),
        }
        let mut written = result.map(Vec::into_iter);
        self.tell(flights.into_iter().map(|(worker, flight, writes)| {
            let result = written.as_mut().map(|written| written.by_ref().take(writes).collect()).map_err(|e| *e);
            (worker, Told::Written { flight, result })
        }));
    }

    fn claim(&mut self, claims: Vec<(u16, SessionId, Wanted)>) {
        let asked = claims.len();
        let (who, wanted): (Vec<_>, Vec<_>) =
            claims.into_iter().map(|(worker, id, wanted)| ((worker, id), wanted)).unzip();
        let result = self.with_store(|store| match store.claim(&wanted, wall_ms())? {
            claimed if claimed.len() == asked => Ok(claimed),
            claimed => Err(StoreDown(format!("it answered {} of {asked} claims", claimed.len()))),
        });
        let counts = &self.shared.counts;
        counts.claims.fetch_add(asked as u64, Relaxed);
        if result.is_err() {
            counts.failures.fetch_add(asked as u64, Relaxed);
        }
        let mut claimed = result.map(Vec::into_iter);
        self.tell(who.into_iter().map(|(worker, id)| {
            let result = claimed.as_mut().map(|claimed| claimed.next().flatten()).map_err(|e| *e);
            (worker, Told::Claimed { id, result })
        }));
    }

    fn sweep(&mut self) {
        if let Ok(swept) = self.with_store(|store| store.sweep(wall_ms(), STORE_SWEEP_BUDGET)) {
            self.shared.counts.swept.fetch_add(swept as u64, Relaxed);
        }
    }

    /// Each worker is woken once.
    fn tell(&self, all: impl IntoIterator<Item = (u16, Told)>) {
        let mut by_worker: Vec<Vec<Told>> = self.told.iter().map(|_| Vec::new()).collect();
        for (worker, told) in all {
            if let Some(of_worker) = by_worker.get_mut(usize::from(worker)) {
                of_worker.push(told);
            }
        }
        for (worker, told) in by_worker.into_iter().enumerate().filter(|(_, told)| !told.is_empty()) {
            // A worker that has ended wants to know nothing any more.
            let _ = self.told[worker].send(told);
            self.wake.wake(worker as u16);
        }
    }

    /// Uses the store, if it may be asked and can be made. After an error it is made anew.
    fn with_store<T>(&mut self, act: impl FnOnce(&mut dyn SessionStore) -> Result<T, StoreDown>) -> Result<T, Failed> {
        if !self.shared.breaker().admits(Instant::now()) {
            return Err(Failed { tried: false });
        }
        let began = Instant::now();
        let mut tried = false;
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut store = match self.store.take() {
                Some(store) => store,
                None => (self.make)()?,
            };
            tried = true;
            let done = act(&mut *store)?;
            Ok((store, done))
        }));
        self.shared.latencies[self.index].observe(began.elapsed());
        let failed = match done {
            Ok(Ok((store, done))) => {
                self.store = Some(store);
                self.note(None);
                return Ok(done);
            }
            Ok(Err(StoreDown(why))) => why,
            Err(panic) => format!("its code panicked: {}", panic_message(&*panic)),
        };
        self.note(Some(&failed));
        Err(Failed { tried })
    }

    fn note(&self, failed: Option<&str>) {
        let kind = self.shared.options.kind;
        let change = match failed {
            None => self.shared.breaker().succeeded(),
            Some(why) => self.shared.breaker().failed(why, Instant::now()),
        };
        match (change, failed) {
            (Change::Broke, why) => {
                self.shared.counts.broken.fetch_add(1, Relaxed);
                log::error!(
                    kind = kind, why = why;
                    "the session store is down: {}. Operations on sessions' state are UNAVAILABLE; new sessions are kept \
                     in memory until it is back", why.unwrap_or_default()
                );
            }
            (Change::Mended, _) => log::info!(kind = kind; "the session store is back"),
            (Change::None, Some(why)) if self.shared.breaker().down().is_none() => {
                log::warn!(kind = kind, why = why; "the session store failed: {why}");
            }
            (Change::None, _) => {}
        }
    }
}

/// Bytes of a write.
fn weight(write: &Write) -> usize {
    let bytes = match &write.op {
        WriteOp::Open { principal, state, .. } => {
            principal.len() + state.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        }
        WriteOp::Put(name, value) => name.len() + value.len(),
        WriteOp::Delete(name) => name.len(),
        WriteOp::Touch { .. } | WriteOp::End => 0,
    };
    size_of::<Write>() + bytes
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
