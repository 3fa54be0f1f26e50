//! The shadow follows each step, and checks what has to hold after it.

use tidegate::conn::Cx;
use tidegate::proto::Command;
use tidegate::stats::EndKind;

use super::clock::{Dues, Standing};
use super::expect::{Event, Kind};
use super::model::Ending;
use super::world::{POOLED, World, cx};

/// What a life came to.
pub struct Life {
    /// How the connection ended, in its own words.
    pub ending: String,
    /// What ended it by force, if anything did.
    pub force: &'static str,
    pub accepted: u64,
    pub undelivered: u64,
    pub pings: u64,
}

impl World<'_> {
    /// Catches up with what the connection did with its input.
    pub(super) fn follow_input(&mut self, was_leaving: bool) {
        let frames = self.stats.frames_in.get() as usize;
        if was_leaving {
            assert_eq!(frames, self.frames_seen, "a frame was served beyond the end");
            return;
        }
        let before = self.model.handled;
        assert!(before <= frames, "the host was asked for a frame that is not counted");
        while self.model.handled < frames {
            let event = self.model.next_event().expect("a frame that was never sent");
            assert!(!matches!(event.kind, Kind::Auth { .. } | Kind::Dispatch), "the host was not asked: {event:?}");
            self.model.take_event();
        }
        let last = self.kind_of_last();
        let ended = |kind: Option<Kind>| {
            matches!(kind, Some(Kind::AuthRefused(_) | Kind::GoAway | Kind::Bye | Kind::Fatal(_) | Kind::WrongMagic))
        };
        if self.conn.is_leaving() {
            let broken = self.model.next_event().is_some_and(|event: &Event| !event.whole);
            if !ended(last) && self.model.ending == Ending::Open && broken {
                self.model.take_event();
            }
            if self.model.ending == Ending::Open {
                let all = self.model.handled == self.model.incoming.events.len();
                assert!(self.eof && all, "the connection ends for no reason");
                self.model.ending = Ending::Silent;
            }
            self.clock.leaving = self.clock.now;
        }
        if !self.conn.is_leaving() {
            assert_eq!(self.model.ending, Ending::Open, "what ends a connection was passed over");
        }
        if frames > self.frames_seen {
            self.frames_seen = frames;
            self.clock.heard = self.clock.now;
            self.clock.pinged = None;
        }
        let at = self.model.incoming.at;
        self.clock.began = match self.clock.began {
            _ if self.model.incoming.unfinished() == 0 => None,
            Some((since, start)) if start == at => Some((since, start)),
            _ => Some((self.clock.now, at)),
        };
    }

    /// Holds what a look at the timers did against what was due.
    pub(super) fn follow_timeout(&mut self, at: Standing, dues: Dues, claiming: bool) {
        let left = !at.leaving && self.conn.is_leaving();
        let pinged = self.stats.pings_out.get() > self.model.pings.0;
        if left {
            // A session that is not there in time is no fault of the client's.
            let late = if claiming { 14 } else { 5 };
            let fatal = [(dues.frame, 1), (dues.auth, late), (dues.idle, 7)];
            let codes: Vec<u16> = fatal.iter().filter(|(due, _)| due.may).map(|(_, code)| *code).collect();
            assert!(!codes.is_empty() || dues.stall.may, "a time-out before its time: {dues:?}");
            if dues.stall.may {
                self.told_slow();
            } else {
                self.leave_with_error(codes, claiming);
            }
        }
        let must = dues.frame.must || dues.auth.must || dues.idle.must || dues.stall.must;
        assert!(self.conn.is_leaving() || !must, "a time-out was missed: {dues:?}");
        if pinged {
            assert!(dues.ping.may, "a PING before its time");
            self.model.pings.0 = self.stats.pings_out.get();
            self.clock.pinged = Some(self.clock.now);
        }
        assert!(pinged || left || !dues.ping.must, "a PING was missed");
        if at.leaving && self.conn.is_closed() {
            assert!(dues.linger.may || dues.stall.may, "closed before its time: {dues:?}");
            self.stall_reset = !at.lingering;
        }
        if at.leaving && (dues.linger.must || dues.stall.must) {
            assert!(self.conn.is_closed(), "not closed in time: {dues:?}");
        }
        if dues.error.must && !self.conn.is_closed() {
            assert_eq!(self.stats.in_flight.get(), self.pending.len() as u64, "an ERROR that waits for ever");
        }
    }

    /// The connection leaves, in this way, at this moment.
    pub(super) fn leave(&mut self, ending: Ending) {
        self.model.ending = ending;
        self.clock.leaving = self.clock.now;
    }

    /// It leaves with an ERROR of its own, which is AUTH's answer if that waits for one.
    pub(super) fn leave_with_error(&mut self, codes: Vec<u16>, claiming: bool) {
        self.model.auth_overtaken = claiming;
        let (seq, cmd) = if claiming { (self.model.requests[0].seq, 1) } else { (0, 0) };
        self.leave(Ending::Error { codes, seq, cmd, request: claiming });
    }

    pub(super) fn told_slow(&mut self) {
        self.model.slow = true;
        self.clock.slow = Some(self.clock.now);
        self.leave_with_error(vec![20], false);
    }

    /// What has to be said before the half-close.
    pub(super) fn check_all_said(&mut self) {
        assert_eq!(self.conn.unsent(&cx!(self)), 0, "unsent bytes at the end");
        assert!(!self.model.torn(&self.stream.sent), "the last frame is not whole");
        let waited = self.clock.now >= self.clock.leaving + u64::from(self.rules.linger_ms);
        match &self.model.ending {
            Ending::Open | Ending::Reset => panic!("half-closed at {:?}", self.model.ending),
            Ending::Error { .. } if self.model.slow || waited => assert!(self.model.last_word),
            Ending::Error { .. } | Ending::GoAway { .. } | Ending::Bye { .. } => {
                assert!(self.model.last_word, "half-closed before the last word");
                assert!(self.model.all_answered(), "half-closed before everything is answered");
            }
            Ending::Silent => assert!(self.model.all_answered(), "half-closed before everything is answered"),
        }
    }

    /// Whether the server does not listen to the client: then nothing is the client's silence.
    pub(super) fn deaf(&mut self) -> bool {
        !self.conn.is_leaving() && !self.conn.wants_input(&cx!(self))
    }

    pub(super) fn note_deafness(&mut self) {
        if self.deaf() {
            self.clock.listening = self.clock.now;
        }
    }

    /// What holds after every turn.
    pub(super) fn check(&mut self) {
        self.note_deafness();
        self.check_ledger();
        self.check_buffers();
        if self.conn.is_leaving() {
            return;
        }
        assert!(self.conn.next_deadline(&self.rules, &self.buffers).is_some(), "an open connection has a timer");
        let unsent = self.conn.unsent(&cx!(self));
        assert!(unsent <= self.rules.outbound_max, "{unsent} bytes wait");
        if self.model.handled < self.model.incoming.events.len() {
            let full = self.pending.len() >= usize::from(self.rules.max_in_flight);
            let excuse = self.conn.is_claiming() || full || unsent > self.rules.outbound_low;
            assert!(excuse && self.conn.is_paused(), "a whole frame is left lying");
        }
        if unsent > self.rules.outbound_high {
            assert!(!self.conn.wants_input(&cx!(self)), "reads on above the high mark");
        }
    }

    fn check_ledger(&self) {
        let stats = &self.stats;
        let (accepted, in_flight) = (stats.accepted.get(), stats.in_flight.get());
        for (name, _, _, value) in stats.each() {
            assert!(value < 1 << 40, "{name} fell below zero");
        }
        let sum = stats.answered.get() + stats.failed.get() + stats.cut.get() + in_flight;
        assert_eq!(accepted, sum, "the ledger's law");
        assert_eq!(accepted, self.model.accepted(), "requests accepted");
        let own = in_flight.checked_sub(self.pending.len() as u64).expect("a handler's request is in flight");
        match () {
            _ if self.conn.is_closed() => assert_eq!(own, 0, "a request that nobody will answer"),
            _ if self.conn.is_leaving() => assert!(own <= u64::from(!self.pending.is_empty()), "{own} left over"),
            _ => assert_eq!(own, u64::from(self.conn.is_claiming()), "only AUTH waits by itself"),
        }
        assert!(self.conn.is_closed() || usize::from(self.conn.in_flight()) == self.pending.len());
        assert_eq!(stats.bytes_out.get(), self.stream.sent.len() as u64, "bytes sent");
        assert!(stats.connections_cut.get() <= 1 && stats.connections_lost.get() <= 1, "counted once");
    }

    fn check_buffers(&mut self) {
        assert!(self.out.is_empty(), "the scratch is empty after a turn");
        if self.conn.is_closed() {
            return; // what it holds goes back when it is abandoned
        }
        let handled = self.model.handled.checked_sub(1).map_or(0, |at| self.model.incoming.events[at].end);
        let tail = if self.conn.is_leaving() { 0 } else { self.model.incoming.bytes.len() - handled };
        let lent = usize::from(tail > 0) + usize::from(self.conn.has_queue());
        assert_eq!(self.buffers.lent(), lent, "buffers lent, with {tail} bytes of tail");
        assert_eq!(self.conn.is_bare(), lent == 0);
        let unsent = self.conn.unsent(&cx!(self));
        self.most_held = self.most_held.max(tail.max(unsent));
        // Two buffers; each at most doubled as it grew, and with a part in front that is done with.
        let bound = 2 * (POOLED + 4 * self.most_held);
        assert!(self.buffers.lent_bytes() <= bound, "{} bytes lent", self.buffers.lent_bytes());
    }

    /// The connection is over: everything goes back, and the books are closed.
    pub(super) fn settle(mut self) -> Life {
        let ended = self.conn.is_leaving();
        self.conn.abandon(&mut cx!(self));
        assert_eq!(self.buffers.lent(), 0, "a buffer was not given back");
        assert_eq!(self.buffers.outbound_bytes(), 0, "bytes wait in no buffer");
        for _ in self.pending.drain(..) {
            // As the worker does with an answer whose connection is gone.
            self.stats.in_flight.sub(1);
            self.stats.count_answered(Command(0xFF), 1);
            self.stats.undelivered.add(1);
        }
        self.check_ledger();
        assert_eq!(self.stats.in_flight.get(), 0, "in flight after the end");
        let accounted = self.model.delivered + self.stats.undelivered.get() + self.stats.cut.get();
        assert_eq!(self.stats.accepted.get(), accounted, "answered, or counted as not: {:?}", self.stats);
        let (answered, failed) = self.stats.requests.sum();
        let told = self.stats.answered.get() + self.stats.failed.get();
        assert!(
            answered + failed >= told && answered + failed - told <= self.stats.cut.get(),
            "by command, and in sum"
        );
        assert!(self.stats.errors.sum() == failed, "each ERROR to a request has its code");
        assert_eq!(self.conn.cause().is_some(), ended, "what has ended has a cause");
        let cut = self.conn.cause().is_some_and(|cause| cause.kind() == EndKind::Cut);
        assert_eq!(cut, self.stats.connections_cut.get() == 1, "{:?}", self.conn.cause());
        let ending = match &self.model.ending {
            Ending::Error { codes, .. } => format!("error {}", codes[0]),
            Ending::GoAway { reason, .. } => format!("goaway {reason}"),
            Ending::Bye { .. } => "bye".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        let force = match () {
            _ if self.cut => "cut",
            _ if self.lost => "lost",
            _ if self.stall_reset => "stalled",
            _ => "no force",
        };
        let stats = &self.stats;
        let [accepted, undelivered, pings] = [&stats.accepted, &stats.undelivered, &stats.pings_out].map(|c| c.get());
        Life { ending, force, accepted, undelivered, pings }
    }
}
