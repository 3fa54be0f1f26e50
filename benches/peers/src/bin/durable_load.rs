//! Loads a server with work that it has on its disk before it answers: see `scripts/durable.sh`.

use std::io::{BufRead, Error, Result};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use peers::cost;
use peers::durable::load::{Load, Step};
use peers::durable::speak::Tongue;
use peers::net;

/// Connects, says `ready`, and measures once for each line `DEPTH PAYLOAD SECONDS RATE` of standard input.
///
/// DEPTH requests in flight on each connection, or with a RATE other than 0 that many a second over all of them. Prints one
/// line of `name=value` for each; times are from when a request was due to its answer, CPU is the server's.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// The server
    address: SocketAddr,
    /// What is asked for
    #[arg(long, value_enum, default_value = "submit")]
    speak: Tongue,
    /// The server's process: its CPU time is read
    #[arg(long)]
    pid: Option<u32>,
    /// Connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// CPU to pin this client to
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("durable_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    net::raise_descriptor_limit();
    if let Some(cpu) = args.cpu {
        net::pin(cpu)?;
    }
    let mut load = Load::connect(args.address, args.speak, args.connections.max(1))?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let parts: Vec<f64> = line.split_whitespace().filter_map(|part| part.parse().ok()).collect();
        let &[depth, payload, seconds, rate] = &parts[..] else {
            return Err(Error::other(format!("a step is DEPTH PAYLOAD SECONDS RATE, not '{line}'")));
        };
        let step = Step {
            depth: depth as usize,
            payload: payload as usize,
            length: Duration::from_secs_f64(seconds.max(0.001)),
            rate: (rate > 0.0).then_some(rate),
        };
        println!("{}", measure(args, &mut load, &step)?);
    }
    Ok(())
}

fn measure(args: &Args, load: &mut Load, step: &Step) -> Result<String> {
    let cpu = |pid: Option<u32>| pid.map_or(Ok(0), cost::cpu_ns);
    let me = std::process::id();
    let (server, client, began) = (cpu(args.pid)?, cost::cpu_ns(me)?, Instant::now());
    let done = load.run(step)?;
    let all = began.elapsed().as_secs_f64();
    let (server, client) = (cpu(args.pid)? - server, cost::cpu_ns(me)? - client);
    let per = |ns: u64| ns as f64 / done.replies.max(1) as f64;
    Ok(format!(
        "replies={} seconds={:.3} rate={:.0} {} server_ns_per_reply={:.1} server_cpu={:.3} client_cpu={:.3}",
        done.replies,
        done.seconds,
        done.replies as f64 / done.seconds,
        done.times.line(),
        per(server),
        server as f64 / 1e9 / all,
        client as f64 / 1e9 / all,
    ))
}
