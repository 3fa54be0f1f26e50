//! The blocking pool: threads for handlers that may not hold up a worker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded, select_biased};

use super::{Deferred, Failure, Handler, OwnedRequest, Responder};
use crate::proto::ErrorCode;
use crate::stats::PoolView;

/// A request on its way to a handler that blocks.
pub(crate) struct Job {
    pub handler: Arc<dyn Handler>,
    pub request: OwnedRequest,
    pub responder: Deferred,
}

/// Hands jobs to the pool. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PoolSender {
    jobs: Sender<Job>,
    busy: Arc<AtomicUsize>,
    threads: usize,
}

impl PoolSender {
    /// Hands over a job; gives back its obligation if the queue is full or the pool has ended.
    pub fn submit(&self, job: Job) -> Result<(), Deferred> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job.responder,
        })
    }

    /// How full the pool is.
    pub fn view(&self) -> PoolView {
        PoolView {
            threads: self.threads,
            busy: self.busy.load(Ordering::Relaxed),
            queued: self.jobs.len(),
            queue: self.jobs.capacity().unwrap_or(usize::MAX),
        }
    }
}

/// The pool's threads.
pub(crate) struct Pool {
    sender: PoolSender,
    threads: Vec<JoinHandle<()>>,
    /// Closed when the last thread has ended; nothing is ever sent.
    ended: Receiver<()>,
    /// Closed to end the threads; nothing is ever sent.
    stop: Sender<()>,
}

impl Pool {
    /// Starts `threads` threads behind a queue of `queue` jobs.
    pub fn start(threads: usize, queue: usize) -> std::io::Result<Pool> {
        let (sender, jobs) = bounded(queue);
        let (alive, ended) = bounded(0);
        let (stop, stopped) = bounded(0);
        let sender = PoolSender { jobs: sender, busy: Arc::default(), threads };
        let threads = (0..threads)
            .map(|i| {
                let (jobs, stopped, alive) = (jobs.clone(), stopped.clone(), alive.clone());
                let busy = Arc::clone(&sender.busy);
                let name = format!("pool-{i}");
                std::thread::Builder::new().name(name).spawn(move || run(&jobs, &stopped, &alive, &busy))
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Pool { sender, threads, ended, stop })
    }

    /// A way to hand over jobs.
    pub fn sender(&self) -> PoolSender {
        self.sender.clone()
    }

    /// Ends the threads, each after the job that it has, and waits for them until `deadline`. Returns
    /// how many are still busy then; they are left to themselves. Jobs in the queue are dropped.
    pub fn join(self, deadline: Instant) -> usize {
        drop(self.stop);
        let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        // Disconnected: each has left its loop, and is over in a moment if it does not seem so yet.
        let all = self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected);
        let (done, busy): (Vec<_>, Vec<_>) = self.threads.into_iter().partition(|thread| all || thread.is_finished());
        for thread in done {
            if thread.join().is_err() {
                log::error!("a thread of the blocking pool panicked outside of a handler; this is a fault of tidegate");
            }
        }
        busy.len()
    }
}

fn run(jobs: &Receiver<Job>, stopped: &Receiver<()>, _alive: &Sender<()>, busy: &AtomicUsize) {
    loop {
        let job = select_biased! {
            recv(stopped) -> _ => return,
            recv(jobs) -> job => job,
        };
        let Ok(job) = job else { return };
        let request = job.request.as_request();
        if request.is_cancelled() {
            job.responder.fail(Failure::of(ErrorCode::DeadlineExceeded));
            continue;
        }
        let responder = Responder::deferred(job.responder);
        // The responder is dropped by the unwinding, and answers INTERNAL.
        busy.fetch_add(1, Ordering::Relaxed);
        let served = catch_unwind(AssertUnwindSafe(|| job.handler.handle(&request, responder)));
        busy.fetch_sub(1, Ordering::Relaxed);
        if served.is_err() {
            // The panic itself was told of by its hook; whose request it was is, where its answer lands.
            log::debug!(cmd:% = request.command(); "the handler of {} panicked", request.command());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_with_nothing_to_do_leaves_no_thread_behind_however_soon_it_is_looked_at() {
        for _ in 0..300 {
            let pool = Pool::start(4, 1).unwrap();
            assert_eq!(pool.join(Instant::now() + Duration::from_secs(60)), 0);
        }
    }
}
