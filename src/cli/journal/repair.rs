//! `tidegate journal repair`: what is sound is kept, and what is lost is said.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use tidegate::journal::repair::Report;
use tidegate::journal::{self, Disk};
use tidegate::server::{AuditError, AuditLog};

use super::show;

/// Repairs, under the data directory's lock.
pub fn run(disk: &Disk, data_dir: &Path) -> ExitCode {
    let audit = match AuditLog::open(data_dir, "tidegate-journal") {
        Ok(audit) => audit,
        Err(error @ AuditError::InUse { .. }) => {
            return super::super::usage(&format_args!("{error}; nothing was done"));
        }
        Err(error) => return super::super::failed(&error),
    };
    let report = match journal::repair(disk) {
        Ok(report) => report,
        Err(error) => {
            return super::super::failed(&format_args!(
                "cannot repair the journal in {}: {error}; it may be tried again",
                disk.dir().display()
            ));
        }
    };
    let touched = !(report.is_sound() && report.aside.is_empty());
    let recorded = if touched { audit.record("journal_repair", "operator", &record(&report)) } else { Ok(()) };
    let printed = super::super::print(show::repaired(&report).as_bytes());
    if let Err(error) = recorded {
        return super::super::failed(&error);
    }
    // A start would look at it in the same way.
    match journal::verify(disk) {
        Ok(after) if after.is_sound() => printed,
        Ok(after) => {
            super::super::failed(&format_args!("the journal is still damaged:\n{}", show::verdict(&after).trim_end()))
        }
        Err(error) => super::failed_to_read(disk.dir(), &error),
    }
}

/// For the audit log.
fn record(report: &Report) -> serde_json::Value {
    let losses = report.losses.iter().map(|loss| {
        json!({
            "file": loss.damage.file,
            "offset": loss.damage.offset,
            "what": loss.damage.what,
            "bytes": loss.bytes,
            "ids": loss.ids.map(|(first, last)| [first, last]),
        })
    });
    json!({ "losses": losses.collect::<Vec<_>>(), "aside": report.aside })
}
