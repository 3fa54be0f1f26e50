//! Kills a server under load, over and over, and judges what is left: see `scripts/crash.sh`.

use std::io::Result;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use peers::crash::{self, Plan, Plant, report};

/// Kills `tidegate serve` at random moments under SUBMIT, SESSION_PUT and ECHO, and compares what was
/// acknowledged with journal, sink and sessions.
///
/// In all texts `{life}` stands for the folder of a data directory's life, `{name}` for that folder's name. Exit
/// codes: 0 nothing is lost, double or out of order; 1 something is; 2 it could not be done.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// The server
    program: PathBuf,
    /// Where everything is kept while it is needed; of lives that fail, for good
    folder: PathBuf,
    /// Kills
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// Kills of one data directory
    #[arg(long, default_value_t = 10)]
    per_life: u32,
    /// Clients
    #[arg(long, default_value_t = 24)]
    clients: usize,
    /// Decides sizes, kinds and moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The longest time between ready and kill, milliseconds
    #[arg(long, default_value_t = 1_500)]
    longest_ms: u64,
    /// The sink of topics sunk/#, as in TIDEGATE_SINKS; none: there is none
    #[arg(long, default_value = "file:{life}/sink.jsonl")]
    sink: String,
    /// Where that can be looked for: none, file:PATH, redis:PORT:STREAM, command:COMMAND that prints JSON lines
    #[arg(long, default_value = "file:{life}/sink.jsonl")]
    look: String,
    /// Sessions do not outlive the server
    #[arg(long)]
    sessions_in_memory: bool,
    /// Another server that is needed, killed in between: NAME=PORT=COMMAND
    #[arg(long)]
    other: Vec<String>,
    /// These keep all in memory: the server is stopped until everything is read before one of them is killed
    #[arg(long)]
    forgetful: bool,
    /// Break a promise on purpose: it has to be found
    #[arg(long, value_enum)]
    plant: Option<Plant>,
    /// Seconds that anything may take
    #[arg(long, default_value_t = 30)]
    patience: u64,
    /// Write a page about it here
    #[arg(long)]
    report: Option<PathBuf>,
    /// Write everything as JSON here
    #[arg(long)]
    results: Option<PathBuf>,
    /// How and where, for the page
    #[arg(long, default_value = "")]
    note: String,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crash: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let plan = Plan {
        program: args.program.clone(),
        folder: args.folder.clone(),
        kills: args.kills,
        per_life: args.per_life,
        clients: args.clients.max(1),
        seed: args.seed,
        longest: Duration::from_millis(args.longest_ms.max(10)),
        sink: args.sink.clone(),
        look: if args.sink == "none" { "none".to_owned() } else { args.look.clone() },
        env: Vec::new(),
        sessions_in_memory: args.sessions_in_memory,
        others: args.other.clone(),
        forgetful: args.forgetful,
        plant: args.plant,
        patience: Duration::from_secs(args.patience.max(2)),
    };
    let outcome = crash::run(&plan, &mut std::io::stdout().lock())?;
    if let Some(path) = &args.report {
        std::fs::write(path, report::markdown(&outcome, &args.note))?;
    }
    if let Some(path) = &args.results {
        std::fs::write(path, serde_json::to_string_pretty(&outcome)? + "\n")?;
    }
    println!("\n{}", report::text(&outcome));
    Ok(outcome.is_good())
}
