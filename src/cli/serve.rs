//! `tidegate serve`: settings from flags and the environment, then the server.

use std::ffi::OsString;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use listenfd::ListenFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate::config::{AuthMode, Config, SETTINGS, Setting, Settings};
use tidegate::logging::{self, Logging};
use tidegate::server::{Server, StartError};

/// The command with a flag for every setting.
pub fn command() -> Command {
    Command::new("serve")
        .about("Serve connections until a signal, then drain and print the ledger")
        .after_help(
            "A flag overrides its environment variable.\n\
             Exit codes: 0 clean, 1 failed at run time, 2 wrong configuration (nothing was bound), 3 something was cut.",
        )
        .arg(
            Arg::new(ENV_FILE)
                .long(ENV_FILE)
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Settings as lines of NAME=value; the environment and flags override it")
                .long_help(
                    "Settings as lines of NAME=value, without quotes: the same file serves systemd's EnvironmentFile= \
                     and Kubernetes' envFrom. The environment and flags override it. A reload (SIGHUP) reads it again.",
                ),
        )
        .arg(
            Arg::new(SET)
                .long(SET)
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help("Any setting by its variable, with or without TIDEGATE_: CORE_3_READ_BUDGET=65536"),
        )
        .arg(
            Arg::new(PRINT_CONFIG)
                .long(PRINT_CONFIG)
                .value_name("FORM")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("table")
                .value_parser(["table", "env"])
                .help("Print every setting's value and where it comes from, and serve nothing")
                .long_help(
                    "Print every setting's value and where it comes from, and serve nothing; \
                     env: as a file for --env-file.",
                ),
        )
        .args(SETTINGS.iter().filter(|setting| !setting.secret).map(|setting| flag(setting)))
}

const ENV_FILE: &str = "env-file";
const SET: &str = "set";
const PRINT_CONFIG: &str = "print-config";

/// Serves until it is told to stop.
pub fn run(matches: &ArgMatches, env: impl Iterator<Item = (OsString, OsString)>) -> ExitCode {
    let sources = Sources::take(matches, env);
    let settings = match sources.settings() {
        Ok(settings) => settings,
        Err(error) => return super::usage(&error),
    };
    let config = match settings.config() {
        Ok(config) => config,
        Err(errors) => {
            errors.iter().for_each(|error| super::complain(error));
            return ExitCode::from(super::USAGE);
        }
    };
    match matches.get_one::<String>(PRINT_CONFIG).map(String::as_str) {
        None => {}
        Some("env") => return super::print(settings.env_file(&config).as_bytes()),
        Some(_) => return super::print(settings.table(&config).as_bytes()),
    }
    // Before any thread is started: it takes them out of the environment, too.
    let listeners = match inherited_listeners() {
        Ok(listeners) => listeners,
        Err(error) => return super::usage(&error),
    };
    let logs = logging::start(&config);
    if let Err(error) = &logs {
        super::complain(error);
    }
    raise_descriptor_limit();
    run_server(config, listeners, sources, logs.as_ref().ok())
}

/// The settings that a file and the environment make, for who serves nothing; the errors are lines.
pub fn configured(
    env_file: Option<PathBuf>,
    env: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Config, Vec<String>> {
    Sources { env_file, env: env.collect(), flags: Vec::new() }.config()
}

/// Where this process' settings come from. The file is read again at each reload; the environment and
/// the flags of a running process do not change.
#[derive(Clone, Debug)]
struct Sources {
    env_file: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    flags: Vec<(String, String)>,
}

impl Sources {
    fn take(matches: &ArgMatches, env: impl Iterator<Item = (OsString, OsString)>) -> Sources {
        let by_name = matches.get_many::<String>(SET).into_iter().flatten().map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (format!("TIDEGATE_{}", name.strip_prefix("TIDEGATE_").unwrap_or(name)), value.to_owned())
        });
        let flags = SETTINGS.iter().filter(|setting| !setting.secret).filter_map(|setting| {
            matches.get_one::<String>(setting.env).map(|text| (setting.env.to_owned(), text.clone()))
        });
        Sources {
            env_file: matches.get_one::<PathBuf>(ENV_FILE).cloned(),
            env: env.collect(),
            flags: by_name.chain(flags).collect(),
        }
    }

    /// Everything checked; the error has a line for all that is wrong.
    fn config(&self) -> Result<Config, Vec<String>> {
        let settings = self.settings().map_err(|error| vec![error])?;
        settings.config().map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    /// All of them, the strongest last.
    fn settings(&self) -> Result<Settings, String> {
        let mut settings = Settings::default();
        if let Some(path) = &self.env_file {
            settings.file(path).map_err(|error| format!("--env-file {}: {error}", path.display()))?;
        }
        settings.environment(self.env.iter().cloned());
        self.flags.iter().for_each(|(name, text)| settings.flag(name, text));
        Ok(settings)
    }
}

/// Runs the server, prints its ledger, and gives its exit code.
fn run_server(config: Config, listeners: Vec<TcpListener>, sources: Sources, logs: Option<&Logging>) -> ExitCode {
    let kept = config.data_dir.is_some();
    let auth = config.auth.clone();
    let builder = Server::builder().config(config).listeners(listeners).signals(true);
    let builder = builder.reload_from(move || sources.config());
    let server = match builder.on_reload(logging::reload).start() {
        Ok(server) => server,
        Err(error) => {
            complain(logs, &error);
            return ExitCode::from(if matches!(error, StartError::Config(_)) { super::USAGE } else { super::FAILED });
        }
    };
    announce(&server, &auth, kept);
    let ended = server.wait();
    // Where both go to one place the ledger is the last word.
    logs.map(Logging::flush);
    say(format_args!("\n{}", ended.ledger));
    ExitCode::from(ended.exit_code())
}

/// Why it does not start: behind what was logged until then, and as a log line where those are for a machine.
fn complain(logs: Option<&Logging>, error: &StartError) {
    match logs {
        Some(logs) if logs.are_json() && log::log_enabled!(log::Level::Error) => log::error!("{error}"),
        Some(logs) => {
            logs.flush();
            super::complain(error);
        }
        None => super::complain(error),
    }
}

/// The sockets that systemd, or whoever speaks its protocol, has opened for this process (sd_listen_fds(3)).
fn inherited_listeners() -> Result<Vec<TcpListener>, String> {
    let mut passed = ListenFd::from_env();
    (0..passed.len())
        .filter_map(|index| passed.take_tcp_listener(index).transpose())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("LISTEN_FDS: {error}; expected TCP sockets that listen, as ListenStream=7400 of a .socket unit makes them"))
}

/// Tells a person, or a script that reads the first line, where it can be reached.
fn announce(server: &Server, auth: &AuthMode, ledger_is_kept: bool) {
    let listening = server.local_addrs().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let admin = server.admin_addr().map_or("off".to_owned(), |address| format!("http://{address}"));
    say(format_args!("tidegate {} listens on {listening}; admin {admin}\n", env!("CARGO_PKG_VERSION")));
    if *auth == AuthMode::None {
        say(format_args!("anybody who can connect may come in (TIDEGATE_AUTH=none)\n"));
    }
    if !ledger_is_kept {
        say(format_args!("the ledger is shown and not kept: set TIDEGATE_DATA_DIR to keep it in an audit log\n"));
    }
    say(format_args!("Ctrl-C or SIGTERM drains it\n"));
}

/// Prints to standard output. Not `println!`, which panics when nobody reads it any more: the server
/// serves on, and exits with its own code.
fn say(text: std::fmt::Arguments<'_>) {
    let mut stdout = std::io::stdout();
    if stdout.write_fmt(text).and_then(|()| stdout.flush()).is_err() {
        log::debug!("standard output is closed");
    }
}

fn flag(setting: &Setting) -> Arg {
    let default = if setting.default.is_empty() { "not set" } else { setting.default };
    let (help, env, accepted) = (setting.help, setting.env, setting.accepted());
    Arg::new(setting.env)
        .long(setting.flag())
        .value_name("VALUE")
        .help_heading(setting.group)
        // What is wrong with a value is for the table to say, an empty one and one like -5 included.
        .allow_hyphen_values(true)
        .help(format!("{help} [default: {default}]"))
        .long_help(format!("{help}\n\nExpected: {accepted}\n[env: {env}] [default: {default}]"))
}

/// A connection is a descriptor, and the usual soft limit of 1,024 exists for programs that use `select`.
fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let show = |limit: Option<u64>| limit.map_or("no limit".to_owned(), |n| n.to_string());
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => log::debug!("open files: limit raised from {} to {}", show(current), show(maximum)),
        Err(error) => log::warn!("open files: the limit stays at {}: {error}", show(current)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn configured(args: &[&str], env: &[(&str, &[u8])]) -> Result<Config, Vec<String>> {
        let matches = command().try_get_matches_from(std::iter::once(&"serve").chain(args)).unwrap();
        let env = env.iter().map(|(name, raw)| (OsString::from(name), OsString::from_vec(raw.to_vec())));
        let settings = Sources::take(&matches, env).settings().unwrap();
        settings.config().map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn help_names_flag_variable_form_and_default_of_every_setting() {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let help = words(&command().render_long_help().to_string());
        for setting in SETTINGS.iter().filter(|setting| !setting.secret) {
            let default = if setting.default.is_empty() { "not set" } else { setting.default };
            let (flag, accepted) = (setting.flag(), setting.accepted());
            let end = format!("[env: {}] [default: {default}]", setting.env);
            let wanted = words(&format!("--{flag} <VALUE> {} Expected: {accepted} {end}", setting.help));
            assert!(help.contains(&wanted), "{wanted}\nis missing in\n{help}");
        }
    }

    #[test]
    fn every_setting_is_read_from_its_flag_and_its_variable() {
        for setting in SETTINGS.iter().filter(|setting| !setting.secret) {
            let wrong = "\u{1}";
            let by_flag = configured(&[&format!("--{}", setting.flag()), wrong], &[]);
            let by_env = configured(&[], &[(setting.env, wrong.as_bytes())]);
            assert_eq!(by_flag, by_env, "{}", setting.env);
            // A path may hold anything; no other setting may.
            let path = ["TIDEGATE_DATA_DIR", "TIDEGATE_ADMIN_TOKEN_FILE"].contains(&setting.env);
            assert_eq!(by_flag.is_ok(), path, "{}", setting.env);
        }
    }

    #[test]
    fn a_flag_overrides_its_variable() {
        let env: &[(&str, &[u8])] = &[("TIDEGATE_MAX_IN_FLIGHT", b"7"), ("TIDEGATE_BACKLOG", b"9")];
        let config = configured(&["--max-in-flight", "8"], env).unwrap();
        assert_eq!((config.max_in_flight, config.backlog), (8, 9));
    }

    #[test]
    fn a_value_that_looks_like_a_flag_is_a_value() {
        let errors = configured(&["--workers", "-5"], &[]).unwrap_err();
        assert_eq!(errors, [r#"TIDEGATE_WORKERS="-5": expected auto, or a number of workers, 1 to 1024"#]);
    }

    #[test]
    fn any_setting_can_be_given_by_its_variable_also_for_one_worker() {
        let args = ["--workers", "2", "--set", "CORE_1_MAILBOX=7", "--set", "TIDEGATE_BACKLOG=9"];
        let config = configured(&args, &[]).unwrap();
        assert_eq!((config.core(0).mailbox, config.core(1).mailbox, config.backlog), (4_096, 7, 9));
        let errors = configured(&["--set", "CORE_1_MAILBOXES=7"], &[]).unwrap_err();
        assert!(errors[0].contains("TIDEGATE_CORE_1_MAILBOXES is none, the nearest is TIDEGATE_CORE_MAILBOX"));
    }

    #[test]
    fn a_file_gives_settings_that_the_environment_overrides() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "TIDEGATE_BACKLOG=8\nTIDEGATE_MAX_IN_FLIGHT=8\n").unwrap();
        let args = ["--env-file", file.path().to_str().unwrap()];
        let config = configured(&args, &[("TIDEGATE_BACKLOG", b"9")]).unwrap();
        assert_eq!((config.max_in_flight, config.backlog), (8, 9));
    }

    #[test]
    fn the_descriptor_limit_is_raised_to_the_hard_one() {
        raise_descriptor_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
