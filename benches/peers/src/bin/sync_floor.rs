//! The floor of durable work: appends and syncs, and nothing else.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use peers::durable::disk::{Kind, append};

/// Appends so many bytes and calls fdatasync, over and over: the most that any log does on this disk.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
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

fn main() -> ExitCode {
    let args = Args::parse();
    match append(&args.folder, args.kind, args.bytes, Duration::from_secs_f64(args.seconds.max(0.001))) {
        Ok(done) => {
            let rate = done.syncs as f64 / done.seconds;
            println!("syncs={} seconds={:.3} rate={rate:.1} {}", done.syncs, done.seconds, done.times.line());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sync_floor: {}: {error}", args.folder.display());
            ExitCode::FAILURE
        }
    }
}
