//! What each kind of client does with its connection.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tidegate::proto::{Command, ErrorCode, SessionId, encode};

use super::stream::{Expect, Stream};

/// How long a late client goes on sending after the server's EOF.
const LATE: Duration = Duration::from_millis(50);
/// What a slow reader takes in one tick. Bytes.
const SLOW_BYTES: usize = 16 * 1024;
/// What a session keeps, and must give back after it was resumed.
const KEY: &[u8] = b"kept";
const VALUE: &[u8] = b"what was acknowledged";

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $usual:literal;)*) => {
        /// What a client does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// Every kind, and how many of it a usual mix has.
            pub const USUAL: &'static [(Kind, usize)] = &[$((Kind::$variant, $usual)),*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    /// Pipelines until the final GOAWAY.
    Fast = "fast", 32;
    /// Pipelines large frames and reads them slowly.
    Slow = "slow", 12;
    /// Sends half a frame and stops.
    HalfFrame = "half-frame", 16;
    /// Sends a part of AUTH, or nothing, and stops.
    HalfAuth = "half-auth", 12;
    /// Answers heartbeats; every other one answers the notice.
    Idle = "idle", 200;
    /// Ignores every GOAWAY and sends until EOF.
    Rude = "rude", 16;
    /// As rude, and goes on for a while after EOF.
    Late = "late", 8;
    /// Answers the notice with its own GOAWAY and waits for its replies.
    Polite = "polite", 24;
    /// Says BYE behind its last request, and comes again.
    Bye = "bye", 12;
    /// Ends its side without a goodbye, and comes again.
    Eof = "eof", 12;
    /// Sends GOAWAY unasked, and comes again.
    Asked = "asked", 12;
    /// Connects, asks one thing, leaves, and comes again: some of them arrive while the gate closes.
    Arriving = "arriving", 12;
    /// Resumes its session on whichever worker it lands on, and works on its state.
    Session = "session", 24;
    /// Calls a command of the application, whether the server has it or not.
    Application = "application", 8;
    /// Asks for more than the kernel keeps and never reads: it can't be served, and is cut.
    Deaf = "deaf", 0;
    /// As late, but for ever: it is ended by the server's close.
    Stubborn = "stubborn", 0;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Kind, String> {
        let found = Kind::USUAL.iter().find(|(kind, _)| kind.name() == name).map(|(kind, _)| *kind);
        found.ok_or_else(|| {
            let names: Vec<&str> = Kind::USUAL.iter().map(|(kind, _)| kind.name()).collect();
            format!("no kind of client is called '{name}'; there are {}", names.join(", "))
        })
    }
}

/// What all clients of a run are told.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Sent in AUTH.
    pub token: Vec<u8>,
    /// The application's command; its reply has to be its payload.
    pub command: Command,
}

/// One client and its connection.
#[derive(Debug)]
pub struct Client {
    /// What it does.
    pub kind: Kind,
    /// Its connection.
    pub stream: Stream,
    /// Which of the connections it had before this one it is.
    pub life: u32,
    /// The session that its next connection resumes.
    pub session: Option<SessionId>,
    /// Which client it is.
    pub nth: usize,
    sent: usize,
    /// Requests after which it says goodbye in its own way.
    quota: usize,
    /// When the server's EOF was seen.
    ended: Option<Instant>,
}

impl Client {
    /// A client whose connection is being made; what it says first is queued.
    pub fn new(
        kind: Kind,
        nth: usize,
        life: u32,
        session: Option<SessionId>,
        mut stream: Stream,
        orders: &Orders,
    ) -> Client {
        if kind == Kind::HalfAuth {
            let mut auth = Vec::new();
            let fitted = encode(&mut auth, 1, Command::AUTH, b"never whole");
            debug_assert!(fitted, "short");
            let part = [0, 1, 5, auth.len() - 1][nth % 4];
            stream.fragment(&auth[..part]);
        } else {
            stream.auth(&orders.token, session);
        }
        if kind == Kind::Arriving {
            stream.echo(Command::ECHO, 100);
            stream.goaway();
        }
        // Every other one stays until a drain shows, so that goodbyes of all kinds meet it.
        let stays = nth % 2 == 1 && (kind != Kind::Session || life > 0);
        let quota = if stays { usize::MAX } else { 30 };
        Client { kind, stream, life, session, nth, sent: 0, quota, ended: None }
    }

    /// Whether it has to be driven by the clock, and not only by events.
    pub fn needs_ticks(&self) -> bool {
        matches!(self.kind, Kind::Slow | Kind::Rude | Kind::Late | Kind::Stubborn)
    }

    /// Whether its first round trips are done.
    pub fn flows(&self) -> bool {
        match self.kind {
            Kind::HalfAuth => self.stream.connected && self.stream.unwritten() == 0,
            Kind::Deaf => self.stream.connected && self.sent > 0,
            Kind::HalfFrame => self.sent == usize::MAX && self.stream.unwritten() == 0,
            Kind::Session => self.life > 1 || (self.life > 0 && self.stream.answered() >= 2),
            _ => self.life > 0 || self.stream.answered() >= 2,
        }
    }

    /// Whether another connection follows when this one is over.
    pub fn comes_again(&self) -> bool {
        matches!(self.kind, Kind::Bye | Kind::Eof | Kind::Asked | Kind::Arriving | Kind::Session)
    }

    /// Reads what has come, unless the clock decides when.
    pub fn handle_readable(&mut self, scratch: &mut [u8], ends: bool) {
        if self.kind != Kind::Slow && (self.kind != Kind::Deaf || ends) {
            self.stream.read(scratch, usize::MAX);
        }
    }

    /// The clock: slow readers read, the rude go on.
    pub fn handle_tick(&mut self, scratch: &mut [u8]) {
        match self.kind {
            Kind::Slow => {
                self.stream.read(scratch, SLOW_BYTES);
            }
            Kind::Rude | Kind::Late | Kind::Stubborn if self.stream.unwritten() == 0 && !self.stream.may_send() => {
                // Past every GOAWAY, and for the last two past EOF: for the server to read and forget.
                (0..8).for_each(|_| self.stream.echo(Command::ECHO, 200));
            }
            _ => {}
        }
    }

    /// Queues what there is to say now, and writes it.
    pub fn drive(&mut self, orders: &Orders, random: &mut fastrand::Rng) {
        if self.stream.may_send() {
            self.speak(orders, random);
        }
        self.stream.write();
    }

    /// Whether its connection is over for it too.
    pub fn is_over(&mut self, now: Instant) -> bool {
        if self.stream.reset {
            return true;
        }
        let ended = self.stream.eof.then(|| *self.ended.get_or_insert(now));
        match self.kind {
            Kind::Late => ended.is_some_and(|at| now >= at + LATE),
            Kind::Stubborn => false,
            _ => ended.is_some(),
        }
    }

    /// Says what is wrong with how its connection ended.
    pub fn check_end(&mut self) {
        let stream = &mut self.stream;
        if stream.refused.is_some_and(|code| code != ErrorCode::Draining.to_wire()) {
            stream.violate(format!("the connection got ERROR {:?}", stream.refused));
        }
        let may_go_silently = matches!(self.kind, Kind::Bye | Kind::Eof) && stream.said_goaway;
        if stream.eof && stream.last.is_none() && stream.refused.is_none() && !may_go_silently {
            stream.violate("the server closed it without a word");
        }
        if self.kind == Kind::Late && stream.reset {
            stream.violate("reset while the server should have read to EOF");
        }
    }

    fn speak(&mut self, orders: &Orders, random: &mut fastrand::Rng) {
        if self.stream.noticed && self.quota == usize::MAX {
            // Some of these goodbyes cross the final GOAWAY, which ends the notice.
            self.quota = self.sent.saturating_add(random.usize(0..4_000));
        }
        match self.kind {
            Kind::Fast | Kind::Rude | Kind::Late | Kind::Stubborn => self.pipeline(Command::ECHO, 32, 600, random),
            // More than the kernel keeps for a connection, so that the server has to keep the rest.
            Kind::Slow | Kind::Deaf => self.pipeline(Command::ECHO, 1_200, 8_192, random),
            Kind::Application => self.pipeline(orders.command, 8, 100, random),
            Kind::Polite => {
                self.pipeline(Command::ECHO, 16, 300, random);
                self.answer_notice();
            }
            Kind::Idle => {
                if self.sent < 1 {
                    self.pipeline(Command::ECHO, 1, 64, random);
                }
                if self.nth.is_multiple_of(2) {
                    self.answer_notice();
                }
            }
            Kind::HalfFrame => self.stop_half_way(),
            Kind::HalfAuth | Kind::Arriving => {}
            Kind::Bye if self.sent >= self.quota => {
                self.stream.request(Command::BYE, b"", Expect::Bytes(b""));
                self.stream.said_goaway = true;
            }
            Kind::Eof if self.sent >= self.quota && self.stream.unwritten() == 0 => {
                self.stream.said_goaway = true;
                if self.stream.half_close().is_err() {
                    self.stream.reset = true;
                }
            }
            Kind::Asked if self.sent >= self.quota => self.stream.goaway(),
            Kind::Bye | Kind::Eof | Kind::Asked => {
                let left = self.quota - self.sent.min(self.quota);
                self.pipeline(Command::ECHO, left.min(8), 200, random);
            }
            Kind::Session => self.use_session(random),
        }
    }

    /// Keeps `window` requests open, with payloads of up to `most` bytes.
    fn pipeline(&mut self, cmd: Command, window: usize, most: usize, random: &mut fastrand::Rng) {
        while self.stream.in_flight() < window {
            self.stream.echo(cmd, random.usize(0..=most));
            self.sent += 1;
        }
    }

    fn answer_notice(&mut self) {
        if self.stream.noticed {
            self.stream.goaway();
        }
    }

    fn stop_half_way(&mut self) {
        if self.sent < 5 {
            self.stream.echo(Command::ECHO, 20);
            self.sent += 1;
        } else if self.sent == 5 && self.stream.in_flight() == 0 {
            let mut frame = Vec::new();
            let fitted = encode(&mut frame, 0, Command::ECHO, &[7; 400]);
            debug_assert!(fitted, "short");
            self.stream.fragment(&frame[..[1, 8, 9, 200][self.nth % 4]]);
            self.sent = usize::MAX;
        }
    }

    fn use_session(&mut self, random: &mut fastrand::Rng) {
        let Some(id) = self.stream.ready else { return };
        self.session = Some(id);
        if self.life == 0 {
            if self.sent == 0 {
                let mut body = vec![KEY.len() as u8];
                body.extend_from_slice(KEY);
                body.extend_from_slice(VALUE);
                self.stream.request(Command::SESSION_PUT, &body, Expect::Bytes(b""));
                self.sent = 1;
            } else if self.stream.in_flight() == 0 {
                self.stream.goaway();
            }
            return;
        }
        if self.sent >= self.quota {
            return self.stream.goaway();
        }
        while self.stream.in_flight() < 8 {
            self.sent += 1;
            match self.sent % 4 {
                0 => self.stream.echo(Command::ECHO, random.usize(0..100)),
                1 => self.stream.request(Command::SESSION_PUT, b"\x03now and then", Expect::Bytes(b"")),
                2 => self.stream.request(Command::SESSION_DELETE, b"now", Expect::Bytes(b"")),
                _ => self.stream.request(Command::SESSION_GET, KEY, Expect::Bytes(VALUE)),
            }
        }
    }
}
