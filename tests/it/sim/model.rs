//! The shadow: what the protocol allows the server to say, checked frame by frame.

use super::expect::{Event, Incoming, Kind};

/// What a request is to be answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not decided yet: a handler, or AUTH's verdict, is awaited.
    Awaited,
    /// A frame with this command and payload.
    Reply { cmd: u8, payload: Vec<u8> },
    /// READY.
    Ready,
    /// An ERROR with this code.
    Error(u16),
}

/// An accepted request.
#[derive(Clone, Debug)]
pub struct Request {
    pub seq: u32,
    pub cmd: u8,
    pub version: u8,
    pub answer: Answer,
    /// Whether the answer went out whole.
    pub seen: bool,
}

/// How the connection is to end, once that is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is not.
    Open,
    /// With a final GOAWAY for this reason and with this last seq.
    GoAway { reason: u8, last_seq: u32 },
    /// With BYE, after everything else.
    Bye { seq: u32 },
    /// With an ERROR, which answers a request if `request` says so.
    Error { codes: Vec<u16>, seq: u32, cmd: u8, request: bool },
    /// With nothing said: EOF.
    Silent,
    /// With a reset and no frame.
    Reset,
}

/// The protocol's view of one connection.
pub struct Model {
    pub incoming: Incoming,
    /// How many of the incoming events the server has dealt with.
    pub handled: usize,
    pub requests: Vec<Request>,
    pub ending: Ending,
    /// Reasons of notices that were given and not seen on the wire.
    pub notices: Vec<u8>,
    /// Heartbeats the server says it sent, and those seen.
    pub pings: (u64, u64),
    /// Granted heartbeat, milliseconds.
    pub heartbeat: u32,
    pub max_payload: usize,
    /// The last word, a fatal ERROR or BYE or final GOAWAY, is on the wire.
    pub last_word: bool,
    /// Answers to accepted requests that went out whole.
    pub delivered: u64,
    /// The client was told that it is too slow: what is behind its back is not owed any more.
    pub slow: bool,
    /// The reason of the last notice.
    pub given_notice: Option<u8>,
    /// The connection failed while AUTH waited for its verdict: the ERROR is AUTH's answer.
    pub auth_overtaken: bool,
    ready_seen: bool,
    parsed: usize,
}

impl Model {
    pub fn new(max_payload: usize) -> Model {
        Model {
            incoming: Incoming::new(max_payload),
            handled: 0,
            requests: Vec::new(),
            ending: Ending::Open,
            notices: Vec::new(),
            pings: (0, 0),
            heartbeat: 0,
            max_payload,
            last_word: false,
            delivered: 0,
            slow: false,
            given_notice: None,
            auth_overtaken: false,
            ready_seen: false,
            parsed: 0,
        }
    }

    /// The next event that the server has not dealt with.
    pub fn next_event(&self) -> Option<&Event> {
        self.incoming.events.get(self.handled)
    }

    /// Takes the next event as dealt with. Those for the host come through it, not through here.
    pub fn take_event(&mut self) -> Event {
        let event = self.incoming.events[self.handled].clone();
        self.handled += 1;
        let reply = |cmd| {
            let payload = self.incoming.bytes[event.payload..event.end].to_vec();
            Answer::Reply { cmd, payload }
        };
        let answer = match event.kind {
            Kind::Auth { .. } | Kind::Dispatch => Some(Answer::Awaited),
            Kind::Ping => Some(reply(4)),
            Kind::Echo => Some(reply(0x10)),
            Kind::Refused(code) | Kind::AuthRefused(code) => Some(Answer::Error(code)),
            Kind::Bye | Kind::Fatal(_) | Kind::Pong | Kind::GoAway | Kind::WrongMagic => None,
        };
        if let Some(answer) = answer {
            let Event { seq, cmd, version, .. } = event;
            self.requests.push(Request { seq, cmd, version, answer, seen: false });
        }
        let request = event.is_request();
        match event.kind {
            Kind::AuthRefused(_) => self.ending = Ending::Silent,
            Kind::GoAway => {
                let reason = self.given_notice.unwrap_or(5);
                self.ending = Ending::GoAway { reason, last_seq: self.last_seq() };
            }
            Kind::Bye => self.ending = Ending::Bye { seq: event.seq },
            Kind::Fatal(code) => {
                let seq = if request { event.seq } else { 0 };
                self.ending = Ending::Error { codes: vec![code], seq, cmd: event.cmd, request };
            }
            Kind::WrongMagic => self.ending = Ending::Reset,
            _ => {}
        }
        event
    }

    /// The highest request accepted.
    pub fn last_seq(&self) -> u32 {
        let bye = match self.ending {
            Ending::Bye { seq } => Some(seq),
            _ => None,
        };
        bye.or(self.requests.last().map(|r| r.seq)).unwrap_or(0)
    }

    /// Requests that the ledger has to have counted.
    pub fn accepted(&self) -> u64 {
        let ending = matches!(self.ending, Ending::Bye { .. } | Ending::Error { request: true, .. });
        // AUTH whose verdict an ERROR overtook is among the requests already.
        self.requests.len() as u64 + u64::from(ending && !self.auth_overtaken)
    }

    pub fn request_mut(&mut self, seq: u32) -> &mut Request {
        let found = self.requests.iter_mut().rev().find(|r| r.seq == seq);
        found.unwrap_or_else(|| panic!("an answer to seq {seq}, which was never accepted"))
    }

    /// Whether everything that was accepted has its answer on the wire.
    pub fn all_answered(&self) -> bool {
        self.requests.iter().all(|r| r.seen)
    }

    /// Reads what the server's socket took since the last time.
    pub fn observe(&mut self, sent: &[u8]) {
        while let Some(header) = sent.get(self.parsed..self.parsed + 9) {
            assert_eq!(header[0], b'M', "the server's frame begins with the magic");
            let end = self.parsed + 9 + (usize::from(header[2]) << 8 | usize::from(header[3]));
            let Some(body) = sent.get(self.parsed + 9..end) else { break };
            let seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let (version, cmd) = (header[1], header[8]);
            assert!(version == 1 || version == 2, "version {version}");
            let payload = if version == 2 { &body[1 + usize::from(body[0])..] } else { body };
            assert!(self.ending != Ending::Reset, "a reset comes without a frame");
            self.saw(version, seq, cmd, payload);
            self.parsed = end;
        }
    }

    /// Whether the server stopped in the middle of a frame.
    pub fn torn(&self, sent: &[u8]) -> bool {
        self.parsed < sent.len()
    }

    fn saw(&mut self, version: u8, seq: u32, cmd: u8, payload: &[u8]) {
        assert!(self.ready_seen || cmd == 2 || cmd == 0x0F, "READY or an ERROR is first, not {cmd:#x}");
        let goaway_said = self.last_word && matches!(self.ending, Ending::GoAway { .. });
        if self.last_word && !(goaway_said && self.answers_open(seq, cmd)) {
            let slow = self.slow && cmd == 0x0F && payload[..2] == [0, 20];
            assert!(slow, "{cmd:#x} seq {seq} after the last word");
        }
        match cmd {
            0x0F => self.saw_error(version, seq, payload),
            0x05 => self.saw_goaway(seq, payload),
            0x03 => {
                self.pings.1 += 1;
                assert!(seq == 0 && payload.is_empty() && self.pings.1 <= self.pings.0, "a PING nobody counted");
            }
            0x06 => {
                assert_eq!(self.ending, Ending::Bye { seq }, "BYE answers BYE");
                assert!(self.all_answered(), "BYE is the last answer");
                self.last_word = true;
                self.delivered += 1;
            }
            _ => self.saw_reply(version, seq, cmd, payload),
        }
    }

    fn answers_open(&self, seq: u32, cmd: u8) -> bool {
        cmd != 3 && cmd != 5 && cmd != 6 && self.requests.iter().any(|r| r.seq == seq && !r.seen)
    }

    fn saw_reply(&mut self, version: u8, seq: u32, cmd: u8, payload: &[u8]) {
        let (heartbeat, max) = (self.heartbeat, self.max_payload as u32);
        let request = self.request_mut(seq);
        assert!(!request.seen, "a second answer to seq {seq}");
        request.seen = true;
        assert!(version == 1 || request.version == 2, "version 2 answers only version 2");
        match &request.answer {
            Answer::Ready => {
                assert_eq!((cmd, payload.len()), (2, 29), "READY answers AUTH");
                assert_eq!(payload[17..21], heartbeat.to_be_bytes(), "the heartbeat granted");
                assert_eq!(payload[21..25], max.to_be_bytes(), "the max payload");
                self.ready_seen = true;
            }
            Answer::Reply { cmd: expected, payload: content } => {
                assert_eq!((cmd, payload), (*expected, &content[..]), "the reply to seq {seq}");
            }
            other => panic!("a reply to seq {seq}, which was to get {other:?}"),
        }
        self.delivered += 1;
    }

    fn saw_error(&mut self, version: u8, seq: u32, payload: &[u8]) {
        let code = u16::from_be_bytes([payload[0], payload[1]]);
        let cmd = payload[2];
        if code == 20 && self.slow {
            assert_eq!((seq, cmd), (0, 0), "SLOW_CONSUMER is about the connection");
            self.last_word = true;
            return;
        }
        if let Ending::Error { codes, seq: end_seq, cmd: end_cmd, request } = &self.ending
            && codes.contains(&code)
            && (seq, cmd) == (*end_seq, *end_cmd)
        {
            self.last_word = true;
            self.delivered += u64::from(*request);
            if self.auth_overtaken {
                self.requests[0].seen = true;
            }
            return;
        }
        let ending = self.ending.clone();
        let request = self.request_mut(seq);
        assert_eq!(request.answer, Answer::Error(code), "ERROR for seq {seq} (the end: {ending:?})");
        assert!(!request.seen, "a second answer to seq {seq}");
        assert!(version == 1 || request.version == 2, "version 2 answers only version 2");
        assert_eq!(request.cmd, cmd, "an ERROR names its request's command");
        request.seen = true;
        self.last_word |= cmd == 1;
        self.delivered += 1;
    }

    fn saw_goaway(&mut self, seq: u32, payload: &[u8]) {
        assert_eq!(seq, 0, "GOAWAY carries seq 0");
        let last = u32::from_be_bytes([payload[2], payload[3], payload[4], payload[5]]);
        let reason = payload[1];
        if payload[0] == 0 {
            assert_eq!(self.notices.first(), Some(&reason), "a notice that was given");
            self.notices.remove(0);
            assert_eq!(last, u32::MAX, "a notice has no last seq");
        } else {
            assert_eq!(self.ending, Ending::GoAway { reason, last_seq: last }, "the final GOAWAY");
            self.last_word = true;
        }
    }
}
