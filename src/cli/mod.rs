//! The command line. Exit codes: 0 clean, 1 failed at run time, 2 wrong configuration or usage, 3 something was cut.

mod call;
mod doctor;
mod journal;
#[cfg(feature = "load")]
mod load;
mod manual;
mod secret;
mod serve;
mod token;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Arg, Args, Command, FromArgMatches};

/// It failed at run time.
const FAILED: u8 = 1;
/// The configuration or the command line is wrong; nothing was bound.
const USAGE: u8 = 2;

/// Runs the command that `args` name, the program's own name first, with `env` for its environment.
pub fn run(args: impl IntoIterator<Item = OsString>, env: impl Iterator<Item = (OsString, OsString)>) -> ExitCode {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version come this way too, with exit code 0. There is no one to tell if printing fails.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches, env),
        Some(("journal", matches)) => journal::run(matches, env),
        Some(("doctor", matches)) => doctor::run(matches, env),
        Some(("token", matches)) => token::run(matches.get_one::<String>("PRINCIPAL").map_or("", String::as_str)),
        Some(("call", matches)) => match call::CallArgs::from_arg_matches(matches) {
            Ok(args) => call::run(args),
            Err(error) => usage(&error),
        },
        Some(("completions", matches)) => manual::completions(command(), matches),
        Some(("man", matches)) => manual::man(command(), matches),
        #[cfg(feature = "load")]
        Some(("load", matches)) => match load::LoadArgs::from_arg_matches(matches) {
            Ok(args) => load::run(&args),
            Err(error) => usage(&error),
        },
        #[cfg(feature = "load")]
        Some((load::HELPER, _)) => load::help(),
        _ => usage(&"expected a command: serve, call, journal, doctor, load or token"),
    }
}

fn command() -> Command {
    let command = Command::new("tidegate")
        .version(tidegate::build::VERSION)
        .long_version(tidegate::build::describe())
        .about("A gateway for very many long-lived connections that can be restarted at noon and proves that nothing was lost")
        .after_help("Exit codes: 0 clean, 1 failed at run time, 2 wrong configuration or usage, 3 something was cut.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
        .subcommand(call::CallArgs::augment_args(Command::new("call").about("Send a request and print its reply")))
        .subcommand(journal::command())
        .subcommand(doctor::command())
        .subcommand(
            Command::new("token")
                .about("Print a fresh token and its line for the tokens file")
                .long_about(
                    "Prints two lines: a fresh token, and the line that lets it in, to be appended to \
                     TIDEGATE_TOKENS_FILE. The token is kept nowhere: it can't be printed again.",
                )
                .arg(Arg::new("PRINCIPAL").required(true).help("Whom the token speaks for: a name without spaces")),
        )
        .subcommand(manual::completions_command())
        .subcommand(manual::man_command());
    #[cfg(feature = "load")]
    let command = command
        .subcommand(load::LoadArgs::augment_args(
            Command::new("load").about("Make load, check every reply, and report"),
        ))
        .subcommand(Command::new(load::HELPER).hide(true));
    command
}

fn usage(error: &dyn fmt::Display) -> ExitCode {
    complain(error);
    ExitCode::from(USAGE)
}

fn failed(error: &dyn fmt::Display) -> ExitCode {
    complain(error);
    ExitCode::from(FAILED)
}

/// Prints what was asked for. A reader that has seen enough, `head` for instance, is no failure.
fn print(text: &[u8]) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            failed(&format_args!("cannot print to standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn complain(error: &dyn fmt::Display) {
    // Not `eprintln!`, which panics when standard error is closed.
    let _ = writeln!(io::stderr(), "error: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(args: &[&str]) -> ExitCode {
        run(std::iter::once("tidegate").chain(args.iter().copied()).map(OsString::from), std::iter::empty())
    }

    #[test]
    fn the_commands_and_flags_do_not_contradict_each_other() {
        command().debug_assert();
    }

    #[test]
    fn wrong_usage_exits_with_2_and_help_with_0() {
        for wrong in [
            &[][..],
            &["nonsense"],
            &["serve", "--nonsense"],
            &["token"],
            &["token", "a b"],
            &["doctor", "--connections", "0"],
            &["journal"],
            &["journal", "ls"],
            &["journal", "ls", "--data-dir", "/nowhere/at/all"],
            &["journal", "cat", "--topic", "a#"],
        ] {
            assert_eq!(exit(wrong), ExitCode::from(2), "{wrong:?}");
        }
        for right in [
            &["--help"][..],
            &["--version"],
            &["serve", "--help"],
            &["doctor", "--help"],
            &["journal", "cat", "--help"],
        ] {
            assert_eq!(exit(right), ExitCode::SUCCESS, "{right:?}");
        }
    }

    #[test]
    fn a_wrong_setting_exits_with_2() {
        assert_eq!(exit(&["serve", "--workers", "none"]), ExitCode::from(2));
    }

    #[test]
    fn a_token_for_a_principal_is_printed() {
        assert_eq!(exit(&["token", "sensor-7"]), ExitCode::SUCCESS);
    }
}
