//! One worker's way through a drain, phase by phase.

use std::time::{Duration, Instant};

use super::plan::{Drain, Plan};
use crate::reactor::{CutConnection, Leftover, Reactor};
use crate::stats::{self, Cause, WorkerStats};

/// GOAWAYs sent between two looks at the sockets: few enough that a connection is still in the CPU's
/// caches when its peer answers.
const GOAWAYS_PER_TICK: usize = 64;
/// How often notices go out while they are spread over time.
const NOTICE_STEP: Duration = Duration::from_millis(5);

/// Where a worker is in its drain. A phase ends the moment it has nothing left to do.
#[derive(Debug)]
enum Phase {
    /// No drain.
    Serving,
    /// Not ready any more, still accepting.
    Announce,
    /// No handshake begins; those that had begun come in.
    Gate { settled_at: Instant },
    /// GOAWAY stage 0 goes out, spread over half of the notice; requests are served. Left out where
    /// the notice lasts no time.
    Notice { from: Instant, until: Instant, slots: usize, next: usize },
    /// GOAWAY stage 1 goes out.
    Final { slots: usize, next: usize },
    /// What was accepted is being answered.
    Finish,
    /// What was answered is being sent, and EOFs are awaited.
    Flush,
    /// Nothing is left; other workers may still need this one's sessions.
    Idle,
}

/// When each phase ended, from the drain's beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timeline {
    pub announce: Duration,
    pub gate: Duration,
    pub notice: Duration,
    pub finish: Duration,
    pub flush: Duration,
}

/// One worker's drain.
#[derive(Debug)]
pub(crate) struct DrainRun {
    phase: Phase,
    pub timeline: Timeline,
    worker: usize,
    workers: usize,
    /// Descriptors had run out when the gate was to be closed: whoever waits in the backlog comes in,
    /// and is told to go, as others leave.
    gate_ajar: bool,
}

/// A drain that has come to its end.
#[derive(Debug)]
pub(crate) struct Drained {
    pub timeline: Timeline,
    pub cuts: Vec<CutConnection>,
    /// Its sessions, if a store is to know of them.
    pub sessions: Option<Box<Leftover>>,
}

impl DrainRun {
    pub fn new(worker: usize, workers: usize) -> DrainRun {
        DrainRun { phase: Phase::Serving, timeline: Timeline::default(), worker, workers, gate_ajar: false }
    }

    /// When [`DrainRun::step`] has something to do, if nothing happens before.
    pub fn wake_at(&self, drain: &Drain) -> Option<Instant> {
        let plan = drain.plan()?;
        let own = match &self.phase {
            Phase::Announce => plan.announce_until,
            Phase::Gate { settled_at } => *settled_at,
            Phase::Notice { until, slots, next, .. } if next == slots => *until,
            Phase::Notice { from, slots, next, .. } => {
                let now = Instant::now();
                if *next < noticed_by(now, *from, plan.notice, *slots) { now } else { now + NOTICE_STEP }
            }
            Phase::Serving | Phase::Final { .. } => Instant::now(),
            Phase::Finish | Phase::Flush | Phase::Idle => plan.cut_at,
        };
        Some(own.min(plan.cut_at))
    }

    /// Goes as far as it can. `Some`: it is over.
    pub fn step(&mut self, reactor: &mut Reactor, drain: &Drain) -> Option<Drained> {
        let plan = drain.plan()?;
        if drain.is_over() {
            return Some(self.cut(reactor, drain));
        }
        loop {
            let before = std::mem::discriminant(&self.phase);
            self.advance(reactor, drain, plan);
            self.publish(reactor.stats());
            if matches!(self.phase, Phase::Idle) && drain.all_are_idle() {
                return Some(Drained { timeline: self.timeline, cuts: reactor.take_cuts(), sessions: None });
            }
            if std::mem::discriminant(&self.phase) == before {
                return None;
            }
        }
    }

    /// After a panic the worker has no connections: it begins its drain anew, with nothing left of
    /// the phases behind it.
    pub fn was_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    fn advance(&mut self, reactor: &mut Reactor, drain: &Drain, plan: &Plan) {
        let now = Instant::now();
        let elapsed = now.duration_since(plan.begun);
        if self.gate_ajar && matches!(self.phase, Phase::Finish | Phase::Flush) {
            self.let_the_rest_in(reactor, plan.left_ms(now));
        }
        match &mut self.phase {
            Phase::Serving => {
                reactor.begin_drain();
                self.phase = Phase::Announce;
            }
            // Nobody is lost in the backlog of a socket that outlives this process, and whoever waits there
            // is served sooner than one who is let in only to be sent away.
            Phase::Announce if now >= plan.announce_until && reactor.listeners_are_kept() => {
                self.timeline.announce = elapsed;
                reactor.close_listeners();
                self.close_gate(reactor, plan, now);
            }
            Phase::Announce if now >= plan.announce_until => {
                self.timeline.announce = elapsed;
                self.phase = Phase::Gate { settled_at: reactor.stop_handshakes(now) };
            }
            // The last look comes after the settling: what it finds was in the backlog by then.
            Phase::Gate { settled_at }
                if (reactor.empty_backlogs() || reactor.accepting_is_paused()) && now >= *settled_at =>
            {
                self.gate_ajar = reactor.accepting_is_paused();
                if !self.gate_ajar {
                    reactor.close_listeners();
                }
                self.close_gate(reactor, plan, now);
            }
            Phase::Notice { from, until, slots, next } => {
                let target = noticed_by(now, *from, plan.notice, *slots).min(*next + GOAWAYS_PER_TICK);
                let spread = Spread { worker: self.worker, workers: self.workers, slots: *slots, over: plan.notice };
                reactor.notice(*next..target, plan.left_ms(now), |slot| spread.delay_ms(slot));
                *next = target;
                if reactor.all_are_leaving() || (*next == *slots && now >= *until) {
                    self.timeline.notice = elapsed;
                    self.phase = Phase::Final { slots: reactor.slots(), next: 0 };
                }
            }
            Phase::Final { slots, next } => {
                let target = (*next + GOAWAYS_PER_TICK).min(*slots);
                let spread = Spread { worker: self.worker, workers: self.workers, slots: *slots, over: plan.notice };
                reactor.finish(*next..target, plan.left_ms(now), |slot| spread.delay_ms(slot));
                *next = target;
                if *next == *slots {
                    self.phase = Phase::Finish;
                }
            }
            Phase::Finish if reactor.in_flight() == 0 => {
                self.timeline.finish = elapsed;
                self.phase = Phase::Flush;
            }
            Phase::Flush if reactor.connections() == 0 && reactor.in_flight() == 0 && !self.gate_ajar => {
                self.timeline.flush = elapsed;
                drain.worker_is_idle();
                self.phase = Phase::Idle;
            }
            _ => {}
        }
    }

    /// From here on nobody comes in any more.
    fn close_gate(&mut self, reactor: &Reactor, plan: &Plan, now: Instant) {
        let elapsed = now.duration_since(plan.begun);
        self.timeline.gate = elapsed;
        let slots = reactor.slots();
        self.phase = if plan.notice.is_zero() {
            // Nobody could make anything of a notice that ends as it is given.
            self.timeline.notice = elapsed;
            Phase::Final { slots, next: 0 }
        } else {
            Phase::Notice { from: now, until: now + plan.notice, slots, next: 0 }
        };
    }

    /// Tells whoever watches how far it is.
    fn publish(&self, stats: &WorkerStats) {
        stats.drain.enter(match &self.phase {
            Phase::Serving => stats::Phase::Serving,
            Phase::Announce => stats::Phase::Announce,
            Phase::Gate { .. } => stats::Phase::Gate,
            Phase::Notice { .. } => stats::Phase::Notice,
            Phase::Final { .. } | Phase::Finish => stats::Phase::Finish,
            Phase::Flush => stats::Phase::Flush,
            Phase::Idle => stats::Phase::Persist,
        });
        let Timeline { announce, gate, notice, finish, flush } = self.timeline;
        let ends = [announce, gate, notice, finish, flush].map(|end| end.as_millis() as u64);
        stats.drain.ended_ms[1..].iter().zip(ends).for_each(|(told, end)| told.set(end));
    }

    /// Takes as many out of the backlog as there are descriptors for, and tells them to go.
    fn let_the_rest_in(&mut self, reactor: &mut Reactor, left_ms: u32) {
        self.gate_ajar = !reactor.empty_backlogs();
        reactor.finish(0..reactor.slots(), left_ms, |_| 0);
        if !self.gate_ajar {
            reactor.close_listeners();
        }
    }

    fn cut(&mut self, reactor: &mut Reactor, drain: &Drain) -> Drained {
        reactor.close_listeners();
        let cause = if drain.was_told_to_cut() { Cause::SecondSignal } else { Cause::DrainDeadline };
        let cuts = reactor.cut_all(cause);
        reactor.stats().drain.enter(stats::Phase::Persist);
        Drained { timeline: self.timeline, cuts, sessions: None }
    }
}

/// How many of `slots` should have been given notice by now, spread over half of the notice.
fn noticed_by(now: Instant, from: Instant, notice: Duration, slots: usize) -> usize {
    let spread = notice / 2;
    let passed = now.saturating_duration_since(from);
    if passed >= spread {
        return slots;
    }
    let share = passed.as_secs_f64() / spread.as_secs_f64();
    // Few enough for one tick go at once.
    ((slots as f64 * share) as usize).max(GOAWAYS_PER_TICK).min(slots)
}

/// Gives each connection a time of its own to reconnect, so that they do not all come at once.
struct Spread {
    worker: usize,
    workers: usize,
    slots: usize,
    over: Duration,
}

impl Spread {
    /// In each group of as many milliseconds as there are workers, each worker has its own one: how
    /// many connections the others have does not matter.
    fn delay_ms(&self, slot: usize) -> u32 {
        let over_ms = self.over.as_millis().min(u128::from(u32::MAX)) as u64;
        let (slots, workers) = (self.slots.max(1) as u64, self.workers.max(1) as u64);
        let group = (slot as u64).min(slots) * (over_ms / workers) / slots;
        (group * workers + self.worker as u64).min(over_ms) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_spread_over_half_of_the_notice_and_few_go_at_once() {
        let (from, notice) = (Instant::now(), Duration::from_secs(2));
        let by = |ms, slots| noticed_by(from + Duration::from_millis(ms), from, notice, slots);
        assert_eq!((by(0, 10), by(0, 100_000)), (10, GOAWAYS_PER_TICK));
        assert_eq!((by(250, 100_000), by(999, 100_000)), (25_000, 99_900));
        assert_eq!((by(1_000, 100_000), by(5_000, 100_000)), (100_000, 100_000));
        assert_eq!(noticed_by(from, from, Duration::ZERO, 7), 7);
    }

    #[test]
    fn every_connection_of_every_worker_has_its_own_time_to_reconnect() {
        // Workers have as many connections as they happen to have.
        let slots = [40, 120, 7];
        let mut delays: Vec<u32> = (0..slots.len())
            .flat_map(|worker| {
                let spread =
                    Spread { worker, workers: slots.len(), slots: slots[worker], over: Duration::from_secs(1) };
                (0..slots[worker]).map(move |slot| spread.delay_ms(slot)).collect::<Vec<_>>()
            })
            .collect();
        delays.sort_unstable();
        delays.dedup();
        assert_eq!((delays.len(), delays[0]), (167, 0));
        assert!(delays[166] > 980 && delays[166] <= 1_000, "over the whole of it: {}", delays[166]);
    }
}
