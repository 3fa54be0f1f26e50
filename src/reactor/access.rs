//! Access lines: one for a request, as many a second as are wanted, and how many requests went by between.

use std::time::Instant;

use super::about::{About, trace_ids};
use super::serve::Turn;
use crate::conn::{Connection, Cx, Millis, Watched};
use crate::proto::{Command, ErrorCode, ErrorReply, FrameDecoder, MAX_BODY};

/// The target of access lines.
pub const ACCESS_TARGET: &str = "tidegate::access";

/// One worker's choice of requests.
///
/// As long as the rate allows it is the first request of a read. It is served apart from what came with
/// it, so that what it takes to look at one is only spent on the chosen, and the way of all others is the
/// same as without.
#[derive(Debug, Default)]
pub struct Access {
    /// Lines a second; 0: none.
    rate: u32,
    /// Thousandths of lines that may be logged now.
    credit: u64,
    /// When credit was last given.
    credited: Millis,
    /// Requests accepted by the last line.
    told: u64,
    /// Lines about the connection whose turn it is.
    finished: Vec<Finished>,
}

/// A request that was chosen, until it is answered.
#[derive(Debug)]
pub struct Chosen {
    request: Watched,
    begun: Instant,
    about: About,
}

/// A chosen request and what became of it.
#[derive(Debug)]
pub(super) struct Finished {
    chosen: Box<Chosen>,
    outcome: Outcome,
    bytes_out: usize,
    duration_us: u64,
}

/// What an access line says of a request's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Failed(Option<ErrorCode>),
    /// Answered behind requests in flight, as the connection's last word.
    Accepted,
    /// Answered when its connection was gone.
    Undelivered,
    /// Ended without an answer, by a drain's end or a worker's panic.
    Cut,
}

/// Serves the first request of what was read, if it is to be logged. Returns what is left to be served.
#[cold]
pub(super) fn serve_first<'b>(
    conn: &mut Connection,
    cx: &mut Cx<'_>,
    turn: &mut Turn<'_>,
    bytes: &'b [u8],
) -> &'b [u8] {
    if !turn.hub.access.has_credit(cx.now) {
        return bytes;
    }
    let Some((request, len)) = conn.first_request(cx, bytes) else { return bytes };
    turn.hub.access.spend();
    let (first, rest) = bytes.split_at(len);
    let before = (cx.stats.answered.get(), cx.stats.failed.get(), cx.out.len());
    turn.hub.pending.chosen = Some(Chosen::new(request, turn.about()));
    conn.handle_input(cx, turn, first);
    // Gone by now if the request is in flight: it is logged when its answer lands.
    let Some(chosen) = turn.hub.pending.chosen.take() else { return rest };
    let written = cx.out.get(before.2..).unwrap_or_default();
    let outcome = if cx.stats.answered.get() != before.0 {
        Outcome::Answered
    } else if cx.stats.failed.get() != before.1 {
        Outcome::Failed(error_code(written, request.seq))
    } else {
        Outcome::Accepted
    };
    turn.hub.access.finished.push(chosen.ends(outcome, written.len()));
    rest
}

/// The code of the ERROR that answers `seq`.
fn error_code(mut written: &[u8], seq: u32) -> Option<ErrorCode> {
    let mut decoder = FrameDecoder::new(MAX_BODY);
    while let Ok(Some(frame)) = decoder.next(&mut written) {
        if frame.cmd == Command::ERROR && frame.seq == seq {
            return ErrorReply::parse(frame.payload).ok()?.known_code();
        }
    }
    None
}

impl Access {
    /// So many lines a second from here on; `accepted` requests were by now.
    pub fn set_rate(&mut self, rate: u32, accepted: u64) {
        if !self.is_on() {
            self.told = accepted;
            self.credit = u64::MAX; // whoever has just turned it on sees the first request
        }
        self.rate = rate;
        self.credit = self.credit.min(self.most_credit());
    }

    /// Whether lines are logged.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.rate > 0
    }

    /// Whether the rate allows another line.
    fn has_credit(&mut self, now: Millis) -> bool {
        let elapsed = u64::from(now.since(self.credited));
        self.credited = now;
        self.credit = (self.credit + elapsed * u64::from(self.rate)).min(self.most_credit());
        self.credit >= LINE
    }

    fn spend(&mut self) {
        self.credit = self.credit.saturating_sub(LINE);
    }

    /// Whether there are lines about the connection whose turn it is.
    pub(super) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// Takes them.
    pub(super) fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// Logs a chosen request, when so many were accepted. `now` is whom it is about by now, where that is known.
    pub(super) fn log(&mut self, finished: Finished, now: Option<About>, accepted: u64) {
        let Finished { chosen, outcome, bytes_out, duration_us } = finished;
        let Chosen { request, about: then, .. } = *chosen;
        // AUTH comes from nobody and makes somebody of him; BYE the other way round.
        let about = now.unwrap_or_else(|| then.clone());
        let (session, principal) = (about.session.or(then.session), about.principal.or(then.principal));
        let peer = about.peer.or(then.peer);
        let (trace_id, span_id) = trace_ids(request.trace);
        let (name, code) = (outcome.name(), outcome.code());
        let cmd = request.cmd.to_string();
        log::info!(
            target: ACCESS_TARGET,
            worker = about.worker,
            trace_id = trace_id.as_deref(),
            span_id = span_id.as_deref(),
            connection = about.connection,
            session = session.as_deref(),
            principal = principal.as_deref(),
            peer = peer.as_ref().map(log::kv::Value::from_display),
            cmd = cmd.as_str(),
            seq = request.seq,
            outcome = name,
            code,
            bytes_in = request.bytes,
            bytes_out,
            duration_us,
            requests = accepted - std::mem::replace(&mut self.told, accepted);
            "{cmd} {name}"
        );
    }

    /// The worker ends: requests that no line tells of.
    pub(super) fn close(&mut self, worker: u16, accepted: u64) {
        let requests = accepted - std::mem::replace(&mut self.told, accepted);
        if self.is_on() && requests > 0 {
            log::info!(target: ACCESS_TARGET, worker, requests; "requests since the last access line: {requests}");
        }
    }

    /// What came within a tenth of a second may be logged at once, and one line always.
    fn most_credit(&self) -> u64 {
        (u64::from(self.rate) * LINE / 10).max(LINE)
    }
}

/// A line's price: credit grows by the rate, a millisecond.
const LINE: u64 = 1_000;

impl Chosen {
    /// `about`: as far as it is known when the request comes.
    pub(super) fn new(request: Watched, about: About) -> Box<Chosen> {
        Box::new(Chosen { request, begun: Instant::now(), about })
    }

    /// With what is the end of it.
    pub(super) fn ends(self: Box<Chosen>, outcome: Outcome, bytes_out: usize) -> Finished {
        let duration_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        Finished { chosen: self, outcome, bytes_out, duration_us }
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Failed(_) => "failed",
            Outcome::Accepted => "accepted",
            Outcome::Undelivered => "undelivered",
            Outcome::Cut => "cut",
        }
    }

    fn code(self) -> Option<&'static str> {
        match self {
            Outcome::Failed(code) => code.map(ErrorCode::name),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(access: &mut Access, ms: u32) -> bool {
        let choose = access.has_credit(Millis(ms));
        if choose {
            access.spend();
        }
        choose
    }

    fn chosen(access: &mut Access, from_ms: u32, to_ms: u32) -> usize {
        (from_ms..to_ms).map(|ms| (0..10).filter(|_| choose(access, ms)).count()).sum()
    }

    #[test]
    fn as_many_are_chosen_in_a_second_as_the_rate_says() {
        for rate in [1, 7, 100, 1_000, 5_000] {
            let mut access = Access::default();
            access.set_rate(rate, 0);
            let first = chosen(&mut access, 0, 1_000);
            let second = chosen(&mut access, 1_000, 2_000);
            // What is given at first for whoever has just turned it on comes on top.
            let (rate, few) = (rate as usize, 1 + rate as usize / 1_000);
            assert!((rate - few..=rate + few + rate / 10).contains(&first), "{rate}: {first}");
            assert!((rate - few..=rate + few).contains(&second), "{rate}: {second}");
        }
    }

    #[test]
    fn a_long_silence_saves_up_no_more_than_a_tenth_of_a_second() {
        let mut access = Access::default();
        access.set_rate(100, 0);
        let at_once = (0..1_000).filter(|_| choose(&mut access, 600_000)).count();
        assert_eq!(at_once, 10);
    }
}
