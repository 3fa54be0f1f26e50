//! One turn of a worker's loop.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;

use super::deadlines::Deadlines;
use super::gate::Gate;
use super::held::Held;
use super::hub::{Hub, SessionRef};
use super::inspect::Listing;
use super::leave::CutConnection;
use super::live::{Live, LiveCell};
use super::mailbox::Inbox;
use super::serve::Services;
use super::steps::{self, StepClock};
use super::token::{self, ConnToken, Source};
use super::transport::Transport;
use super::turn::Delivery;
use crate::config::Config;
use crate::conn::{Buffers, Connection, Cx, Millis, Rules};
use crate::limits::{REFUSAL_SLOTS, WORKER_PULSE_MS};
use crate::stats::{Step, WorkerStats};

/// Sessions forgotten in one tick.
const SWEEP_PER_TICK: usize = 1_024;

/// Everything that one worker owns.
///
/// A tick, in this order: poll, read ready connections within their budget, the run queue of those
/// that had more, the mailbox, one write for each connection that has new output, accept, timers.
pub struct Reactor {
    pub(super) poll: Poll,
    pub(super) signals: Option<Signals>,
    pub(super) gate: Gate,
    pub(super) conns: Slab<Slot>,
    pub(super) generation: u32,
    pub(super) hub: Hub,
    pub(super) services: Services,
    pub(super) wire: Wire,
    live: Arc<LiveCell>,
    /// The version of `live` that this worker goes by.
    adopted: u64,
    pub(super) scratch: Vec<u8>,
    pub(super) inbox: Inbox,
    pub(super) deadlines: Deadlines,
    /// Connections that have more to read, or to parse, than one turn allowed.
    pub(super) run_queue: VecDeque<ConnToken>,
    /// Connections with output that this tick has not written yet.
    pub(super) dirty: Vec<ConnToken>,
    pub(super) pace: Pace,
    pub(super) draining: bool,
    /// Connections on which nothing more is accepted.
    pub(super) leaving: usize,
    /// Connections past their linger time that still take what they were sent.
    pub(super) delivering: HashMap<ConnToken, Delivery>,
    /// Connections that a drain has cut before its end, because they took nothing more.
    pub(super) cuts: Vec<CutConnection>,
    /// Lists of connections that are being made.
    pub(super) listings: VecDeque<Listing>,
    pub(super) steps: StepClock,
    /// The longest that the poll sleeps, so that an idle worker can be told from one that hangs.
    pulse: Duration,
    /// Failed logins whose answer is put off.
    pub(super) held: Held,
    /// When the worker's clock began; readers of its last tick have the same.
    started: Instant,
    /// When there was last something to do, on the clock of `started`.
    worked: Duration,
    mail_left: bool,
    signalled: bool,
}

/// What a tick may take upon itself: from [`crate::config::Core`], and changed by a reload.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Bytes that one connection may be read.
    pub read_budget: usize,
    /// Answers and letters, so that a flood of them does not hold up the sockets.
    pub mail_batch: usize,
    /// Bytes that the send scratch shrinks back to.
    pub send_scratch: usize,
    /// How long after the last work the poll does not sleep.
    pub busy_poll: Duration,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").field("hub", &self.hub).field("conns", &self.conns.len()).finish_non_exhaustive()
    }
}

/// One connection and its stream. With its slab entry 56 bytes.
#[derive(Debug)]
pub struct Slot {
    pub(super) transport: Transport,
    pub(super) conn: Connection,
    pub(super) generation: u32,
    pub(super) session: SessionRef,
    /// The peer has shut down its side: reading must go on to the EOF, no further edge will come.
    pub(super) hup: bool,
}

#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Slot>() <= 56, "what each of a million connections costs");

/// What connections share of the worker for their input and output.
#[derive(Debug)]
pub struct Wire {
    pub(super) rules: Rules,
    pub(super) stats: Arc<WorkerStats>,
    pub(super) buffers: Buffers,
    pub(super) out: Vec<u8>,
}

impl Wire {
    pub(super) fn cx(&mut self, now: Millis) -> Cx<'_> {
        Cx { now, rules: &self.rules, stats: &self.stats, buffers: &mut self.buffers, out: &mut self.out }
    }
}

/// What [`Reactor::new`] puts together.
pub struct Parts {
    /// The worker's poll; its mailbox's waker is registered with it already.
    pub poll: Poll,
    /// The worker's listening sockets.
    pub listeners: Vec<std::net::TcpListener>,
    /// Somebody else has opened those, and keeps them.
    pub listeners_are_kept: bool,
    /// The worker's own self-pipe for signals.
    pub signals: Option<Signals>,
    /// Sessions, requests in flight, mailboxes.
    pub hub: Hub,
    /// The inside of the worker's mailbox.
    pub inbox: Inbox,
    /// What all workers share.
    pub services: Services,
    /// What all workers share, and may be given anew.
    pub live: Arc<LiveCell>,
}

impl Reactor {
    /// Puts a worker together; registers listeners and signals.
    pub fn new(config: &Config, parts: Parts) -> io::Result<Reactor> {
        let Parts { poll, listeners, listeners_are_kept, mut signals, hub, inbox, services, live } = parts;
        let worker = usize::from(hub.worker);
        let core = config.core(worker);
        let gate = Gate::new(&poll, listeners, listeners_are_kept, &config.sockets, core)?;
        if let Some(signals) = &mut signals {
            poll.registry().register(signals, token::SIGNALS, Interest::READABLE)?;
        }
        let stats = Arc::clone(&hub.stats);
        let slots = core.max_connections + REFUSAL_SLOTS;
        let started = stats.pulse.epoch;
        let mut reactor = Reactor {
            poll,
            signals,
            gate,
            // Reserved once and never moved; pages that are not touched cost nothing.
            conns: Slab::with_capacity(slots),
            generation: 0,
            hub,
            services,
            wire: Wire {
                rules: Rules::of(config, worker),
                stats,
                buffers: Buffers::default(),
                out: Vec::with_capacity(core.send_scratch),
            },
            live,
            adopted: 0,
            scratch: vec![0; core.read_scratch],
            inbox,
            deadlines: Deadlines::with_capacity(slots),
            run_queue: VecDeque::new(),
            dirty: Vec::new(),
            pace: Pace::default(),
            draining: false,
            leaving: 0,
            delivering: HashMap::new(),
            cuts: Vec::new(),
            listings: VecDeque::new(),
            steps: StepClock::new(started.elapsed()),
            pulse: Duration::from_millis(WORKER_PULSE_MS),
            started,
            held: Held::new(config, worker),
            worked: Duration::ZERO,
            mail_left: false,
            signalled: false,
        };
        reactor.tune(config);
        Ok(reactor)
    }

    /// Takes the settings that may be other ones after a reload.
    fn tune(&mut self, config: &Config) {
        let worker = usize::from(self.hub.worker);
        let core = config.core(worker);
        self.wire.rules = Rules::of(config, worker);
        self.wire.buffers.keep(core.pooled_buffers, core.pooled_buffer_bytes);
        self.gate.set_batch(core.accept_batch);
        self.deadlines.set_granularity(core.timer_granularity_ms);
        self.hub.pending.set_granularity(core.timer_granularity_ms);
        self.pulse = Duration::from_millis(WORKER_PULSE_MS).min(config.health_limit / 4);
        self.held.tune(config, worker);
        self.hub.expiries.tune(config, worker);
        self.hub.hop_timeout_ms = self.wire.rules.session_hop_timeout_ms;
        self.hub.access.set_rate(config.access_log_rate, self.hub.stats.accepted.get());
        self.pace = Pace {
            read_budget: core.read_budget,
            mail_batch: core.mail_batch,
            send_scratch: core.send_scratch,
            busy_poll: Duration::from_micros(u64::from(core.busy_poll_us)),
        };
    }

    /// Polls, at most until `wake_at`, and does everything that there is to do.
    pub fn tick(&mut self, events: &mut Events, wake_at: Option<Instant>) -> io::Result<()> {
        let wait = self.patience(wake_at);
        if let Err(error) = self.poll.poll(events, wait)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        let elapsed = self.read_clock();
        if !events.is_empty() {
            self.worked = elapsed;
        }
        self.wire.stats.ticks.add(1);
        self.adopt_newer();
        let queued = self.run_queue.len();
        for event in events.iter() {
            match token::source(event.token()) {
                Source::Connection(token) => self.handle_event(token, event),
                Source::Listener(index) => self.gate.ready(index),
                Source::Signals => self.signalled = true,
                Source::Waker => {}
            }
        }
        for _ in 0..queued {
            let Some(token) = self.run_queue.pop_front() else { break };
            self.serve(token);
        }
        // Before looking: what comes after this wakes us again.
        let notified = self.hub.mailboxes[usize::from(self.hub.worker)].opened();
        self.steps.lap(Step::Other);
        self.mail_left = (notified || self.mail_left) && self.read_mail(self.pace.mail_batch);
        self.steps.lap(Step::Handle);
        self.turn_stored();
        self.hand_over();
        self.go_on_listing();
        self.hub.empty_outbox();
        self.flush_dirty();
        self.accept();
        self.fire_timers();
        self.evict();
        self.wire.out.shrink_to(self.pace.send_scratch);
        self.publish();
        Ok(())
    }

    /// A thread runs the worker from here on, or no longer. On that thread.
    pub(crate) fn set_running(&mut self, running: bool) {
        self.steps.restart(self.started.elapsed());
        steps::publish_cpu_time(&self.wire.stats);
        self.wire.stats.pulse.set_running(running);
    }

    /// Writes down how full everything is.
    fn publish(&mut self) {
        let stats = &*self.wire.stats;
        stats.run_queue.set(self.run_queue.len() as u64);
        stats.pending.set(self.hub.pending.len() as u64);
        stats.outbox.set(self.hub.outbox.len() as u64);
        stats.outbound_bytes.set(self.wire.buffers.outbound_bytes() as u64);
        stats.buffer_bytes.set(self.wire.buffers.lent_bytes() as u64);
        self.steps.slowly(stats);
    }

    /// After a panic: what the poll told, or the mailbox, may have been half dealt with, and no edge
    /// tells of it again.
    pub(super) fn look_everywhere(&mut self) {
        self.mail_left = true;
        self.signalled = true;
        self.gate.all_ready();
    }

    /// Takes over what may change while connections are open. What a connection was promised (its
    /// heartbeat, its largest payload, its session's time to live) stays as it was told.
    ///
    /// Before anything else in a tick: whoever connects after a reload meets what it brought.
    fn adopt_newer(&mut self) {
        let Some(Live { config, auth }) = self.live.newer(&mut self.adopted) else { return };
        self.tune(&config);
        self.services.auth = auth;
    }

    /// The signals that came since the last call.
    pub fn take_signals(&mut self) -> Vec<i32> {
        // Reading the self-pipe is a system call: only when the poll has told of it.
        if !std::mem::take(&mut self.signalled) {
            return Vec::new();
        }
        self.signals.as_mut().map_or_else(Vec::new, |signals| signals.pending().collect())
    }

    /// Connections open.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Requests in flight, at handlers or at other workers.
    pub fn in_flight(&self) -> usize {
        self.hub.pending.len()
    }

    /// Takes the time once for everything that happens in this tick.
    pub(super) fn read_clock(&mut self) -> Duration {
        let elapsed = self.started.elapsed();
        self.wire.stats.pulse.beat(elapsed);
        self.steps.work(elapsed, &self.wire.stats);
        self.hub.now = Millis::from(elapsed);
        self.hub.now_s = elapsed.as_secs().min(u64::from(u32::MAX)) as u32;
        elapsed
    }

    pub(super) fn now(&self) -> Millis {
        self.hub.now
    }

    /// How long the poll may sleep.
    fn patience(&mut self, wake_at: Option<Instant>) -> Option<Duration> {
        let elapsed = self.started.elapsed();
        self.steps.rest(elapsed, &self.wire.stats);
        if !self.run_queue.is_empty() || self.mail_left || self.gate.is_ready() || !self.listings.is_empty() {
            return Some(Duration::ZERO);
        }
        if elapsed.saturating_sub(self.worked) < self.pace.busy_poll {
            return Some(Duration::ZERO);
        }
        let now = Millis::from(elapsed);
        let until = |at: Millis| Duration::from_millis(u64::from(at.since(now)));
        let sessions = self.hub.sessions.next_end().map(|s| Duration::from_secs(u64::from(s)).saturating_sub(elapsed));
        let outbox = (!self.hub.outbox.is_empty()).then_some(Duration::from_millis(1));
        let logins = [self.held.next(), self.hub.expiries.next(), self.hub.next_stored(now)];
        let timers = [self.deadlines.next(), self.hub.pending.next_deadline(), self.gate.paused_until()];
        let outside = wake_at.map(|at| at.saturating_duration_since(self.started + elapsed));
        if outside == Some(Duration::ZERO) {
            return outside; // there is more to do, and only a look at the sockets in between
        }
        timers
            .into_iter()
            .chain(logins)
            .flatten()
            .map(until)
            .chain(sessions)
            .chain(outbox)
            .chain(outside)
            .chain([self.pulse])
            .min()
            // epoll counts in whole milliseconds; half a one too early would be a poll for nothing.
            .map(|wait| wait + Duration::from_micros(999))
    }

    fn fire_timers(&mut self) {
        let mut due = Vec::new();
        self.deadlines.expired(self.now(), &mut due);
        for key in due {
            if let Some(slot) = self.conns.get(key) {
                let token = ConnToken { slot: key as u32, generation: slot.generation };
                self.handle_timeout(token);
            }
        }
        self.expire_pending();
        self.answer_held();
        self.expire_tokens();
        self.flush_dirty();
        let expired = self.hub.sessions.sweep(self.hub.now_s, SWEEP_PER_TICK);
        self.hub.note_ends();
        self.wire.stats.sessions_expired.add(expired as u64);
        self.wire.stats.sessions.set(self.hub.sessions.len() as u64);
    }
}
