//! The clients' side of a drain test, as a process of its own, and the judge of its outcome.

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use peers::drain::{self, Account, Kind, Orders, Plan, balanced};
use serde_json::Value;
use tidegate::proto::Command;

/// Clients of a drain: they keep books of every request, and compare them with the server's ledger.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Connect, load, and go on until the server has closed every connection.
    ///
    /// Prints `flowing`, then a line every 2 ms until a drain shows, then the account as one line of
    /// JSON. The token, if the server wants one, is taken from PEERS_TOKEN.
    Run {
        /// The server
        address: SocketAddr,
        /// Clients of each kind, such as fast=32,slow=0: the kinds not named are as usual
        #[arg(long, value_delimiter = ',')]
        mix: Vec<String>,
        /// Multiplies the usual number of each kind
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
        /// Decides sizes and starting points
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The application's command, which gives its payload back if the server has it
        #[arg(long, default_value = "0x20")]
        command: String,
        /// Seconds after which whoever is left is a violation
        #[arg(long, default_value_t = 60)]
        limit: u64,
    },
    /// Compare an account with the last `shutdown` of an audit log: one line, and the exit code.
    Judge {
        /// The account, as `run` printed it
        account: PathBuf,
        /// The server's audit.jsonl
        audit: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().what {
        What::Run { address, mix, scale, seed, command, limit } => {
            run(address, &mix, scale, seed, &command, Duration::from_secs(limit))
        }
        What::Judge { account, audit } => judge(&account, &audit),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("drain_clients: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(address: SocketAddr, mix: &[String], scale: f64, seed: u64, command: &str, limit: Duration) -> Result<bool> {
    let command = Command::parse(command).filter(|command| command.is_application());
    let command = command.ok_or_else(|| Error::other("--command: a command of the application, 0x20 to 0xFF"))?;
    let token = std::env::var("PEERS_TOKEN").unwrap_or_default().into_bytes();
    let plan = Plan { address, mix: parse_mix(mix, scale)?, orders: Orders { token, command }, seed, limit };
    let account = drain::run(&plan, &mut std::io::stdout().lock())?;
    println!("{}", serde_json::to_string(&account)?);
    Ok(account.violation_count == 0)
}

fn parse_mix(given: &[String], scale: f64) -> Result<Vec<(Kind, usize)>> {
    let mut mix: Vec<_> = Kind::USUAL.iter().map(|(kind, n)| (*kind, (*n as f64 * scale).round() as usize)).collect();
    for part in given {
        let (name, count) =
            part.split_once('=').ok_or_else(|| Error::other(format!("--mix: '{part}' is no KIND=N")))?;
        let kind: Kind = name.parse().map_err(|error| Error::other(format!("--mix: {error}")))?;
        let count = count.parse().map_err(|_| Error::other(format!("--mix: '{count}' is no number")))?;
        mix.iter_mut().filter(|(other, _)| *other == kind).for_each(|(_, n)| *n = count);
    }
    Ok(mix)
}

fn judge(account: &Path, audit: &Path) -> Result<bool> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| Error::other(format!("{}: {error}", path.display())))
    };
    let account: Account = serde_json::from_str(&read(account)?)?;
    let lines = read(audit)?;
    let shutdown = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .rfind(|line| line["event_type"] == "shutdown")
        .ok_or_else(|| Error::other(format!("{}: no shutdown", audit.display())))?;
    let against = account.judge(&shutdown);
    let total = &account.total;
    let (lost, resets) = account.lost_and_reset();
    println!(
        "connections={} sent={} answered={} safe={} lost={} resets={} refused={} accepted={} failed={} cut={} balanced={} drain_ms={} closed_ms={} verdict={}",
        total.connections,
        total.sent,
        total.answered,
        total.safe_to_retry,
        lost,
        resets,
        account.refused,
        shutdown["accepted"],
        shutdown["failed"],
        shutdown["connections_cut"],
        if balanced(&shutdown) { "yes" } else { "no" },
        shutdown["durations"]["total_ms"],
        account.drain_ms,
        if against.is_empty() { "ok" } else { "FAILED" },
    );
    against.iter().for_each(|what| eprintln!("  {what}"));
    Ok(against.is_empty())
}
