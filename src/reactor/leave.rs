//! What a drain, and a panic, ask of a reactor.

use std::net::SocketAddr;
use std::ops::Range;

use super::access::Outcome;
use super::hub::caller;
use super::mailbox::Letter;
use super::pending::Wait;
use super::tick::{Reactor, Slot};
use super::token::ConnToken;
use crate::conn::{Action, Departure};
use crate::proto::GoAwayReason;
use crate::session::log_name;
use crate::stats::{Cause, WorkerStats};

/// A connection that was cut, for the ledger.
#[derive(Debug)]
pub struct CutConnection {
    /// Where it came from.
    pub peer: Option<SocketAddr>,
    /// Whose it was, if that was known.
    pub principal: Option<String>,
    /// Its session, by [`log_name`].
    pub session: Option<String>,
    /// Requests that it did not get an answer to.
    pub requests: u64,
}

impl Reactor {
    /// From here on, what the peer has not acknowledged is counted when a connection is closed.
    pub(crate) fn begin_drain(&mut self) {
        self.draining = true;
        self.stop_deferring();
        self.wire.stats.drain.connections_at_begin.set(self.conns.len() as u64);
    }

    /// Gives notice to the connections in `slots` of the slab: GOAWAY stage 0, or ERROR `DRAINING`.
    /// `reconnect_after_ms` gives each, by its slot, the time that it should wait.
    pub(crate) fn notice(&mut self, slots: Range<usize>, deadline_ms: u32, reconnect_after_ms: impl Fn(usize) -> u32) {
        for key in slots {
            let Some(token) = self.token_at(key) else { continue };
            let departure = drain_departure(deadline_ms, reconnect_after_ms(key));
            self.step(token, |conn, cx| conn.notice(cx, departure));
        }
    }

    /// Says the last word, GOAWAY stage 1, to the connections in `slots` that it was not said to.
    pub(crate) fn finish(&mut self, slots: Range<usize>, deadline_ms: u32, reconnect_after_ms: impl Fn(usize) -> u32) {
        for key in slots {
            let Some(token) = self.token_at(key) else { continue };
            let departure = drain_departure(deadline_ms, reconnect_after_ms(key));
            self.step(token, |conn, cx| conn.finish(cx, departure));
        }
    }

    /// One past the highest slot that a connection may be in.
    pub(crate) fn slots(&self) -> usize {
        self.conns.iter().next_back().map_or(0, |(key, _)| key + 1)
    }

    /// Whether every connection has been told the last word.
    pub(crate) fn all_are_leaving(&self) -> bool {
        self.leaving == self.conns.len()
    }

    /// Ends everything now, by force. Connections that only waited for the peer's EOF, with all output
    /// acknowledged, are closed and not counted: they were served to the end.
    pub(crate) fn cut_all(&mut self, cause: Cause) -> Vec<CutConnection> {
        let mut cuts = self.take_cuts();
        let now = self.now();
        let mut pending = self.hub.pending.take_all();
        for pending in &mut pending {
            if let Some(chosen) = pending.chosen.take() {
                self.tell_access(pending.token, chosen, Outcome::Cut, 0);
            }
        }
        // An AUTH that waits for its session is its connection's to account for.
        pending.retain(|pending| pending.wait != Wait::Claim);
        let kept = pending.iter().filter(|pending| pending.wait == Wait::Kept).count();
        self.wire.stats.in_flight.sub(pending.len() as u64);
        self.wire.stats.kept.add(kept as u64);
        self.wire.stats.cut.add((pending.len() - kept) as u64);
        let mut per_slot = std::collections::HashMap::<ConnToken, u64>::new();
        pending.iter().for_each(|p| *per_slot.entry(p.token).or_default() += 1);
        let keys: Vec<usize> = self.conns.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(token) = self.token_at(key) else { continue };
            let slot = &mut self.conns[key];
            if slot.conn.is_lingering() && slot.transport.unacked().unwrap_or(0) == 0 {
                self.remove(token, Action::Close, false);
                continue;
            }
            let was_leaving = slot.conn.is_leaving();
            let unsent = slot.conn.cut(&mut self.wire.cx(now), cause);
            self.leaving += usize::from(!was_leaving);
            let requests = unsent + per_slot.get(&token).copied().unwrap_or(0);
            cuts.push(self.name_cut(&self.conns[key], requests));
            self.remove(token, Action::Reset, false);
        }
        cuts
    }

    /// The worker ends: the access log's last word.
    pub(crate) fn close_access_log(&mut self) {
        self.hub.access.close(self.hub.worker, self.hub.stats.accepted.get());
    }

    /// The connections that were cut until now, by the drain's own rules, since the last call.
    pub(crate) fn take_cuts(&mut self) -> Vec<CutConnection> {
        std::mem::take(&mut self.cuts)
    }

    /// One more connection that the drain cuts.
    pub(super) fn name_cut(&self, slot: &Slot, requests: u64) -> CutConnection {
        self.wire.stats.drain_cuts.add(1);
        let caller = caller(&self.hub.sessions, &self.hub.remotes, slot.session);
        let (session, principal) = caller.map(|c| (log_name(&c.session()), c.principal().to_string())).unzip();
        CutConnection { peer: slot.transport.peer(), principal, session, requests }
    }

    /// After a panic: whatever was half done is dropped; sessions, listeners, mailbox and poll stay.
    /// Connections are gone, and so are their requests: they count as cut.
    pub(crate) fn recover(&mut self) -> Vec<CutConnection> {
        self.wire.out.clear();
        self.run_queue.clear();
        self.dirty.clear();
        self.hub.evicted.clear();
        // Perhaps it was one of these; who asked hears nothing, and says so.
        self.listings.clear();
        self.hub.refused = None;
        self.look_everywhere();
        self.leaving = self.conns.iter().filter(|(_, slot)| slot.conn.is_leaving()).count();
        let cuts = self.cut_all(Cause::WorkerPanic);
        // The step that panicked may have counted by half.
        let stats = &self.wire.stats;
        stats.in_flight.set(0);
        let told = stats.answered.get() + stats.failed.get() + stats.kept.get();
        stats.cut.set(stats.accepted.get().saturating_sub(told));
        stats.connections_open.set(0);
        let gone = stats.connections_accepted.get().saturating_sub(stats.closed.sum());
        stats.closed.of(Cause::WorkerPanic).add(gone);
        stats.worker_panics.add(1);
        self.hub.sessions.release_all_of(self.hub.worker, self.hub.now_s);
        let own = self.hub.worker;
        for worker in (0..self.hub.mailboxes.len() as u16).filter(|worker| *worker != own) {
            self.hub.post_to_surely(worker, Letter::WorkerLost { worker: own });
        }
        cuts
    }

    /// The worker's own counters.
    pub(crate) fn stats(&self) -> &WorkerStats {
        &self.wire.stats
    }

    fn token_at(&self, key: usize) -> Option<ConnToken> {
        self.conns.get(key).map(|slot| ConnToken { slot: key as u32, generation: slot.generation })
    }
}

fn drain_departure(deadline_ms: u32, reconnect_after_ms: u32) -> Departure<'static> {
    Departure { reason: GoAwayReason::Drain, deadline_ms, reconnect_after_ms, addresses: &[] }
}
