//! The flags of `tidegate load`, and the settings that they make.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tidegate::load::{Mix, Pacing, Secret, Settings, Shape};
use tidegate::proto::MAX_BODY;

use super::super::secret;
use super::values::{Source, parse_rate, parse_source, parse_time};

/// For the last replies and the orderly end of all connections, after the measured part; and a little more for
/// each connection.
const SETTLE: Duration = Duration::from_secs(30);
const SETTLE_EACH: Duration = Duration::from_micros(100);

/// Make load, check every reply, and report
///
/// A restart or drain of the server in the middle is part of it: GOAWAY is obeyed, what was not processed is
/// sent again, sessions are resumed. At the end every request has one fate, and with --ledger the account is
/// compared with the server's own. The first Ctrl-C ends the run in good order, a second one at once.
///
/// The token comes from --token-file or from the environment variable TIDEGATE_TOKEN.
///
/// Exit codes: 0 all is well; 1 something was lost, wrong or unknown, or differs from the ledger, or nothing
/// could connect; 2 wrong usage.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// What the connections do
    #[arg(value_name = "SHAPE", value_enum)]
    shape: ShapeArg,
    /// Server to connect to
    #[arg(long, value_name = "HOST:PORT", env = "TIDEGATE_CONNECT", default_value = "127.0.0.1:7400")]
    connect: String,
    /// File that holds the token
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    connections: u32,
    /// Requests in flight on each connection (echo, mix) [default: 1]
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    depth: Option<u32>,
    /// Requests a second over all connections (rate, mix); latency counts from when each should have been sent
    #[arg(long, value_name = "PER_SECOND", help_heading = "Load", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Bytes of an ECHO (echo, rate, hold) [default: 32]
    #[arg(long, value_name = "BYTES", help_heading = "Load", value_parser = clap::value_parser!(u16))]
    payload: Option<u16>,
    /// Commands and sizes by weight, one a line: 70 ECHO 32, 20 ECHO 100-4000, 5 SESSION_PUT 64, 1 0x20 128 (mix, rate)
    #[arg(long, value_name = "FILE", help_heading = "Load")]
    mix: Option<PathBuf>,
    /// Connections in all (connect)
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u64).range(1..))]
    total: Option<u64>,
    /// One ECHO on each connection every so often (hold)
    #[arg(long, value_name = "TIME", help_heading = "Load", value_parser = parse_time)]
    echo_every: Option<Duration>,
    /// One ECHO on each connection at the end (hold)
    #[arg(long, help_heading = "Load")]
    echo: bool,
    /// Decides payloads, the mix and jitter
    #[arg(long, value_name = "N", help_heading = "Load", default_value_t = 1)]
    seed: u64,

    /// Length of the measured part: seconds, or 500ms, 2m [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Time", value_parser = parse_time)]
    duration: Option<Duration>,
    /// Load before the measured part
    #[arg(long, value_name = "TIME", help_heading = "Time", default_value = "0", value_parser = parse_time)]
    warm_up: Duration,
    /// Time over which the connections are opened; 0: as fast as the server accepts
    #[arg(long, value_name = "TIME", help_heading = "Time", default_value = "0", value_parser = parse_time)]
    ramp: Duration,
    /// Go on until the server has closed every connection; none is replaced
    #[arg(long, help_heading = "Time", conflicts_with = "duration")]
    until_closed: bool,
    /// One point of the timeline [default: 1s, or a twentieth of a short run]
    #[arg(long, value_name = "TIME", help_heading = "Time", value_parser = parse_time)]
    interval: Option<Duration>,
    /// For the first connection to be let in, and for any further one while connecting
    #[arg(long, value_name = "TIME", help_heading = "Time", default_value = "5s", value_parser = parse_time)]
    connect_timeout: Duration,

    /// Do not replace a connection that ended
    #[arg(long, help_heading = "Connections")]
    no_reconnect: bool,
    /// Survive the server's death: reconnect for up to TIME, and send again what got no answer, with the same
    /// idempotency key; all that was acknowledged must then be there. Each connection has a topic of its own, with one
    /// SUBMIT in flight, and one request for each key of its session (echo, rate, mix)
    #[arg(long, value_name = "TIME", help_heading = "Connections", value_parser = parse_time, conflicts_with_all = ["no_reconnect", "until_closed"])]
    retry: Option<Duration>,
    /// End connections with GOAWAY, so that their sessions live on, and not with BYE
    #[arg(long, help_heading = "Connections")]
    keep_sessions: bool,
    /// Addresses or networks to connect from, 20,000 connections each [default: the system's choice; for more
    /// than 25,000 connections to 127.0.0.1 as many of 127.0.0.0/8 as are needed]
    #[arg(long, value_name = "ADDRESS,...", help_heading = "Connections", value_delimiter = ',', value_parser = parse_source)]
    source: Vec<Source>,
    /// Processes that make the load [default: 1, or as many as the limit of open files asks for]
    #[arg(long, value_name = "N", help_heading = "Connections", value_parser = clap::value_parser!(u16).range(1..))]
    processes: Option<u16>,

    /// Write the report as JSON
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub json: Option<PathBuf>,
    /// Write the report as a page for a browser
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub html: Option<PathBuf>,
    /// Write a line of JSON for each SUBMIT, SESSION_PUT and SESSION_DELETE that is acknowledged, before anything else
    /// is made of it; in one process
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    acks: Option<PathBuf>,
    /// Compare with the server's audit log (audit.jsonl in its TIDEGATE_DATA_DIR); repeat it for several servers
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    ledger: Vec<PathBuf>,
    /// How long to wait for the ledger of a server that still runs
    #[arg(long, value_name = "TIME", help_heading = "Report", default_value = "30s", value_parser = parse_time)]
    ledger_wait: Duration,
    /// Show no progress
    #[arg(long, short, help_heading = "Report")]
    pub quiet: bool,
    /// For scripts: prints `connected N` when the load begins and `settled` when all connections have ended;
    /// reads lines from stdin: `echo` sends one request (of hold: an ECHO) on each connection and prints
    /// `echoed N of M`, `stop` ends the run in good order
    #[arg(long, help_heading = "Report")]
    pub control: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShapeArg {
    /// Closed loop: --depth requests in flight on each connection
    Echo,
    /// Open loop: --rate requests a second, whatever the server does
    Rate,
    /// Connect, AUTH, BYE, and again: --total times, or for --duration
    Connect,
    /// Connections that answer heartbeats
    Hold,
    /// Commands and sizes from --mix, in a closed loop, or an open one with --rate
    Mix,
}

impl LoadArgs {
    /// What the flags ask for.
    ///
    /// # Errors
    /// They contradict each other, or name what can't be used; in words.
    pub fn settings(&self) -> Result<Settings, String> {
        self.check()?;
        let token = secret::token(self.token_file.as_deref())?.unwrap_or_default();
        if token.len() > MAX_BODY - 32 {
            return Err(format!("the token has {} bytes, AUTH has no room for it", token.len()));
        }
        let duration = self.duration();
        let interval = self.interval.unwrap_or_else(|| {
            let twentieth = duration.map_or(Duration::MAX, |duration| duration / 20);
            twentieth.clamp(Duration::from_millis(50), Duration::from_secs(1))
        });
        if interval < Duration::from_millis(1) {
            return Err("--interval: 1ms is the shortest".to_owned());
        }
        let program = std::env::current_exe().ok();
        Ok(Settings {
            shape: self.shape(),
            address: self.connect.clone(),
            connections: self.connections as usize,
            mix: self.mix()?,
            pacing: self.pacing(),
            total: self.total,
            duration,
            warm_up: self.warm_up,
            ramp: self.ramp,
            seed: self.seed,
            token: Secret(token),
            sources: self.source.iter().flat_map(|source| source.0.iter().copied()).collect(),
            processes: self.processes.map(usize::from).or(self.acks.as_ref().map(|_| 1)),
            helper: program.map(|program| (program, vec![super::HELPER.to_owned()])),
            interval,
            reconnect: !self.no_reconnect,
            until_closed: self.until_closed,
            echo_at_end: self.echo,
            keep_sessions: self.keep_sessions,
            connect_timeout: self.connect_timeout,
            settle_timeout: SETTLE + SETTLE_EACH * self.connections,
            ledgers: self.ledger.clone(),
            retry: self.retry,
            acks: self.acks.clone(),
            ledger_wait: self.ledger_wait,
            shown: self.shown(duration),
        })
    }

    /// What does not go together.
    fn check(&self) -> Result<(), String> {
        let only = |given: bool, flag: &str, shapes: &[ShapeArg]| {
            if !given || shapes.contains(&self.shape) {
                return Ok(());
            }
            let names: Vec<&str> = shapes.iter().map(|shape| shape.shape().name()).collect();
            Err(format!("{flag} is for {}, not for {}", names.join(" and "), self.shape().name()))
        };
        use ShapeArg::{Connect, Echo, Hold, Rate};
        only(self.depth.is_some(), "--depth", &[Echo, ShapeArg::Mix])?;
        only(self.rate.is_some(), "--rate", &[Rate, ShapeArg::Mix])?;
        only(self.payload.is_some(), "--payload", &[Echo, Rate, Hold])?;
        only(self.mix.is_some(), "--mix", &[ShapeArg::Mix, Rate])?;
        only(self.total.is_some(), "--total", &[Connect])?;
        only(self.echo_every.is_some(), "--echo-every", &[Hold])?;
        only(self.echo, "--echo", &[Hold])?;
        only(self.until_closed, "--until-closed", &[Echo, Rate, Hold, ShapeArg::Mix])?;
        only(self.retry.is_some(), "--retry", &[Echo, Rate, ShapeArg::Mix])?;
        if self.acks.is_some() && self.processes.is_some_and(|processes| processes > 1) {
            return Err("--acks is for one process: several can't write one file in order".to_owned());
        }
        if self.shape == Rate && self.rate.is_none() {
            return Err("rate needs --rate, requests a second over all connections".to_owned());
        }
        if self.shape == ShapeArg::Mix && self.mix.is_none() {
            return Err("mix needs --mix, a file of lines such as '70 ECHO 32'".to_owned());
        }
        if self.rate.is_some() && self.depth.is_some() {
            return Err("--rate and --depth exclude each other: an open loop sends by the clock".to_owned());
        }
        if self.mix.is_some() && self.payload.is_some() {
            return Err("--payload is of no use with --mix: its lines have the sizes".to_owned());
        }
        if self.echo_every.is_some_and(|every| every.is_zero()) {
            return Err("--echo-every: more than 0 is wanted".to_owned());
        }
        Ok(())
    }

    fn shape(&self) -> Shape {
        self.shape.shape()
    }

    fn duration(&self) -> Option<Duration> {
        let endless = self.until_closed || self.total.is_some();
        self.duration.or((!endless).then_some(Duration::from_secs(10)))
    }

    fn mix(&self) -> Result<Mix, String> {
        let Some(file) = &self.mix else { return Ok(Mix::echo(self.payload.unwrap_or(32))) };
        let name = file.display().to_string();
        let text = fs::read_to_string(file).map_err(|error| format!("the mix can't be read from {name}: {error}"))?;
        Mix::parse(&name, &text)
    }

    fn pacing(&self) -> Pacing {
        match (self.shape, self.rate, self.echo_every) {
            (_, Some(rate), _) => Pacing::Open { rate },
            (_, _, Some(every)) => Pacing::Open { rate: f64::from(self.connections) / every.as_secs_f64() },
            (ShapeArg::Connect | ShapeArg::Hold, ..) => Pacing::Silent,
            _ => Pacing::Closed { depth: self.depth.unwrap_or(1) as usize },
        }
    }

    /// The settings that shaped the run, for its report.
    fn shown(&self, duration: Option<Duration>) -> Vec<(String, String)> {
        let mut shown = vec![("connections".to_owned(), self.connections.to_string())];
        let mut show = |name: &str, value: Option<String>| shown.extend(value.map(|value| (name.to_owned(), value)));
        let time = |time: Duration| humantime::format_duration(time).to_string();
        let unless_zero = |length: Duration| (!length.is_zero()).then(|| time(length));
        if let Pacing::Closed { depth } = self.pacing() {
            show("depth", Some(depth.to_string()));
        }
        show("rate", self.rate.map(|rate| format!("{rate}/s")));
        match &self.mix {
            Some(file) => show("mix", Some(file.display().to_string())),
            None if self.shape != ShapeArg::Connect => {
                show("payload", Some(format!("{} bytes", self.payload.unwrap_or(32))));
            }
            None => {}
        }
        show("total", self.total.map(|total| total.to_string()));
        show("duration", duration.map(time).or(self.until_closed.then(|| "until closed".to_owned())));
        show("warm-up", unless_zero(self.warm_up));
        show("ramp", unless_zero(self.ramp));
        show("echo every", self.echo_every.map(time));
        show("retry", self.retry.map(time));
        show("reconnect", self.no_reconnect.then(|| "no".to_owned()));
        show("seed", Some(self.seed.to_string()));
        shown
    }
}

impl ShapeArg {
    fn shape(self) -> Shape {
        match self {
            ShapeArg::Echo => Shape::Echo,
            ShapeArg::Rate => Shape::Rate,
            ShapeArg::Connect => Shape::Connect,
            ShapeArg::Hold => Shape::Hold,
            ShapeArg::Mix => Shape::Mix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn settings(words: &[&str]) -> Result<Settings, String> {
        let cli = Cli::try_parse_from(["load"].iter().chain(words)).map_err(|error| error.to_string())?;
        cli.load.settings()
    }

    #[test]
    fn each_shape_has_its_own_loop() {
        let pacing = |words: &[&str]| settings(words).unwrap().pacing;
        assert_eq!(pacing(&["echo"]), Pacing::Closed { depth: 1 });
        assert_eq!(pacing(&["echo", "--depth", "16"]), Pacing::Closed { depth: 16 });
        assert_eq!(pacing(&["rate", "--rate", "1e3"]), Pacing::Open { rate: 1_000.0 });
        assert_eq!(pacing(&["hold"]), Pacing::Silent);
        assert_eq!(pacing(&["hold", "--echo-every", "4s", "--connections", "100"]), Pacing::Open { rate: 25.0 });
        assert_eq!(pacing(&["connect"]), Pacing::Silent);
    }

    #[test]
    fn what_does_not_go_together_is_refused_in_words() {
        for (words, part) in [
            (&["rate"][..], "rate needs --rate"),
            (&["mix"], "mix needs --mix"),
            (&["echo", "--rate", "5"], "--rate is for rate and mix, not for echo"),
            (&["hold", "--depth", "5"], "--depth is for echo and mix"),
            (&["connect", "--payload", "5"], "--payload is for"),
            (&["echo", "--total", "5"], "--total is for connect"),
            (&["echo", "--echo"], "--echo is for hold"),
            (&["hold", "--retry", "5s"], "--retry is for echo and rate and mix"),
            (&["echo", "--retry", "5s", "--no-reconnect"], "cannot be used with"),
            (&["echo", "--acks", "f", "--processes", "2"], "--acks is for one process"),
            (&["mix", "--mix", "/nowhere/at/all"], "can't be read from /nowhere/at/all"),
            (&["rate", "--rate", "0"], "requests a second"),
            (&["echo", "--duration", "soon"], "10s or 2m"),
            (&["echo", "--connections", "0"], "0 is not in"),
            (&["echo", "--source", "127.0.0.0/33"], "expected an address or a network"),
            (&["echo", "--token", "secret"], "unexpected argument"),
        ] {
            let error = settings(words).unwrap_err();
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }

    #[test]
    fn a_run_without_an_end_of_its_own_has_no_duration_and_a_short_one_short_intervals() {
        let of = |words: &[&str]| settings(words).unwrap();
        assert_eq!(of(&["connect", "--total", "5"]).duration, None);
        assert_eq!(of(&["hold", "--until-closed"]).duration, None);
        assert_eq!(of(&["echo"]).duration, Some(Duration::from_secs(10)));
        assert_eq!(of(&["echo", "--duration", "2"]).interval, Duration::from_millis(100));
        assert_eq!(of(&["echo", "--duration", "1m"]).interval, Duration::from_secs(1));
    }
}
