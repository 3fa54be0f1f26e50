//! One connection's state machine. PURE: bytes and instants in, bytes and wishes out.
//!
//! ```text
//!            AUTH, accepted         GOAWAY, BYE, EOF,            all answered       all sent
//!   Auth ──────────────────► Ready ──────────────────► Finishing ───────────► Flushing ───────► Lingering
//!    │ └─► Claiming ──────────┘ │    replaced, an ERROR    ▲                     ▲    half-close     │ EOF,
//!    │     (session is asked    └──────────────────────────┘                     │                   ▼ or time
//!    └──── for elsewhere) ──────── ERROR ────────────────────────────────────────┘                 Closed
//! ```
//!
//! Four kinds of method: getters; `handle_*`, which take what happened; commands (`notice`,
//! `finish`, `cut`, …), which say what shall happen; and [`Connection::flush`], which gives the
//! output to a [`Sink`]. `now` is in the [`Cx`] that each of them takes.
//!
//! What the caller has to do for it: call [`Connection::handle_timeout`] at
//! [`Connection::next_deadline`]; call [`Connection::flush`] after every method that takes a `Cx`
//! mutably, and do the [`Action`] it returns; stop reading while [`Connection::wants_input`] is
//! false, and call [`Connection::handle_input`] (with no bytes, if none came) when it is true again.

mod buffers;
mod clock;
mod depart;
mod echo;
mod host;
mod input;
mod output;
#[cfg(test)]
mod tests;
mod timers;
mod view;
mod watch;

pub use buffers::{BufferId, Buffers};
pub use clock::Millis;
pub use host::{AuthRequest, AuthVerdict, Dispatched, Host, Refusal, Welcome};
pub use output::{Action, Sink, Written};
pub use view::View;
pub use watch::Watched;

use std::time::Duration;

use crate::config::Config;
use crate::limits::{MAX_HEARTBEAT_MS, MAX_TIMER_MS, MIN_HEARTBEAT_MS};
use crate::proto::{Command, ErrorCode, GoAwayReason};
use crate::stats::{Cause, WorkerStats};

/// One connection. Owns no heap object: what is unfinished is in the worker's [`Buffers`].
#[derive(Debug)]
pub struct Connection {
    /// When the last whole frame came in.
    heard: Millis,
    /// When the present state began, where the state has a time-out of its own; while it is ready,
    /// when the last PING went out.
    mark: Millis,
    /// `seq` of the highest request accepted.
    last_seq: u32,
    /// `seq` of the request that ends the connection: a BYE, or one whose ERROR is fatal.
    end_seq: u32,
    /// Granted heartbeat interval, milliseconds.
    heartbeat_ms: u32,
    /// Received and not yet parsed.
    tail: Option<BufferId>,
    /// Encoded and not yet taken by the socket.
    queue: Option<BufferId>,
    /// Requests accepted and not yet answered, this connection's BYE or fatal request apart.
    in_flight: u16,
    state: State,
    end: End,
    end_cmd: Command,
    flags: Flags,
    /// Why GOAWAY stage 0 went out, if it did.
    noticed: Option<GoAwayReason>,
    /// Why it ends, once that is known.
    cause: Option<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Auth,
    Claiming,
    Ready,
    Finishing,
    Flushing,
    Lingering,
    Closed,
}

/// What is to be sent once everything that was accepted is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Nothing,
    Bye,
    /// An ERROR for a request: the request is counted as accepted.
    RequestError(ErrorCode),
    /// An ERROR about the connection, or about a frame that is no request.
    Error(ErrorCode),
}

/// Yes-or-no facts, in one byte.
#[derive(Clone, Copy, Debug, Default)]
struct Flags(u8);

impl Flags {
    /// The peer will send nothing more.
    const PEER_EOF: u8 = 1;
    /// A heartbeat went out and nothing was heard since.
    const PINGED: u8 = 1 << 1;
    /// Parsing stopped with whole frames possibly left in the tail.
    const PAUSED: u8 = 1 << 2;
    /// To be ended with a reset.
    const RESET: u8 = 1 << 3;
    /// AUTH was version 2: pushes may be.
    const EXTENDED: u8 = 1 << 4;
    /// Told that it reads too slowly; what is left has only the linger time to go out.
    const SLOW: u8 = 1 << 5;
    /// Its token has expired, and that is why it is to go.
    const EXPIRED: u8 = 1 << 6;

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        if on {
            self.0 |= flag;
        } else {
            self.0 &= !flag;
        }
    }
}

/// How connections behave, from the [`Config`], in the units of the data path.
#[derive(Clone, Debug)]
pub struct Rules {
    /// From accept to AUTH. Milliseconds, like all times here.
    pub auth_timeout_ms: u32,
    /// From a frame's first byte to its last.
    pub frame_timeout_ms: u32,
    /// Silence until PING.
    pub heartbeat_ms: u32,
    /// Silent intervals after the PING until IDLE.
    pub heartbeat_misses: u32,
    /// From half-close to close.
    pub linger_ms: u32,
    /// How long output may stand still.
    pub slow_consumer_ms: u32,
    /// How long output may wait, though it moves. A client that takes its output by drops would
    /// else hold [`Rules::outbound_max`] bytes for ever.
    pub outbound_age_ms: u32,
    /// How long AUTH, or an operation, waits for a session that lives elsewhere.
    pub session_hop_timeout_ms: u32,
    /// Seconds that a session outlives its connection; told in READY.
    pub session_ttl_s: u32,
    /// Bytes of a body.
    pub max_payload: usize,
    /// Requests in flight.
    pub max_in_flight: u16,
    /// Unsent bytes above which nothing more is read.
    pub outbound_high: usize,
    /// Unsent bytes at which reading goes on.
    pub outbound_low: usize,
    /// Unsent bytes above which the connection is cut.
    pub outbound_max: usize,
    /// Bytes of the worker's buffers above which nothing more is kept for anybody.
    pub buffer_bytes: usize,
}

impl Rules {
    /// The rules on one worker.
    pub fn of(config: &Config, worker: usize) -> Rules {
        let ms = |d: Duration| d.as_millis().min(u128::from(MAX_TIMER_MS)) as u32;
        Rules {
            auth_timeout_ms: ms(config.auth_timeout),
            frame_timeout_ms: ms(config.frame_timeout),
            heartbeat_ms: ms(config.heartbeat),
            heartbeat_misses: u32::from(config.heartbeat_misses),
            linger_ms: ms(config.linger),
            slow_consumer_ms: ms(config.slow_consumer),
            outbound_age_ms: ms(config.outbound_age),
            session_hop_timeout_ms: ms(config.session_hop_timeout),
            session_ttl_s: config.session_ttl.as_secs().min(u64::from(u32::MAX)) as u32,
            max_payload: config.max_payload,
            max_in_flight: config.max_in_flight,
            outbound_high: config.outbound_high,
            outbound_low: config.outbound_low,
            outbound_max: config.outbound_max,
            buffer_bytes: config.core(worker).buffer_bytes,
        }
    }

    /// The interval a client gets for the one that it wishes.
    fn grant_heartbeat(&self, wish_ms: Option<u32>) -> u32 {
        match wish_ms {
            None | Some(0) => self.heartbeat_ms,
            Some(wish) => wish.clamp(MIN_HEARTBEAT_MS.min(self.heartbeat_ms), MAX_HEARTBEAT_MS.max(self.heartbeat_ms)),
        }
    }
}

/// What every step of a connection needs: time, rules, and the worker's own memory.
#[derive(Debug)]
pub struct Cx<'a> {
    /// The time of this step.
    pub now: Millis,
    /// How connections behave.
    pub rules: &'a Rules,
    /// The worker's counters.
    pub stats: &'a WorkerStats,
    /// The worker's buffers.
    pub buffers: &'a mut Buffers,
    /// The send scratch: empty before a connection's turn, emptied by [`Connection::flush`] or
    /// [`Connection::hold`].
    pub out: &'a mut Vec<u8>,
}

/// What a GOAWAY tells besides its stage.
#[derive(Clone, Copy, Debug)]
pub struct Departure<'a> {
    /// Why.
    pub reason: GoAwayReason,
    /// Milliseconds until the connection is cut.
    pub deadline_ms: u32,
    /// Milliseconds to wait before reconnecting.
    pub reconnect_after_ms: u32,
    /// Where to reconnect; empty: where it came from.
    pub addresses: &'a [String],
}

impl Connection {
    /// A connection that was just accepted: the auth timer runs.
    pub fn new(now: Millis) -> Connection {
        Connection {
            heard: now,
            mark: now,
            last_seq: 0,
            end_seq: 0,
            heartbeat_ms: 0,
            tail: None,
            queue: None,
            in_flight: 0,
            state: State::Auth,
            end: End::Nothing,
            end_cmd: Command(0),
            flags: Flags::default(),
            noticed: None,
            cause: None,
        }
    }

    /// Whether AUTH succeeded and requests are served.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether AUTH has not come yet.
    pub fn awaits_auth(&self) -> bool {
        self.state == State::Auth
    }

    /// Whether AUTH waits for [`Connection::welcome`] or [`Connection::refuse`].
    pub fn is_claiming(&self) -> bool {
        self.state == State::Claiming
    }

    /// Whether nothing more is accepted on it.
    pub fn is_leaving(&self) -> bool {
        matches!(self.state, State::Finishing | State::Flushing | State::Lingering | State::Closed)
    }

    /// Whether it is over, and may be dropped after [`Connection::abandon`].
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether everything is sent and only the peer's EOF is awaited.
    pub fn is_lingering(&self) -> bool {
        self.state == State::Lingering
    }

    /// Whether the peer said that it will send nothing more.
    pub fn peer_is_done(&self) -> bool {
        self.flags.has(Flags::PEER_EOF)
    }

    /// Whether GOAWAY stage 0 went out.
    pub fn is_noticed(&self) -> bool {
        self.noticed.is_some()
    }

    /// Whether a PING went out and nothing was heard since.
    pub fn awaits_sign_of_life(&self) -> bool {
        self.flags.has(Flags::PINGED)
    }

    /// Requests accepted and not yet answered.
    pub fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// Whether pushes to this client may be version 2.
    pub fn speaks_extended(&self) -> bool {
        self.flags.has(Flags::EXTENDED)
    }

    /// `seq` of the highest request accepted.
    pub fn last_seq(&self) -> u32 {
        self.last_seq
    }

    /// Why it ends, or has ended.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// Whether it holds no buffer: nothing unfinished in either direction.
    pub fn is_bare(&self) -> bool {
        self.tail.is_none() && self.queue.is_none()
    }
}

const _: () = assert!(size_of::<Connection>() <= 40, "what each of a million connections costs");
