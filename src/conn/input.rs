//! What comes in: bytes, EOF, verdicts and answers.

use super::buffers::Buffer;
use super::{
    AuthRequest, AuthVerdict, Connection, Cx, Departure, Dispatched, End, Flags, Host, Millis, Refusal, State, Welcome,
};
use crate::proto::{
    AuthReady, Command, DecodeError, ErrorCode, ErrorReply, Frame, FrameDecoder, GoAwayReason, MAX_PING, Version,
    encode, seq_follows,
};
use crate::stats::Cause;

impl Connection {
    /// Takes bytes off the stream, and serves the frames that they complete. Parsing goes on as far
    /// as [`Connection::wants_input`] holds; what is left is kept.
    pub fn handle_input<H: Host>(&mut self, cx: &mut Cx<'_>, host: &mut H, bytes: &[u8]) {
        if self.is_leaving() {
            return; // beyond last seq: read to keep the close from being a reset, and not processed
        }
        let mut input = bytes;
        let was_paused = self.flags.has(Flags::PAUSED);
        let (kept, done, began) = match self.tail.take() {
            None => (Vec::new(), 0, None),
            Some(id) => {
                let tail = cx.buffers.take(id);
                (tail.bytes, tail.done, Some(tail.since))
            }
        };
        let mut decoder = FrameDecoder::resume_at(kept, done, cx.rules.max_payload);
        let had_tail = !decoder.is_empty();
        let mut frames = 0;
        while self.wants_frames(cx) {
            if decoder.is_empty() && self.may_be_echo(input) {
                frames += self.serve_echoes(cx, &mut input);
                if !self.wants_frames(cx) {
                    break;
                }
            }
            match decoder.next(&mut input) {
                Ok(Some(frame)) => {
                    frames += 1;
                    self.handle_frame(cx, host, &frame);
                }
                Ok(None) => break,
                Err(error) => self.handle_decode_error(cx, error),
            }
        }
        self.flags.set(Flags::PAUSED, !self.is_leaving() && !self.wants_frames(cx));
        if was_paused {
            self.restart_silence(cx.now);
        }
        if frames > 0 {
            cx.stats.frames_in.add(frames);
            self.heard = cx.now;
            self.flags.set(Flags::PINGED, false);
        }
        // The frame clock goes on only for a frame that had begun before and is still not whole.
        let still = had_tail && frames == 0 && !was_paused && !self.flags.has(Flags::PAUSED);
        let since = began.filter(|_| still).unwrap_or(cx.now);
        self.keep_rest(cx, decoder, input, since);
        self.settle_eof(cx);
    }

    /// The peer will send nothing more. What it sent before is still answered.
    pub fn handle_eof(&mut self, cx: &mut Cx<'_>) {
        self.flags.set(Flags::PEER_EOF, true);
        if self.state == State::Lingering {
            self.state = State::Closed;
        }
        self.settle_eof(cx);
    }

    /// AUTH, which was put off with [`AuthVerdict::Later`], succeeded. Returns false if the
    /// connection no longer waits for it; the session is the caller's to let go then.
    pub fn welcome(&mut self, cx: &mut Cx<'_>, welcome: Welcome) -> bool {
        if self.state != State::Claiming {
            return false;
        }
        cx.stats.in_flight.sub(1);
        self.become_ready(cx, welcome);
        true
    }

    /// AUTH, which was put off with [`AuthVerdict::Later`], failed after all. Returns false if the
    /// connection no longer waits for it.
    pub fn refuse(&mut self, cx: &mut Cx<'_>, refusal: Refusal) -> bool {
        if self.state != State::Claiming {
            return false;
        }
        cx.stats.in_flight.sub(1);
        self.refused(cx, self.last_seq, refusal);
        true
    }

    /// A request that was in flight has its reply: `write` appends the frame.
    ///
    /// Like [`Connection::failed`] this only encodes: the caller flushes or holds.
    pub fn answered(&mut self, cx: &mut Cx<'_>, cmd: Command, write: impl FnOnce(&mut Vec<u8>)) {
        cx.stats.count_answered(cmd, 1);
        self.land(cx, write);
    }

    /// A request that was in flight has its ERROR, with this code: `write` appends the frame.
    pub fn failed(&mut self, cx: &mut Cx<'_>, cmd: Command, code: ErrorCode, write: impl FnOnce(&mut Vec<u8>)) {
        cx.stats.count_failed(cmd, code);
        self.land(cx, write);
    }

    /// Whether the stream should be read, and kept frames be parsed.
    pub fn wants_input(&self, cx: &Cx<'_>) -> bool {
        match self.state {
            State::Finishing | State::Flushing | State::Lingering => !self.flags.has(Flags::PEER_EOF),
            State::Closed => false,
            _ if self.flags.has(Flags::PAUSED) => self.unsent(cx) <= cx.rules.outbound_low && self.wants_frames(cx),
            _ => self.wants_frames(cx),
        }
    }

    /// Whether whole frames may be waiting in the tail.
    pub fn is_paused(&self) -> bool {
        self.flags.has(Flags::PAUSED)
    }

    /// Whether another frame may be served now.
    pub(super) fn wants_frames(&self, cx: &Cx<'_>) -> bool {
        matches!(self.state, State::Auth | State::Ready)
            && self.in_flight < cx.rules.max_in_flight
            && self.unsent(cx) <= cx.rules.outbound_high
    }

    fn keep_rest(&mut self, cx: &mut Cx<'_>, decoder: FrameDecoder, mut input: &[u8], since: Millis) {
        let nothing = decoder.is_empty() && input.is_empty();
        let (mut bytes, done) = decoder.into_parts();
        if self.is_leaving() || nothing {
            cx.buffers.recycle(bytes);
            return;
        }
        if bytes.capacity() == 0 {
            bytes = cx.buffers.vec();
        }
        bytes.extend_from_slice(std::mem::take(&mut input));
        self.tail = cx.buffers.lend(Buffer { bytes, done, since, ..Buffer::default() });
        if cx.buffers.lent_bytes() > cx.rules.buffer_bytes {
            cx.stats.overloaded.add(1);
            cx.stats.connections_cut.add(1);
            self.because(Cause::BufferMemory);
            self.fail(cx, ErrorCode::Overloaded); // what is kept was not accepted: safe to send elsewhere
        }
    }

    /// After EOF, once all that came before it is parsed, nothing more will be accepted.
    fn settle_eof(&mut self, cx: &mut Cx<'_>) {
        if !self.flags.has(Flags::PEER_EOF)
            || self.flags.has(Flags::PAUSED)
            || self.is_leaving()
            || self.state == State::Claiming
        {
            return;
        }
        self.because(Cause::Eof);
        self.leave(cx);
    }

    fn handle_frame<H: Host>(&mut self, cx: &mut Cx<'_>, host: &mut H, frame: &Frame<'_>) {
        match (self.state, frame.cmd) {
            (State::Auth, Command::AUTH) => self.handle_auth(cx, host, frame),
            (State::Auth, _) => self.fail_frame(cx, ErrorCode::AuthRequired, frame.cmd, frame.seq),
            (_, Command::PONG) => {}
            (_, Command::GOAWAY) => self.handle_goaway(cx, frame),
            (_, Command::AUTH) => self.fail_frame(cx, ErrorCode::Malformed, frame.cmd, frame.seq),
            (_, cmd) if !cmd.is_request() => self.fail_frame(cx, ErrorCode::Malformed, cmd, frame.seq),
            (_, cmd) => self.handle_request(cx, host, cmd, frame),
        }
    }

    fn handle_auth<H: Host>(&mut self, cx: &mut Cx<'_>, host: &mut H, frame: &Frame<'_>) {
        cx.stats.accepted.add(1);
        self.last_seq = frame.seq;
        self.flags.set(Flags::EXTENDED, frame.version == Version::Extended);
        self.heartbeat_ms = cx.rules.grant_heartbeat(frame.extensions.heartbeat_ms());
        let refused = if frame.extensions.unknown_critical().is_some() {
            Some(ErrorCode::UnsupportedExtension)
        } else {
            frame.extensions.has_gateway_only().then_some(ErrorCode::BadRequest)
        };
        if let Some(code) = refused {
            return self.refused(cx, frame.seq, Refusal { code, retry_after_ms: 0 });
        }
        let auth = AuthRequest { token: frame.payload, resume: frame.extensions.resume() };
        match host.authenticate(auth) {
            AuthVerdict::Welcome(welcome) => self.become_ready(cx, welcome),
            AuthVerdict::Refused(refusal) => self.refused(cx, frame.seq, refusal),
            AuthVerdict::Later => {
                cx.stats.in_flight.add(1);
                self.state = State::Claiming;
            }
        }
    }

    fn become_ready(&mut self, cx: &mut Cx<'_>, welcome: Welcome) {
        let ready = AuthReady {
            session: welcome.session,
            resumed: welcome.resumed,
            heartbeat_ms: self.heartbeat_ms,
            max_payload: cx.rules.max_payload as u32,
            session_ttl_s: cx.rules.session_ttl_s,
        };
        ready.encode(cx.out, self.last_seq);
        cx.stats.count_answered(Command::AUTH, 1);
        self.state = State::Ready;
        self.heard = cx.now;
    }

    fn refused(&mut self, cx: &mut Cx<'_>, seq: u32, refusal: Refusal) {
        let mut error = ErrorReply::new(refusal.code, Command::AUTH, refusal.code.text());
        error.retry_after_ms = refusal.retry_after_ms;
        error.encode(cx.out, seq);
        cx.stats.count_failed(Command::AUTH, refusal.code);
        self.because(Cause::of_error(refusal.code));
        self.leave(cx);
    }

    fn handle_goaway(&mut self, cx: &mut Cx<'_>, frame: &Frame<'_>) {
        if !frame.payload.is_empty() {
            return self.fail_frame(cx, ErrorCode::Malformed, frame.cmd, frame.seq);
        }
        let reason = self.noticed.unwrap_or(GoAwayReason::Asked);
        let deadline_ms = cx.rules.linger_ms;
        self.say_final(cx, Departure { reason, deadline_ms, reconnect_after_ms: 0, addresses: &[] });
    }

    fn handle_request<H: Host>(&mut self, cx: &mut Cx<'_>, host: &mut H, cmd: Command, frame: &Frame<'_>) {
        if !seq_follows(self.last_seq, frame.seq) {
            return self.fail_frame(cx, ErrorCode::BadSequence, cmd, frame.seq);
        }
        let over = cmd == Command::PING && frame.payload.len() > MAX_PING;
        if over || (cmd == Command::BYE && !frame.payload.is_empty()) {
            return self.fail_frame(cx, ErrorCode::Malformed, cmd, frame.seq);
        }
        self.last_seq = frame.seq;
        cx.stats.accepted.add(1);
        if let Some((code, text)) = refuse_extensions(frame) {
            ErrorReply::new(code, cmd, text).encode(cx.out, frame.seq);
            cx.stats.count_failed(cmd, code);
            return;
        }
        match cmd {
            Command::PING => {
                let fitted = encode(cx.out, frame.seq, Command::PONG, frame.payload);
                debug_assert!(fitted, "checked above");
                cx.stats.count_answered(cmd, 1);
            }
            Command::ECHO => {
                let fitted = encode(cx.out, frame.seq, Command::ECHO, frame.payload);
                debug_assert!(fitted, "a payload is never longer than the body it came in");
                cx.stats.count_answered(cmd, 1);
            }
            Command::BYE => self.handle_bye(cx, host, frame.seq),
            _ => match host.dispatch(frame, cx.out) {
                Dispatched::Answered => cx.stats.count_answered(cmd, 1),
                Dispatched::Failed(code) => cx.stats.count_failed(cmd, code),
                Dispatched::InFlight => {
                    self.in_flight += 1;
                    cx.stats.in_flight.add(1);
                }
            },
        }
    }

    fn handle_bye<H: Host>(&mut self, cx: &mut Cx<'_>, host: &mut H, seq: u32) {
        host.end_session();
        self.end = End::Bye;
        self.end_seq = seq;
        cx.stats.in_flight.add(1);
        self.because(Cause::Bye);
        self.leave(cx);
    }

    fn handle_decode_error(&mut self, cx: &mut Cx<'_>, error: DecodeError) {
        let (code, header) = match error {
            DecodeError::WrongMagic => {
                self.hold(cx); // so that the answers in it are counted as undelivered
                self.because(Cause::WrongMagic);
                return self.reset();
            }
            DecodeError::UnsupportedVersion(header) => (ErrorCode::UnsupportedVersion, header),
            // Whoever is not let in yet is told that first, and none of its bytes are kept.
            DecodeError::TooLarge(header) if self.state == State::Auth && header.cmd != Command::AUTH => {
                (ErrorCode::AuthRequired, header)
            }
            DecodeError::TooLarge(header) => (ErrorCode::TooLarge, header),
            DecodeError::Malformed(header) => (ErrorCode::Malformed, header),
        };
        self.fail_frame(cx, code, header.cmd, header.seq);
    }

    fn land(&mut self, cx: &mut Cx<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(self.in_flight > 0, "an answer to a request that is not in flight");
        if matches!(self.state, State::Ready | State::Finishing) {
            write(cx.out);
        } else {
            cx.stats.undelivered.add(1);
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        cx.stats.in_flight.sub(1);
        self.advance(cx);
    }
}

/// What speaks against serving a request with these extensions.
fn refuse_extensions(frame: &Frame<'_>) -> Option<(ErrorCode, &'static str)> {
    if frame.extensions.is_empty() {
        return None;
    }
    if frame.extensions.unknown_critical().is_some() {
        return Some((ErrorCode::UnsupportedExtension, ErrorCode::UnsupportedExtension.text()));
    }
    if frame.extensions.has_gateway_only() {
        return Some((ErrorCode::BadRequest, "PRINCIPAL and SESSION are a gateway's to send, not a client's"));
    }
    if frame.extensions.deadline_ms() == Some(0) {
        return Some((ErrorCode::DeadlineExceeded, ErrorCode::DeadlineExceeded.text()));
    }
    None
}
