//! Bytes in, bytes out, and what is sent when.

use std::io::{self, Read, Write};

use mio::event::Event;

use super::Generator;
use super::phase::Phase;
use crate::load::link::{End, State};
use crate::load::net;
use crate::load::plan::{Pacing, Shape};

/// Requests of the schedule between two looks at the clock.
const BETWEEN_LOOKS: usize = 64;

impl Generator {
    pub(super) fn handle_event(&mut self, event: &Event) {
        let slot = event.token().0;
        if self.conns[slot].stream.is_none() {
            return; // of a connection that was closed since
        }
        if self.conns[slot].link.state() == State::Connecting && !self.finish_connect(slot) {
            return;
        }
        if (event.is_readable() || event.is_error()) && !self.read(slot, event.is_read_closed()) {
            return;
        }
        self.drive(slot);
    }

    /// Returns whether it is connected.
    fn finish_connect(&mut self, slot: usize) -> bool {
        let Some(stream) = &self.conns[slot].stream else { return false };
        match net::connect_result(stream) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                self.fail_connect(slot, &error);
                return false;
            }
        }
        let token = std::mem::take(&mut self.plan.token);
        let (conn, mut cx) = self.parts(slot);
        conn.link.handle_connected(&mut cx, &token.0, conn.mark);
        self.plan.token = token;
        true
    }

    /// Reads what is there. Returns whether the connection is still open.
    fn read(&mut self, slot: usize, to_eof: bool) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut end = None;
        while end.is_none() {
            let Some(stream) = &mut self.conns[slot].stream else { break };
            match stream.read(&mut scratch) {
                Ok(0) => end = Some(End::Eof),
                Ok(n) => {
                    self.now = self.clock();
                    let (conn, mut cx) = self.parts(slot);
                    let taken = conn.link.handle_input(&mut cx, &scratch[..n]);
                    let news = std::mem::take(&mut cx.news);
                    self.keep_acks();
                    self.handle_news(slot, news);
                    if taken.is_err() {
                        end = Some(End::Broken);
                    } else if n < scratch.len() && !to_eof {
                        break; // that was all: an edge will come with more
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.books.note_error(&format!("cannot read: {error}"));
                    end = Some(End::Broken);
                }
            }
        }
        self.scratch = scratch;
        if let Some(end) = end {
            self.close(slot, end);
        }
        end.is_none()
    }

    /// Sends what there is to send on a connection.
    pub(super) fn drive(&mut self, slot: usize) {
        loop {
            self.speak(slot);
            if self.conns[slot].link.output().is_empty() || !self.flush(slot) {
                break;
            }
        }
        let (conn, cx) = self.parts(slot);
        conn.link.rest(cx.pool);
    }

    fn speak(&mut self, slot: usize) {
        if self.conns[slot].link.state() != State::Ready {
            return;
        }
        let keep = self.plan.keep_sessions;
        let storm = self.plan.shape == Shape::Connect;
        let (settling, running) = (matches!(self.phase, Phase::Settling { .. }), self.phase == Phase::Running);
        if settling || storm || self.conns[slot].given_up {
            let (conn, mut cx) = self.parts(slot);
            if cx.retry && !(conn.link.send_again(&mut cx) && conn.link.in_flight() == 0) {
                return; // what was sent is answered first, wherever that is
            }
            return conn.link.say_goodbye(&mut cx, keep);
        }
        if !running {
            return;
        }
        let (conn, mut cx) = self.parts(slot);
        if !conn.link.send_again(&mut cx) {
            return;
        }
        match self.plan.pacing {
            Pacing::Silent => {}
            Pacing::Closed { depth } => {
                while self.conns[slot].link.in_flight() < depth && self.conns[slot].can_send_more() {
                    self.send(slot, self.now);
                }
            }
            Pacing::Open { .. } => {
                while self.conns[slot].sent < self.conns[slot].due && self.conns[slot].can_send_more() {
                    self.send_due(slot);
                }
            }
        }
    }

    /// Sends a request that was meant to be sent at `at`.
    #[inline]
    pub(super) fn send(&mut self, slot: usize, at: u64) {
        let (kind, len) = self.plan.mix.pick(&mut self.random);
        let (conn, mut cx) = self.parts(slot);
        conn.link.request(&mut cx, at, kind, len);
    }

    /// Sends the next request that the schedule has for a connection. Returns when it was due.
    fn send_due(&mut self, slot: usize) -> u64 {
        let nth = u64::from(self.conns[slot].sent);
        let at = self.schedule.as_ref().map_or(0, |schedule| schedule.at(slot as u64, nth));
        self.conns[slot].sent += 1;
        self.send(slot, self.started + at);
        self.started + at
    }

    /// Sends what has come due on connections that can take it; on others it is sent as soon as they can.
    pub(super) fn follow_schedule(&mut self) {
        if self.phase != Phase::Running || self.schedule.is_none() {
            return;
        }
        let end = self.end_at().map_or(u64::MAX, |end| end.saturating_sub(1));
        let elapsed = self.now.min(end).saturating_sub(self.started);
        for count in 1.. {
            let Some((slot, _)) = self.schedule.as_mut().and_then(|schedule| schedule.due(elapsed)) else { break };
            let Some(conn) = self.conns.get_mut(slot) else {
                self.homeless += 1;
                continue;
            };
            conn.due += 1;
            let others_first = conn.due != conn.sent + 1 || conn.link.sends_again();
            if others_first || !conn.link.can_send() {
                continue;
            }
            if conn.link.output().is_empty() {
                self.dirty.push(slot as u32);
            }
            let at = self.send_due(slot);
            if count % BETWEEN_LOOKS == 0 {
                self.now = self.clock();
            }
            self.latest = self.latest.max(self.now.saturating_sub(at));
        }
        while let Some(slot) = self.dirty.pop() {
            self.drive(slot as usize);
        }
    }

    /// Writes what the socket takes. Returns whether it took all.
    pub(super) fn flush(&mut self, slot: usize) -> bool {
        loop {
            let conn = &mut self.conns[slot];
            let Some(stream) = &mut conn.stream else { return false };
            let output = conn.link.output();
            if output.is_empty() {
                return true;
            }
            match stream.write(output) {
                Ok(n) => conn.link.handle_written(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.books.note_error(&format!("cannot write: {error}"));
                    // What it sent before it broke may still be there to be read.
                    conn.link.stop_output();
                    if self.read(slot, true) {
                        self.close(slot, End::Broken);
                    }
                    return false;
                }
            }
        }
    }
}
