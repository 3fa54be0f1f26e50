//! One connection's protocol, between AUTH and EOF. PURE: bytes and instants come in, bytes and
//! [`Event`]s come out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::client::call::{Call, SendKind};
use crate::client::stats::Counters;
use crate::client::{ClientError, Reply, ServerError};
use crate::proto::{
    AuthReady, Command, ErrorCode, ErrorReply, Frame, FrameDecoder, GoAway, MAX_BODY, MAX_PING, encode,
    encode_extended, seq_follows,
};

/// Bytes that wait for the socket; above this no further request is taken.
const MAX_OUT: usize = 1024 * 1024;
/// Requests without an answer on one connection; above this no further one is taken.
const MAX_PENDING: usize = 65_536;
/// The heartbeat interval where READY names none.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

/// What the server said that concerns more than this connection.
#[derive(Debug)]
pub enum Event {
    Ready(AuthReady),
    /// ERROR before READY: the connection will not be.
    Refused(ServerError),
    Replied(Call, Reply),
    Failed(Call, ServerError),
    GoAway(GoAway),
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    decoder: FrameDecoder,
    out: Vec<u8>,
    /// Bytes of `out` that the socket has taken.
    out_taken: usize,
    /// Bytes that the socket has taken since the connection began.
    taken: u64,
    first_seq: u32,
    next_seq: u32,
    pending: HashMap<u32, Pending>,
    ready: Option<Ready>,
    heard_at: Instant,
    pinged_at: Option<Instant>,
    /// No further request is sent: the server said so, or this side did.
    closed_to_requests: bool,
    /// This side's GOAWAY or BYE was sent.
    pub leaving: bool,
    /// After a final GOAWAY: when to give up waiting for the server's half-close.
    pub give_up_at: Option<Instant>,
    /// The last ERROR about the connection.
    last_error: Option<ServerError>,
}

#[derive(Debug)]
struct Ready {
    at: Instant,
    max_payload: usize,
    interval: Duration,
}

/// A request without an answer, and where in the stream it ends.
#[derive(Debug)]
struct Pending {
    what: What,
    end: u64,
}

#[derive(Debug)]
enum What {
    Auth,
    /// The client's own.
    Ping,
    Call(Call),
}

/// A call whose connection ended without an answer to it.
#[derive(Debug)]
pub struct Orphan {
    pub call: Call,
    /// Whether the socket took the whole request; if not, the server can't have processed it.
    pub sent: bool,
}

impl Link {
    /// A new connection, with its AUTH waiting to be written. The first `seq` is `first_seq`.
    pub fn new(token: &[u8], extensions: &[u8], first_seq: u32, now: Instant) -> Link {
        let mut link = Link {
            decoder: FrameDecoder::new(MAX_BODY),
            out: Vec::new(),
            out_taken: 0,
            taken: 0,
            first_seq,
            next_seq: first_seq,
            pending: HashMap::new(),
            ready: None,
            heard_at: now,
            pinged_at: None,
            closed_to_requests: true,
            leaving: false,
            give_up_at: None,
            last_error: None,
        };
        let seq = link.take_seq();
        let fitted = match extensions {
            [] => encode(&mut link.out, seq, Command::AUTH, token),
            block => encode_extended(&mut link.out, seq, Command::AUTH, block, token),
        };
        debug_assert!(fitted, "the token's length was checked with the options");
        link.note_pending(seq, What::Auth);
        link
    }

    /// Takes what the socket read. The events before an error stand.
    pub fn handle_input(
        &mut self,
        mut input: &[u8],
        now: Instant,
        counters: &Counters,
        events: &mut Vec<Event>,
    ) -> Result<(), String> {
        let mut decoder = std::mem::replace(&mut self.decoder, FrameDecoder::new(0));
        let result = loop {
            match decoder.next(&mut input) {
                Ok(Some(frame)) => {
                    // Any frame counts as a sign of life; bytes that complete none do not.
                    (self.heard_at, self.pinged_at) = (now, None);
                    if let Err(error) = self.handle_frame(&frame, now, counters, events) {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(format!("{error:?}")),
            }
        };
        decoder.keep(&mut input);
        self.decoder = decoder;
        result
    }

    fn handle_frame(
        &mut self,
        frame: &Frame<'_>,
        now: Instant,
        counters: &Counters,
        events: &mut Vec<Event>,
    ) -> Result<(), String> {
        match frame.cmd {
            Command::READY => events.push(self.handle_ready(frame, now)?),
            Command::ERROR => events.extend(self.handle_error(frame)?),
            Command::PING => self.handle_ping(frame)?,
            Command::GOAWAY if self.ready.is_some() => {
                events.push(Event::GoAway(GoAway::parse(frame.payload).map_err(|error| error.to_string())?));
            }
            // A PONG to a PING that was forgotten does no harm; everything else has its request.
            Command::PONG if !self.pending.contains_key(&frame.seq) => {}
            Command::MESSAGE => counters.pushes.add(1),
            Command::AUTH | Command::GOAWAY => return Err(format!("{} is not the server's to send now", frame.cmd)),
            // A control command of a later version.
            cmd if cmd.is_control() && !matches!(cmd, Command::PONG | Command::BYE) => {}
            _ => events.extend(self.handle_reply(frame)?),
        }
        Ok(())
    }

    fn handle_ready(&mut self, frame: &Frame<'_>, now: Instant) -> Result<Event, String> {
        if self.ready.is_some() || frame.seq != self.first_seq {
            return Err(format!("READY with seq {} answers no AUTH", frame.seq));
        }
        let ready = AuthReady::parse(frame.payload).map_err(|error| error.to_string())?;
        self.pending.remove(&frame.seq);
        let interval = match ready.heartbeat_ms {
            0 => DEFAULT_INTERVAL,
            ms => Duration::from_millis(ms.into()),
        };
        self.ready = Some(Ready { at: now, max_payload: ready.max_payload as usize, interval });
        self.closed_to_requests = false;
        Ok(Event::Ready(ready))
    }

    fn handle_error(&mut self, frame: &Frame<'_>) -> Result<Option<Event>, String> {
        let reply = ErrorReply::parse(frame.payload).map_err(|error| error.to_string())?;
        let error = ServerError::from_reply(&reply);
        if self.ready.is_none() {
            return Ok(Some(Event::Refused(error)));
        }
        if frame.seq == 0 {
            self.last_error = Some(error);
            return Ok(None);
        }
        if error.known_code().is_some_and(ErrorCode::is_fatal) {
            self.last_error = Some(error.clone());
        }
        match self.settle(frame)? {
            What::Call(call) => Ok(Some(Event::Failed(call, error))),
            What::Auth | What::Ping => Ok(None),
        }
    }

    fn handle_ping(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        if frame.payload.len() > MAX_PING {
            return Err(format!("a PING of {} bytes, {MAX_PING} are allowed", frame.payload.len()));
        }
        if self.out.len() - self.out_taken > 2 * MAX_OUT {
            return Err("it sends PINGs and does not read the PONGs".to_owned());
        }
        let fitted = encode(&mut self.out, frame.seq, Command::PONG, frame.payload);
        debug_assert!(fitted, "125 bytes fit");
        Ok(())
    }

    fn handle_reply(&mut self, frame: &Frame<'_>) -> Result<Option<Event>, String> {
        match self.settle(frame)? {
            What::Call(call) => {
                let special = |cmd| match cmd {
                    Command::PING => Command::PONG,
                    Command::BYE => Command::BYE,
                    // What command a reply to the rest has is not laid down: its seq tells it.
                    _ => Command::ECHO,
                };
                let answer = if frame.cmd.is_control() { frame.cmd } else { Command::ECHO };
                if special(call.cmd) != answer {
                    let text = format!("{} with seq {} answers {}", frame.cmd, frame.seq, call.cmd);
                    self.pending.insert(frame.seq, Pending { what: What::Call(call), end: 0 });
                    return Err(text);
                }
                let reply = Reply { payload: frame.payload.to_vec(), fallback: frame.extensions.fallback() };
                Ok(Some(Event::Replied(call, reply)))
            }
            What::Ping if frame.cmd == Command::PONG => Ok(None),
            What::Auth | What::Ping => Err(format!("{} with seq {} answers a PING or AUTH", frame.cmd, frame.seq)),
        }
    }

    fn settle(&mut self, frame: &Frame<'_>) -> Result<What, String> {
        match self.pending.remove(&frame.seq) {
            Some(pending) => Ok(pending.what),
            None => Err(format!("{} with seq {} answers no request", frame.cmd, frame.seq)),
        }
    }

    /// Whether a request may be sent now.
    pub fn can_take(&self) -> bool {
        !self.closed_to_requests && self.out.len() - self.out_taken < MAX_OUT && self.pending.len() < MAX_PENDING
    }

    pub fn takes_requests(&self) -> bool {
        !self.closed_to_requests
    }

    /// Sends no further request here; those sent are awaited.
    pub fn close_to_requests(&mut self) {
        self.closed_to_requests = true;
    }

    /// Queues a request for the socket, or ends the call if it is too large for this server.
    pub fn send(&mut self, call: Call, now: Instant, counters: &Counters) {
        let extensions = call.extensions(now);
        let size = call.payload.len() + extensions.as_ref().map_or(0, |block| 1 + block.len());
        let max = self.ready.as_ref().map_or(MAX_BODY, |ready| ready.max_payload).min(MAX_BODY);
        if size > max {
            return call.complete(Err(ClientError::TooLarge { size, max }));
        }
        let seq = self.take_seq();
        let fitted = match &extensions {
            None => encode(&mut self.out, seq, call.cmd, &call.payload),
            Some(block) => encode_extended(&mut self.out, seq, call.cmd, block, &call.payload),
        };
        debug_assert!(fitted, "checked above");
        counters.count_sent(call.kind);
        call.mark_on_wire();
        if call.cmd == Command::BYE {
            self.leaving = true;
            self.closed_to_requests = true;
        }
        self.note_pending(seq, What::Call(call));
    }

    /// Tells the server that no request follows: once, and not if it said so itself.
    pub fn send_goaway(&mut self) {
        if !self.leaving && self.give_up_at.is_none() {
            self.leaving = true;
            self.closed_to_requests = true;
            let fitted = encode(&mut self.out, 0, Command::GOAWAY, &[]);
            debug_assert!(fitted, "nothing fits");
        }
    }

    /// What the socket should write next.
    pub fn output(&self) -> &[u8] {
        self.out.get(self.out_taken..).unwrap_or(&[])
    }

    /// The socket took `n` bytes of it.
    pub fn handle_written(&mut self, n: usize) {
        self.out_taken += n;
        self.taken += n as u64;
        if self.out_taken >= self.out.len() {
            self.out.clear();
            self.out.shrink_to(64 * 1024);
            self.out_taken = 0;
        }
    }

    /// Takes back the calls after `last_seq`, in their order.
    pub fn take_beyond(&mut self, last_seq: u32) -> Vec<Orphan> {
        let taken = self.pending.extract_if(|seq, _| seq_follows(last_seq, *seq)).collect();
        self.in_order(taken)
    }

    /// Takes back all calls, in their order.
    pub fn take_all(&mut self) -> Vec<Orphan> {
        let taken = self.pending.drain().collect();
        self.in_order(taken)
    }

    fn in_order(&self, mut taken: Vec<(u32, Pending)>) -> Vec<Orphan> {
        taken.sort_unstable_by_key(|(seq, _)| seq.wrapping_sub(self.first_seq));
        let orphan = |(_, pending): (u32, Pending)| match pending.what {
            What::Call(call) => Some(Orphan { call, sent: pending.end <= self.taken }),
            What::Auth | What::Ping => None,
        };
        taken.into_iter().filter_map(orphan).collect()
    }

    /// Frees the payloads of calls for which nobody waits. Their answers are still expected.
    pub fn forget_left(&mut self) {
        for pending in self.pending.values_mut() {
            if let What::Call(call) = &mut pending.what
                && call.is_left()
            {
                call.payload = Vec::new();
            }
        }
    }

    /// Whether a call is unanswered here.
    pub fn has_calls(&self) -> bool {
        self.pending.values().any(|pending| matches!(pending.what, What::Call(_)))
    }

    pub fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// How long ago READY came.
    pub fn age(&self, now: Instant) -> Duration {
        self.ready.as_ref().map_or(Duration::ZERO, |ready| now.saturating_duration_since(ready.at))
    }

    /// The last ERROR about the connection: why it ended, if it did.
    pub fn last_error(&self) -> Option<&ServerError> {
        self.last_error.as_ref()
    }

    /// Does what is due: a PING into a silence of two intervals. An error means that the server is
    /// gone: one interval more brought nothing.
    pub fn handle_timer(&mut self, now: Instant, counters: &Counters) -> Result<(), String> {
        if self.give_up_at.is_some_and(|at| at <= now) {
            return Err("no half-close after the final GOAWAY".to_owned());
        }
        if self.silence_ends_at().is_none_or(|at| now < at) {
            return Ok(());
        }
        // A connection that told the server GOAWAY may send no PING. And a process that was
        // stopped for long asks first, however long the silence was.
        if self.pinged_at.is_some() || self.leaving || self.give_up_at.is_some() {
            let silence = now.saturating_duration_since(self.heard_at).as_millis();
            return Err(format!("nothing heard from the server for {silence} ms"));
        }
        self.pinged_at = Some(now);
        let seq = self.take_seq();
        let fitted = encode(&mut self.out, seq, Command::PING, &[]);
        debug_assert!(fitted, "nothing fits");
        self.note_pending(seq, What::Ping);
        counters.pings.add(1);
        Ok(())
    }

    /// When [`Link::handle_timer`] has something to do.
    pub fn next_timer(&self) -> Option<Instant> {
        [self.silence_ends_at(), self.give_up_at].into_iter().flatten().min()
    }

    fn silence_ends_at(&self) -> Option<Instant> {
        let interval = self.ready.as_ref()?.interval;
        Some(match self.pinged_at {
            Some(at) => at + interval,
            None if self.leaving || self.give_up_at.is_some() => self.heard_at + 3 * interval,
            None => self.heard_at + 2 * interval,
        })
    }

    /// The next number. 0 is left out: an ERROR with seq 0 is about the connection.
    fn take_seq(&mut self) -> u32 {
        let seq = self.next_seq;
        self.next_seq = seq.checked_add(1).unwrap_or(1);
        seq
    }

    fn note_pending(&mut self, seq: u32, what: What) {
        let end = self.taken + (self.out.len() - self.out_taken) as u64;
        self.pending.insert(seq, Pending { what, end });
    }
}

impl Orphan {
    /// The call, which the server did not process, for another send.
    pub fn into_unprocessed(mut self, counters: &Counters) -> Call {
        if self.sent {
            counters.unprocessed.add(1);
            self.call.kind = SendKind::Unprocessed;
        } else {
            counters.uncount_sent(self.call.kind);
        }
        self.call.mark_unprocessed();
        self.call
    }

    /// The call for another send, unless its outcome is unknown and that matters: then it ends.
    pub fn into_repeat(mut self, counters: &Counters, why: &str) -> Option<Call> {
        if !self.sent {
            return Some(self.into_unprocessed(counters));
        }
        counters.unknown.add(1);
        if !self.call.idempotent {
            self.call.complete(Err(ClientError::UnknownOutcome { why: why.to_owned() }));
            return None;
        }
        self.call.kind = SendKind::Unknown;
        Some(self.call)
    }
}
