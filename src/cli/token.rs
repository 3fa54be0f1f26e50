//! `tidegate token`: a fresh token and its line.

use std::io::{self, Write};
use std::process::ExitCode;

use tidegate::auth::{TokenError, generate_token};

/// Prints the token, then its line, each on a line of its own of standard output; what they are, on standard error.
pub fn run(principal: &str) -> ExitCode {
    let (token, line) = match generate_token(principal) {
        Ok(made) => made,
        Err(error @ TokenError::Principal) => return super::usage(&error),
        Err(error) => return super::failed(&error),
    };
    if let Err(error) = print(io::stdout().lock(), &token, &line) {
        return super::failed(&format_args!("cannot print the token: {error}"));
    }
    let _ = writeln!(
        io::stderr(),
        "Line 1 is the token: hand it to {principal} in private, it can't be printed again.\n\
         Line 2 lets it in: append it to the file that TIDEGATE_TOKENS_FILE names, before tidegate starts."
    );
    ExitCode::SUCCESS
}

fn print(mut out: impl Write, token: &str, line: &str) -> io::Result<()> {
    writeln!(out, "{token}\n{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_alone_on_the_first_line_and_its_line_is_the_second() {
        let mut out = Vec::new();
        print(&mut out, "tg_00", "me sha256:11").unwrap();
        assert_eq!(out, b"tg_00\nme sha256:11\n");
    }
}
