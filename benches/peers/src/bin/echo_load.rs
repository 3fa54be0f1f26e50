//! Measures what a server spends for each frame, each connection, and each idle connection.

use std::io::{BufRead, Error, Result};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use peers::cost;
use peers::exchange::Mode;
use peers::load::{Load, Shape};
use peers::net;

/// A client that spins, and reads from /proc what the server has spent.
///
/// Prints one line of `name=value`. The token, if the server wants one, is taken from PEERS_TOKEN.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// The server
    address: SocketAddr,
    /// What it speaks
    #[arg(long, value_enum, default_value = "mcp")]
    mode: Mode,
    /// The server's process, to read its costs
    #[arg(long)]
    pid: Option<u32>,
    /// CPU to pin this client to
    #[arg(long)]
    cpu: Option<usize>,
    /// Connections that echo at the same time; in a storm: that are made at the same time
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Frames in a burst
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Payload bytes of a frame
    #[arg(long, default_value_t = 32)]
    payload: usize,
    /// Seconds to measure
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Frames to measure, instead of seconds
    #[arg(long)]
    frames: Option<u64>,
    /// Milliseconds of the same load before measuring
    #[arg(long, default_value_t = 200)]
    warm_up_ms: u64,
    /// Measure connections instead: make this many, let in and closed
    #[arg(long, conflicts_with_all = ["hold", "steps", "heartbeats"])]
    storm: Option<usize>,
    /// More connections, which only are there: after their first echo they are idle
    #[arg(long, default_value_t = 0)]
    idle: usize,
    /// Measure once for each line `DEPTH PAYLOAD SECONDS` of standard input, on the same connections;
    /// says `ready` when it has them
    #[arg(long)]
    steps: bool,
    /// Measure heartbeats of idle connections instead: answer PING by PONG, for --seconds
    #[arg(long, conflicts_with = "hold")]
    heartbeats: bool,
    /// Milliseconds over which the connects are spread evenly, and so the heartbeats
    #[arg(long, default_value_t = 0)]
    spread_ms: u64,
    /// Measure idle memory instead: hold these numbers of connections one after the other
    #[arg(long, value_delimiter = ',', requires = "pid")]
    hold: Vec<usize>,
    /// With --hold: frames that each connection echoes, in bursts of --depth, before the memory is read
    #[arg(long, default_value_t = 0)]
    traffic: usize,
    /// Connections that were made before from this host, to use other source addresses
    #[arg(long, default_value_t = 0)]
    nth: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = if !args.hold.is_empty() {
        hold(&args)
    } else if let Some(total) = args.storm {
        storm(&args, total)
    } else if args.heartbeats {
        heartbeats(&args)
    } else {
        echo(&args)
    };
    match done {
        Ok(line) => {
            if !line.is_empty() {
                println!("{line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("echo_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<Load> {
    net::raise_descriptor_limit();
    if let Some(cpu) = args.cpu {
        net::pin(cpu)?;
    }
    let token = std::env::var("PEERS_TOKEN").unwrap_or_default().into_bytes();
    Load::new(Shape {
        mode: args.mode,
        address: args.address,
        depth: args.depth.max(1),
        payload: args.payload,
        token,
        nth: args.nth,
        spread: Duration::from_millis(args.spread_ms),
    })
}

/// One reading of clock, server and client.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    server_ns: u64,
    client_ns: u64,
}

impl Reading {
    fn take(args: &Args) -> Result<Reading> {
        let server_ns = args.pid.map_or(Ok(0), cost::cpu_ns)?;
        Ok(Reading { at: Instant::now(), server_ns, client_ns: cost::cpu_ns(std::process::id())? })
    }

    fn line(&self, args: &Args, unit: &str, count: u64) -> Result<String> {
        let end = Reading::take(args)?;
        let seconds = end.at.duration_since(self.at).as_secs_f64();
        let per = |ns: u64| ns as f64 / count.max(1) as f64;
        let server_ns = end.server_ns - self.server_ns;
        Ok(format!(
            "{unit}s={count} seconds={seconds:.3} rate={:.0} server_ns_per_{unit}={:.1} server_cpu={:.3} client_ns_per_{unit}={:.1}",
            count as f64 / seconds,
            per(server_ns),
            server_ns as f64 / 1e9 / seconds,
            per(end.client_ns - self.client_ns),
        ))
    }
}

fn echo(args: &Args) -> Result<String> {
    let mut load = start(args)?;
    load.connect(args.connections + args.idle)?;
    if !args.steps {
        load.reshape(args.depth.max(1), args.payload, args.connections);
        return measure(args, &mut load, args.seconds);
    }
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let parts: Vec<f64> = line.split_whitespace().filter_map(|part| part.parse().ok()).collect();
        let &[depth, payload, seconds] = &parts[..] else {
            return Err(Error::other(format!("a step is DEPTH PAYLOAD SECONDS, not '{line}'")));
        };
        load.reshape((depth as usize).max(1), payload as usize, args.connections);
        println!("{}", measure(args, &mut load, seconds)?);
    }
    Ok(String::new())
}

/// Both the warm-up and the measurement last for at least one burst of every connection, and end
/// with every frame answered: else a server that is ahead of its client, by up to a burst on each of
/// very many connections, would be measured by frames that are not counted.
fn measure(args: &Args, load: &mut Load, seconds: f64) -> Result<String> {
    let cycle = load.frames_in_a_cycle();
    let wanted = args.frames.unwrap_or(cycle).max(cycle);
    run_for(load, Duration::from_millis(args.warm_up_ms), cycle)?;
    let first = load.frames;
    let began = Reading::take(args)?;
    let length = if args.frames.is_some() { 0.0 } else { seconds };
    run_for(load, Duration::from_secs_f64(length.max(0.0)), wanted)?;
    began.line(args, "frame", load.frames - first)
}

fn run_for(load: &mut Load, length: Duration, at_least: u64) -> Result<()> {
    let (start, first) = (Instant::now(), load.frames);
    load.echo(|frames| Ok(start.elapsed() >= length && frames - first >= at_least))?;
    load.settle()
}

fn heartbeats(args: &Args) -> Result<String> {
    let mut load = start(args)?;
    load.connect(args.connections)?;
    // Until each has had one, so that the rhythm is the server's.
    let cycle = args.connections as u64;
    let length = Duration::from_secs_f64(args.seconds.max(0.001));
    let mut began: Option<(Reading, u64)> = None;
    let mut line = String::new();
    load.answer_heartbeats(|answered| {
        match &began {
            None if answered >= cycle => began = Some((Reading::take(args)?, answered)),
            Some((reading, first)) if reading.at.elapsed() >= length => {
                line = reading.line(args, "heartbeat", answered - first)?;
            }
            _ => {}
        }
        Ok(!line.is_empty())
    })?;
    Ok(line)
}

fn storm(args: &Args, total: usize) -> Result<String> {
    let mut load = start(args)?;
    // The first tenth finds out how much memory is needed, on both sides.
    let warm = total / 10;
    let mut began = Reading::take(args)?;
    load.storm(total + warm, args.connections, |closed| {
        if closed == warm {
            began = Reading::take(args)?;
        }
        Ok(())
    })?;
    began.line(args, "connection", total as u64)
}

fn hold(args: &Args) -> Result<String> {
    let mut load = start(args)?;
    let pid = args.pid.unwrap_or_default();
    let mut readings = Vec::new();
    for count in &args.hold {
        load.connect(*count)?;
        if args.traffic > 0 {
            let wanted = load.frames + (args.traffic * count) as u64;
            load.echo(|frames| Ok(frames >= wanted))?;
            load.settle()?;
        }
        readings.push((*count, cost::memory(pid)?));
    }
    let mut line = String::new();
    for (count, memory) in &readings {
        line += &format!("resident_{count}={} private_{count}={} ", memory.resident, memory.private);
    }
    if let [(few, small), .., (many, large)] = readings[..] {
        let slope = |from: u64, to: u64| (to as f64 - from as f64) / (many as f64 - few as f64);
        let (resident, private) = (slope(small.resident, large.resident), slope(small.private, large.private));
        line += &format!("resident_per_connection={resident:.1} private_per_connection={private:.1}");
    }
    Ok(line)
}
