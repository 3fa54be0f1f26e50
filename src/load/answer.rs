//! What the server says, and what it means for the account. PURE; the other half of [`Link`].

use std::collections::VecDeque;

use super::episodes::Kind;
use super::link::{Cx, End, Link, MAX_OUT, State, command, flag};
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
            match self.judge(cx, &request, frame) {
                Ok(()) => cx.books.note_answered(request.at, cx.now),
                Err(what) => note_wrong(cx, &request, &what),
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
        cx.acks.ready(cx.owner, cx.now, &ready.session, ready.resumed);
        if cx.retry {
            self.come_back(cx, ready.resumed);
        }
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
        let Some(mut request) = self.work.as_mut().and_then(|work| work.settle(next_seq, frame.seq)) else {
            if frame.seq != 0 {
                return Err("ERROR for a seq that is not open".to_owned());
            }
            self.handle_connection_error(cx, &error);
            return Ok(());
        };
        cx.books.tally.received += 1;
        cx.books.tally.errors += 1;
        let work = request.is_work().then(|| command(cx, request.kind));
        if let Some(cmd) = work {
            self.leave(cx, cmd, &request);
            if code == Some(ErrorCode::NotFound) && matches!(cmd, Command::SESSION_GET | Command::SESSION_DELETE) {
                match self.judge_absent(cx, cmd, &request) {
                    Ok(()) => cx.books.note_answered(request.at, cx.now),
                    Err(what) => note_wrong(cx, &request, &what),
                }
                return Ok(());
            }
            cx.books.in_flight -= 1;
        }
        note_error(cx, &name_of(cx, &request), &error);
        // Of what was UNAVAILABLE nobody can say whether it was processed.
        let unavailable = code == Some(ErrorCode::Unavailable) && may_repeat(cx, &request);
        if is_retry(code) || unavailable {
            let account = &mut cx.books.tally.account;
            *(if unavailable { &mut account.retried } else { &mut account.safe }) += 1;
            request.unknown |= unavailable;
            cx.news.pause_ms = Some(error.retry_after_ms.max(if unavailable { UNAVAILABLE_MS } else { 10 }));
            if work.is_some() {
                self.flags |= flag::HELD;
                request.answered = false;
                let again = &mut take_work(&mut self.work, cx.pool).again;
                // What waits for its lane comes behind it.
                if cx.retry { again.push_front(request) } else { again.push_back(request) }
            }
        } else {
            cx.books.tally.account.failed += 1;
            work.into_iter().for_each(|cmd| self.forget_value(cx, cmd, &request));
        }
        if request.kind == AUTH {
            cx.books.tally.account.refused += 1;
            cx.news.hopeless = !(is_retry(code) || unavailable);
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
            let unavailable = cx.retry && code == Some(ErrorCode::Unavailable);
            let not_now = is_retry(code) || unavailable || code == Some(ErrorCode::AuthTimeout);
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
            let flight = std::mem::take(&mut work.flight);
            let mut again = VecDeque::new();
            for (mut request, place) in flight.into_iter().zip(0..) {
                if !request.answered && self.close_account(cx, &mut request, first.wrapping_add(place), work.written) {
                    again.push_back(request);
                }
            }
            work.reset();
            // What was sent comes before what had to wait for it, and behind what was put off.
            if cx.retry {
                again.append(&mut work.again);
                work.again = again;
            } else {
                work.again.append(&mut again);
            }
            self.work = Some(work);
            self.rest(cx.pool);
        }
        if let Some(promises) = &mut self.promises {
            promises.free_all();
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
    fn close_account(&self, cx: &mut Cx<'_>, request: &mut Request, seq: u32, written: u64) -> bool {
        let repeat = may_repeat(cx, request);
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
        } else if repeat {
            account.retried += 1;
            request.unknown = true;
            cx.books.note_error("the connection ended, and a request is sent again");
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

/// How long the server is left alone after UNAVAILABLE, at least.
const UNAVAILABLE_MS: u32 = 100;

/// Whether a request may be processed twice, and somebody wants it to be tried again.
fn may_repeat(cx: &Cx<'_>, request: &Request) -> bool {
    let idempotent = |cmd| {
        matches!(
            cmd,
            Command::PING
                | Command::ECHO
                | Command::SESSION_GET
                | Command::SESSION_PUT
                | Command::SESSION_DELETE
                | Command::SUBMIT
        )
    };
    cx.retry && (request.kind == AUTH || (request.is_work() && idempotent(command(cx, request.kind))))
}

fn is_retry(code: Option<ErrorCode>) -> bool {
    matches!(code, Some(ErrorCode::Draining | ErrorCode::Overloaded | ErrorCode::RateLimited))
}

fn name_of(cx: &Cx<'_>, request: &Request) -> String {
    match request.kind {
        AUTH => "AUTH".to_owned(),
        BYE => "BYE".to_owned(),
        kind => command(cx, kind).to_string(),
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
