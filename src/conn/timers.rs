//! What a connection does when nothing happens.

use super::{Connection, Cx, Flags, Millis, Rules, State};
use crate::conn::Buffers;
use crate::proto::{Command, ErrorCode, encode};

impl Connection {
    /// When [`Connection::handle_timeout`] has something to do, if nothing happens before.
    ///
    /// It moves later whenever something is heard; a caller that looks earlier does no harm.
    pub fn next_deadline(&self, rules: &Rules, buffers: &Buffers) -> Option<Millis> {
        let own = match self.state {
            State::Auth | State::Claiming => Some(self.mark.plus(rules.auth_timeout_ms)),
            State::Ready => Some(self.heard.plus(self.silence_ms(rules))),
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
            return self.give_up_sending(cx);
        }
        if self.frame_deadline(cx.rules, cx.buffers).is_some_and(|at| cx.now.reached(at)) {
            return self.fail(cx, ErrorCode::Malformed);
        }
        match self.state {
            State::Auth | State::Claiming if cx.now.reached(self.mark.plus(cx.rules.auth_timeout_ms)) => {
                self.fail(cx, ErrorCode::AuthTimeout);
            }
            State::Ready => self.check_silence(cx),
            State::Finishing if self.error_waits() && cx.now.reached(self.mark.plus(cx.rules.linger_ms)) => {
                self.say_end(cx);
            }
            State::Lingering if cx.now.reached(self.mark.plus(cx.rules.linger_ms)) => self.state = State::Closed,
            _ => {}
        }
    }

    fn check_silence(&mut self, cx: &mut Cx<'_>) {
        if self.flags.has(Flags::PAUSED) {
            self.heard = cx.now; // we are not listening: that is no silence of the client's
            return;
        }
        if !cx.now.reached(self.heard.plus(self.silence_ms(cx.rules))) {
            return;
        }
        if self.flags.has(Flags::PINGED) {
            return self.fail(cx, ErrorCode::Idle);
        }
        self.flags.set(Flags::PINGED, true);
        cx.stats.pings_out.add(1);
        let fitted = encode(cx.out, 0, Command::PING, &[]);
        debug_assert!(fitted, "empty");
    }

    /// Silence after which something is due: the PING, or after it the end.
    fn silence_ms(&self, rules: &Rules) -> u32 {
        if self.flags.has(Flags::PINGED) {
            self.heartbeat_ms.saturating_mul(1 + rules.heartbeat_misses).min(crate::limits::MAX_TIMER_MS)
        } else {
            self.heartbeat_ms
        }
    }

    fn frame_deadline(&self, rules: &Rules, buffers: &Buffers) -> Option<Millis> {
        let id = self.tail.filter(|_| !self.flags.has(Flags::PAUSED) && !self.is_leaving())?;
        Some(buffers.get(id).since.plus(rules.frame_timeout_ms))
    }

    /// When output that stands still is too old.
    fn stall_deadline(&self, rules: &Rules, buffers: &Buffers) -> Option<Millis> {
        let since = buffers.get(self.queue?).since;
        let limit = if self.flags.has(Flags::SLOW) { rules.linger_ms } else { rules.slow_consumer_ms };
        Some(since.plus(limit))
    }
}
