//! The promises of the protocol's sections 4 to 7, one by one.
// What is to be done to the stream is asserted where it is the point of a test.
#![allow(unused_must_use)]

mod echo;
mod errors;
mod flow;
mod going_away;
mod life;
mod sequence;

use super::*;
use crate::proto::{AuthReady, ErrorReply, Frame, FrameDecoder, GoAway, MAX_BODY, encode, encode_extended};

/// A frame as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    cmd: Command,
    seq: u32,
    payload: Vec<u8>,
}

/// A connection with a clock, a socket and a host at hand.
struct Bench {
    conn: Connection,
    rules: Rules,
    stats: WorkerStats,
    buffers: Buffers,
    out: Vec<u8>,
    now: Millis,
    host: TestHost,
    wire: Wire,
}

/// The host: ECHO is answered, 0x20 fails, 0x21 stays in flight.
#[derive(Default)]
struct TestHost {
    verdict: Option<AuthVerdict>,
    asked: Vec<u32>,
    ended: bool,
    /// Bytes of a reply to 0x22.
    reply: usize,
    resume: Option<[u8; 16]>,
}

/// The socket: takes `room` bytes.
struct Wire {
    room: usize,
    sent: Vec<u8>,
    gone: bool,
}

const WELCOME: Welcome = Welcome { session: [1; 16], resumed: false };
const LATER: Command = Command(0x21);
const BIG: Command = Command(0x22);
const FAILS: Command = Command(0x20);

impl Sink for Wire {
    fn write(&mut self, bytes: &[u8]) -> Written {
        if self.gone {
            return Written::Gone;
        }
        let take = self.room.min(bytes.len());
        self.room -= take;
        self.sent.extend_from_slice(&bytes[..take]);
        Written::Took(take)
    }
}

impl Host for TestHost {
    fn authenticate(&mut self, auth: AuthRequest<'_>) -> AuthVerdict {
        self.resume = auth.resume;
        self.verdict.unwrap_or(AuthVerdict::Welcome(WELCOME))
    }

    fn dispatch(&mut self, request: &Frame<'_>, out: &mut Vec<u8>) -> Dispatched {
        self.asked.push(request.seq);
        match request.cmd {
            LATER => return Dispatched::InFlight,
            FAILS => {
                ErrorReply::new(ErrorCode::NotFound, FAILS, "no").encode(out, request.seq);
                return Dispatched::Failed(ErrorCode::NotFound);
            }
            BIG => assert!(encode(out, request.seq, BIG, &vec![0; self.reply])),
            cmd => assert!(encode(out, request.seq, cmd, request.payload)),
        }
        Dispatched::Answered
    }

    fn end_session(&mut self) {
        self.ended = true;
    }
}

impl Bench {
    /// A connection just accepted.
    fn new() -> Bench {
        Bench {
            conn: Connection::new(Millis(0)),
            rules: Rules::of(&Config::default(), 0),
            stats: WorkerStats::default(),
            buffers: Buffers::new(1_024, 16_384),
            out: Vec::new(),
            now: Millis(0),
            host: TestHost::default(),
            wire: Wire { room: usize::MAX, sent: Vec::new(), gone: false },
        }
    }

    /// A connection that is ready; AUTH had `seq` 1, and READY is read.
    fn ready() -> Bench {
        let mut bench = Bench::new();
        assert_eq!(bench.receive(&frame(1, Command::AUTH, b"")), Action::None);
        assert!(bench.conn.is_ready());
        bench.wire.sent.clear();
        bench
    }

    /// A connection whose AUTH waits for its verdict.
    fn claiming() -> Bench {
        let mut bench = Bench::new();
        bench.host.verdict = Some(AuthVerdict::Later);
        assert_eq!(bench.receive(&frame(7, Command::AUTH, b"")), Action::None);
        assert!(bench.conn.is_claiming());
        bench
    }

    fn with<R>(&mut self, step: impl FnOnce(&mut Connection, &mut Cx<'_>, &mut TestHost) -> R) -> R {
        let mut cx = Cx {
            now: self.now,
            rules: &self.rules,
            stats: &self.stats,
            buffers: &mut self.buffers,
            out: &mut self.out,
        };
        step(&mut self.conn, &mut cx, &mut self.host)
    }

    /// What the worker does after a step.
    fn flush(&mut self) -> Action {
        loop {
            let mut cx = Cx {
                now: self.now,
                rules: &self.rules,
                stats: &self.stats,
                buffers: &mut self.buffers,
                out: &mut self.out,
            };
            let action = self.conn.flush(&mut cx, &mut self.wire);
            if action != Action::None || !self.conn.is_paused() || !self.conn.wants_input(&cx) {
                return action;
            }
            self.conn.handle_input(&mut cx, &mut self.host, &[]);
        }
    }

    fn act(&mut self, step: impl FnOnce(&mut Connection, &mut Cx<'_>)) -> Action {
        self.with(|conn, cx, _| step(conn, cx));
        let action = self.flush();
        let stats = &self.stats;
        let sum = stats.answered.get() + stats.failed.get() + stats.cut.get() + stats.in_flight.get();
        assert_eq!(stats.accepted.get(), sum, "the ledger's law");
        action
    }

    fn receive(&mut self, bytes: &[u8]) -> Action {
        self.with(|conn, cx, host| conn.handle_input(cx, host, bytes));
        self.act(|_, _| {})
    }

    fn eof(&mut self) -> Action {
        self.act(|conn, cx| conn.handle_eof(cx))
    }

    /// Lets time pass, and looks at the timers at the end of it.
    fn wait(&mut self, ms: u32) -> Action {
        self.now = self.now.plus(ms);
        self.act(|conn, cx| conn.handle_timeout(cx))
    }

    fn answer(&mut self, seq: u32) -> Action {
        self.act(|conn, cx| conn.answered(cx, LATER, |out| assert!(encode(out, seq, LATER, b"done"))))
    }

    fn finish(&mut self, reason: GoAwayReason) -> Action {
        self.act(|conn, cx| conn.finish(cx, Departure::because(reason, 25_000)))
    }

    /// The frames that came out since the last time.
    fn sent(&mut self) -> Vec<Seen> {
        let bytes = std::mem::take(&mut self.wire.sent);
        let mut decoder = FrameDecoder::new(MAX_BODY);
        let (mut input, mut frames) = (&bytes[..], Vec::new());
        while let Some(frame) = decoder.next(&mut input).unwrap() {
            frames.push(Seen { cmd: frame.cmd, seq: frame.seq, payload: frame.payload.to_vec() });
        }
        assert!(input.is_empty(), "whole frames");
        frames
    }

    /// What came out, as command and seq; an ERROR as its code.
    fn told(&mut self) -> Vec<(Said, u32)> {
        self.sent().iter().map(|frame| (Said::of(frame), frame.seq)).collect()
    }

    fn deadline(&self) -> Option<u32> {
        self.conn.next_deadline(&self.rules, &self.buffers).map(|at| at.0)
    }

    /// The end: everything is given back, nothing is in flight.
    fn close(mut self) -> WorkerStats {
        self.with(|conn, cx, _| conn.abandon(cx));
        assert_eq!(self.buffers.lent(), 0);
        assert_eq!(self.stats.in_flight.get(), 0);
        self.stats
    }
}

/// A frame in a word.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Frame(Command),
    Error(ErrorCode),
    /// Notice or final, reason, last seq.
    GoAway(crate::proto::GoAwayStage, GoAwayReason, u32),
}

impl Said {
    fn of(frame: &Seen) -> Said {
        match frame.cmd {
            Command::ERROR => Said::Error(ErrorReply::parse(&frame.payload).unwrap().known_code().unwrap()),
            Command::GOAWAY => {
                let goaway = GoAway::parse(&frame.payload).unwrap();
                Said::GoAway(goaway.stage, goaway.reason, goaway.last_seq)
            }
            cmd => Said::Frame(cmd),
        }
    }
}

fn frame(seq: u32, cmd: Command, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(encode(&mut bytes, seq, cmd, payload));
    bytes
}

fn extended(seq: u32, cmd: Command, block: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(encode_extended(&mut bytes, seq, cmd, block, payload));
    bytes
}
