//! Where a report goes.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use tidegate::load::report::{Latency, Report};

use super::LoadArgs;

/// The files that were asked for, open.
pub struct Files {
    json: Option<(PathBuf, File)>,
    html: Option<(PathBuf, File)>,
}

impl Files {
    /// Makes them.
    ///
    /// # Errors
    /// One can't be made; in words.
    pub fn create(args: &LoadArgs) -> Result<Files, String> {
        let create = |path: &Option<PathBuf>| {
            let open = |path: &PathBuf| match File::create(path) {
                Ok(file) => Ok((path.clone(), file)),
                Err(error) => Err(format!("cannot write {}: {error}", path.display())),
            };
            path.as_ref().map(open).transpose()
        };
        Ok(Files { json: create(&args.json)?, html: create(&args.html)? })
    }

    /// Writes the report to each.
    ///
    /// # Errors
    /// One can't be written; in words.
    pub fn write(&mut self, report: &Report) -> Result<(), String> {
        if let Some((path, file)) = &mut self.json {
            let text = serde_json::to_string_pretty(report).map_err(io::Error::from);
            let written = text.and_then(|text| writeln!(file, "{text}"));
            written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        if let Some((path, file)) = &mut self.html {
            let written = file.write_all(page(report).as_bytes());
            written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(())
    }
}

/// Prints the report.
///
/// # Errors
/// Standard output can't be written; in words. Whoever has read enough of it is no error.
pub fn print(report: &Report) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(table(report).as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("the report could not be written to stdout: {error}"))
        }
        _ => Ok(()),
    }
}

/// For a terminal.
fn table(report: &Report) -> String {
    summary(report)
}

/// For a browser.
fn page(report: &Report) -> String {
    let text = summary(report).replace('&', "&amp;").replace('<', "&lt;");
    format!("<!doctype html><meta charset=\"utf-8\"><title>tidegate load</title><pre>{text}</pre>\n")
}

fn summary(report: &Report) -> String {
    let account = &report.account;
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "{} against {}: {:.0} a second for {:.1} s",
        report.shape,
        report.address,
        report.rate,
        report.duration_ms as f64 / 1e3
    );
    let _ = writeln!(
        text,
        "  account      {} sent = {} answered + {} failed + {} safe + {} unknown + {} lost; {} wrong",
        account.sent, account.answered, account.failed, account.safe, account.unknown, account.lost, account.wrong
    );
    let _ = writeln!(
        text,
        "  connections  {} ready, {} broken, {} refused, {} heartbeats answered",
        account.connections, account.broken, account.refused, account.heartbeats
    );
    for (name, latency) in [("latency", &report.latency), ("connect", &report.connect)] {
        if let Some(latency) = latency {
            let _ = writeln!(text, "  {name:<13}{}", describe(latency));
        }
    }
    for event in &report.events {
        let _ = writeln!(text, "  {:>8.1} s   {}: {}", event.at_ms as f64 / 1e3, event.kind, event.text);
    }
    for (what, count) in &report.errors {
        let _ = writeln!(text, "  {count:>10}   {what}");
    }
    if let Some(saturated) = &report.generator.saturated {
        let _ = writeln!(text, "  saturated    {saturated}");
    }
    if let Some(ledger) = &report.ledger {
        let verdict = if ledger.differences.is_empty() { "agrees" } else { "does not agree" };
        let _ = writeln!(
            text,
            "  ledger       {verdict}: {} accepted, {} answered, {} failed, {} cut, in {} ledger(s)",
            ledger.accepted, ledger.answered, ledger.failed, ledger.cut, ledger.ledgers
        );
    }
    text
}

fn describe(latency: &Latency) -> String {
    let ms = |ns: u64| ns as f64 / 1e6;
    let at =
        |percent: f64| latency.percentiles.iter().find(|step| step.0 >= percent).map_or(latency.max, |step| step.1);
    let (p50, p99, p999) = (ms(at(50.0)), ms(at(99.0)), ms(at(99.9)));
    format!("p50 {p50:.3} ms, p99 {p99:.3} ms, p99.9 {p999:.3} ms, max {:.3} ms of {}", ms(latency.max), latency.count)
}
