//! Measures work that is on the disk before it is answered: see `scripts/durable.sh`.

use std::io::{BufRead, Error, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use peers::cost;
use peers::crash::process::Gateway;
use peers::durable::disk::{self, Kind};
use peers::durable::load::{Load, Step};
use peers::durable::speak::Tongue;
use peers::net;
use rustix::process::Signal;

/// Durable work: a disk's, a server's, and how soon a server is back that has much of it.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Append so many bytes and call fdatasync, over and over: the most that any log does on this disk.
    Floor(FloorArgs),
    /// Connect, say `ready`, and measure once for each line `DEPTH PAYLOAD SECONDS RATE` of standard input.
    ///
    /// DEPTH requests in flight on each connection, or with a RATE other than 0 that many a second over all of
    /// them. Prints one line of `name=value` for each; times are from when a request was due to its answer, CPU is
    /// the server's.
    Load(LoadArgs),
    /// From exec to `/readyz` 200, and memory; then the server is ended. Settings come from the environment.
    Restart(RestartArgs),
}

#[derive(Args, Debug)]
struct FloorArgs {
    /// Where the file is made (and removed)
    folder: PathBuf,
    /// Bytes of an append
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    /// What the file is like
    #[arg(long, value_enum, default_value = "growing")]
    kind: Kind,
    /// Seconds
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

#[derive(Args, Debug)]
struct LoadArgs {
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

#[derive(Args, Debug)]
struct RestartArgs {
    /// The server
    program: PathBuf,
    /// What it logs is appended here
    log: PathBuf,
    /// Kill it at the end, so that the next start is one after a crash
    #[arg(long)]
    kill: bool,
    /// Milliseconds after which its memory is read once more
    #[arg(long, default_value_t = 500)]
    rest_ms: u64,
    /// Seconds that it may take
    #[arg(long, default_value_t = 120)]
    limit: u64,
}

fn main() -> ExitCode {
    let done = match Cli::parse().what {
        What::Floor(args) => floor(&args),
        What::Load(args) => load(&args),
        What::Restart(args) => restart(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("durable: {error}");
            ExitCode::FAILURE
        }
    }
}

fn floor(args: &FloorArgs) -> Result<()> {
    let length = Duration::from_secs_f64(args.seconds.max(0.001));
    let done = disk::append(&args.folder, args.kind, args.bytes, length)
        .map_err(|error| Error::new(error.kind(), format!("{}: {error}", args.folder.display())))?;
    let rate = done.syncs as f64 / done.seconds;
    println!("syncs={} seconds={:.3} rate={rate:.1} {}", done.syncs, done.seconds, done.times.line());
    Ok(())
}

fn load(args: &LoadArgs) -> Result<()> {
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

fn measure(args: &LoadArgs, load: &mut Load, step: &Step) -> Result<String> {
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

fn restart(args: &RestartArgs) -> Result<()> {
    let began = Instant::now();
    let until = began + Duration::from_secs(args.limit);
    let env = [("TIDEGATE_LISTEN", "127.0.0.1:0"), ("TIDEGATE_ADMIN", "127.0.0.1:0")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut gateway = Gateway::start(&args.program, &args.log, &env)?;
    gateway.address(until)?;
    let said = began.elapsed();
    if !gateway.ready(until)? {
        return Err(Error::other(format!("not ready within {} s", args.limit)));
    }
    let ready = began.elapsed();
    let at_once = cost::memory(gateway.id())?;
    std::thread::sleep(Duration::from_millis(args.rest_ms));
    let later = cost::memory(gateway.id())?;
    let cpu = cost::cpu_ns(gateway.id())?;
    if args.kill {
        gateway.kill()?;
    } else {
        gateway.signal(Signal::TERM)?;
        let status = gateway.wait(Instant::now() + Duration::from_secs(args.limit))?;
        if !status.success() {
            return Err(Error::other(format!("the server ended with {status}")));
        }
    }
    println!(
        "said_ms={:.1} ready_ms={:.1} cpu_ms={:.1} rss={} rss_later={} private_later={}",
        said.as_secs_f64() * 1e3,
        ready.as_secs_f64() * 1e3,
        cpu as f64 / 1e6,
        at_once.resident,
        later.resident,
        later.private
    );
    Ok(())
}
