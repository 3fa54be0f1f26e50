//! What a connection does when nothing happens.

use super::{Connection, Cx, Flags, Millis, Rules, State};
use crate::conn::Buffers;
use crate::limits::MAX_TIMER_MS;
use crate::proto::{Command, ErrorCode, encode};
use crate::stats::Cause;

impl Connection {
    /// When [`Connection::handle_timeout`] has something to do, if nothing happens before.
    ///
    /// It moves later whenever something is heard; a caller that looks earlier does no harm.
    pub fn next_deadline(&self, rules: &Rules, buffers: &Buffers) -> Option<Millis> {
        let own = match self.state {
            State::Auth | State::Claiming => Some(self.mark.plus(rules.auth_timeout_ms)),
            State::Ready => Some(self.silence_deadline(rules)),
            State::Finishing if self.error_waits() => Some(self.mark.plus(rules.linger_ms)),
            State::Lingering => Some(self.mark.plus(rules.linger_ms)),
            State::Finishing | State::Flushing | State::Closed => None,
        };
        [own, self.frame_deadline(rules, buffers), self.stall_deadline(rules, buffers)]
            .into_iter()
            .flatten()
            .reduce(Millis::min)
    }

    /// Does what is due at `cx.now`.
    pub fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        if self.stall_deadline(cx.rules, cx.buffers).is_some_and(|at| cx.now.reached(at)) {
            return self.give_up_sending(cx, Cause::SlowConsumer);
        }
        if self.frame_deadline(cx.rules, cx.buffers).is_some_and(|at| cx.now.reached(at)) {
            self.because(Cause::FrameTimeout);
            return self.fail(cx, ErrorCode::Malformed);
        }
        match self.state {
            State::Auth if cx.now.reached(self.mark.plus(cx.rules.auth_timeout_ms)) => {
                self.fail(cx, ErrorCode::AuthTimeout);
            }
            // The client has done its part; the session it asked for is not to be had.
            State::Claiming if cx.now.reached(self.mark.plus(cx.rules.auth_timeout_ms)) => {
                self.fail(cx, ErrorCode::Unavailable);
            }
            State::Ready => self.check_silence(cx),
            State::Finishing if self.error_waits() && cx.now.reached(self.mark.plus(cx.rules.linger_ms)) => {
                self.say_end(cx);
            }
            State::Lingering if cx.now.reached(self.mark.plus(cx.rules.linger_ms)) => self.state = State::Closed,
            _ => {}
        }
    }

    /// When the wait for the peer's EOF ends; `None` where there is none, or where the peer was told
    /// that it is too slow.
    pub fn linger_deadline(&self, rules: &Rules) -> Option<Millis> {
        let lingers = self.state == State::Lingering && !self.flags.has(Flags::SLOW);
        lingers.then(|| self.mark.plus(rules.linger_ms))
    }

    /// The wait for the peer's EOF begins anew: it has not got everything yet.
    pub fn linger_on(&mut self, now: Millis) {
        debug_assert!(self.is_lingering(), "only a wait that has begun goes on");
        self.mark = now;
    }

    fn check_silence(&mut self, cx: &mut Cx<'_>) {
        if self.flags.has(Flags::PAUSED) {
            return self.restart_silence(cx.now);
        }
        if !cx.now.reached(self.silence_deadline(cx.rules)) {
            return;
        }
        if self.flags.has(Flags::PINGED) {
            return self.fail(cx, ErrorCode::Idle);
        }
        self.flags.set(Flags::PINGED, true);
        self.mark = cx.now;
        cx.stats.pings_out.add(1);
        let fitted = encode(cx.out, 0, Command::PING, &[]);
        debug_assert!(fitted, "empty");
    }

    /// While it was paused we were not listening: that is no silence of the client's.
    pub(super) fn restart_silence(&mut self, now: Millis) {
        self.heard = now;
        if self.flags.has(Flags::PINGED) {
            self.mark = now;
        }
    }

    /// When silence has something due: the PING, or after it the end. The latter counts from when
    /// the PING went out, which may have been late: the client gets the whole time to answer.
    fn silence_deadline(&self, rules: &Rules) -> Millis {
        if self.flags.has(Flags::PINGED) {
            self.mark.plus(self.heartbeat_ms.saturating_mul(rules.heartbeat_misses).min(MAX_TIMER_MS))
        } else {
            self.heard.plus(self.heartbeat_ms)
        }
    }

    fn frame_deadline(&self, rules: &Rules, buffers: &Buffers) -> Option<Millis> {
        let id = self.tail.filter(|_| !self.flags.has(Flags::PAUSED) && !self.is_leaving())?;
        Some(buffers.get(id).since.plus(rules.frame_timeout_ms))
    }

    /// When output that stands still, or moves by drops, is too old.
    fn stall_deadline(&self, rules: &Rules, buffers: &Buffers) -> Option<Millis> {
        let queue = buffers.get(self.queue?);
        if self.flags.has(Flags::SLOW) {
            return Some(self.mark.plus(rules.linger_ms)); // however little of it the client takes at a time
        }
        let still = queue.since.plus(rules.slow_consumer_ms);
        Some(still.min(queue.marked.plus(rules.outbound_age_ms)))
    }
}
