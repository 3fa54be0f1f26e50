//! How a connection ends: in good order, with an ERROR, or by force.

use super::{Connection, Cx, Departure, End, Flags, State};
use crate::proto::{Command, ErrorCode, ErrorReply, GoAway, GoAwayReason, GoAwayStage, encode};
use crate::stats::{Cause, EndKind};

impl Connection {
    /// A drain begins: GOAWAY stage 0 to a ready client, ERROR `DRAINING` to one that is not ready.
    pub fn notice(&mut self, cx: &mut Cx<'_>, departure: Departure<'_>) {
        match self.state {
            State::Ready => {
                self.noticed = Some(departure.reason);
                let goaway = GoAway {
                    stage: GoAwayStage::Notice,
                    reason: departure.reason,
                    last_seq: GoAway::NO_LAST_SEQ,
                    deadline_ms: departure.deadline_ms,
                    reconnect_after_ms: departure.reconnect_after_ms,
                    addresses: departure.addresses.to_vec(),
                };
                cx.stats.notices_out.add(1);
                goaway.encode(cx.out);
            }
            State::Auth | State::Claiming => {
                cx.stats.connections_refused.add(1);
                self.fail(cx, ErrorCode::Draining);
            }
            _ => {}
        }
    }

    /// GOAWAY stage 1: nothing more is accepted, everything accepted is answered, then it ends.
    pub fn finish(&mut self, cx: &mut Cx<'_>, departure: Departure<'_>) {
        match self.state {
            State::Ready => self.say_final(cx, departure),
            State::Auth | State::Claiming => {
                cx.stats.connections_refused.add(1);
                self.fail(cx, ErrorCode::Draining);
            }
            _ => {}
        }
    }

    /// The token of a ready connection has expired: [`GoAwayReason::Operator`], and it counts as that.
    pub fn expire(&mut self, cx: &mut Cx<'_>, departure: Departure<'_>, stage: GoAwayStage) {
        debug_assert!(departure.reason == GoAwayReason::Operator && self.is_ready());
        self.flags.set(Flags::EXPIRED, true);
        match stage {
            GoAwayStage::Notice => self.notice(cx, departure),
            GoAwayStage::Final => self.finish(cx, departure),
        }
    }

    /// Tells a connection that there is no room for it, before anything was read from it.
    pub fn turn_away(&mut self, cx: &mut Cx<'_>, retry_after_ms: u32) {
        cx.stats.connections_refused.add(1);
        let mut error =
            ErrorReply::new(ErrorCode::Overloaded, Command(0), "this core has all the connections it may have");
        error.retry_after_ms = retry_after_ms;
        cx.stats.notices_out.add(1);
        error.encode(cx.out, 0);
        self.because(Cause::Limit);
        self.leave(cx);
    }

    /// Ends it now, with a reset. Returns the answers that were produced and not sent, and the AUTH
    /// or BYE that it had in hand itself; they are counted as cut and no longer as answered.
    pub fn cut(&mut self, cx: &mut Cx<'_>, cause: Cause) -> u64 {
        self.hold(cx); // so that the answers in it are counted
        if self.state == State::Closed {
            return 0;
        }
        let mut requests = 0;
        if self.owes() {
            cx.stats.in_flight.sub(1);
            requests += 1;
        }
        let unsent = self.discard_unsent(cx, true);
        cx.stats.answered.sub(unsent.answered);
        cx.stats.failed.sub(unsent.failed);
        requests += unsent.answered + unsent.failed;
        cx.stats.cut.add(requests);
        if !self.flags.has(Flags::SLOW) {
            cx.stats.connections_cut.add(1); // a slow consumer is counted already
        }
        if self.cause.is_none_or(|first| first.kind() != EndKind::Cut) {
            self.cause = Some(cause);
        }
        self.end = End::Nothing;
        // Whoever cuts it has its own reason, and counts it.
        self.flags.set(Flags::SLOW, false);
        self.reset();
        requests
    }

    /// Gives back what it borrowed. To be called once, before it is dropped, however it ended;
    /// answers that it still held are counted as undelivered.
    pub fn abandon(&mut self, cx: &mut Cx<'_>) {
        self.hold(cx); // so that the answers in it are counted
        self.lose_owed(cx);
        let unsent = self.discard_unsent(cx, true);
        cx.stats.undelivered.add(unsent.answered + unsent.failed);
        cx.buffers.give_back(self.tail.take());
        self.end = End::Nothing;
        self.state = State::Closed;
    }

    /// The stream broke: the peer, or the network, is gone.
    pub fn handle_lost(&mut self, cx: &mut Cx<'_>) {
        if self.state != State::Closed {
            self.hold(cx); // so that the answers in it are counted as undelivered
            self.lose_owed(cx);
            cx.stats.connections_lost.add(1);
            self.because(Cause::Lost);
            self.state = State::Closed;
        }
    }

    pub(super) fn say_final(&mut self, cx: &mut Cx<'_>, departure: Departure<'_>) {
        let goaway = GoAway {
            stage: GoAwayStage::Final,
            reason: departure.reason,
            last_seq: self.last_seq,
            deadline_ms: departure.deadline_ms,
            reconnect_after_ms: departure.reconnect_after_ms,
            addresses: departure.addresses.to_vec(),
        };
        cx.stats.notices_out.add(1);
        goaway.encode(cx.out);
        self.because(match departure.reason {
            GoAwayReason::Operator if self.flags.has(Flags::EXPIRED) => Cause::Expired,
            reason => Cause::of_departure(reason),
        });
        self.leave(cx);
    }

    /// An ERROR about the connection, then the end. While AUTH waits for its verdict, the ERROR is
    /// AUTH's answer.
    pub(super) fn fail(&mut self, cx: &mut Cx<'_>, code: ErrorCode) {
        if self.state == State::Claiming {
            return self.end_with(cx, End::RequestError(code), Command::AUTH, self.last_seq);
        }
        self.end_with(cx, End::Error(code), Command(0), 0);
    }

    /// A fatal ERROR for a frame, then the end. If the frame is a request it is counted as one.
    pub(super) fn fail_frame(&mut self, cx: &mut Cx<'_>, code: ErrorCode, cmd: Command, seq: u32) {
        if self.is_leaving() {
            return;
        }
        if cmd.is_request() {
            cx.stats.accepted.add(1);
            cx.stats.in_flight.add(1);
            self.end_with(cx, End::RequestError(code), cmd, seq);
        } else {
            // Its seq is outside the order of requests, and could be that of one in flight.
            self.end_with(cx, End::Error(code), cmd, 0);
        }
    }

    fn end_with(&mut self, cx: &mut Cx<'_>, end: End, cmd: Command, seq: u32) {
        if self.is_leaving() {
            return; // the first fatal error is the one that is told
        }
        if let End::Error(code) | End::RequestError(code) = end {
            self.because(Cause::of_error(code));
        }
        self.end = end;
        self.end_cmd = cmd;
        self.end_seq = seq;
        self.leave(cx);
    }

    /// Why it ends, unless it ends for another reason already.
    pub(super) fn because(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
    }

    /// Nothing more is accepted. What was received and not parsed is dropped: it is beyond last seq.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>) {
        cx.buffers.give_back(self.tail.take());
        self.flags.set(Flags::PAUSED, false);
        self.state = State::Finishing;
        self.mark = cx.now;
        self.advance(cx);
    }

    /// Once all is answered, says the last word.
    pub(super) fn advance(&mut self, cx: &mut Cx<'_>) {
        if self.state == State::Finishing && self.in_flight == 0 {
            self.say_end(cx);
        }
    }

    pub(super) fn say_end(&mut self, cx: &mut Cx<'_>) {
        match self.end {
            End::Nothing => {}
            End::Bye => {
                let fitted = encode(cx.out, self.end_seq, Command::BYE, &[]);
                debug_assert!(fitted, "empty");
                cx.stats.in_flight.sub(1);
                cx.stats.count_answered(Command::BYE, 1);
            }
            End::RequestError(code) => {
                ErrorReply::new(code, self.end_cmd, code.text()).encode(cx.out, self.end_seq);
                cx.stats.in_flight.sub(1);
                cx.stats.count_failed(self.end_cmd, code);
            }
            End::Error(code) => {
                cx.stats.notices_out.add(1);
                ErrorReply::new(code, self.end_cmd, code.text()).encode(cx.out, self.end_seq);
            }
        }
        self.end = End::Nothing;
        self.state = State::Flushing;
        self.mark = cx.now;
    }

    /// Whether it has a request in hand that no handler will answer: AUTH before its verdict, or
    /// the one that the last word answers, before it is said.
    fn owes(&self) -> bool {
        let last_word = matches!(self.end, End::Bye | End::RequestError(_));
        self.state == State::Claiming || (self.state == State::Finishing && last_word)
    }

    /// Accounts for the request in hand when its answer can't be sent any more, by the peer's doing.
    pub(super) fn lose_owed(&mut self, cx: &mut Cx<'_>) {
        if !self.owes() {
            return;
        }
        cx.stats.in_flight.sub(1);
        cx.stats.undelivered.add(1);
        match self.end {
            End::Bye => cx.stats.count_answered(Command::BYE, 1),
            End::RequestError(code) => cx.stats.count_failed(self.end_cmd, code),
            // AUTH, before its verdict.
            End::Nothing | End::Error(_) => cx.stats.count_failed(Command::AUTH, ErrorCode::Unavailable),
        }
    }

    /// Whether a fatal ERROR waits for requests in flight.
    pub(super) fn error_waits(&self) -> bool {
        self.state == State::Finishing && matches!(self.end, End::Error(_) | End::RequestError(_))
    }

    pub(super) fn reset(&mut self) {
        self.state = State::Closed;
        self.flags.set(Flags::RESET, true);
    }
}

impl<'a> Departure<'a> {
    /// A departure with nothing to say but why.
    pub fn because(reason: GoAwayReason, deadline_ms: u32) -> Departure<'a> {
        Departure { reason, deadline_ms, reconnect_after_ms: 0, addresses: &[] }
    }
}
