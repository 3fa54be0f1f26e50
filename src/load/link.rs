//! One connection's protocol: what it sends, whether what comes back is right, and what became of each
//! request when it ends. PURE: bytes and instants come in, bytes and entries in the [`Books`] come out.
//!
//! An idle connection owns no buffer: what it needs while it has something in hand is borrowed.

use super::acks::Acks;
use super::books::Books;
use super::mix::Mix;
use super::payload::{Pattern, Place};
use super::promise::{Ids, Promises, lane};
use super::work::{AUTH, BYE, CHECK, Pool, Request, Work, take_work};
use crate::proto::{
    Command, DecodeError, Extensions, Frame, FrameDecoder, MAX_BODY, SessionId, encode, encode_extended, extension_type,
};

/// Bytes that wait for the socket; above this no further request is taken.
pub(super) const MAX_OUT: usize = 1 << 20;
/// Requests without an answer; above this no further one is taken.
const MAX_FLIGHT: usize = 65_536;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none.
    Closed,
    /// The transport is being connected.
    Connecting,
    /// AUTH is on its way.
    Auth,
    /// It takes requests.
    Ready,
    /// It has said GOAWAY or BYE.
    Leaving,
    /// The server has said its last word but for replies.
    Over,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order: the server's EOF.
    Eof,
    /// By an error, or given up by us.
    Broken,
}

/// One connection, and the session that outlives it.
#[derive(Debug)]
pub struct Link {
    pub(super) session: SessionId,
    pub(super) work: Option<Box<Work>>,
    /// What it was promised, if it asked for anything that is.
    pub(super) promises: Option<Box<Promises>>,
    pub(super) next_seq: u32,
    /// Of the final GOAWAY.
    pub(super) last_seq: u32,
    pub(super) state: State,
    pub(super) flags: u8,
}

/// Bits of [`Link::flags`].
pub(super) mod flag {
    /// There is a session to resume.
    pub const SESSION: u8 = 1;
    /// READY came, on this connection.
    pub const READY: u8 = 2;
    /// The final GOAWAY came: `last_seq` holds.
    pub const FINAL: u8 = 4;
    /// The server has said in another way that it ends: the reply to BYE, or an ERROR.
    pub const TOLD: u8 = 8;
    /// What is unanswered was not processed: an ERROR about the connection said so.
    pub const SAFE: u8 = 16;
    /// The server asked for a pause.
    pub const HELD: u8 = 32;
    /// It has been READY before.
    pub const AGAIN: u8 = 64;
    /// BYE was answered: so was all before it.
    pub const BYE: u8 = 128;
}

/// What a connection is given to work with, and what it tells.
#[derive(Debug)]
pub struct Cx<'a> {
    /// Where everything is written down.
    pub books: &'a mut Books,
    /// What payloads are made of.
    pub pattern: &'a Pattern,
    /// What requests are.
    pub mix: &'a Mix,
    /// What idle connections have given back.
    pub pool: &'a mut Pool,
    /// The number of the connection in the run.
    pub owner: u32,
    /// Ids that messages were given.
    pub ids: &'a mut Ids,
    /// What was acknowledged.
    pub acks: &'a mut Acks,
    /// What can be processed twice is sent again when the connection is lost, and promises hold over restarts.
    pub retry: bool,
    /// Since the run began, ns.
    pub now: u64,
    /// For whoever drives the connection.
    pub news: News,
}

/// What concerns more than the connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// It became READY.
    pub ready: bool,
    /// It is to be opened anew after so many milliseconds, at one of these addresses if there are any.
    pub away: Option<(u32, Vec<String>)>,
    /// Nothing may be sent to the server for so many milliseconds.
    pub pause_ms: Option<u32>,
    /// There is no use in trying again.
    pub hopeless: bool,
}

impl Link {
    /// A connection that does not exist yet. Its first request has `seq`.
    pub fn new(seq: u32) -> Link {
        Link {
            session: [0; 16],
            work: None,
            promises: None,
            next_seq: seq,
            last_seq: 0,
            state: State::Closed,
            flags: 0,
        }
    }

    /// How far it is.
    #[inline]
    pub fn state(&self) -> State {
        self.state
    }

    /// The next connection is another client's.
    pub fn forget(&mut self) {
        self.flags &= !(flag::SESSION | flag::AGAIN);
        self.promises = None;
    }

    /// The transport is being connected.
    pub fn begin(&mut self) {
        self.state = State::Connecting;
        self.flags &= flag::SESSION | flag::AGAIN;
    }

    /// The transport is connected; AUTH goes out. The connect began at `began`.
    pub fn handle_connected(&mut self, cx: &mut Cx<'_>, token: &[u8], began: u64) {
        self.state = State::Auth;
        cx.books.tally.opened += 1;
        if let Some(promises) = self.promises.as_mut().filter(|_| !cx.retry || cx.ids.off) {
            promises.forget_ids(); // this may be another server
        }
        let (seq, session) = (self.next_seq, self.has(flag::SESSION).then_some(self.session));
        let work = take_work(&mut self.work, cx.pool);
        let mut block = Vec::new();
        let fitted = match session {
            None => encode(&mut work.out, seq, Command::AUTH, token),
            Some(id) => {
                Extensions::push(&mut block, extension_type::RESUME, &id)
                    && encode_extended(&mut work.out, seq, Command::AUTH, &block, token)
            }
        };
        debug_assert!(fitted, "the token's length was checked with the settings");
        self.note_sent(cx, Request::new(began, AUTH, 0));
    }

    /// Whether a request may be sent now.
    #[inline]
    pub fn can_send(&self) -> bool {
        let room = |work: &Work| work.unwritten() < MAX_OUT && work.flight.len() < MAX_FLIGHT;
        self.state == State::Ready && !self.has(flag::HELD) && self.work.as_deref().is_none_or(room)
    }

    /// Requests without an answer.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.work.as_deref().map_or(0, |work| work.open)
    }

    /// Sends a request that was meant to be sent at `at`.
    #[inline]
    pub fn request(&mut self, cx: &mut Cx<'_>, at: u64, kind: u16, len: u16) {
        let cmd = cx.mix.command(kind);
        let mut request = Request::new(at, kind, len);
        if lane(cmd, 0).is_some() {
            self.number(cx, &mut request, cmd);
            if cx.retry && (self.sends_again() || !self.enter(cmd, &request)) {
                return take_work(&mut self.work, cx.pool).again.push_back(request);
            }
        }
        self.put(cx, cmd, request);
    }

    fn put(&mut self, cx: &mut Cx<'_>, cmd: Command, request: Request) {
        let work = take_work(&mut self.work, cx.pool);
        let place = Place { owner: cx.owner, seq: self.next_seq, number: request.number };
        cx.pattern.encode(&mut work.out, place, cmd, request.len);
        cx.books.in_flight += 1;
        self.note_sent(cx, request);
    }

    /// Gives it its number.
    fn number(&mut self, cx: &Cx<'_>, request: &mut Request, cmd: Command) {
        let promises = self.promises.get_or_insert_with(|| {
            let mut promises = Box::<Promises>::default();
            if cx.retry {
                promises.forget_values(); // the session is new
            }
            promises
        });
        let counter = if cmd == Command::SUBMIT { &mut promises.messages } else { &mut promises.states };
        request.number = *counter;
        *counter = counter.wrapping_add(1);
    }

    /// Takes the request's lane. Returns whether it was free.
    fn enter(&mut self, cmd: Command, request: &Request) -> bool {
        match (lane(cmd, request.number), &mut self.promises) {
            (Some(lane), Some(promises)) => promises.take(lane),
            _ => true,
        }
    }

    /// Has each value that is known read again, behind what waits.
    pub fn check_values(&mut self, cx: &mut Cx<'_>) {
        let Some(promises) = &self.promises else { return };
        let again = &mut take_work(&mut self.work, cx.pool).again;
        let waits = |key: u32| again.iter().any(|request| request.kind == CHECK && request.number == key);
        let keys: Vec<u32> = promises.known().filter(|key| !waits(*key)).collect();
        again.extend(keys.into_iter().map(|number| Request { number, ..Request::new(cx.now, CHECK, 0) }));
    }

    #[inline]
    fn note_sent(&mut self, cx: &mut Cx<'_>, request: Request) {
        self.next_seq = self.next_seq.wrapping_add(1);
        cx.books.tally.account.sent += 1;
        if let Some(work) = &mut self.work {
            work.note(request);
        }
    }

    /// Sends, as far as possible, what was not processed elsewhere or had to wait. Returns whether all is sent.
    pub fn send_again(&mut self, cx: &mut Cx<'_>) -> bool {
        while let Some(request) = self.work.as_mut().and_then(|work| work.again.front().copied()) {
            let cmd = command(cx, request.kind);
            if !self.can_send() || (cx.retry && !self.enter(cmd, &request)) {
                return false;
            }
            if let Some(work) = &mut self.work {
                work.again.pop_front();
            }
            self.put(cx, cmd, request);
        }
        true
    }

    /// It will not be tried again: whatever was sent again in vain has its fate.
    pub fn abandon(&mut self, cx: &mut Cx<'_>) {
        let again = self.work.as_mut().map(|work| std::mem::take(&mut work.again)).unwrap_or_default();
        let unknown = again.iter().filter(|request| request.unknown).count() as u64;
        if unknown > 0 {
            cx.books.tally.account.retried -= unknown;
            cx.books.tally.account.unknown += unknown;
            cx.books.note_errors("a request could not be sent again: nobody can say whether it was processed", unknown);
        }
    }

    /// Whether there is something to be sent again first.
    pub fn sends_again(&self) -> bool {
        self.work.as_deref().is_some_and(|work| !work.again.is_empty())
    }

    /// The socket takes nothing any more.
    pub fn stop_output(&mut self) {
        if let Some(work) = &mut self.work {
            work.drop_output();
        }
    }

    /// Says that nothing follows: BYE, which ends the session, or GOAWAY, which keeps it.
    pub fn say_goodbye(&mut self, cx: &mut Cx<'_>, keep_session: bool) {
        if self.state != State::Ready {
            return;
        }
        if keep_session {
            self.say_goaway(cx);
        } else {
            self.state = State::Leaving;
            self.flags &= !flag::SESSION;
            let fitted = encode(&mut take_work(&mut self.work, cx.pool).out, self.next_seq, Command::BYE, &[]);
            debug_assert!(fitted, "empty");
            self.note_sent(cx, Request::new(cx.now, BYE, 0));
        }
    }

    pub(super) fn say_goaway(&mut self, cx: &mut Cx<'_>) {
        self.state = State::Leaving;
        let fitted = encode(&mut take_work(&mut self.work, cx.pool).out, 0, Command::GOAWAY, &[]);
        debug_assert!(fitted, "empty");
    }

    /// The server's pause is over.
    pub fn release(&mut self) {
        self.flags &= !flag::HELD;
    }

    /// What the socket should write next.
    #[inline]
    pub fn output(&self) -> &[u8] {
        self.work.as_deref().map_or(&[], Work::output)
    }

    /// The socket took `n` bytes of it.
    #[inline]
    pub fn handle_written(&mut self, n: usize) {
        if let Some(work) = &mut self.work {
            work.handle_written(n);
        }
    }

    /// Takes what the socket read.
    ///
    /// # Errors
    /// What the server may not say, in words: it is written down, and the connection is to be closed.
    pub fn handle_input(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) -> Result<(), String> {
        let tail = self.work.as_mut().map(|work| std::mem::take(&mut work.tail)).unwrap_or_default();
        let mut decoder = FrameDecoder::resume(tail, MAX_BODY);
        let mut input = bytes;
        loop {
            match decoder.next(&mut input) {
                Ok(Some(frame)) => self.handle_frame(cx, &frame).map_err(|what| violation(cx, what))?,
                Ok(None) => break,
                Err(error) => return Err(violation(cx, undecodable(error))),
            }
        }
        decoder.keep(&mut input);
        if !decoder.is_empty() {
            take_work(&mut self.work, cx.pool).tail = decoder.into_tail();
        } else if let Some(work) = &mut self.work {
            work.tail = decoder.into_tail();
        }
        Ok(())
    }

    #[inline]
    fn handle_frame(&mut self, cx: &mut Cx<'_>, frame: &Frame<'_>) -> Result<(), String> {
        match frame.cmd {
            Command::PING => self.handle_ping(cx, frame),
            Command::GOAWAY => self.handle_goaway(cx, frame),
            Command::READY => self.handle_ready(cx, frame),
            Command::ERROR => self.handle_error(cx, frame),
            Command::MESSAGE => Ok(()),
            _ => self.handle_reply(cx, frame),
        }
    }

    /// Gives back what an idle connection does not need.
    #[inline]
    pub fn rest(&mut self, pool: &mut Pool) {
        if self.work.as_deref().is_some_and(Work::is_idle)
            && let Some(work) = self.work.take()
        {
            work.give_back(pool);
        }
    }

    #[inline]
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The command of a request that belongs to the workload.
#[inline]
pub(super) fn command(cx: &Cx<'_>, kind: u16) -> Command {
    if kind == CHECK { Command::SESSION_GET } else { cx.mix.command(kind) }
}

fn undecodable(error: DecodeError) -> String {
    match error {
        DecodeError::WrongMagic => "bytes that are no frame".to_owned(),
        other => format!("a frame that can't be read ({other:?})"),
    }
}

#[cold]
fn violation(cx: &mut Cx<'_>, what: String) -> String {
    cx.books.tally.account.wrong += 1;
    cx.books.note_error(&what);
    what
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
