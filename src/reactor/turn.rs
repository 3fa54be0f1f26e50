//! One connection's turn: read, serve, write.

use slab::Slab;

use super::about::about;
use super::access;
use super::held::unchecked_for;
use super::hub::HandlerFailed;
use super::serve::Turn;
use super::tick::{Reactor, Slot};
use super::token::ConnToken;
use super::transport::ReadOutcome;
use crate::conn::{Action, Connection, Cx, Departure, Millis};
use crate::proto::GoAwayReason;
use crate::stats::{Cause, Label, Step};

impl Reactor {
    /// The kernel has something to say about a connection.
    pub(super) fn handle_event(&mut self, token: ConnToken, event: &mio::event::Event) {
        let Some(slot) = find(&mut self.conns, token) else { return };
        let hup = event.is_read_closed() || event.is_error();
        slot.hup |= hup;
        let writes = event.is_writable() && slot.conn.has_queue();
        if writes {
            self.step(token, |_, _| {});
        }
        if event.is_readable() || hup {
            self.serve(token);
        }
    }

    /// Reads, within the budget, and serves what comes. What is left waits in the run queue.
    pub(super) fn serve(&mut self, token: ConnToken) {
        let now = self.now();
        let Some(slot) = find(&mut self.conns, token) else {
            return;
        };
        let before = Standing::of(&slot.conn);
        let unchecked_ms = unchecked_for(&self.services, &self.held, slot);
        self.steps.lap(Step::Other);
        let mut cx = self.wire.cx(now);
        let session = &mut slot.session;
        let mut host = Turn { hub: &mut self.hub, services: &self.services, token, session, unchecked_ms };
        let mut budget = self.pace.read_budget;
        let mut settled = false;
        let action = loop {
            if !slot.conn.wants_input(&cx) {
                break Action::None;
            }
            let mut short = false;
            if slot.conn.is_paused() {
                slot.conn.handle_input(&mut cx, &mut host, &[]);
            } else if budget == 0 {
                self.run_queue.push_back(token);
                break Action::None;
            } else {
                let read = slot.transport.read(&mut self.scratch);
                self.steps.lap(Step::Read);
                match read {
                    ReadOutcome::Blocked => break Action::None,
                    ReadOutcome::Gone => slot.conn.handle_lost(&mut cx),
                    ReadOutcome::Eof => {
                        settled = slot.conn.is_lingering();
                        slot.conn.handle_eof(&mut cx);
                    }
                    ReadOutcome::Bytes(n) => {
                        cx.stats.bytes_in.add(n as u64);
                        budget = budget.saturating_sub(n);
                        // Less than was asked for: the socket is empty, and the next byte is an edge.
                        short = n < self.scratch.len() && !slot.hup;
                        let mut bytes = &self.scratch[..n];
                        if host.hub.access.is_on() {
                            bytes = access::serve_first(&mut slot.conn, &mut cx, &mut host, bytes);
                        }
                        if !bytes.is_empty() {
                            slot.conn.handle_input(&mut cx, &mut host, bytes);
                        }
                    }
                }
            }
            self.steps.lap(Step::Handle);
            let action = slot.conn.flush(&mut cx, &mut slot.transport);
            self.steps.lap(Step::Flush);
            match action {
                Action::None => {}
                Action::HalfClose => slot.transport.half_close(),
                end => break end,
            }
            if short && !slot.conn.is_paused() {
                break Action::None;
            }
        };
        if self.hub.has_notes() {
            self.tell_notes(token);
        }
        let refused = self.hub.refused.take();
        self.finish_step(token, action, before, settled);
        if let Some(why) = refused {
            self.refuse_auth(token, why);
        }
    }

    /// Logs what a connection's turn has left to be logged.
    #[cold]
    fn tell_notes(&mut self, token: ConnToken) {
        let (failures, finished) = (std::mem::take(&mut self.hub.failures), self.hub.access.take_finished());
        let Some(slot) = self.conns.get(token.slot as usize) else { return };
        let about = self.about(token, slot);
        for HandlerFailed { cmd, seq, trace, panic, answered } in failures {
            let (cmd, panic) = (cmd.to_string(), panic.as_deref());
            let how = if panic.is_some() { "panicked" } else { "let go of its request unanswered" };
            let then = if answered { "behind its answer" } else { "the request gets INTERNAL" };
            about!(Error, about, trace, cmd = cmd.as_str(), seq = seq, panic = panic;
                "the handler of {cmd} {how}: {then}");
        }
        finished.into_iter().for_each(|finished| self.hub.log_access(finished, Some(about.clone())));
    }

    /// Does something to a connection, and what follows from it.
    pub(super) fn step(&mut self, token: ConnToken, act: impl FnOnce(&mut Connection, &mut Cx<'_>)) {
        let now = self.now();
        let Some(slot) = find(&mut self.conns, token) else {
            return;
        };
        let before = Standing::of(&slot.conn);
        let mut cx = self.wire.cx(now);
        let was_read = slot.conn.wants_input(&cx);
        act(&mut slot.conn, &mut cx);
        self.steps.lap(Step::Other);
        let action = slot.conn.flush(&mut cx, &mut slot.transport);
        self.steps.lap(Step::Flush);
        if action == Action::HalfClose {
            slot.transport.half_close();
        }
        // Where reading had stopped no further edge tells of what is in the socket, be it the EOF.
        if slot.conn.wants_input(&cx) && (!was_read || slot.conn.is_paused()) {
            self.run_queue.push_back(token);
        }
        self.finish_step(token, action, before, false);
    }

    /// Something is due on a connection.
    pub(super) fn handle_timeout(&mut self, token: ConnToken) {
        if !self.answer_in_time(token) && !self.keep_delivering(token) {
            self.step(token, |conn, cx| conn.handle_timeout(cx));
        }
        let Some(slot) = find(&mut self.conns, token) else { return };
        let deadline = slot.conn.next_deadline(&self.wire.rules, &self.wire.buffers);
        self.deadlines.set(token.slot as usize, deadline);
    }

    /// A connection's linger time is up while the kernel still holds output of ours for a peer that
    /// reads slowly. To close now would be a reset as soon as the peer sends anything, and take that
    /// output with it: the peer gets time for as long as it takes some of it. When it takes none,
    /// it is cut, and counted so.
    fn keep_delivering(&mut self, token: ConnToken) -> bool {
        let now = self.now();
        let rules = &self.wire.rules;
        let Some(slot) = find(&mut self.conns, token) else {
            return false;
        };
        if !slot.conn.linger_deadline(rules).is_some_and(|at| now.reached(at)) {
            return false;
        }
        let unacked = slot.transport.unacked().unwrap_or(0);
        let before = self.delivering.remove(&token);
        if unacked == 0 {
            return false;
        }
        let mut delivery = before.unwrap_or(Delivery { unacked: u64::MAX, moved: now, begun: now });
        if unacked < delivery.unacked {
            (delivery.unacked, delivery.moved) = (unacked, now);
        }
        let still = now.since(delivery.moved) >= rules.slow_consumer_ms;
        if still || now.since(delivery.begun) >= rules.outbound_age_ms {
            self.step(token, |conn, cx| conn.give_up_sending(cx, Cause::SlowConsumer));
        } else {
            slot.conn.linger_on(now);
            self.delivering.insert(token, delivery);
        }
        true
    }

    /// Writes what connections were given since their turn: one write each.
    pub(super) fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for token in dirty.drain(..) {
            self.step(token, |_, _| {});
        }
        self.dirty = dirty;
    }

    /// Connections whose session went to a newer one.
    pub(super) fn evict(&mut self) {
        for token in std::mem::take(&mut self.hub.evicted) {
            if let Some(slot) = find(&mut self.conns, token) {
                self.hub.forget(&mut slot.session);
                let deadline_ms = self.wire.rules.linger_ms;
                self.step(token, |conn, cx| conn.finish(cx, Departure::because(GoAwayReason::Replaced, deadline_ms)));
            }
        }
    }

    fn finish_step(&mut self, token: ConnToken, action: Action, before: Standing, settled: bool) {
        let key = token.slot as usize;
        if !before.leaving && self.conns[key].conn.is_leaving() {
            self.leaving += 1;
        }
        if matches!(action, Action::Close | Action::Reset) {
            return self.remove(token, action, settled);
        }
        let slot = &self.conns[key];
        // A steady connection's only timer is its heartbeat's, which moves later by itself. One that
        // answers a PING was to be IDLE later than its next heartbeat is due.
        if !before.steady || !Standing::of(&slot.conn).steady {
            self.deadlines.lower(key, slot.conn.next_deadline(&self.wire.rules, &self.wire.buffers));
        }
    }

    pub(super) fn remove(&mut self, token: ConnToken, action: Action, settled: bool) {
        let mut slot = self.conns.remove(token.slot as usize);
        self.leaving -= usize::from(slot.conn.is_leaving());
        self.delivering.remove(&token);
        let now = self.now();
        let undelivered = self.wire.stats.undelivered.get();
        slot.conn.abandon(&mut self.wire.cx(now));
        if self.draining && slot.conn.is_too_slow() {
            let requests = self.wire.stats.undelivered.get() - undelivered;
            self.cuts.push(self.name_cut(&slot, requests));
        }
        let cause = slot.conn.cause().unwrap_or(Cause::Lost);
        about!(Debug, self.about(token, &slot), None, cause = cause.name(); "connection closed");
        self.hub.release(slot.session, token);
        self.deadlines.set(token.slot as usize, None);
        self.hub.expiries.clear(token.slot as usize);
        self.held.remove(token);
        let stats = &self.wire.stats;
        stats.connections_open.sub(1);
        stats.closed.of(cause).add(1);
        if self.draining && !settled {
            stats.bytes_unacked.add(slot.transport.unacked().unwrap_or(0));
        }
        if action == Action::Reset {
            stats.connections_reset.add(1);
            slot.transport.reset();
        }
    }
}

/// The connection with this token, if it is still there. Not a method: its caller needs the rest of
/// the reactor meanwhile.
pub(super) fn find(conns: &mut Slab<Slot>, token: ConnToken) -> Option<&mut Slot> {
    conns.get_mut(token.slot as usize).filter(|slot| slot.generation == token.generation)
}

/// Output that the kernel still holds for a connection past its linger time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    /// Bytes that the peer had not acknowledged when this was last looked at.
    unacked: u64,
    /// When that number last fell.
    moved: Millis,
    /// When the linger time was up first.
    begun: Millis,
}

/// What of a connection the worker keeps books about.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Nothing is due on it but its next heartbeat.
    steady: bool,
    /// Nothing more is accepted on it.
    leaving: bool,
}

impl Standing {
    fn of(conn: &Connection) -> Standing {
        Standing {
            steady: conn.is_ready() && conn.is_bare() && !conn.awaits_sign_of_life(),
            leaving: conn.is_leaving(),
        }
    }
}
