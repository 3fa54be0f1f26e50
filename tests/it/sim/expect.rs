//! What the client's bytes mean, read straight from the protocol's page: a second decoder, written
//! apart from the one under test.

/// Type and value.
type Extension<'a> = (u8, &'a [u8]);

/// What a frame asks of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first frame, AUTH; the wish for a heartbeat, if it has one.
    Auth {
        wish: Option<u32>,
    },
    /// AUTH that may not even be tried: the ERROR's code.
    AuthRefused(u16),
    Pong,
    GoAway,
    /// Answered with an ERROR, and the connection lives.
    Refused(u16),
    Ping,
    /// ECHO, which the connection answers by itself too.
    Echo,
    Bye,
    /// To be given to the host.
    Dispatch,
    /// An ERROR, and the end.
    Fatal(u16),
    /// A reset.
    WrongMagic,
}

/// One frame, or the point at which the stream stops being one.
#[derive(Clone, Debug)]
pub struct Event {
    pub kind: Kind,
    pub seq: u32,
    pub cmd: u8,
    pub version: u8,
    /// Where the frame ends in the stream.
    pub end: usize,
    /// Where its payload begins.
    pub payload: usize,
    /// Whether it is a whole frame (and not a header, or a byte, that is wrong already).
    pub whole: bool,
}

impl Event {
    /// Whether the ledger counts it.
    pub fn is_request(&self) -> bool {
        self.kind != Kind::WrongMagic && (matches!(self.cmd, 1 | 3 | 6) || self.cmd >= 0x10)
    }

    /// Whether nothing behind it counts.
    pub fn is_last(&self) -> bool {
        matches!(self.kind, Kind::AuthRefused(_) | Kind::GoAway | Kind::Bye | Kind::Fatal(_) | Kind::WrongMagic)
    }
}

/// The client's stream as far as it reached the server.
pub struct Incoming {
    pub bytes: Vec<u8>,
    pub events: Vec<Event>,
    /// Where the next frame begins.
    pub at: usize,
    max_payload: usize,
    last_seq: Option<u32>,
}

impl Incoming {
    pub fn new(max_payload: usize) -> Incoming {
        Incoming { bytes: Vec::new(), events: Vec::new(), at: 0, max_payload, last_seq: None }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        while !self.events.last().is_some_and(Event::is_last) {
            let Some(event) = self.next() else { break };
            self.at = event.end;
            if event.is_request() && !matches!(event.kind, Kind::Fatal(_)) {
                self.last_seq = Some(event.seq);
            }
            self.events.push(event);
        }
    }

    /// Bytes of a frame that has begun and is not whole.
    pub fn unfinished(&self) -> usize {
        if self.events.last().is_some_and(Event::is_last) { 0 } else { self.bytes.len() - self.at }
    }

    fn next(&self) -> Option<Event> {
        let b = &self.bytes[self.at..];
        let event = |kind, whole, end, payload| {
            let seq = b.get(5 - 1..8).map_or(0, |s| u32::from_be_bytes([s[0], s[1], s[2], s[3]]));
            let (cmd, version) = (b.get(8).copied().unwrap_or(0), b.get(1).copied().unwrap_or(0));
            Some(Event { kind, seq, cmd, version, end: self.at + end, payload: self.at + payload, whole })
        };
        if *b.first()? != b'M' {
            return event(Kind::WrongMagic, false, 0, 0);
        }
        if b.len() < 9 {
            return None;
        }
        let (version, length, cmd) = (b[1], usize::from(b[2]) << 8 | usize::from(b[3]), b[8]);
        if version != 1 && version != 2 {
            return event(Kind::Fatal(2), false, 0, 0);
        }
        if length > self.max_payload {
            let stranger = self.last_seq.is_none() && cmd != 1;
            return event(Kind::Fatal(if stranger { 3 } else { 9 }), false, 0, 0);
        }
        let body = b.get(9..9 + length)?;
        let (extensions, payload) = match split(version, body) {
            Some(parts) => parts,
            None => return event(Kind::Fatal(1), false, 0, 0),
        };
        let seq = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
        event(self.judge(cmd, seq, &extensions, payload), true, 9 + length, 9 + length - payload)
    }

    fn judge(&self, cmd: u8, seq: u32, extensions: &[Extension<'_>], payload: usize) -> Kind {
        let has = |wanted: &dyn Fn(u8) -> bool| extensions.iter().any(|(kind, _)| wanted(*kind));
        let value = |wanted| {
            let value = extensions.iter().find(|(kind, _)| *kind == wanted)?.1;
            Some(u32::from_be_bytes(value.try_into().ok()?))
        };
        let refused = if has(&|kind| kind >= 0x80) {
            Some(18)
        } else if has(&|kind| kind == 7 || kind == 8) {
            Some(10)
        } else {
            None
        };
        let Some(last) = self.last_seq else {
            return match (cmd, refused) {
                (1, None) => Kind::Auth { wish: value(5) },
                (1, Some(code)) => Kind::AuthRefused(code),
                _ => Kind::Fatal(3),
            };
        };
        match cmd {
            4 => return Kind::Pong,
            5 if payload == 0 => return Kind::GoAway,
            3 | 6 | 0x10.. => {}
            _ => return Kind::Fatal(1),
        }
        // RFC 1982: `seq` is greater if it is ahead by less than half the circle.
        if !(1..1 << 31).contains(&(i64::from(seq) - i64::from(last)).rem_euclid(1 << 32)) {
            return Kind::Fatal(6);
        }
        match (cmd, refused) {
            (3, _) if payload > 125 => Kind::Fatal(1),
            (6, _) if payload > 0 => Kind::Fatal(1),
            (_, Some(code)) => Kind::Refused(code),
            _ if value(2) == Some(0) => Kind::Refused(11),
            (3, None) => Kind::Ping,
            (6, None) => Kind::Bye,
            (0x10, None) => Kind::Echo,
            _ => Kind::Dispatch,
        }
    }
}

/// Extensions as type and value, and the payload's length; `None` if they overrun.
fn split(version: u8, body: &[u8]) -> Option<(Vec<Extension<'_>>, usize)> {
    if version == 1 {
        return Some((Vec::new(), body.len()));
    }
    let block_len = usize::from(*body.first()?);
    let mut block = body.get(1..1 + block_len)?;
    let mut extensions = Vec::new();
    while !block.is_empty() {
        let len = usize::from(*block.get(1)?);
        let value = block.get(2..2 + len)?;
        let right = match block[0] {
            1 => len == 25,
            2 | 5 => len == 4,
            3 | 4 | 8 => len == 16,
            6 => len == 1,
            7 => std::str::from_utf8(value).is_ok(),
            _ => true,
        };
        if !right {
            return None;
        }
        extensions.push((block[0], value));
        block = &block[2 + len..];
    }
    Some((extensions, body.len() - 1 - block_len))
}
