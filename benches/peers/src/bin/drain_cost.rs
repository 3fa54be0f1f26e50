//! Measures what it costs a server to let all its connections go: from SIGTERM to its exit.

use std::io::{BufRead, BufReader, Error, Result};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use peers::cost;
use peers::exchange::Mode;
use peers::load::{Load, Shape};
use peers::net;
use rustix::process::{Pid, Signal, kill_process};

/// A server's CPU time and the clients' waiting from SIGTERM on.
///
/// Starts the server, connects, sends SIGTERM, reads every connection to its end and closes it then,
/// and waits for the server's exit. Prints one line of `name=value`. The CPU time is the kernel's
/// account of the ended process, less what it had spent before the signal.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// What the server speaks
    #[arg(long, value_enum, default_value = "mcp")]
    mode: Mode,
    /// Connections that it has, each with one echo done
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// CPU to pin this client to; the server pins itself
    #[arg(long)]
    cpu: Option<usize>,
    /// Seconds until whoever is still connected makes it fail
    #[arg(long, default_value_t = 60)]
    limit: u64,
    /// The server's command; the first line that it prints has `listens on ADDRESS`
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("drain_cost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<String> {
    net::raise_descriptor_limit();
    let mut server = Command::new(&args.command[0])
        .args(&args.command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::other(format!("{}: {error}", args.command[0])))?;
    let done = drain(args, &mut server);
    if done.is_err() {
        // It is of no more use, and must not stay behind.
        let _ = server.kill();
        let _ = server.wait();
    }
    done
}

fn drain(args: &Args, server: &mut Child) -> Result<String> {
    let mut said = BufReader::new(server.stdout.take().ok_or_else(|| Error::other("the server has no output"))?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    // It is started by now: what it does from here on is for the connections.
    if let Some(cpu) = args.cpu {
        net::pin(cpu)?;
    }
    let token = std::env::var("PEERS_TOKEN").unwrap_or_default().into_bytes();
    let address = address_in(&line)?;
    let shape = Shape { mode: args.mode, address, depth: 1, payload: 32, token, nth: 0, spread: Duration::ZERO };
    let mut load = Load::new(shape)?;
    load.connect(args.connections)?;
    let before = settled_cpu(server.id())?;
    let signalled = Instant::now();
    let pid = Pid::from_raw(server.id() as i32).ok_or_else(|| Error::other("no server"))?;
    kill_process(pid, Signal::TERM)?;
    let (resets, closed) = load.read_to_end(Duration::from_secs(args.limit))?;
    // What it says at its end is not of interest, but must not fill its pipe.
    std::io::copy(&mut said, &mut std::io::sink())?;
    let status = server.wait()?;
    let ended = Instant::now();
    let spent = cpu_of_children()?.saturating_sub(before);
    Ok(format!(
        "connections={} drain_ns_per_connection={:.1} drain_cpu_ms={:.1} closed_ms={:.1} ended_ms={:.1} resets={resets} exit={}",
        args.connections,
        spent as f64 / args.connections.max(1) as f64,
        spent as f64 / 1e6,
        closed.duration_since(signalled).as_secs_f64() * 1e3,
        ended.duration_since(signalled).as_secs_f64() * 1e3,
        status.code().unwrap_or(-1),
    ))
}

fn address_in(line: &str) -> Result<SocketAddr> {
    let after = line.split_once("listens on ").map(|(_, after)| after.trim_start());
    let text = after.and_then(|after| after.split([';', ',', ' ', '\n']).next());
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::other(format!("no address in the server's first line: {line}")))
}

/// The server's CPU time once it has nothing more to do: then the number is exact.
fn settled_cpu(pid: u32) -> Result<u64> {
    let start = Instant::now();
    loop {
        let before = cost::cpu_ns(pid)?;
        std::thread::sleep(Duration::from_millis(100));
        if cost::cpu_ns(pid)? == before {
            return Ok(before);
        }
        if start.elapsed() > Duration::from_secs(10) {
            return Err(Error::other("the server does not come to rest"));
        }
    }
}

/// CPU time of the children that have ended and were waited for: that of the server. Nanoseconds.
fn cpu_of_children() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time().num_nanoseconds() + usage.system_time().num_nanoseconds()) as u64)
}
