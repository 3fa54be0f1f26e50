//! `tidegate serve`: settings from flags and the environment, then the server.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate::config::{AuthMode, Config, SETTINGS, Setting, SettingError};
use tidegate::server::{Server, StartError};

/// The command with a flag for every setting.
pub fn command() -> Command {
    Command::new("serve")
        .about("Serve connections until a signal, then drain and print the ledger")
        .after_help(
            "A flag overrides its environment variable.\n\
             Exit codes: 0 clean, 1 failed at run time, 2 wrong configuration (nothing was bound), 3 something was cut.",
        )
        .args(SETTINGS.iter().map(flag))
}

/// Serves until it is told to stop.
pub fn run(matches: &ArgMatches, env: impl Fn(&str) -> Option<OsString>) -> ExitCode {
    match configure(matches, env) {
        Ok(config) => {
            start_logging(&config);
            raise_descriptor_limit();
            run_server(config)
        }
        Err(errors) => {
            for error in errors {
                super::complain(&error);
            }
            ExitCode::from(super::USAGE)
        }
    }
}

/// Runs the server, prints its ledger, and gives its exit code.
fn run_server(config: Config) -> ExitCode {
    let kept = config.data_dir.is_some();
    let auth = config.auth.clone();
    let server = match Server::builder().config(config).signals(true).start() {
        Ok(server) => server,
        Err(error @ StartError::Config(_)) => {
            super::complain(&error);
            return ExitCode::from(super::USAGE);
        }
        Err(error) => return super::failed(&error),
    };
    announce(&server, &auth, kept);
    let ended = server.wait();
    say(format_args!("\n{}", ended.ledger));
    ExitCode::from(ended.exit_code())
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

fn configure(matches: &ArgMatches, env: impl Fn(&str) -> Option<OsString>) -> Result<Config, Vec<SettingError>> {
    let mut texts = Vec::with_capacity(SETTINGS.len());
    let mut errors = Vec::new();
    for setting in SETTINGS {
        let text = match matches.get_one::<String>(setting.env) {
            Some(flag) => Some(flag.clone()),
            None => env(setting.env).map(OsString::into_string).transpose().unwrap_or_else(|raw| {
                let expected = format!("{}, in UTF-8", setting.accepted());
                errors.push(SettingError::new(setting, &raw.to_string_lossy(), expected));
                None
            }),
        };
        texts.push((setting.env, text));
    }
    let lookup = |name: &str| texts.iter().find(|(env, _)| *env == name).and_then(|(_, text)| text.clone());
    match Config::from_settings(lookup) {
        Ok(config) if errors.is_empty() => Ok(config),
        Ok(_) => Err(errors),
        Err(more) => Err(errors.into_iter().chain(more).collect()),
    }
}

fn start_logging(config: &Config) {
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&config.log).format_timestamp_millis().target(env_logger::Target::Stderr);
    if builder.try_init().is_err() {
        super::complain(&"logging was started already, TIDEGATE_LOG is not used");
    }
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
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, raw)| OsString::from_vec(raw.to_vec()));
        configure(&matches, env).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn help_names_flag_variable_form_and_default_of_every_setting() {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let help = words(&command().render_long_help().to_string());
        for setting in SETTINGS {
            let default = if setting.default.is_empty() { "not set" } else { setting.default };
            let (flag, accepted) = (setting.flag(), setting.accepted());
            let end = format!("[env: {}] [default: {default}]", setting.env);
            let wanted = words(&format!("--{flag} <VALUE> {} Expected: {accepted} {end}", setting.help));
            assert!(help.contains(&wanted), "{wanted}\nis missing in\n{help}");
        }
    }

    #[test]
    fn every_setting_is_read_from_its_flag_and_its_variable() {
        for setting in SETTINGS {
            let wrong = "\u{1}";
            let by_flag = configured(&[&format!("--{}", setting.flag()), wrong], &[]);
            let by_env = configured(&[], &[(setting.env, wrong.as_bytes())]);
            assert_eq!(by_flag, by_env, "{}", setting.env);
            // A path may hold anything; no other setting may.
            let path = ["TIDEGATE_DATA_DIR"].contains(&setting.env);
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
    fn a_variable_that_is_not_utf_8_is_refused_among_all_others() {
        let errors = configured(&["--workers", "0"], &[("TIDEGATE_DATA_DIR", b"/d\xff")]).unwrap_err();
        assert!(errors[0].starts_with("TIDEGATE_DATA_DIR=\"/d\u{fffd}\": expected the path of a directory, in UTF-8"));
        assert!(errors[1].starts_with("TIDEGATE_WORKERS=\"0\""));
    }

    #[test]
    fn the_descriptor_limit_is_raised_to_the_hard_one() {
        raise_descriptor_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
