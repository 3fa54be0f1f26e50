//! The supervisor thread: starts workers, follows the drain, joins, writes the ledger.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde::Serialize;

use super::audit::AuditLog;
use super::drain::{Drained, Timeline};
use super::ledger::{Cut, Ledger, PhaseDurations};
use super::plan::Drain;
use super::records::Records;
use super::reload::Reloader;
use super::stores::SessionStores;
use super::systemd::Systemd;
use super::worker::{Report, Worker};
use super::{Ended, Shared};
use crate::hex::hex;
use crate::limits::{MAX_NAMED_CUTS, WORKER_GRACE_MS};
use crate::reactor::{CutConnection, Disconnected};
use crate::service::Pool;

/// Deaths of one worker after which it is started anew only after a while.
const QUICK_RESTARTS: u32 = 3;
/// A worker that has lived this long since its last death starts with a clean record.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// The longest such while.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// Everything that the supervisor owns.
pub(super) struct Supervisor {
    pub shared: Arc<Shared>,
    pub drain: Arc<Drain>,
    pub reports: Receiver<Report>,
    pub threads: Vec<Option<JoinHandle<()>>>,
    pub pool: Pool,
    pub audit: AuditLog,
    /// What has to be brought to the disk in the end.
    pub records: Records,
    pub session_stores: SessionStores,
    pub reloader: Reloader,
    /// Stops listening for SIGHUP.
    pub hangups: Option<signal_hook::iterator::Handle>,
    /// Told of nothing if this server is a part of a process that goes on without it.
    pub systemd: Systemd,
    /// Workers that turn their loops.
    pub serving: Vec<bool>,
    #[cfg(feature = "admin")]
    pub admin: Option<crate::admin::AdminHandle>,
    /// Dead workers that rest before they are started anew.
    pub resting: Vec<(Instant, Box<Worker>)>,
    pub drained: Vec<Option<Drained>>,
    /// Connections that went with a worker's panic, and the worker.
    pub lost: Vec<(usize, CutConnection)>,
}

impl Supervisor {
    /// Follows the workers until each has drained or has been given up.
    pub fn run(mut self) -> Ended {
        while self.drained.iter().any(Option::is_none) {
            match self.next_report() {
                Ok(Report::Reload(reason)) => self.reload(&reason),
                Ok(Report::Serving(index)) => self.handle_serving(index),
                Ok(Report::DrainBegan) => {
                    let standing = self.shared.standing();
                    self.systemd.stopping(Instant::now(), &standing);
                }
                Ok(Report::Drained(index, drained)) => self.handle_drained(index, drained),
                Ok(Report::Died(worker, why)) => self.handle_death(worker, &why),
                Ok(Report::Disconnected(worker, gone, by)) => record_disconnect(&self.audit, worker, &gone, &by),
                Ok(Report::JournalFailed(why)) => record_journal(&self.audit, &why),
                Err(RecvTimeoutError::Timeout) => {
                    self.reloader.look(&self.audit);
                    self.wake_rested();
                    if self.patience_is_over() {
                        break;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.systemd.look(Instant::now(), || self.shared.standing());
        }
        self.finish()
    }

    /// Once all of them do, whoever waits for this process to be up need wait no longer.
    fn handle_serving(&mut self, index: usize) {
        let last = !std::mem::replace(&mut self.serving[index], true) && self.serving.iter().all(|serving| *serving);
        // Not after STOPPING: a signal may come before the last worker does.
        if last && self.drain.plan().is_none() {
            self.systemd.ready(Instant::now(), &self.shared.standing());
        }
    }

    fn reload(&mut self, reason: &str) {
        if self.drain.plan().is_some() {
            return log::warn!(reason = reason; "reload ({reason}): not in a drain; everything stays as it was");
        }
        self.systemd.reloading();
        self.reloader.reload(reason, &self.audit);
        self.systemd.reloaded();
    }

    fn next_report(&self) -> Result<Report, RecvTimeoutError> {
        let rest = self.resting.iter().map(|(at, _)| *at).min();
        let end = self.last_instant();
        // In a drain nothing changes any more.
        let look = if end.is_none() { self.reloader.next_look() } else { None };
        match rest.into_iter().chain(end).chain(look).chain(self.systemd.next_look()).min() {
            None => self.reports.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.reports.recv_deadline(at),
        }
    }

    /// How long a worker may be late after the drain's end.
    fn last_instant(&self) -> Option<Instant> {
        let grace = Duration::from_millis(WORKER_GRACE_MS);
        self.drain.plan().map(|plan| plan.cut_at + grace)
    }

    fn patience_is_over(&self) -> bool {
        self.last_instant().is_some_and(|at| Instant::now() >= at)
    }

    fn handle_drained(&mut self, index: usize, drained: Drained) {
        self.drained[index] = Some(drained);
        if let Some(thread) = self.threads[index].take()
            && thread.join().is_err()
        {
            log::error!(worker = index; "worker {index} panicked after its last report; its counts are right");
        }
    }

    fn handle_death(&mut self, mut worker: Box<Worker>, why: &str) {
        let index = worker.index;
        log::error!(worker = index, panic = why; "worker {index} died: {why}; its connections are lost, its core is served again");
        if let Err(error) = self.audit.worker_panic(index, why) {
            log::error!(worker = index; "{error}");
        }
        if let Some(thread) = self.threads[index].take() {
            // It has sent its last report; what it panicked with is in there.
            let _ = thread.join();
        }
        match catch_unwind(AssertUnwindSafe(|| worker.reactor.recover())) {
            Ok(cuts) => self.lost.extend(cuts.into_iter().map(|cut| (index, cut))),
            Err(_) => {
                log::error!(worker = index; "worker {index} can't be recovered and is not started again; restart the server");
                return self.shared.worker_is_lost(index);
            }
        }
        if worker.run.was_idle() {
            self.drain.worker_is_not_idle();
        }
        worker.run = super::drain::DrainRun::new(index, self.threads.len());
        let now = Instant::now();
        if worker.died.is_none_or(|before| now.duration_since(before) >= FORGIVEN_AFTER) {
            worker.deaths = 0;
        }
        worker.died = Some(now);
        worker.deaths += 1;
        if worker.deaths <= QUICK_RESTARTS {
            return self.start(worker);
        }
        let rest = Duration::from_millis(50 << worker.deaths.min(10)).min(LONGEST_REST);
        log::error!(
            worker = index, deaths = worker.deaths;
            "worker {index} has died {} times lately: it rests for {} ms",
            worker.deaths,
            rest.as_millis()
        );
        self.resting.push((Instant::now() + rest, worker));
    }

    fn wake_rested(&mut self) {
        let now = Instant::now();
        let (due, resting) = std::mem::take(&mut self.resting).into_iter().partition(|(at, _)| *at <= now);
        self.resting = resting;
        for (_, worker) in due {
            self.start(worker);
        }
    }

    fn start(&mut self, worker: Box<Worker>) {
        let index = worker.index;
        match worker.spawn() {
            Ok(thread) => self.threads[index] = Some(thread),
            Err(error) => {
                log::error!(worker = index; "worker {index} can't be started again: {error}; restart the server");
                self.shared.worker_is_lost(index);
            }
        }
    }

    fn finish(mut self) -> Ended {
        self.systemd.finishing();
        let plan = self.drain.plan().cloned();
        let begun = plan.as_ref().map_or_else(Instant::now, |plan| plan.begun);
        let missing: Vec<usize> = (0..self.drained.len()).filter(|i| self.drained[*i].is_none()).collect();
        for index in &missing {
            log::error!(worker = index; "worker {index} did not come to the end of the drain: it hangs in a handler, or is lost");
        }
        // Handlers that still run are told to stop; nobody waits for their answers any more.
        self.drain.raise_cut();
        let busy = self.pool.join(Instant::now() + Duration::from_millis(WORKER_GRACE_MS));
        if busy > 0 {
            log::error!(busy = busy; "{busy} handlers of the blocking pool did not stop: their threads are left behind");
        }
        let persist_from = Instant::now();
        let until = plan.as_ref().map_or(persist_from, |plan| plan.cut_at);
        std::mem::take(&mut self.session_stores).persist(&mut self.drained, begun, until);
        let journal = std::mem::take(&mut self.records).persist(until);
        for report in self.reports.try_iter() {
            match report {
                Report::Disconnected(worker, gone, by) => record_disconnect(&self.audit, worker, &gone, &by),
                Report::JournalFailed(why) => record_journal(&self.audit, &why),
                _ => {}
            }
        }
        let mut ledger = self.shared.ledger(&missing);
        self.lost.drain(..).for_each(|(worker, cut)| name_cut(&mut ledger, worker, cut, "worker_panic"));
        let why = if self.drain.was_told_to_cut() { "second_signal" } else { "deadline" };
        for (worker, drained) in self.drained.iter_mut().enumerate() {
            let cuts = drained.iter_mut().flat_map(|drained| drained.cuts.drain(..));
            cuts.for_each(|cut| name_cut(&mut ledger, worker, cut, why));
        }
        ledger.missing_workers = missing;
        ledger.journal = journal;
        ledger.durations = durations(self.drained.iter().flatten().map(|d| d.timeline));
        ledger.durations.persist_ms = millis(persist_from.elapsed());
        ledger.durations.total_ms = millis(begun.elapsed());
        if !ledger.balanced() {
            log::error!("the ledger does not balance; this is a fault of tidegate: {ledger:?}");
        }
        let reason = plan.map_or_else(|| "failure".to_owned(), |plan| plan.reason);
        if let Err(error) = self.audit.shutdown(&reason, &ledger) {
            log::error!("the ledger could not be written to the audit log: {error}");
        }
        #[cfg(feature = "admin")]
        drop(self.admin.take());
        if let Some(hangups) = self.hangups.take() {
            hangups.close();
        }
        Ended { ledger, reason }
    }
}

/// A disconnection's own fields in the audit log.
#[derive(Serialize)]
struct DisconnectDetails<'a> {
    worker: u16,
    peer: Option<SocketAddr>,
    principal: Option<&'a str>,
    session: Option<String>,
    by: &'a str,
}

fn record_disconnect(audit: &AuditLog, worker: u16, gone: &Disconnected, by: &str) {
    let info = &gone.info;
    let (principal, session) = (info.principal.as_deref(), info.session.map(|id| hex(&id)));
    let details = DisconnectDetails { worker, peer: info.peer, principal, session, by };
    if let Err(error) = audit.record("disconnect", "operator", &details) {
        log::error!("{error}");
    }
}

/// What the audit log tells of a journal whose disk has failed.
#[derive(Serialize)]
struct JournalDetails<'a> {
    message: &'a str,
}

fn record_journal(audit: &AuditLog, why: &str) {
    if let Err(error) = audit.record("journal_failed", "disk", &JournalDetails { message: why }) {
        log::error!("{error}");
    }
}

fn name_cut(ledger: &mut Ledger, worker: usize, cut: CutConnection, why: &str) {
    if ledger.cuts.len() >= MAX_NAMED_CUTS {
        ledger.cuts_unnamed += 1;
        return;
    }
    ledger.cuts.push(Cut {
        worker,
        peer: cut.peer.map(|peer| peer.to_string()),
        principal: cut.principal,
        session: cut.session,
        requests: cut.requests,
        reason: why.to_owned(),
    });
}

/// A phase of the whole server ends when its last worker ends it.
fn durations(timelines: impl Iterator<Item = Timeline>) -> PhaseDurations {
    let last = timelines.fold(Timeline::default(), |a, b| Timeline {
        announce: a.announce.max(b.announce),
        gate: a.gate.max(b.gate),
        notice: a.notice.max(b.notice),
        finish: a.finish.max(b.finish),
        flush: a.flush.max(b.flush),
    });
    let between = |from: Duration, to: Duration| millis(to.saturating_sub(from));
    PhaseDurations {
        announce_ms: millis(last.announce),
        gate_ms: between(last.announce, last.gate),
        notice_ms: between(last.gate, last.notice),
        finish_ms: between(last.notice, last.finish),
        flush_ms: between(last.finish, last.flush),
        persist_ms: 0,
        total_ms: 0,
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().min(u128::from(u64::MAX)) as u64
}
