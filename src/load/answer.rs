//! What the server says, and what it means for the account. PURE; the other half of [`Link`].

use super::episodes::Kind;
use super::link::{Cx, End, Link, MAX_OUT, State, flag};
use super::work::{AUTH, BYE, Request, take_work};
use crate::proto::{
    AuthReady, Command, ErrorCode, ErrorReply, Frame, GoAway, GoAwayReason, GoAwayStage, MAX_PING, encode, seq_follows,
};

impl Link {
    #[inline]
    pub(super) fn handle_reply(&mut self, cx: &mut Cx<'_>, frame: &Frame<'_>) -> Result<(), String> {
        let next_seq = self.next_seq;
        let Some(request) = self.work.as_mut().and_then(|work| work.settle(next_seq, frame.seq)) else {
            // An unsolicited PONG does no harm, nor a control command of a later version.
            if frame.cmd.is_control() && frame.cmd != Command::BYE {
                return Ok(());
            }
            return Err(format!("{} for a seq that is not open", frame.cmd));
        };
        cx.books.tally.received += 1;
        if request.is_work() {
            let cmd = cx.mix.command(request.kind);
            if cx.pattern.is_reply(cx.owner, frame.seq, cmd, request.len, (frame.cmd, frame.payload)) {
                cx.books.note_answered(request.at, cx.now);
            } else {
                note_wrong(cx, &request, &format!("a wrong reply to {cmd}"));
            }
        } else if request.kind == BYE && frame.cmd == Command::BYE {
            cx.books.tally.account.answered += 1;
            self.flags |= flag::TOLD | flag::BYE;
            self.state = State::Over;
        } else {
            note_wrong(cx, &request, &format!("{} in answer to AUTH or BYE", frame.cmd));
        }
        Ok(())
    }

    pub(super) fn handle_ready(&mut self, cx: &mut Cx<'_>, frame: &Frame<'_>) -> Result<(), String> {
        let ready = AuthReady::parse(frame.payload).map_err(|error| error.to_string())?;
        let next_seq = self.next_seq;
        let auth = self.work.as_mut().filter(|_| self.state == State::Auth);
        let Some(request) = auth.and_then(|work| work.settle(next_seq, frame.seq)) else {
            return Err("READY that answers no AUTH".to_owned());
        };
        cx.books.tally.received += 1;
        cx.books.note_ready(request.at, cx.now);
        if self.has(flag::AGAIN) {
            cx.books.episodes.note(Kind::Back, cx.now);
        }
        self.session = ready.session;
        self.flags |= flag::SESSION | flag::READY | flag::AGAIN;
        self.state = State::Ready;
        cx.news.ready = true;
        if cx.mix.largest() > ready.max_payload as usize {
            let (has, max) = (cx.mix.largest(), ready.max_payload);
            cx.books.note_error(&format!("the server takes bodies of at most {max} bytes, the load has {has}"));
            cx.news.hopeless = true;
        }
        Ok(())
    }

    pub(super) fn handle_ping(&mut self, cx: &mut Cx<'_>, frame: &Frame<'_>) -> Result<(), String> {
        if frame.payload.len() > MAX_PING {
            return Err(format!("a PING of more than {MAX_PING} bytes"));
        }
        if self.state == State::Over {
            return Ok(()); // what it says now is of no use to it
        }
        let work = take_work(&mut self.work, cx.pool);
        if work.unwritten() > 2 * MAX_OUT {
            return Err("PINGs from a server that does not read the PONGs".to_owned());
        }
        let fitted = encode(&mut work.out, frame.seq, Command::PONG, frame.payload);
        debug_assert!(fitted, "125 bytes fit");
        cx.books.tally.account.heartbeats += 1;
        Ok(())
    }

    pub(super) fn handle_goaway(&mut self, cx: &mut Cx<'_>, frame: &Frame<'_>) -> Result<(), String> {
        let goaway = GoAway::parse(frame.payload).map_err(|error| error.to_string())?;
        if !self.has(flag::READY) || self.has(flag::FINAL) {
            return Err("GOAWAY before READY, or behind the final one".to_owned());
        }
        let asked = goaway.reason == GoAwayReason::Asked;
        if !asked && cx.news.away.is_none() {
            cx.news.away = Some((goaway.reconnect_after_ms, goaway.addresses));
        }
        match goaway.stage {
            GoAwayStage::Notice => {
                cx.books.episodes.note(Kind::Notice, cx.now);
                if self.state == State::Ready {
                    self.say_goaway(cx);
                }
            }
            GoAwayStage::Final => {
                if !asked {
                    cx.books.episodes.note(Kind::Final, cx.now);
                }
                if seq_follows(self.next_seq.wrapping_sub(1), goaway.last_seq) {
                    return Err("a final GOAWAY whose last seq was never sent".to_owned());
                }
                self.last_seq = goaway.last_seq;
                self.flags |= flag::FINAL;
                self.state = State::Over;
                if let Some(work) = &mut self.work {
                    work.drop_output();
                }
            }
        }
        Ok(())
    }

    pub(super) fn handle_error(&mut self, cx: &mut Cx<'_>, frame: &Frame<'_>) -> Result<(), String> {
        let error = ErrorReply::parse(frame.payload).map_err(|error| error.to_string())?;
        let code = error.known_code();
        let next_seq = self.next_seq;
        let Some(request) = self.work.as_mut().and_then(|work| work.settle(next_seq, frame.seq)) else {
            if frame.seq != 0 {
                return Err("ERROR for a seq that is not open".to_owned());
            }
            self.handle_connection_error(cx, &error);
            return Ok(());
        };
        cx.books.tally.received += 1;
        cx.books.tally.errors += 1;
        if request.is_work() {
            cx.books.in_flight -= 1;
        }
        let absent = code == Some(ErrorCode::NotFound) && request.is_work();
        if absent && matches!(cx.mix.command(request.kind), Command::SESSION_GET | Command::SESSION_DELETE) {
            cx.books.in_flight += 1; // which this takes back
            cx.books.note_answered(request.at, cx.now);
            return Ok(());
        }
        note_error(cx, &name_of(cx, &request), &error);
        if is_retry(code) {
            cx.books.tally.account.safe += 1;
            cx.news.pause_ms = Some(error.retry_after_ms.max(10));
            if request.is_work() {
                self.flags |= flag::HELD;
                take_work(&mut self.work, cx.pool).again.push_back(request);
            }
        } else {
            cx.books.tally.account.failed += 1;
        }
        if request.kind == AUTH {
            cx.books.tally.account.refused += 1;
            cx.news.hopeless = !is_retry(code);
        }
        if request.kind == AUTH || code.is_some_and(ErrorCode::is_fatal) {
            self.flags |= flag::TOLD;
            self.state = State::Over;
        }
        Ok(())
    }

    /// An ERROR that names no request: the connection ends.
    fn handle_connection_error(&mut self, cx: &mut Cx<'_>, error: &ErrorReply<'_>) {
        let code = error.known_code();
        note_error(cx, "the connection", error);
        if !self.has(flag::READY) {
            cx.books.tally.account.refused += 1;
            let not_now = is_retry(code) || code == Some(ErrorCode::AuthTimeout);
            cx.news.hopeless = !not_now;
            self.flags |= flag::SAFE;
        }
        if is_retry(code) {
            self.flags |= flag::SAFE;
            cx.news.pause_ms = Some(error.retry_after_ms.max(10));
        }
        self.flags |= flag::TOLD;
        self.state = State::Over;
    }

    /// The connection is gone: each request that is unanswered gets its fate. What was not processed,
    /// and belongs to the workload, will be sent again.
    pub fn handle_end(&mut self, cx: &mut Cx<'_>, end: End) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        if end == End::Eof && self.work.as_deref().is_some_and(|work| !work.tail.is_empty()) {
            cx.books.tally.account.wrong += 1;
            cx.books.note_error("EOF within a frame");
        }
        if let Some(mut work) = self.work.take() {
            let first = self.next_seq.wrapping_sub(work.flight.len() as u32);
            let mut again = std::mem::take(&mut work.again);
            for (request, place) in work.flight.iter().zip(0..) {
                if !request.answered && self.close_account(cx, request, first.wrapping_add(place), work.written) {
                    again.push_back(*request);
                }
            }
            work.reset();
            work.again = again;
            self.work = Some(work);
            self.rest(cx.pool);
        }
        let told = self.has(flag::FINAL | flag::TOLD);
        if self.has(flag::READY) && !(told && end == End::Eof) {
            cx.books.tally.account.broken += 1;
            cx.books.episodes.note(Kind::Lost, cx.now);
            if end == End::Eof {
                cx.books.note_error("a connection was closed without an announcement");
            } // otherwise whoever broke it off has said why
        } else if state == State::Auth {
            cx.books.tally.account.refused += 1;
            cx.books.note_error("a connection was closed before READY");
        }
    }

    /// Writes down what became of an unanswered request; returns whether it is to be sent again.
    fn close_account(&self, cx: &mut Cx<'_>, request: &Request, seq: u32, written: u64) -> bool {
        let account = &mut cx.books.tally.account;
        let mut again = request.is_work();
        if self.has(flag::FINAL) && !seq_follows(self.last_seq, seq) {
            account.lost += 1;
            again = false;
            cx.books.note_error("a request that the server had accepted got no answer");
        } else if request.end > written {
            account.sent -= 1; // it never left
        } else if self.has(flag::FINAL | flag::SAFE) {
            account.safe += 1;
        } else if self.has(flag::BYE) {
            account.lost += 1;
            again = false;
            cx.books.note_error("a request before BYE got no answer");
        } else {
            account.unknown += 1;
            again = false;
            cx.books.note_error("the connection ended, and nobody can say whether the request was processed");
        }
        if request.is_work() {
            cx.books.in_flight -= 1;
        }
        again
    }
}

fn is_retry(code: Option<ErrorCode>) -> bool {
    matches!(code, Some(ErrorCode::Draining | ErrorCode::Overloaded | ErrorCode::RateLimited))
}

fn name_of(cx: &Cx<'_>, request: &Request) -> String {
    match request.kind {
        AUTH => "AUTH".to_owned(),
        BYE => "BYE".to_owned(),
        kind => cx.mix.command(kind).to_string(),
    }
}

fn note_error(cx: &mut Cx<'_>, about: &str, error: &ErrorReply<'_>) {
    let name = error.known_code().map_or_else(|| format!("ERROR {}", error.code), |code| code.name().to_owned());
    // What a stranger says may end up on a terminal.
    cx.books.note_error(&format!("{name} to {about}: {}", error.text.escape_debug()));
}

fn note_wrong(cx: &mut Cx<'_>, request: &Request, what: &str) {
    cx.books.tally.account.wrong += 1;
    cx.books.tally.account.lost += 1;
    if request.is_work() {
        cx.books.in_flight -= 1;
    }
    cx.books.note_error(what);
}
