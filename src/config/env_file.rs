//! Environment files: what systemd, Kubernetes and we read alike.
//!
//! systemd takes quotes and backslashes for its own (systemd.exec(5), `EnvironmentFile=`), kubectl and
//! docker take them as they stand. A file that serves all of them has neither, and one that has them
//! would mean something else to each: it is refused.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of such a file.
const MAX_FILE: u64 = 1 << 20;

/// A line that can't be used: its name and value as far as they can be told, and what is expected.
pub(super) type Wrong<'t> = (&'t str, &'t str, &'static str);

/// The file's text.
///
/// # Errors
/// It can't be read, is too large, or is not UTF-8.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// The variables, each with the number of its line.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (usize, Result<(&str, &str), Wrong<'_>>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    // systemd takes ; for a comment too, the others do not.
    let said = lines.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    said.map(|(number, line)| (number, variable(line)))
}

fn variable(line: &str) -> Result<(&str, &str), Wrong<'_>> {
    let Some((name, value)) = line.split_once('=') else {
        return Err((line.trim(), "", "NAME=value, or a line that begins with #"));
    };
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name = name.starts_with(first) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name {
        return Err((name, value, "NAME=value, with a name of letters, digits and _ and no space around it"));
    }
    if value.trim() != value {
        return Err((name, value, "a value without spaces around it: systemd drops them, Kubernetes keeps them"));
    }
    if value.contains(['"', '\'', '\\']) {
        let why = "a value without quotes and backslashes: systemd takes them away, Kubernetes keeps them";
        return Err((name, value, why));
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn variables_come_with_their_lines_and_comments_do_not() {
        let text = "# limits\n\nTIDEGATE_BACKLOG=512\n  # more\nTIDEGATE_LOG=info,tidegate::reactor=debug\r\nA=\n";
        let parsed: Vec<_> = parse(text).collect();
        let expected =
            [(3, "TIDEGATE_BACKLOG", "512"), (5, "TIDEGATE_LOG", "info,tidegate::reactor=debug"), (6, "A", "")];
        assert_eq!(parsed, expected.map(|(line, name, value)| (line, Ok((name, value)))));
    }

    #[test]
    fn what_systemd_and_kubernetes_would_read_differently_is_refused() {
        for line in ["A=\"b\"", "A='b'", "A=b\\", "A= b", "A=b ", "export A=b", "A =b", "1A=b", "A", "; comment", "=b"]
        {
            let parsed: Vec<_> = parse(line).collect();
            assert!(matches!(parsed[..], [(1, Err(_))]), "{line}: {parsed:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_line_by_line(text in any::<String>()) {
            for (line, _) in parse(&text) {
                prop_assert!((1..=text.lines().count()).contains(&line));
            }
        }
    }
}
