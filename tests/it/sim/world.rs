//! One life of one connection: what happens to it, driven as a worker drives it.

use std::collections::VecDeque;

use tidegate::conn::{Buffers, Connection, Cx, Departure, Millis, Rules};
use tidegate::proto::{Command, ErrorReply, GoAwayReason};
use tidegate::stats::{Cause, WorkerStats};

use super::client::Client;
use super::clock::Clock;
use super::dice::Dice;
use super::host::{Pending, WELCOME, decide_error, decide_reply, refusal, write_reply};
use super::laws::Life;
use super::model::{Answer, Ending, Model};
use super::socket::Stream;

/// Bytes of a buffer that is kept for reuse.
pub(super) const POOLED: usize = 16 * 1024;
/// Largest reply of a handler.
pub(super) const MAX_REPLY: usize = 9_000;
/// Events that a failure prints.
const LAST_EVENTS: usize = 40;

/// A connection, what is around it, and the shadow that knows better.
pub struct World<'d> {
    pub(super) dice: Dice<'d>,
    pub(super) rules: Rules,
    pub(super) stats: WorkerStats,
    pub(super) buffers: Buffers,
    pub(super) out: Vec<u8>,
    pub(super) conn: Connection,
    pub(super) stream: Stream,
    pub(super) client: Client,
    pub(super) pending: Vec<Pending>,
    pub(super) model: Model,
    pub(super) clock: Clock,
    pub(super) base: Millis,
    pub(super) ended_session: bool,
    pub(super) stingy: bool,
    pub(super) eof: bool,
    pub(super) lost: bool,
    pub(super) cut: bool,
    pub(super) stall_reset: bool,
    pub(super) closed: bool,
    /// Frames that the connection has counted so far.
    pub(super) frames_seen: usize,
    /// Most bytes that waited in one direction, also in the middle of a turn.
    pub(super) most_held: usize,
    pub(super) log: Option<VecDeque<String>>,
}

/// What a step of the connection needs, from the fields of a world.
macro_rules! cx {
    ($w:expr) => {
        Cx {
            now: $w.base.plus($w.clock.now as u32),
            rules: &$w.rules,
            stats: &$w.stats,
            buffers: &mut $w.buffers,
            out: &mut $w.out,
        }
    };
}

macro_rules! note {
    ($w:expr, $($what:tt)*) => {
        if $w.log.is_some() {
            $w.write_down(format!($($what)*));
        }
    };
}

pub(super) use {cx, note};

impl<'d> World<'d> {
    pub fn new(mut dice: Dice<'d>, log: bool) -> World<'d> {
        let rules = any_rules(&mut dice);
        let base = Millis(dice.pick(&[0, 12_345, u32::MAX - 3_000]));
        let client = Client::new(&mut dice, rules.max_payload);
        let window = dice.pick(&[100_000, 100_000, 20_000, 5_000, 300, 20]);
        let mut world = World {
            stats: WorkerStats::default(),
            buffers: Buffers::new(1_024, POOLED),
            out: Vec::new(),
            conn: Connection::new(base),
            stream: Stream { window, ..Stream::default() },
            pending: Vec::new(),
            model: Model::new(rules.max_payload),
            clock: Clock::default(),
            ended_session: false,
            stingy: dice.chance(30),
            eof: false,
            lost: false,
            cut: false,
            stall_reset: false,
            closed: false,
            frames_seen: 0,
            most_held: 0,
            log: log.then(VecDeque::new),
            dice,
            rules,
            client,
            base,
        };
        note!(world, "{:?} {:?} window {window}", world.rules, world.client.manners);
        world
    }

    /// Lives to the end. Panics if anything is not as it has to be.
    pub fn live(mut self) -> Life {
        if self.dice.chance(2) {
            self.turn_away();
        }
        if !self.dice.chance(15) {
            self.client.speak(&mut self.dice, &mut self.stream);
        }
        let steps = self.dice.pick(&[10, 60, 200, 600]);
        for _ in 0..steps {
            if self.closed || self.dice.spent() {
                break;
            }
            self.step();
        }
        let worker_ends = self.dice.chance(2); // and abandons what it has
        if !worker_ends {
            self.run_out();
        }
        self.settle()
    }

    fn step(&mut self) {
        match self.dice.weighted(&[60, 70, 40, 50, 20, 30, 1, 2, 1, 1, 1]) {
            0 => (0..self.dice.between(1, 3)).for_each(|_| self.client.speak(&mut self.dice, &mut self.stream)),
            1 => self.deliver(),
            2 => self.client_reads(),
            3 => self.complete(),
            4 => self.claim(),
            5 => self.pass_time(),
            6 => self.client.fin(&mut self.dice, &mut self.stream),
            7 => self.notice(),
            8 if self.dice.chance(50) => self.finish(),
            9 if self.dice.chance(20) => self.cut_now(),
            10 if self.dice.chance(30) => self.break_link(),
            _ => {}
        }
    }

    /// Whether bytes are on their way that can still arrive.
    pub(super) fn arrives(&self) -> bool {
        !self.stream.up.is_empty() && !self.stream.broken
    }

    /// A handler, any of them, has its answer.
    fn complete(&mut self) {
        if self.pending.is_empty() || self.closed {
            return;
        }
        self.note_deafness();
        let together = self.dice.between(1, 3).min(self.pending.len());
        for _ in 0..together {
            let at = self.dice.below(self.pending.len());
            let pending = self.pending.swap_remove(at);
            let cmd = Command(pending.cmd);
            note!(self, "completes seq {}", pending.seq);
            if self.dice.chance(80) {
                let reply = decide_reply(&mut self.dice, &mut self.model, &pending, MAX_REPLY);
                self.conn.answered(&mut cx!(self), cmd, |out| write_reply(out, &pending, &reply));
            } else {
                let code = decide_error(&mut self.dice, &mut self.model, &pending);
                let error = ErrorReply::new(code, cmd, "no");
                self.conn.failed(&mut cx!(self), cmd, code, |out| error.encode(out, pending.seq));
            }
            if self.dice.chance(60) {
                self.conn.hold(&mut cx!(self));
                self.clock.progress = self.clock.progress.or(self.conn.has_queue().then_some(self.clock.now));
                self.follow_queue();
            }
        }
        match self.dice.weighted(&[96, 2, 2]) {
            0 => self.turn(),
            // The end comes in the same tick, before the answers are flushed.
            1 => self.cut_now(),
            _ => self.lose(),
        }
    }

    /// The verdict on an AUTH that was put off.
    fn claim(&mut self) {
        if !self.conn.is_claiming() {
            let was = self.conn.is_leaving();
            assert!(!self.conn.welcome(&mut cx!(self), WELCOME), "nobody waits for a verdict");
            assert_eq!((was, self.out.len()), (self.conn.is_leaving(), 0));
            return;
        }
        self.note_deafness();
        let seq = self.model.requests[0].seq;
        if self.dice.chance(80) {
            note!(self, "welcome");
            self.model.requests[0].answer = Answer::Ready;
            self.clock.heard = self.clock.now;
            assert!(self.conn.welcome(&mut cx!(self), WELCOME));
            assert!(self.conn.is_ready());
        } else {
            note!(self, "refuse");
            let refusal = refusal(&mut self.model, seq);
            assert!(self.conn.refuse(&mut cx!(self), refusal));
            self.clock.leaving = self.clock.now;
        }
        self.turn();
    }

    fn client_reads(&mut self) {
        self.client.read(&mut self.dice, &mut self.stream);
        if !self.closed && self.conn.has_queue() {
            self.turn(); // the socket is writable
        }
    }

    fn pass_time(&mut self) {
        let deadline = self.deadline();
        let far = self.dice.below(3_000) as u64;
        let ahead = match self.dice.weighted(&[150, 5, 2, 2, 10, 1]) {
            0 => self.dice.below(50) as u64,
            1 => deadline.unwrap_or(far),
            2 => deadline.map_or(far, |d| d + self.dice.below(11) as u64),
            3 => deadline.map_or(far, |d| d.saturating_sub(1)), // a look one moment too early does no harm
            4 => far,
            _ => 600_000, // the whole process slept
        };
        self.clock.now += ahead;
        if deadline.is_some_and(|d| ahead + 1 >= d) || self.dice.chance(10) {
            if self.dice.chance(50) {
                self.deliver();
            }
            self.time_out();
        }
    }

    fn departure_reason(&mut self) -> GoAwayReason {
        self.dice.pick(&[GoAwayReason::Drain, GoAwayReason::Replaced, GoAwayReason::Operator, GoAwayReason::Upgrade])
    }

    fn notice(&mut self) {
        let addresses = ["a.example:1".to_owned()];
        let reason = self.departure_reason();
        note!(self, "notice {reason:?}");
        if self.conn.is_ready() {
            self.model.notices.push(reason as u8);
            self.model.given_notice = Some(reason as u8);
        }
        self.expect_draining();
        let departure = Departure { reason, deadline_ms: 9, reconnect_after_ms: 7, addresses: &addresses };
        self.conn.notice(&mut cx!(self), departure);
        self.turn();
    }

    fn finish(&mut self) {
        let reason = self.departure_reason();
        note!(self, "finish {reason:?}");
        if self.conn.is_ready() {
            assert_eq!(self.conn.last_seq(), self.model.last_seq());
            self.leave(Ending::GoAway { reason: reason as u8, last_seq: self.model.last_seq() });
        }
        self.expect_draining();
        self.conn.finish(&mut cx!(self), Departure::because(reason, 1_000));
        self.turn();
    }

    /// A connection that is not ready when a drain comes is told so.
    fn expect_draining(&mut self) {
        if !self.conn.is_ready() && !self.conn.is_leaving() {
            let claiming = self.conn.is_claiming();
            self.leave_with_error(vec![13], claiming);
        }
    }

    fn cut_now(&mut self) {
        if self.closed {
            return;
        }
        note!(self, "cut");
        self.cut = true;
        let requests = self.conn.cut(&mut cx!(self), Cause::DrainDeadline);
        assert_eq!(requests, self.stats.cut.get());
        self.turn();
    }

    fn break_link(&mut self) {
        note!(self, "the link breaks");
        self.stream.broken = true;
        if self.dice.chance(50) && !self.closed {
            self.lose();
        }
    }

    /// A read or the poll tells that the peer is gone.
    fn lose(&mut self) {
        self.stream.broken = true;
        self.lost = true;
        self.conn.handle_lost(&mut cx!(self));
        self.turn();
    }

    fn turn_away(&mut self) {
        self.leave_with_error(vec![12], false);
        self.conn.turn_away(&mut cx!(self), 50);
        self.turn();
    }

    /// The client is silent from here on, handlers answer, and the connection has to come to an end.
    fn run_out(&mut self) {
        let mut parting = self.dice.below(4);
        for turn in 0..400 {
            if turn == 200 {
                parting = 3; // whoever still reads a byte now and then stops too
            }
            if self.closed {
                return;
            }
            if !self.pending.is_empty() {
                self.complete();
            } else if parting == 1 && !self.stream.client_fin {
                self.client.fin(&mut self.dice, &mut self.stream);
            } else if parting == 2 && self.arrives() && self.conn.wants_input(&cx!(self)) {
                self.deliver();
            } else {
                if parting != 3 {
                    self.client_reads();
                    self.deliver();
                }
                if self.closed || !self.pending.is_empty() {
                    continue;
                }
                let ahead = self.deadline();
                self.clock.now += ahead.expect("nothing is in flight, the client is silent, and no timer runs");
                self.time_out();
            }
        }
        panic!("a connection whose client is gone does not end");
    }

    pub(super) fn write_down(&mut self, event: String) {
        let Some(log) = &mut self.log else { return };
        if log.len() == LAST_EVENTS {
            log.pop_front();
        }
        log.push_back(event);
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.iter().flatten().for_each(|event| eprintln!("  {event}"));
        }
    }
}

fn any_rules(dice: &mut Dice<'_>) -> Rules {
    let outbound_high = dice.pick(&[200, 2_000, 30_000, 262_144]);
    Rules {
        auth_timeout_ms: dice.between(1_000, 6_000) as u32,
        frame_timeout_ms: dice.between(500, 10_000) as u32,
        heartbeat_ms: dice.pick(&[500, 2_000, 30_000]),
        heartbeat_misses: dice.between(1, 3) as u32,
        linger_ms: dice.between(500, 3_000) as u32,
        slow_consumer_ms: dice.between(1_000, 10_000) as u32,
        outbound_age_ms: dice.between(500, 20_000) as u32,
        session_hop_timeout_ms: 5_000,
        session_ttl_s: 300,
        max_payload: dice.pick(&[512, 2_000, 65_535]),
        max_in_flight: dice.pick(&[1, 2, 5, 64]),
        outbound_high,
        outbound_low: dice.pick(&[0, outbound_high / 4, outbound_high]),
        outbound_max: dice.pick(&[outbound_high, outbound_high + 5_000, 1 << 20]),
        buffer_bytes: usize::MAX,
    }
}
