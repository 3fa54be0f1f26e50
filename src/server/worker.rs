//! One worker thread: pinned to a core, turning its reactor's loop until a drain is over.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::Sender;
use mio::Events;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::drain::{DrainRun, Drained};
use super::plan::Drain;
use crate::reactor::{Disconnected, Reactor};
use crate::service::panic_message;

/// From workers to the supervisor.
#[derive(Debug)]
pub(crate) enum Report {
    /// Settings and secrets are to be read again, and who wants it.
    Reload(String),
    /// A worker turns its loop, for the first time or after it died.
    Serving(usize),
    /// A drain begins: the supervisor's clock runs.
    DrainBegan,
    /// A worker's drain is over.
    Drained(usize, Drained),
    /// A worker panicked, or its poll failed. What is left of it comes along, to be started anew.
    Died(Box<Worker>, String),
    /// An operator had this worker's connection go; the last is who.
    Disconnected(u16, Box<Disconnected>, String),
    /// The journal's disk has failed, and how.
    JournalFailed(String),
}

/// What a worker thread runs.
#[derive(Debug)]
pub(crate) struct Worker {
    pub index: usize,
    pub reactor: Reactor,
    pub cpu: Option<usize>,
    /// Events taken from the kernel in one poll.
    pub events: usize,
    pub drain: Arc<Drain>,
    pub run: DrainRun,
    pub reports: Sender<Report>,
    /// Signals that this worker's self-pipe has told of.
    pub signals_seen: u32,
    /// Times that it died lately.
    pub deaths: u32,
    /// When it last did.
    pub died: Option<Instant>,
}

impl Worker {
    /// Starts the thread.
    pub fn spawn(self: Box<Worker>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(format!("worker-{}", self.index)).spawn(move || self.main())
    }

    fn main(mut self: Box<Worker>) {
        self.pin();
        let reports = self.reports.clone();
        self.reactor.set_running(true);
        let served = catch_unwind(AssertUnwindSafe(|| self.serve()));
        self.reactor.set_running(false);
        let report = match served {
            Ok(Ok(drained)) => Report::Drained(self.index, drained),
            Ok(Err(error)) => Report::Died(self, format!("its poll failed: {error}")),
            Err(panic) => Report::Died(self, panic_message(&*panic)),
        };
        // The supervisor lives until it has heard of every worker, or has given this one up.
        let _ = reports.send(report);
    }

    fn serve(&mut self) -> io::Result<Drained> {
        let mut events = Events::with_capacity(self.events);
        // The supervisor lives until it has heard the last of every worker.
        let _ = self.reports.send(Report::Serving(self.index));
        loop {
            self.reactor.tick(&mut events, self.run.wake_at(&self.drain))?;
            for signal in self.reactor.take_signals() {
                self.handle_signal(signal);
            }
            if let Some(mut drained) = self.run.step(&mut self.reactor, &self.drain) {
                self.reactor.close_access_log();
                drained.sessions = self.reactor.take_leftover();
                return Ok(drained);
            }
        }
    }

    fn handle_signal(&mut self, signal: i32) {
        self.signals_seen += 1;
        // Every worker sees every signal: the first one of each begins the same drain.
        if self.signals_seen > 1 {
            return self.drain.cut_now();
        }
        match signal {
            SIGINT => self.drain.begin("signal:SIGINT", true),
            SIGTERM => self.drain.begin("signal:SIGTERM", false),
            other => self.drain.begin(&format!("signal:{other}"), false),
        }
    }

    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    fn pin(&self) {
        let Some(cpu) = self.cpu else { return };
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        match rustix::thread::sched_setaffinity(None, &set) {
            Ok(()) => log::debug!(worker = self.index, cpu = cpu; "pinned to CPU {cpu}"),
            Err(error) => {
                log::warn!(worker = self.index, cpu = cpu; "not pinned to CPU {cpu}: {error}; it runs anywhere")
            }
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    fn pin(&self) {
        if let Some(cpu) = self.cpu {
            log::debug!(worker = self.index, cpu = cpu; "not pinned to CPU {cpu}: this system offers no such call");
        }
    }
}
