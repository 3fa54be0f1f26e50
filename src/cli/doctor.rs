//! `tidegate doctor`: what this host allows, beside what so many connections need.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tidegate::config::Config;
use tidegate::doctor::{Host, Plan, Style, Verdict, examine, probe};

/// The command and its flags.
pub fn command() -> Command {
    Command::new("doctor")
        .about("Say what this host allows, what so many connections need, and how to give it to them")
        .long_about(
            "Compares what this host and the settings allow with what so many connections need: a line for each \
             check, and below what is not well, why it matters and what to do. It changes nothing.\n\n\
             Settings are read as `tidegate serve` does, from --env-file and the environment. Limits of open files and the like \
             are those of doctor's own process, that is, of your shell: a service has its own. Run it as ExecStartPre= \
             of the unit, or with --pid of the running server.",
        )
        .after_help(
            "ok: enough; warn: the connections can be had all the same, it costs speed, or room in a bad moment; \
             fail: so many can't be had, or what was acknowledged could be lost; unknown: not to be seen from here.\n\
             Exit codes: 0 nothing fails (there may be warnings), 1 something fails, 2 wrong configuration or usage.",
        )
        .arg(
            Arg::new("connections")
                .long("connections")
                .value_name("N")
                .default_value("1000000")
                .value_parser(value_parser!(u64).range(1..=999_999_999))
                .help("Connections that there are to be"),
        )
        .arg(
            Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object instead of the table"),
        )
        .arg(
            Arg::new("env-file")
                .long("env-file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The server's settings as lines of NAME=value; the environment overrides it"),
        )
        .arg(
            Arg::new("pid")
                .long("pid")
                .value_name("PID")
                .value_parser(value_parser!(u32).range(1..))
                .help("Look at this process's limits, those of a running server, and not at doctor's own"),
        )
        .arg(
            Arg::new("root")
                .long("root")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Look at proc/ and sys/ in this directory: files of another host; nothing of this one is tried"),
        )
}

/// Looks, prints, and says by the exit code whether something fails.
pub fn run(matches: &ArgMatches, env: impl Iterator<Item = (OsString, OsString)>) -> ExitCode {
    let config = match super::serve::configured(matches.get_one::<PathBuf>("env-file").cloned(), env) {
        Ok(config) => config,
        Err(errors) => {
            errors.iter().for_each(|error| super::complain(error));
            return ExitCode::from(super::USAGE);
        }
    };
    match look(matches, &config) {
        Ok(code) => code,
        Err(error) => super::failed(&format_args!("cannot print the report: {error}")),
    }
}

fn look(matches: &ArgMatches, config: &Config) -> io::Result<ExitCode> {
    let connections = matches.get_one::<u64>("connections").copied().unwrap_or(1_000_000);
    let plan = Plan::new(connections, config);
    let root = matches.get_one::<PathBuf>("root");
    let mut host = root.map_or_else(Host::here, Host::under);
    let pid = matches.get_one::<u32>("pid");
    if let Some(pid) = pid {
        host = host.of_process(*pid);
        if !host.has_process() {
            return Ok(super::usage(&format_args!("--pid {pid}: there is no such process")));
        }
    }
    let mut probes = Vec::new();
    if root.is_none() {
        // A running server has them itself.
        if pid.is_none() {
            probes.extend(probe::addresses(config));
        }
        probes.extend(config.data_dir.iter().flat_map(|dir| probe::data_dir(&host, dir)));
    }
    let report = examine(&host, &plan, probes);
    let mut stdout = io::stdout().lock();
    if matches.get_flag("json") {
        writeln!(stdout, "{}", report.json())?;
    } else {
        stdout.write_all(report.table(style(stdout.is_terminal())).as_bytes())?;
    }
    stdout.flush()?;
    let fails = report.verdict == Verdict::Fail;
    Ok(ExitCode::from(if fails { super::FAILED } else { 0 }))
}

/// Colours on a terminal that has them, unless <https://no-color.org> is asked for.
fn style(terminal: bool) -> Style {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if terminal && !dumb && !set("NO_COLOR") { Style::Coloured } else { Style::Plain }
}
