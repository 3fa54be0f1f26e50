//! One connection of a client that keeps the books: what was sent, and what became of it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Error, Result};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use tidegate::proto::{
    AuthReady, Command, ErrorCode, ErrorReply, Extensions, Frame, FrameDecoder, GoAway, GoAwayReason, GoAwayStage,
    MAX_BODY, SessionId, encode, encode_extended, extension_type, seq_follows,
};

use super::account::Tally;

/// What has to come back for a request, an ERROR apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// READY; `true`: of the session that was to be resumed.
    Ready(bool),
    /// The same command with the payload that [`payload`] gives for this length.
    Same(usize),
    /// The same command with these bytes.
    Bytes(&'static [u8]),
}

/// A request that was queued.
#[derive(Clone, Debug)]
struct Request {
    seq: u32,
    cmd: Command,
    expect: Expect,
    /// Where its last byte is in the stream.
    end: u64,
    answered: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Stream {
    /// Its socket.
    pub socket: OwnedFd,
    /// The connect has succeeded.
    pub connected: bool,
    /// READY came, with this session.
    pub ready: Option<SessionId>,
    /// GOAWAY stage 0 came.
    pub noticed: bool,
    /// GOAWAY stage 1 came, with this last seq and reason.
    pub last: Option<(u32, GoAwayReason)>,
    /// An ERROR about the connection came.
    pub refused: Option<u16>,
    /// The server's EOF came.
    pub eof: bool,
    /// The connection broke before that.
    pub reset: bool,
    /// We have said that we send no more requests.
    pub said_goaway: bool,
    out: Vec<u8>,
    /// How much of `out` is written.
    done: usize,
    written: u64,
    /// The last bytes queued are a frame that will never be whole: nothing can follow them.
    stuck: bool,
    requests: VecDeque<Request>,
    next_seq: u32,
    tail: Vec<u8>,
    tally: Tally,
    errors: BTreeMap<u16, u64>,
    violations: Vec<String>,
}

impl Stream {
    /// A connection that is being made; its first request will have this `seq`.
    pub fn new(socket: OwnedFd, first_seq: u32) -> Stream {
        Stream {
            socket,
            connected: false,
            ready: None,
            noticed: false,
            last: None,
            refused: None,
            eof: false,
            reset: false,
            said_goaway: false,
            out: Vec::new(),
            done: 0,
            written: 0,
            stuck: false,
            requests: VecDeque::new(),
            next_seq: first_seq,
            tail: Vec::new(),
            tally: Tally::default(),
            errors: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    /// Queues AUTH.
    pub fn auth(&mut self, token: &[u8], resume: Option<SessionId>) {
        let mut block = Vec::new();
        if let Some(id) = resume {
            let fitted = Extensions::push(&mut block, extension_type::RESUME, &id);
            debug_assert!(fitted, "16 bytes fit");
        }
        let seq = self.next_seq;
        let fitted = match resume {
            None => encode(&mut self.out, seq, Command::AUTH, token),
            Some(_) => encode_extended(&mut self.out, seq, Command::AUTH, &block, token),
        };
        debug_assert!(fitted, "a token fits");
        self.expect(Command::AUTH, Expect::Ready(resume.is_some()));
    }

    /// Queues a request whose reply has its own payload.
    pub fn echo(&mut self, cmd: Command, len: usize) {
        let body = payload(self.next_seq, len);
        self.request(cmd, &body, Expect::Same(len));
    }

    /// Queues a request.
    pub fn request(&mut self, cmd: Command, body: &[u8], expect: Expect) {
        let fitted = encode(&mut self.out, self.next_seq, cmd, body);
        debug_assert!(fitted, "clients send what fits");
        self.expect(cmd, expect);
    }

    /// Queues our own GOAWAY: no more requests will come.
    pub fn goaway(&mut self) {
        let fitted = encode(&mut self.out, 0, Command::GOAWAY, &[]);
        debug_assert!(fitted, "empty");
        self.said_goaway = true;
    }

    /// Queues bytes that are no whole frame, and never will be.
    pub fn fragment(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.stuck = true;
    }

    /// Whether a server that keeps to the protocol would still accept a request, as far as we know.
    pub fn may_send(&self) -> bool {
        self.last.is_none() && self.refused.is_none() && !self.eof && !self.reset && !self.said_goaway
    }

    /// Requests queued and not answered.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Bytes queued that the socket has not taken.
    pub fn unwritten(&self) -> usize {
        self.out.len() - self.done
    }

    /// Requests answered until now.
    pub fn answered(&self) -> u64 {
        self.tally.answered
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.eof || self.reset
    }

    /// Whether the server has told of a drain.
    pub fn knows_of_drain(&self) -> bool {
        let told = self.last.is_some_and(|(_, reason)| reason == GoAwayReason::Drain);
        self.noticed || told || self.refused == Some(ErrorCode::Draining.to_wire())
    }

    /// Something happened that must not.
    pub fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Writes what the socket takes.
    pub fn write(&mut self) {
        while self.done < self.out.len() && !self.reset {
            match rustix::io::write(&self.socket, &self.out[self.done..]) {
                Ok(took) => {
                    self.done += took;
                    self.written += took as u64;
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.reset = true,
            }
        }
        if self.done == self.out.len() {
            self.out.clear();
            self.done = 0;
        }
    }

    /// Reads at most `most` bytes, checking what comes. Returns whether there may be more.
    pub fn read(&mut self, scratch: &mut [u8], most: usize) -> bool {
        let mut left = most;
        while left > 0 && !self.is_over() {
            let room = scratch.len().min(left);
            match rustix::io::read(&self.socket, &mut scratch[..room]) {
                Ok(0) => {
                    self.eof = true;
                    if !self.tail.is_empty() {
                        self.violate("EOF within a frame");
                    }
                }
                Ok(n) => {
                    left -= n;
                    self.take(&scratch[..n]);
                }
                Err(Errno::AGAIN) => return false,
                Err(Errno::INTR) => {}
                Err(_) => self.reset = true,
            }
        }
        left == 0
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn half_close(&self) -> Result<()> {
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write).map_err(Error::from)
    }

    /// Closes the books, once it is over.
    pub fn close(mut self) -> (Tally, BTreeMap<u16, u64>, Vec<String>) {
        let draining = self.refused == Some(ErrorCode::Draining.to_wire());
        let mut tally = std::mem::take(&mut self.tally);
        tally.connections = 1;
        tally.resets = u64::from(self.reset && !self.eof);
        for request in self.requests.iter().filter(|request| !request.answered && request.end <= self.written) {
            let safe = match self.last {
                Some((last, _)) => seq_follows(last, request.seq),
                None => self.ready.is_none() || draining,
            };
            if safe {
                tally.safe_to_retry += 1;
            } else {
                tally.lost += 1;
                self.violations.push(format!(
                    "lost: {} seq {:#x}, last seq {:x?}, ready {}, refused {:?}, reset {}, said goaway {}",
                    request.cmd,
                    request.seq,
                    self.last,
                    self.ready.is_some(),
                    self.refused,
                    self.reset,
                    self.said_goaway
                ));
            }
            tally.auth_drained += u64::from(request.cmd == Command::AUTH && draining);
        }
        tally.sent = tally.answered + tally.safe_to_retry + tally.lost;
        (tally, self.errors, self.violations)
    }

    fn expect(&mut self, cmd: Command, expect: Expect) {
        let end = self.written + self.unwritten() as u64;
        self.requests.push_back(Request { seq: self.next_seq, cmd, expect, end, answered: false });
        self.next_seq = self.next_seq.wrapping_add(1);
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut decoder = FrameDecoder::resume(std::mem::take(&mut self.tail), MAX_BODY);
        let mut input = bytes;
        loop {
            match decoder.next(&mut input) {
                Ok(Some(frame)) => self.handle(&frame),
                Ok(None) => break,
                Err(error) => {
                    self.violate(format!("no frame: {error:?}"));
                    self.reset = true;
                    return;
                }
            }
        }
        decoder.keep(&mut input);
        self.tail = decoder.into_tail();
    }

    fn handle(&mut self, frame: &Frame<'_>) {
        match frame.cmd {
            Command::PING => self.handle_ping(frame),
            Command::GOAWAY => self.handle_goaway(frame),
            Command::ERROR if frame.seq == 0 && self.position(0).is_none() => match ErrorReply::parse(frame.payload) {
                Ok(error) if self.refused.is_none() => self.refused = Some(error.code),
                _ => self.violate("a second, or a malformed, ERROR about the connection"),
            },
            _ => self.handle_reply(frame),
        }
    }

    fn handle_ping(&mut self, frame: &Frame<'_>) {
        if self.last.is_some() || self.refused.is_some() {
            return self.violate("PING behind the server's last word");
        }
        // In the middle of a frame of ours there is no place for a PONG.
        if !self.stuck {
            let fitted = encode(&mut self.out, frame.seq, Command::PONG, frame.payload);
            debug_assert!(fitted, "as long as the PING");
        }
    }

    fn handle_goaway(&mut self, frame: &Frame<'_>) {
        let Ok(goaway) = GoAway::parse(frame.payload) else { return self.violate("a malformed GOAWAY") };
        if frame.seq != 0 || self.last.is_some() || self.ready.is_none() {
            return self.violate("GOAWAY with a seq, before READY, or behind the final one");
        }
        if goaway.stage == GoAwayStage::Notice {
            if std::mem::replace(&mut self.noticed, true) || goaway.last_seq != GoAway::NO_LAST_SEQ {
                self.violate("a second notice, or one with a last seq");
            }
            return;
        }
        let whole = self.requests.iter().rev().find(|request| request.end <= self.written).map(|request| request.seq);
        // With nothing open, all that was ever queued has been answered.
        let highest = whole.unwrap_or(self.requests.front().map_or(self.next_seq, |r| r.seq).wrapping_sub(1));
        if seq_follows(highest, goaway.last_seq) {
            self.violate(format!("last seq {:#x} is beyond {highest:#x}, the last one sent", goaway.last_seq));
        }
        self.last = Some((goaway.last_seq, goaway.reason));
    }

    fn handle_reply(&mut self, frame: &Frame<'_>) {
        let Some(position) = self.position(frame.seq) else {
            return self.violate(format!("{} for seq {:#x}, which is not open", frame.cmd, frame.seq));
        };
        let written = self.written;
        let last = self.last;
        let request = &mut self.requests[position];
        let twice = std::mem::replace(&mut request.answered, true);
        let request = request.clone();
        if twice {
            return self.violate(format!("seq {:#x} was answered twice", frame.seq));
        }
        self.tally.answered += 1;
        if request.end > written {
            self.violate("an answer to a request that is not sent");
        }
        if last.is_some_and(|(last, _)| seq_follows(last, frame.seq)) {
            self.violate("an answer beyond last seq");
        }
        if let Err(what) = self.check(&request, frame) {
            self.violate(what);
        }
        while self.requests.front().is_some_and(|request| request.answered) {
            self.requests.pop_front();
        }
    }

    fn check(&mut self, request: &Request, frame: &Frame<'_>) -> std::result::Result<(), String> {
        if frame.cmd == Command::ERROR {
            let error = ErrorReply::parse(frame.payload).map_err(|error| error.to_string())?;
            *self.errors.entry(error.code).or_default() += 1;
            return match ErrorCode::from_wire(error.code) {
                Some(ErrorCode::UnknownCommand) if request.cmd.is_application() => Ok(()),
                Some(ErrorCode::Draining | ErrorCode::Overloaded) if error.cmd == request.cmd.0 => Ok(()),
                _ => Err(format!("{} is answered by ERROR {}: {}", request.cmd, error.code, error.text)),
            };
        }
        let right = match &request.expect {
            Expect::Ready(resumed) => {
                let ready = AuthReady::parse(frame.payload).map_err(|error| error.to_string())?;
                self.ready = Some(ready.session);
                if ready.resumed != *resumed {
                    return Err("the session was not resumed".to_owned());
                }
                frame.cmd == Command::READY
            }
            Expect::Same(len) => frame.cmd == request.cmd && frame.payload == payload(request.seq, *len),
            Expect::Bytes(bytes) => frame.cmd == request.cmd && frame.payload == *bytes,
        };
        right
            .then_some(())
            .ok_or_else(|| format!("a wrong reply to {}: {} {:?}", request.cmd, frame.cmd, frame.payload))
    }

    fn position(&self, seq: u32) -> Option<usize> {
        let position = seq.wrapping_sub(self.requests.front()?.seq) as usize;
        (position < self.requests.len()).then_some(position)
    }
}

/// The payload of a request, different for each `seq`.
pub fn payload(seq: u32, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u32).wrapping_mul(31).wrapping_add(seq) as u8).collect()
}
