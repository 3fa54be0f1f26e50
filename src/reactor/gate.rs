//! Accepting: how connections get in, and when none do.

use std::io;
use std::time::{Duration, Instant};

use mio::Poll;

use super::about::about;
use super::hub::SessionRef;
use super::listener::{Accepted, Listener};
use super::tick::{Reactor, Slot};
use super::token::{self, ConnToken};
use super::transport::Transport;
use crate::config::{Core, Sockets};
use crate::conn::{Connection, Millis};
use crate::limits::{ACCEPT_PAUSE_MS, GATE_SETTLE_MS, REFUSAL_SLOTS, longest_deferral};
use crate::stats::Cause;

/// A worker's listeners.
#[derive(Debug)]
pub struct Gate {
    listeners: Vec<(Listener, bool)>,
    /// Somebody else has opened them, and keeps them when we close them.
    kept: bool,
    paused_until: Option<Millis>,
    max_connections: usize,
    batch: usize,
    /// How long a client that has said nothing may have to wait once nobody is deferred any more.
    deferral: Duration,
    /// When the last of those who were deferred has been accepted.
    settled_at: Option<Instant>,
}

impl Gate {
    /// Registers the listeners.
    pub fn new(
        poll: &Poll,
        listeners: Vec<std::net::TcpListener>,
        kept: bool,
        options: &Sockets,
        core: &Core,
    ) -> io::Result<Gate> {
        let mut registered = Vec::with_capacity(listeners.len());
        for (index, listener) in listeners.into_iter().enumerate() {
            let mut listener = Listener::new(listener);
            listener.register(poll.registry(), token::listener(index))?;
            registered.push((listener, false));
        }
        Ok(Gate {
            listeners: registered,
            kept,
            paused_until: None,
            max_connections: core.max_connections,
            batch: core.accept_batch,
            // What those who keep the sockets ask of them stays as it is.
            deferral: if kept { Duration::ZERO } else { longest_deferral(options.defer_accept_s) },
            settled_at: None,
        })
    }

    /// How many are accepted in one tick, from now on.
    pub fn set_batch(&mut self, batch: usize) {
        self.batch = batch;
    }

    /// An edge: this listener has connections.
    pub fn ready(&mut self, index: usize) {
        if let Some((_, ready)) = self.listeners.get_mut(index) {
            *ready = true;
        }
    }

    /// Every listener may have connections.
    pub fn all_ready(&mut self) {
        self.listeners.iter_mut().for_each(|(_, ready)| *ready = true);
    }

    /// Whether there is something to accept now.
    pub fn is_ready(&self) -> bool {
        self.paused_until.is_none() && self.listeners.iter().any(|(_, ready)| *ready)
    }

    /// When accepting goes on, if it is paused.
    pub fn paused_until(&self) -> Option<Millis> {
        self.paused_until
    }
}

impl Reactor {
    /// Accepts what waits, within the batch.
    pub(super) fn accept(&mut self) {
        if self.gate.paused_until.is_some_and(|until| self.now().reached(until)) {
            self.gate.paused_until = None;
            self.wire.stats.accepting_paused.set(0);
        }
        let mut left = self.gate.batch;
        for index in 0..self.gate.listeners.len() {
            while left > 0 && self.gate.paused_until.is_none() && self.gate.listeners[index].1 {
                left -= 1;
                self.accept_one(index);
            }
        }
    }

    fn accept_one(&mut self, index: usize) {
        if self.conns.len() >= self.gate.max_connections + REFUSAL_SLOTS {
            return self.pause_accepting("as many connections as this core may have, and more being turned away");
        }
        match self.gate.listeners[index].0.accept() {
            Accepted::Stream(stream) => self.admit(Transport::new(stream)),
            Accepted::Empty => self.gate.listeners[index].1 = false,
            Accepted::Aborted => {}
            Accepted::Exhausted(error) => self.pause_accepting(&error.to_string()),
        }
    }

    fn admit(&mut self, mut transport: Transport) {
        let now = self.now();
        let full = self.conns.len() >= self.gate.max_connections;
        self.generation = self.generation.wrapping_add(1);
        let entry = self.conns.vacant_entry();
        let token = ConnToken { slot: entry.key() as u32, generation: self.generation };
        self.wire.stats.connections_accepted.add(1);
        if let Err(error) = transport.register(self.poll.registry(), token.into()) {
            self.wire.stats.connections_refused.add(1);
            self.wire.stats.closed.of(Cause::Exhausted).add(1);
            return self.pause_accepting(&error.to_string());
        }
        let conn = Connection::new(now);
        entry.insert(Slot { transport, conn, generation: token.generation, session: SessionRef::NONE, hup: false });
        self.wire.stats.connections_open.add(1);
        if log::log_enabled!(log::Level::Debug) || full {
            self.tell_admitted(token, full);
        }
        if full {
            self.step(token, |conn, cx| conn.turn_away(cx, 1_000));
        } else {
            self.deadlines.set(token.slot as usize, Some(now.plus(self.wire.rules.auth_timeout_ms)));
        }
    }

    #[cold]
    fn tell_admitted(&self, token: ConnToken, full: bool) {
        let about = self.about(token, &self.conns[token.slot as usize]);
        if full {
            about!(Warn, about, None, connections = self.gate.max_connections;
                "a connection is turned away: this core has all that it may have, see TIDEGATE_CORE_MAX_CONNECTIONS");
        } else {
            about!(Debug, about, None; "connection accepted");
        }
    }

    fn pause_accepting(&mut self, why: &str) {
        log::warn!(
            worker = self.hub.worker, connections = self.conns.len();
            "accepting pauses for {ACCEPT_PAUSE_MS} ms: {why}; connections wait in the backlog"
        );
        self.wire.stats.accept_pauses.add(1);
        self.wire.stats.accepting_paused.set(1);
        self.gate.paused_until = Some(self.now().plus(ACCEPT_PAUSE_MS));
    }

    /// Accepts also who has said nothing: such a client takes itself for connected.
    pub(super) fn stop_deferring(&mut self) {
        if !self.gate.deferral.is_zero() {
            self.gate.listeners.iter().for_each(|(listener, _)| listener.stop_deferring());
            self.gate.settled_at = Some(Instant::now() + self.gate.deferral);
        }
    }

    /// Lets no new handshake begin. Returns when those that have begun are over.
    pub(crate) fn stop_handshakes(&mut self, now: Instant) -> Instant {
        for (listener, ready) in &mut self.gate.listeners {
            listener.stop_handshakes();
            *ready = true;
        }
        self.gate.settled_at.map_or(now, |deferred| deferred.max(now)) + Duration::from_millis(GATE_SETTLE_MS)
    }

    /// Takes everybody out of the backlogs. Returns whether they are empty.
    pub(crate) fn empty_backlogs(&mut self) -> bool {
        self.gate.all_ready();
        self.accept();
        !self.gate.listeners.iter().any(|(_, ready)| *ready)
    }

    /// Whether nobody can be accepted for now, for want of descriptors or of room.
    pub(crate) fn accepting_is_paused(&self) -> bool {
        self.gate.paused_until.is_some()
    }

    /// Whether somebody else keeps the listening sockets: whoever is in their backlog is for the
    /// process that comes next.
    pub(crate) fn listeners_are_kept(&self) -> bool {
        self.gate.kept
    }

    /// Closes the listeners.
    pub(crate) fn close_listeners(&mut self) {
        for (mut listener, _) in self.gate.listeners.drain(..) {
            // A socket that somebody else has open as well stays in the poll when we close ours.
            if let Err(error) = listener.deregister(self.poll.registry()) {
                log::debug!(worker = self.hub.worker; "a closing listener stays in the poll: {error}");
            }
        }
        self.gate.paused_until = None;
        self.wire.stats.accepting_paused.set(0);
    }
}
