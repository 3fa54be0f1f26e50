//! Workers, put together before any of them runs, and what makes the supervisor look up.

use std::sync::Arc;

use crossbeam_channel::Sender;
use mio::{Poll, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::drain::DrainRun;
use super::inherited::Sockets;
use super::plan::{Drain, Notify};
use super::worker::{Report, Worker};
use crate::config::Config;
use crate::journal::{Inlet, Journal};
use crate::limits::REFUSAL_SLOTS;
use crate::reactor::{self, Expiries, Hub, Inbox, LiveCell, Mailbox, Parts, Reactor, Services};
use crate::session::{IdKey, SessionLimits, Sessions, StateLimits};
use crate::stats::WorkerStats;

/// Reports every SIGHUP, until the handle is closed.
pub(super) fn hangups(reports: Sender<Report>) -> std::io::Result<signal_hook::iterator::Handle> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP])?;
    let handle = signals.handle();
    let forward = move || {
        for _ in &mut signals {
            // The supervisor has ended, and so will this thread.
            let _ = reports.send(Report::Reload("signal:SIGHUP".to_owned()));
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward)?;
    Ok(handle)
}

/// Makes the supervisor look up when a drain begins.
#[derive(Debug)]
pub(super) struct DrainBegan(pub Sender<Report>);

impl Notify for DrainBegan {
    fn notify(&self) {
        // The supervisor has ended: there is nothing left to drain.
        let _ = self.0.send(Report::DrainBegan);
    }
}

/// The workers' parts that know of each other, before there are workers.
pub(super) struct Assembly {
    polls: Vec<(Poll, Inbox, Option<Signals>)>,
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub stats: Vec<Arc<WorkerStats>>,
    pub ids: IdKey,
}

impl Assembly {
    pub fn new(config: &Config, routes: usize, signals: bool) -> std::io::Result<Assembly> {
        let mut assembly = Assembly { polls: Vec::new(), mailboxes: Vec::new(), stats: Vec::new(), ids: IdKey::new() };
        for worker in 0..config.workers {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), reactor::WAKER)?;
            let (mailbox, inbox) = reactor::mailbox(config.core(worker).mailbox, waker);
            let signals = signals.then(|| Signals::new([SIGTERM, SIGINT])).transpose()?;
            assembly.polls.push((poll, inbox, signals));
            assembly.mailboxes.push(mailbox);
            assembly.stats.push(Arc::new(WorkerStats::for_routes(routes)));
        }
        Ok(assembly)
    }

    /// The workers, each to be spawned.
    pub fn workers(
        &mut self,
        live: &Arc<LiveCell>,
        sockets: Sockets,
        services: &Services,
        drain: &Arc<Drain>,
        reports: &Sender<Report>,
        journal: Option<&Arc<Journal>>,
    ) -> std::io::Result<Vec<Worker>> {
        let config = &*live.get().config;
        let state = StateLimits { entries: config.session_max_entries, bytes: config.session_max_bytes };
        let ttl_s = config.session_ttl.as_secs().min(u64::from(u32::MAX)) as u32;
        let polls = std::mem::take(&mut self.polls);
        let mut workers = Vec::with_capacity(config.workers);
        for (index, ((poll, inbox, signals), listeners)) in polls.into_iter().zip(sockets.listeners).enumerate() {
            let core = config.core(index);
            let limits = SessionLimits { sessions: core.max_sessions, state, ttl_s };
            let mut hub = Hub::new(
                index as u16,
                Sessions::new(index as u16, self.ids.clone(), limits),
                self.ids.clone(),
                self.mailboxes.clone(),
                core.max_pending,
                Arc::clone(&self.stats[index]),
                Expiries::new(config, index, core.max_connections + REFUSAL_SLOTS),
            );
            hub.journal = journal.map(|journal| Inlet::new(Arc::clone(journal), index as u16));
            let live = Arc::clone(live);
            let services = services.clone();
            let parts =
                Parts { poll, listeners, listeners_are_kept: sockets.kept, signals, hub, inbox, services, live };
            workers.push(Worker {
                index,
                reactor: Reactor::new(config, parts)?,
                events: core.events,
                cpu: config.cpu(index),
                drain: Arc::clone(drain),
                run: DrainRun::new(index, config.workers),
                reports: reports.clone(),
                signals_seen: 0,
                deaths: 0,
                died: None,
            });
        }
        Ok(workers)
    }
}
