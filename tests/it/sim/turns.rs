//! A worker's part: bytes in, output out, timers, each followed by the shadow.

use tidegate::conn::{Action, Cx};

use super::clock::Standing;
use super::expect::Kind;
use super::host::ModelHost;
use super::model::Ending;
use super::socket::Socket;
use super::world::{MAX_REPLY, World, cx, note};

/// Most bytes that the server reads at once.
const READ: usize = 4096;

impl World<'_> {
    /// Some of what is on its way reaches the server, or the EOF behind it.
    pub(super) fn deliver(&mut self) {
        if self.closed || self.stream.broken {
            return;
        }
        if self.stream.up.is_empty() && self.stream.client_fin && !self.eof {
            return self.end_of_input(); // the kernel may tell of it also while nothing is read
        }
        if !self.conn.wants_input(&cx!(self)) {
            return;
        }
        let most = self.stream.up.len().min(READ);
        let n = if self.dice.chance(60) { most } else { most.min(1 + self.dice.below(20)) };
        if n == 0 {
            return;
        }
        let bytes: Vec<u8> = self.stream.up.drain(..n).collect();
        note!(self, "reads {n}: {:02x?}", &bytes[..n.min(48)]);
        self.input(&bytes);
        self.turn();
    }

    fn end_of_input(&mut self) {
        note!(self, "EOF");
        let (was_leaving, was_lingering) = (self.conn.is_leaving(), self.conn.is_lingering());
        self.eof = true;
        self.conn.handle_eof(&mut cx!(self));
        if was_lingering {
            assert!(self.conn.is_closed(), "EOF ends the lingering");
        }
        if !was_leaving && self.conn.is_leaving() {
            assert_eq!(self.model.handled, self.model.incoming.events.len(), "EOF swallowed frames");
            self.leave(Ending::Silent);
        }
        self.turn();
    }

    fn input(&mut self, bytes: &[u8]) {
        let was_leaving = self.conn.is_leaving();
        self.model.incoming.push(bytes);
        let queued = self.conn.unsent(&cx!(self));
        let mut host = ModelHost {
            dice: &mut self.dice,
            queued,
            rules: &self.rules,
            max_reply: MAX_REPLY,
            model: &mut self.model,
            pending: &mut self.pending,
            ended_session: &mut self.ended_session,
        };
        self.conn.handle_input(&mut cx!(self), &mut host, bytes);
        self.follow_input(was_leaving);
    }

    /// Flushes, does what that asks for, and goes on where it had paused.
    pub(super) fn turn(&mut self) {
        loop {
            self.flush();
            if self.closed || !self.conn.is_paused() || !self.conn.wants_input(&cx!(self)) {
                break;
            }
            self.input(&[]);
        }
        self.check();
    }

    fn flush(&mut self) {
        let was_leaving = self.conn.is_leaving();
        self.note_deafness();
        let (before, sent) = (self.conn.unsent(&cx!(self)), self.stream.sent.len());
        self.most_held = self.most_held.max(before);
        let mut socket = Socket { stream: &mut self.stream, dice: &mut self.dice, stingy: self.stingy };
        let action = self.conn.flush(&mut cx!(self), &mut socket);
        let took = self.stream.sent.len() - sent;
        note!(self, "flush: {took} of {before}, {action:?}");
        self.lost |= self.stream.broken && self.conn.is_closed() && !self.cut;
        if !was_leaving && self.conn.is_leaving() && !self.lost {
            assert!(before - took > self.rules.outbound_max, "ended for slowness below the bound");
            self.told_slow();
        }
        let waits = self.conn.has_queue() && !self.conn.is_closed();
        self.clock.progress = match self.clock.progress {
            _ if !waits => None,
            Some(since) if took == 0 => Some(since),
            _ => Some(self.clock.now),
        };
        self.follow_queue();
        self.model.observe(&self.stream.sent);
        self.act(action);
    }

    /// Sets the point up to which output waits, when there is none or it is reached.
    pub(super) fn follow_queue(&mut self) {
        let (sent, unsent) = (self.stream.sent.len(), self.conn.unsent(&cx!(self)));
        self.clock.behind = match self.clock.behind {
            _ if self.conn.is_closed() || !self.conn.has_queue() => None,
            Some((since, end)) if sent < end => Some((since, end)),
            _ => Some((self.clock.now, sent + unsent)),
        };
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::None => assert!(!self.conn.is_closed(), "closed, and the caller does not know"),
            Action::HalfClose => {
                assert!(!self.stream.half_closed, "a second half-close");
                self.check_all_said();
                self.stream.half_closed = true;
                self.clock.half_closed = self.clock.now;
            }
            Action::Close => {
                if !self.stream.half_closed && !self.lost {
                    assert!(self.eof, "closed without a half-close before EOF");
                    self.check_all_said();
                }
                let lingered = self.clock.now >= self.clock.half_closed + u64::from(self.rules.linger_ms);
                assert!(self.eof || self.lost || lingered, "closed before EOF and before the linger time");
                self.closed = true;
            }
            Action::Reset => {
                let reason = self.cut || self.stall_reset || self.model.ending == Ending::Reset;
                assert!(reason, "a reset for no reason");
                self.closed = true;
            }
        }
    }

    /// Milliseconds to the connection's next deadline.
    pub(super) fn deadline(&self) -> Option<u64> {
        let now = self.base.plus(self.clock.now as u32);
        self.conn.next_deadline(&self.rules, &self.buffers).map(|at| u64::from(at.since(now)))
    }

    pub(super) fn time_out(&mut self) {
        if self.closed {
            return;
        }
        let at = Standing {
            ready: self.conn.is_ready(),
            deaf: self.deaf(),
            leaving: self.conn.is_leaving(),
            lingering: self.conn.is_lingering(),
            error_waits: matches!(self.model.ending, Ending::Error { .. }) && !self.pending.is_empty(),
            heartbeat: u64::from(self.model.heartbeat),
        };
        let dues = self.clock.dues(&self.rules, at);
        note!(self, "{} ms: time-out {:?}", self.clock.now, self.clock);
        let claiming = self.conn.is_claiming();
        self.conn.handle_timeout(&mut cx!(self));
        self.follow_timeout(at, dues, claiming);
        self.turn();
        if !self.closed {
            assert_ne!(self.deadline(), Some(0), "a deadline that stays due: a busy loop");
        }
    }

    pub(super) fn kind_of_last(&self) -> Option<Kind> {
        self.model.handled.checked_sub(1).map(|at| self.model.incoming.events[at].kind)
    }
}
