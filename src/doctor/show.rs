//! A report as a person reads it, 80 columns wide where that can be, and as JSON.

use std::fmt::Write;

use super::{Check, Report, Verdict};

/// Columns that running text is kept to.
const WIDTH: usize = 80;
/// The widest that a column of the table becomes; a longer text pushes the rest of its line to the right.
const WIDEST: [usize; 2] = [31, 20];
/// How far in the lines below a check begin.
const INDENT: usize = 9;

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// With the colours of a terminal.
    Coloured,
}

impl Verdict {
    /// The word for it, as in the JSON.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Unknown => "unknown",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }

    /// Its colour (ECMA-48, "select graphic rendition").
    fn colour(self) -> &'static str {
        match self {
            Verdict::Ok => "32",
            Verdict::Unknown => "2",
            Verdict::Warn => "33",
            Verdict::Fail => "1;31",
        }
    }
}

impl Report {
    /// One JSON object: `connections`, `verdict`, `allows`, and `checks`, each with the fields of [`Check`].
    pub fn json(&self) -> String {
        // Strings and numbers only: nothing that could fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The table: a line for each check; below what is not well, why it matters and what to do.
    pub fn table(&self, style: Style) -> String {
        let width = |cell: fn(&Check) -> &str, title: &str, widest| {
            let longest = self.checks.iter().map(|check| cell(check).chars().count()).filter(|n| *n <= widest).max();
            longest.unwrap_or(0).max(title.len())
        };
        let name = width(|check| &check.check, "check", WIDEST[0]);
        let have = width(have, "have", WIDEST[1]);
        let mut text = format!("{:1$}{2:name$}  {3:have$}  need\n", "verdict", INDENT, "check", "have");
        for check in &self.checks {
            let verdict = painted(check.verdict, &format!("{:1$}", check.verdict.word(), INDENT - 2), style);
            let line = format!("{:name$}  {:have$}  {}", check.check, have_of(check), need(check));
            // To a string, writing does not fail.
            let _ = writeln!(text, "{verdict}  {}", line.trim_end());
            if let Some(fix) = &check.fix {
                text += &wrapped(&check.why, INDENT);
                let _ = writeln!(text, "{:INDENT$}fix: {fix}", "");
            }
        }
        text.push('\n');
        text + &self.summary(style)
    }

    /// What it comes to, in words: the last lines of the table.
    fn summary(&self, style: Style) -> String {
        let number = |verdict| self.with(verdict).count();
        let counts = format!(
            "{} fail, {} warn, {} unknown, {} ok",
            number(Verdict::Fail),
            number(Verdict::Warn),
            number(Verdict::Unknown),
            number(Verdict::Ok)
        );
        let n = self.connections;
        let limit = self.limited_by.as_deref().unwrap_or_default();
        let (word, rest) = match (self.verdict, self.allows) {
            (Verdict::Fail, Some(allows)) => ("NOT READY", format!("as it is, it allows {allows} ({limit})")),
            (Verdict::Fail, None) => ("NOT READY", "but not for want of room".to_owned()),
            (Verdict::Warn, _) => ("READY", "what is warned of costs speed, or room in a bad moment".to_owned()),
            (Verdict::Ok, _) => ("READY", "nothing to do".to_owned()),
            (Verdict::Unknown, _) => ("UNKNOWN", "nothing fails, but not all could be seen here".to_owned()),
        };
        let mut text = format!("{} for {n} connections: {rest}\n{counts}\n", painted(self.verdict, word, style));
        if number(Verdict::Unknown) > 0 {
            text += "Unknown is what can't be seen from here; from a container, look on its host too.\n";
        }
        if self.checks.iter().filter_map(|check| check.fix.as_ref()).any(|fix| fix.starts_with("sysctl -w")) {
            text += &wrapped(
                &format!(
                    "What sysctl sets lasts until the next boot; to keep it, write NAME = VALUE to \
                     /etc/sysctl.d/90-tidegate.conf, or let scripts/tune-host.sh {n} --persist do all of it."
                ),
                0,
            );
        }
        text
    }
}

fn have(check: &Check) -> &str {
    check.have.as_deref().unwrap_or("-")
}

fn have_of(check: &Check) -> &str {
    have(check)
}

fn need(check: &Check) -> &str {
    check.need.as_deref().unwrap_or("-")
}

fn painted(verdict: Verdict, text: &str, style: Style) -> String {
    match style {
        Style::Plain => text.to_owned(),
        Style::Coloured => format!("\x1b[{}m{text}\x1b[0m", verdict.colour()),
    }
}

/// Words in lines of at most [`WIDTH`] columns, so far in.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            let _ = write!(out, "{:indent$}{word}", "");
            column = indent + length;
        } else {
            let _ = write!(out, " {word}");
            column += 1 + length;
        }
    }
    out.push('\n');
    out
}
