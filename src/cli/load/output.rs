//! Where a report goes.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use tidegate::load::html::page;
use tidegate::load::report::Report;
use tidegate::load::table::table;

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
