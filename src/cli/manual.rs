//! `tidegate completions` and `tidegate man`: made from the command line that is parsed, so that they can't differ from it.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

/// `tidegate completions SHELL`.
pub fn completions_command() -> Command {
    Command::new("completions")
        .about("Print a shell's completions")
        .after_help("For bash: tidegate completions bash > /usr/share/bash-completion/completions/tidegate")
        .arg(Arg::new("SHELL").required(true).value_parser(value_parser!(Shell)).help("Which shell's"))
}

/// `tidegate man [COMMAND]`.
pub fn man_command() -> Command {
    Command::new("man")
        .about("Print the manual page, or a command's, in roff")
        .after_help("To read one: tidegate man serve | man -l -")
        .arg(Arg::new("COMMAND").help("Whose page: serve, or journal-cat for journal's cat; without: tidegate's own"))
}

/// Prints the completions.
pub fn completions(mut command: Command, matches: &ArgMatches) -> ExitCode {
    let Some(shell) = matches.get_one::<Shell>("SHELL") else { return super::usage(&"expected a shell") };
    let mut text = Vec::new();
    clap_complete::generate(*shell, &mut command, "tidegate", &mut text);
    super::print(&text)
}

/// Prints the page.
pub fn man(command: Command, matches: &ArgMatches) -> ExitCode {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let page = match matches.get_one::<String>("COMMAND") {
        None => command,
        Some(name) => match find(&command, name) {
            // A page of its own has a name without spaces, as git-commit(1) has.
            Some(sub) => sub.clone().name(format!("tidegate-{name}")),
            None => return super::usage(&format_args!("there is no command {name:?}: see tidegate --help")),
        },
    };
    let mut text = Vec::new();
    match clap_mangen::Man::new(page)
        .manual("tidegate")
        .source(format!("tidegate {}", tidegate::build::VERSION))
        .render(&mut text)
    {
        Ok(()) => super::print(&text),
        Err(error) => super::failed(&format_args!("the page can't be made: {error}")),
    }
}

/// `serve`, or `journal-cat` for a command's command.
fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Command> {
    let of = |command: &'a Command, name: &str| {
        command.get_subcommands().find(|sub| sub.get_name() == name && !sub.is_hide_set())
    };
    let nested = || name.split_once('-').and_then(|(outer, inner)| of(of(command, outer)?, inner));
    of(command, name).or_else(nested)
}
