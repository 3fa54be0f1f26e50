//! Opening connections, closing them, and when to open them again.

use std::cmp::Reverse;
use std::io;
use std::net::ToSocketAddrs;
use std::time::Duration;

use mio::{Interest, Token};

use super::phase::Phase;
use super::{Conn, Generator};
use crate::load::link::{End, Link, News, State};
use crate::load::net;
use crate::load::plan::Shape;
use crate::load::schedule::ramped;

/// For a connection to become READY, ns.
const TOO_LONG: u64 = 20_000_000_000;
/// Servers that GOAWAYs may name.
const MAX_ADDRESSES: usize = 1_000;

impl Conn {
    pub(super) fn new(link: Link) -> Conn {
        let (due, sent, serial, mark, address, attempt) = (0, 0, 0, 0, 0, 0);
        Conn { stream: None, link, due, sent, serial, address, attempt, given_up: false, counted: false, mark }
    }
}

impl Conn {
    /// Whether a further request may be sent now, and none has to wait.
    #[inline]
    pub(super) fn can_send_more(&self) -> bool {
        self.link.can_send() && !self.link.sends_again()
    }
}

impl Generator {
    /// Opens what is due, as far as there is room.
    pub(super) fn open_connections(&mut self) {
        self.end_pauses();
        self.give_up_waiting();
        while self.connecting < self.plan.at_once {
            match self.waiting.pop_front() {
                Some(slot) => self.begin(slot as usize),
                None => break,
            }
        }
        let allowed = self.allowed();
        while self.begun < allowed && self.connecting < self.plan.at_once {
            let slot = self.begun;
            self.begun += 1;
            let seq = self.random.u32(..);
            self.conns.push(Conn::new(Link::new(seq)));
            self.begin(slot);
        }
    }

    /// How many may have been begun by now.
    pub(super) fn allowed(&self) -> usize {
        let storm = self.plan.shape == Shape::Connect;
        match self.phase {
            Phase::Running if storm => ramped(self.now - self.started, self.plan.ramp, self.plan.count),
            Phase::Connecting | Phase::Waiting | Phase::Running if !storm => {
                ramped(self.now - self.born, self.plan.ramp, self.plan.count)
            }
            _ => 0,
        }
    }

    fn end_pauses(&mut self) {
        while let Some(Reverse((at, slot))) = self.pauses.peek().copied()
            && at <= self.now
        {
            self.pauses.pop();
            let conn = &mut self.conns[slot as usize];
            if conn.stream.is_some() {
                conn.link.release();
                self.drive(slot as usize);
            } else if !conn.given_up && conn.mark <= self.now && self.is_wanted(slot as usize) {
                self.waiting.push_back(slot);
            }
        }
    }

    fn give_up_waiting(&mut self) {
        while let Some((at, slot, serial)) = self.too_long.front().copied() {
            let conn = &self.conns[slot as usize];
            let pending = matches!(conn.link.state(), State::Connecting | State::Auth) && conn.serial == serial;
            if pending && at > self.now {
                break;
            }
            self.too_long.pop_front();
            if pending {
                self.books.note_error("no READY within 20 s of the connect");
                self.close(slot as usize, End::Broken);
            }
        }
    }

    fn begin(&mut self, slot: usize) {
        if self.conns[slot].link.state() != State::Closed {
            return;
        }
        if self.plan.shape == Shape::Connect {
            if self.plan.total.is_some_and(|total| self.storm >= total) {
                return self.give_up(slot);
            }
            self.storm += 1;
        }
        let now = self.now;
        let conn = &mut self.conns[slot];
        conn.serial = conn.serial.wrapping_add(1);
        conn.mark = now;
        conn.link.begin();
        self.connecting += 1;
        self.open += 1;
        let address = self.addresses.get(usize::from(conn.address)).copied().unwrap_or(self.plan.server);
        let source = net::source_of(&self.plan.sources, self.plan.first + slot as u64);
        let opened = net::begin_connect(address, source).and_then(|mut stream| {
            let interests = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(slot), interests)?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => {
                conn.stream = Some(stream);
                self.too_long.push_back((now + TOO_LONG, slot as u32, conn.serial));
            }
            Err(error) => self.fail_connect(slot, &error),
        }
    }

    /// The connect came to nothing.
    pub(super) fn fail_connect(&mut self, slot: usize, error: &io::Error) {
        self.books.tally.account.refused += 1;
        self.books.note_error(&format!("cannot connect: {error}"));
        self.close(slot, End::Broken);
    }

    /// Closes the socket, settles its account, and sees to what comes after it.
    pub(super) fn close(&mut self, slot: usize, end: End) {
        let (conn, mut cx) = self.parts(slot);
        let state = conn.link.state();
        if state == State::Closed {
            return;
        }
        conn.stream = None;
        let was_ready = std::mem::replace(&mut conn.counted, false);
        conn.link.handle_end(&mut cx, end);
        self.open -= 1;
        if was_ready {
            self.ready -= 1;
            self.progress = self.progress.max(if self.ready == 0 { self.now } else { 0 });
        } else {
            self.connecting -= 1;
            let conn = &mut self.conns[slot];
            conn.attempt = conn.attempt.saturating_add(1);
            // Where one server does not answer, the next may.
            conn.address = (conn.address + 1) % self.addresses.len() as u16;
        }
        self.come_again(slot, was_ready);
    }

    /// Whether it may be opened anew: while the load runs, and at its end as long as something was not answered.
    pub(super) fn is_wanted(&self, slot: usize) -> bool {
        match self.phase {
            Phase::Connecting | Phase::Waiting | Phase::Running => true,
            Phase::Settling { .. } => self.plan.retry.is_some() && self.conns[slot].link.sends_again(),
            Phase::Done => false,
        }
    }

    fn come_again(&mut self, slot: usize, was_ready: bool) {
        let storm = self.plan.shape == Shape::Connect;
        let wanted = self.is_wanted(slot);
        let conn = &mut self.conns[slot];
        if conn.given_up || !wanted {
            return;
        }
        let replaced = self.plan.reconnect || storm || (!was_ready && self.phase != Phase::Running);
        if !replaced {
            return self.give_up(slot);
        }
        if storm && was_ready {
            conn.mark = 0;
            conn.link.forget();
            return self.waiting.push_back(slot as u32);
        }
        let backoff = if conn.attempt == 0 {
            Duration::ZERO
        } else {
            let ceiling = self.backoff.ceiling(u32::from(conn.attempt - 1));
            self.backoff.jitter(ceiling)
        };
        // Before READY the mark is when the connect began, which is over.
        let at = conn.mark.max(self.now + backoff.as_nanos() as u64);
        conn.mark = at;
        self.pauses.push(Reverse((at, slot as u32)));
    }

    pub(super) fn give_up(&mut self, slot: usize) {
        if !std::mem::replace(&mut self.conns[slot].given_up, true) {
            self.given_up += 1;
        }
    }

    /// Acts on what the connection was told.
    pub(super) fn handle_news(&mut self, slot: usize, news: News) {
        let now = self.now;
        let after = |ms: u32| now + u64::from(ms) * 1_000_000;
        let conn = &mut self.conns[slot];
        if news.ready {
            conn.counted = true;
            (conn.mark, conn.attempt) = (0, 0);
            self.connecting -= 1;
            self.ready += 1;
            self.progress = now;
        }
        if let Some(ms) = news.pause_ms {
            if conn.link.state() == State::Ready {
                self.pauses.push(Reverse((after(ms), slot as u32)));
            } else {
                conn.mark = conn.mark.max(after(ms));
            }
        }
        if let Some((ms, addresses)) = news.away {
            // A final GOAWAY behind a notice does not take back the notice's slot.
            if conn.mark == 0 {
                conn.mark = after(ms);
            }
            if let Some(address) = self.choose(&addresses) {
                self.conns[slot].address = address;
            }
        }
        if news.hopeless {
            self.give_up(slot);
        }
    }

    /// One of the servers that a GOAWAY lists.
    fn choose(&mut self, listed: &[String]) -> Option<u16> {
        if listed.is_empty() {
            return None;
        }
        let name = &listed[self.random.usize(..listed.len())];
        if let Some(known) = self.names.get(name) {
            return *known;
        }
        let found = name.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        if found.is_none() {
            self.books.note_error(&format!("the server lists an address that can't be found: {}", name.escape_debug()));
        }
        let index = found.filter(|_| self.addresses.len() < MAX_ADDRESSES).and_then(|address| {
            let at = self.addresses.iter().position(|known| *known == address).unwrap_or_else(|| {
                self.addresses.push(address);
                self.ids.off = true;
                self.addresses.len() - 1
            });
            u16::try_from(at).ok()
        });
        if self.names.len() < MAX_ADDRESSES {
            self.names.insert(name.clone(), index);
        }
        index
    }
}
