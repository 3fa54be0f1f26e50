//! Makes a table, a file of results and a picture of the measurements of `scripts/compare.sh`.

use std::fs;
use std::io::{Error, Read, Result};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use peers::report::{Budgets, Report, picture, table};

/// Reads measurements from standard input, prints the table, and says by its exit code whether
/// tidegate is within its budgets: 0 within, 1 over, 2 failed.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Write everything as JSON here, too
    #[arg(long)]
    results: Option<PathBuf>,
    /// Draw it, as SVG, here
    #[arg(long)]
    picture: Option<PathBuf>,
    /// How and where it was measured
    #[arg(long, default_value = "")]
    note: String,
    /// The most that a frame may cost at depth 1, beside the floor's
    #[arg(long, default_value_t = 1.05)]
    budget_1: f64,
    /// The most that a frame may cost at more
    #[arg(long, default_value_t = 1.10)]
    budget_more: f64,
    /// The most that a connection may cost
    #[arg(long, default_value_t = 1.18)]
    budget_storm: f64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let budgets = Budgets { one: args.budget_1, more: args.budget_more, storm: args.budget_storm };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let report = Report::parse(&text, &budgets).map_err(Error::other)?;
    if let Some(path) = &args.results {
        let value = serde_json::json!({ "note": args.note, "report": report });
        write(path, &(serde_json::to_string_pretty(&value)? + "\n"))?;
    }
    if let Some(path) = &args.picture {
        write(path, &picture::svg(&report, &budgets, &args.note))?;
    }
    print!("{}", table::text(&report));
    Ok(report.verdicts.iter().all(|verdict| verdict.within))
}

fn write(path: &PathBuf, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| Error::other(format!("{}: {error}", path.display())))
}
