//! Starts a server and measures how long it takes to be ready, and its memory then.

use std::io::{Error, Result};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use peers::cost;
use peers::crash::process::Gateway;
use rustix::process::Signal;

/// From exec to `/readyz` 200, and memory; then the server is ended. Settings come from the environment.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
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
    match run(&Args::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("restart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<String> {
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
    Ok(format!(
        "said_ms={:.1} ready_ms={:.1} cpu_ms={:.1} rss={} rss_later={} private_later={}",
        said.as_secs_f64() * 1e3,
        ready.as_secs_f64() * 1e3,
        cpu as f64 / 1e6,
        at_once.resident,
        later.resident,
        later.private
    ))
}
