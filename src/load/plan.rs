//! What a run is to do: the operator's settings, and the share of one generator.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mix::Mix;

/// Connections of a run that are begun and not yet READY: below any backlog.
const CONNECTING: usize = 256;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// Closed loop: so many requests in flight on each connection.
    Echo,
    /// Open loop: requests at a constant rate, whatever the server does.
    Rate,
    /// Connections, one after the other: connect, AUTH, BYE.
    Connect,
    /// Connections that are held and answer heartbeats.
    Hold,
    /// Commands and sizes from a file, in either loop.
    Mix,
}

impl Shape {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Shape::Echo => "echo",
            Shape::Rate => "rate",
            Shape::Connect => "connect",
            Shape::Hold => "hold",
            Shape::Mix => "mix",
        }
    }
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pacing {
    /// As soon as fewer than this many are in flight on a connection.
    Closed {
        /// From 1 up.
        depth: usize,
    },
    /// At their time on a schedule.
    Open {
        /// Requests a second over all connections of the run, above 0.
        rate: f64,
    },
    /// Only when told.
    Silent,
}

/// What AUTH carries. Never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the connections do.
    pub shape: Shape,
    /// Where the server is, `host:port`.
    pub address: String,
    /// How many connections at once, from 1 up.
    pub connections: usize,
    /// What requests are.
    pub mix: Mix,
    /// When they are sent.
    pub pacing: Pacing,
    /// `connect`: how many connections in all; `None`: until `duration` is over.
    pub total: Option<u64>,
    /// Length of the measured part; `None`: until `total` is reached, or the server or the operator ends it.
    pub duration: Option<Duration>,
    /// Before the measured part.
    pub warm_up: Duration,
    /// Over which the connections are opened; zero: as fast as the server accepts.
    pub ramp: Duration,
    /// Decides payloads, the mix and jitter.
    pub seed: u64,
    /// For AUTH.
    pub token: Secret,
    /// Addresses to connect from, in turn; none: the system's choice.
    pub sources: Vec<IpAddr>,
    /// Processes that make the load; `None`: as many as the limit of open files asks for.
    pub processes: Option<usize>,
    /// How such a process is started: program and arguments. It calls [`super::serve_helper`].
    pub helper: Option<(PathBuf, Vec<String>)>,
    /// Length of an interval of the timeline.
    pub interval: Duration,
    /// Whether a connection that ended is replaced.
    pub reconnect: bool,
    /// The run goes on until the server has closed every connection.
    pub until_closed: bool,
    /// One ECHO on each connection at the end of the measured part.
    pub echo_at_end: bool,
    /// End connections with GOAWAY, so that their sessions live on, and not with BYE.
    pub keep_sessions: bool,
    /// For the first connection to become READY, and for any progress after it while connecting.
    pub connect_timeout: Duration,
    /// For the last replies and the orderly end, after the measured part.
    pub settle_timeout: Duration,
    /// Audit logs of the server(s), to compare with.
    pub ledgers: Vec<PathBuf>,
    /// What is lost with a connection is sent again, and all that was acknowledged must last; ends when nothing could
    /// connect for so long.
    pub retry: Option<Duration>,
    /// Where a line is written for each acknowledged SUBMIT and change of a session's state.
    pub acks: Option<PathBuf>,
    /// How long to wait for the `shutdown` line of a server that still runs.
    pub ledger_wait: Duration,
    /// To be shown in the report: name and value.
    pub shown: Vec<(String, String)>,
}

/// The share of one generator. Times are nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The first server.
    pub server: SocketAddr,
    /// See [`Settings`].
    pub shape: Shape,
    /// See [`Settings`].
    pub mix: Mix,
    /// See [`Settings`].
    pub pacing: Pacing,
    /// The number of its first connection among those of the run.
    pub first: u64,
    /// How many it has.
    pub count: usize,
    /// How many the run has.
    pub all: u64,
    /// How many may be on their way to READY at once.
    pub at_once: usize,
    /// See [`Settings`]; its own share.
    pub total: Option<u64>,
    /// See [`Settings`].
    pub duration: Option<u64>,
    /// See [`Settings`].
    pub warm_up: u64,
    /// See [`Settings`].
    pub ramp: u64,
    /// See [`Settings`].
    pub interval: u64,
    /// When the run began, since 1970.
    pub began: u64,
    /// See [`Settings`].
    pub seed: u64,
    /// See [`Settings`].
    pub token: Secret,
    /// See [`Settings`].
    pub sources: Vec<IpAddr>,
    /// See [`Settings`].
    pub reconnect: bool,
    /// See [`Settings`].
    pub until_closed: bool,
    /// See [`Settings`].
    pub echo_at_end: bool,
    /// See [`Settings`].
    pub keep_sessions: bool,
    /// See [`Settings`].
    pub connect_timeout: u64,
    /// See [`Settings`].
    pub settle_timeout: u64,
    /// See [`Settings`].
    pub retry: Option<u64>,
    /// See [`Settings`].
    pub acks: Option<PathBuf>,
}

impl Settings {
    /// The shares of `processes` generators for a run against `server` that began at `began`.
    pub fn split(&self, server: SocketAddr, sources: &[IpAddr], processes: usize, began: u64) -> Vec<Plan> {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut first = 0;
        let share = |index: usize| {
            let count = even_share(self.connections as u64, processes, index);
            let plan = Plan {
                server,
                shape: self.shape,
                mix: self.mix.clone(),
                pacing: self.pacing,
                first,
                count: count as usize,
                all: self.connections as u64,
                at_once: match self.shape {
                    Shape::Connect => count as usize,
                    _ => (CONNECTING / processes).max(1),
                },
                total: self.total.map(|total| even_share(total, processes, index)),
                duration: self.duration.map(ns),
                warm_up: ns(self.warm_up),
                ramp: ns(self.ramp),
                interval: ns(self.interval).max(1),
                began,
                seed: self.seed,
                token: self.token.clone(),
                sources: sources.to_vec(),
                reconnect: self.reconnect && !self.until_closed,
                until_closed: self.until_closed,
                echo_at_end: self.echo_at_end,
                keep_sessions: self.keep_sessions,
                connect_timeout: ns(self.connect_timeout),
                settle_timeout: ns(self.settle_timeout),
                retry: self.retry.map(ns),
                acks: self.acks.clone(),
            };
            first += count;
            plan
        };
        (0..processes).map(share).collect()
    }
}

fn even_share(total: u64, parts: usize, index: usize) -> u64 {
    let parts = parts as u64;
    total / parts + u64::from((index as u64) < total % parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_none_is_more_than_one_above_another() {
        for (total, parts) in [(10, 3), (2, 5), (1_000_000, 52), (7, 7)] {
            let shares: Vec<u64> = (0..parts).map(|index| even_share(total, parts, index)).collect();
            assert_eq!(shares.iter().sum::<u64>(), total);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
        }
    }

    #[test]
    fn a_plan_does_not_show_its_token() {
        assert_eq!(format!("{:?}", Secret(b"hush".to_vec())), "Secret(redacted)");
    }
}
