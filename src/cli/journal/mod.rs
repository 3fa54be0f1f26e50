//! `tidegate journal`: what is stored, to look at, to follow, to verify and to repair.

mod cat;
mod repair;
mod show;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tidegate::journal::{self, Disk, TopicPattern};

const DATA_DIR: &str = "data-dir";
const ENV_FILE: &str = "env-file";

/// The command and its own commands.
pub fn command() -> Command {
    Command::new("journal")
        .about("Show, follow, verify and repair the messages that are stored")
        .long_about(
            "Shows, follows, verifies and repairs the journal: the messages whose SUBMIT was answered. All but repair \
             only read, and are safe beside a running server.",
        )
        .after_help("Exit codes: 0 clean, 1 damage was found or it failed, 2 wrong usage, or there is no journal.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new(DATA_DIR)
                .long(DATA_DIR)
                .value_name("DIR")
                .global(true)
                .value_parser(value_parser!(PathBuf))
                .help("The server's data directory; without: TIDEGATE_DATA_DIR, as tidegate serve reads it"),
        )
        .arg(
            Arg::new(ENV_FILE)
                .long(ENV_FILE)
                .value_name("FILE")
                .global(true)
                .value_parser(value_parser!(PathBuf))
                .help("The server's settings as lines of NAME=value; the environment overrides it"),
        )
        .subcommand(Command::new("ls").about("List the segments, and how far each route is").long_about(
            "Lists the journal's files, with their messages and the time in which these were stored, and for \
                     each route how far it is and how many messages are still to be delivered. Reads everything.",
        ))
        .subcommand(cat_command())
        .subcommand(
            Command::new("verify")
                .about("Read and check every byte")
                .long_about(
                    "Reads and checks every record, and changes nothing. Lists damage: the file, the byte, what is \
                     wrong and which messages are missing. An unfinished record at the very end is no damage: it \
                     was never acknowledged, and a start cuts it.",
                )
                .after_help("Exit codes: 0 the journal is sound, 1 it is damaged, 2 there is none."),
        )
        .subcommand(
            Command::new("repair")
                .about("Keep what is sound, put damaged files aside, and say what is lost")
                .long_about(
                    "Keeps every valid record, puts the files with damage aside under another name, and says exactly \
                     what it did and which messages are lost; then the server starts again. It asks nothing. The \
                     server must not run. The audit log records it.",
                )
                .after_help("Exit codes: 0 the journal is sound now, 1 it is not, 2 a server runs, or there is none."),
        )
}

fn cat_command() -> Command {
    Command::new("cat")
        .about("Print messages in their order")
        .long_about(
            "Prints messages in the order in which they were stored. For people: a line each, with id, time, topic, \
             principal and body, a body that is no text as hex and cut. With --json: an object a line, whole.",
        )
        .arg(
            Arg::new("topic")
                .long("topic")
                .value_name("PATTERN")
                .value_parser(TopicPattern::parse)
                .help("Only these topics: + stands for one level, # for all that follow"),
        )
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("ID")
                .value_parser(value_parser!(u64))
                .help("Begin with this id; without: with the oldest message"),
        )
        .arg(
            Arg::new("follow")
                .long("follow")
                .short('f')
                .action(ArgAction::SetTrue)
                .help("Wait for further messages, until a signal or until nobody reads them"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("One object a line: id, topic, principal, key (hex or null), trace_id, time, body (base64)"),
        )
}

/// Runs one of them.
pub fn run(matches: &ArgMatches, env: impl Iterator<Item = (OsString, OsString)>) -> ExitCode {
    let Some((name, own)) = matches.subcommand() else { return super::usage(&"expected ls, cat, verify or repair") };
    let data_dir = match data_dir(own, env) {
        Ok(dir) => dir,
        Err(errors) => {
            errors.iter().for_each(|error| super::complain(error));
            return ExitCode::from(super::USAGE);
        }
    };
    let disk = match Disk::existing(&data_dir) {
        Ok(disk) => disk,
        Err(error) => {
            let dir = data_dir.join(journal::DIR);
            return super::usage(&format_args!(
                "there is no journal in {}: {error}; expected the TIDEGATE_DATA_DIR of a server that has run",
                dir.display()
            ));
        }
    };
    match name {
        "cat" => cat::run(disk, own),
        "repair" => repair::run(&disk, &data_dir),
        _ => look(&disk, name == "ls"),
    }
}

/// The flag, else the setting.
fn data_dir(matches: &ArgMatches, env: impl Iterator<Item = (OsString, OsString)>) -> Result<PathBuf, Vec<String>> {
    if let Some(dir) = matches.get_one::<PathBuf>(DATA_DIR) {
        return Ok(dir.clone());
    }
    let config = super::serve::configured(matches.get_one::<PathBuf>(ENV_FILE).cloned(), env)?;
    config.data_dir.ok_or_else(|| vec!["expected --data-dir DIR, or TIDEGATE_DATA_DIR to be set".to_owned()])
}

/// `ls` and `verify`.
fn look(disk: &Disk, list: bool) -> ExitCode {
    let report = match journal::verify(disk) {
        Ok(report) => report,
        Err(error) => return failed_to_read(disk.dir(), &error),
    };
    let text = if list { show::listing(&report) } else { show::verdict(&report) };
    let printed = super::print(text.as_bytes());
    if printed == ExitCode::SUCCESS && !report.is_sound() { ExitCode::from(super::FAILED) } else { printed }
}

fn failed_to_read(dir: &Path, error: &dyn std::fmt::Display) -> ExitCode {
    super::failed(&format_args!("cannot read the journal in {}: {error}", dir.display()))
}
