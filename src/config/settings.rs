//! What an operator has set, and where: flags over the environment over a file over the defaults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::cross::Cross;
use super::env_file;
use super::parse::{Draft, SettingError, apply, apply_to_core, digits, redact};
use super::table::{SETTINGS, Setting};
use super::{Config, Machine};
use crate::limits::MAX_WORKERS;

/// How every variable of ours begins.
const PREFIX: &str = "TIDEGATE_";

/// Ours, but not of the server: `tidegate call` and `tidegate load` read them.
const OF_CLIENTS: [&str; 3] = ["TIDEGATE_CONNECT", "TIDEGATE_TOKEN", "TIDEGATE_TOKEN_FILE"];

/// Texts for settings, by variable, each with its origin. Later ones replace earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    given: BTreeMap<String, Given>,
    /// What could not even be taken as text.
    wrong: Vec<SettingError>,
    credentials: Option<PathBuf>,
}

#[derive(Clone)]
struct Given {
    text: String,
    origin: Origin,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin) // the text may be a secret
    }
}

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has set it.
    Default,
    /// A line of an environment file, counted from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Environment,
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Origin::Environment => f.write_str("environment"),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

impl Settings {
    /// Takes a file of `NAME=value` lines, the same that serves systemd's `EnvironmentFile=` and
    /// Kubernetes' `envFrom` (`kubectl create configmap --from-env-file`).
    ///
    /// Names that are not `TIDEGATE_…` are other programs' and are left alone.
    ///
    /// # Errors
    /// The file can't be read. A line that is wrong is reported by [`Settings::config`], with all others.
    pub fn file(&mut self, path: &Path) -> io::Result<()> {
        let text = env_file::read(path)?;
        for (line, parsed) in env_file::parse(&text) {
            let origin = Origin::File(path.to_owned(), line);
            match parsed {
                Ok((name, value)) if name.starts_with(PREFIX) => match self.given.get(name).map(|g| &g.origin) {
                    Some(Origin::File(other, first)) if other == path => {
                        let expected = format!("each variable once; line {first} has it too");
                        self.wrong.push(wrong(name, value, &origin, &expected));
                    }
                    _ => self.set(name, value.to_owned(), origin),
                },
                Ok(_) => {}
                Err((name, value, expected)) => self.wrong.push(wrong(name, value, &origin, expected)),
            }
        }
        Ok(())
    }

    /// Takes the environment: all variables that begin with `TIDEGATE_`, apart from those that clients
    /// read and those that Kubernetes sets for a service of that name; and `CREDENTIALS_DIRECTORY`.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            if name == "CREDENTIALS_DIRECTORY" {
                self.credentials = Some(value.into());
                continue;
            }
            if !name.starts_with(PREFIX) || OF_CLIENTS.contains(&name) || is_service_link(name) {
                continue;
            }
            match value.into_string() {
                Ok(text) => self.set(name, text, Origin::Environment),
                Err(raw) => {
                    let form = find(name).map_or("text".to_owned(), |(setting, _)| setting.accepted());
                    let mut error =
                        wrong(name, &raw.to_string_lossy(), &Origin::Environment, &format!("{form}, in UTF-8"));
                    error.place = None;
                    self.wrong.push(error);
                }
            }
        }
    }

    /// Takes a flag, by its setting's variable. A secret is refused, as others can read a command line;
    /// [`Settings::config`] says so.
    pub fn flag(&mut self, name: &str, text: &str) {
        if let Some((setting, _)) = find(name).filter(|(setting, _)| setting.secret) {
            let expected = "it in the environment or in a file, and not on a command line, which others can read";
            return self.wrong.push(SettingError::new(setting, text, expected));
        }
        self.set(name, text.to_owned(), Origin::Flag);
    }

    /// Everything checked, on this machine.
    ///
    /// # Errors
    /// All settings that can't be used, not only the first.
    pub fn config(&self) -> Result<Config, Vec<SettingError>> {
        self.config_on(&Machine::detect())
    }

    /// As [`Settings::config`], for a machine that is described and not asked.
    ///
    /// # Errors
    /// All settings that can't be used, not only the first.
    pub fn config_on(&self, machine: &Machine) -> Result<Config, Vec<SettingError>> {
        let mut draft = Draft::new(machine, self.credentials.as_deref());
        let mut errors = self.wrong.clone();
        for setting in SETTINGS.iter() {
            let text = self.text(setting.env).unwrap_or(setting.default);
            // Empty is how an operator says "not set" where that is the default, and a mistake elsewhere.
            if text.is_empty() && setting.default.is_empty() {
                continue;
            }
            if let Err(expected) = apply(setting, &mut draft, text) {
                errors.push(self.error(setting, setting.env, text, expected));
            }
        }
        draft.settle();
        self.cores(&mut draft, &mut errors);
        let found = Cross { given: self, failed: &errors, draft: &draft, found: Vec::new() }.check();
        errors.extend(found);
        if errors.is_empty() { Ok(draft.finish()) } else { Err(errors) }
    }

    /// Where a variable's value comes from.
    pub fn origin(&self, name: &str) -> Origin {
        self.given.get(name).map_or(Origin::Default, |given| given.origin.clone())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(|given| given.text.as_str())
    }

    /// For an error: the file and line, where it is one.
    pub(super) fn place(&self, name: &str) -> Option<String> {
        let origin = self.origin(name);
        matches!(origin, Origin::File(..)).then(|| origin.to_string())
    }

    /// What single workers are given, and what is no setting at all.
    fn cores(&self, draft: &mut Draft<'_>, errors: &mut Vec<SettingError>) {
        for (name, given) in &self.given {
            let (setting, worker) = match find(name) {
                Some((setting, Some(worker))) => (setting, worker),
                Some((_, None)) => continue,
                None => {
                    errors.push(unknown(name, given));
                    continue;
                }
            };
            if let Err(expected) = apply_to_core(setting, draft, worker, &given.text) {
                errors.push(self.error(setting, name, &given.text, expected));
            } else if worker >= draft.config.workers {
                let workers = draft.config.workers;
                let expected = format!("one of the {workers} workers, 0 to {}", workers - 1);
                errors.push(self.error(setting, name, &given.text, expected));
            }
        }
    }

    fn error(&self, setting: &Setting, name: &str, text: &str, expected: String) -> SettingError {
        let error = SettingError::new(setting, text, expected);
        SettingError { variable: name.to_owned(), place: self.place(name), ..error }
    }

    fn set(&mut self, name: &str, text: String, origin: Origin) {
        self.given.insert(name.to_owned(), Given { text, origin });
    }
}

impl<N: AsRef<str>, T: Into<String>> FromIterator<(N, T)> for Settings {
    /// As if these were environment variables, whatever they are called.
    fn from_iter<I: IntoIterator<Item = (N, T)>>(pairs: I) -> Settings {
        let mut settings = Settings::default();
        for (name, text) in pairs {
            settings.set(name.as_ref(), text.into(), Origin::Environment);
        }
        settings
    }
}

/// The setting that a variable is for; `Some(worker)` with it where it is for one worker alone.
fn find(name: &str) -> Option<(&'static Setting, Option<usize>)> {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.env == name) {
        return Some((setting, None));
    }
    let (worker, rest) = name.strip_prefix("TIDEGATE_CORE_")?.split_once('_')?;
    // One spelling for each worker: 03 would be a second one for 3.
    let canonical = worker.len() == 1 || !worker.starts_with('0');
    let worker = digits(worker).filter(|n| canonical && *n < MAX_WORKERS as u64)? as usize;
    let every = format!("TIDEGATE_CORE_{rest}");
    let setting = SETTINGS.iter().find(|setting| setting.env == every && setting.per_core())?;
    Some((setting, Some(worker)))
}

fn unknown(name: &str, given: &Given) -> SettingError {
    let distance = |setting: &&&Setting| strsim::damerau_levenshtein(setting.env, name);
    let nearest = SETTINGS.iter().min_by_key(distance).map_or("", |setting| setting.env);
    let expected = format!("a setting's name; {} is none, the nearest is {nearest}", redact(name));
    // What it was set to may be a secret under a misspelt name.
    wrong(&redact(name), "…", &given.origin, &expected)
}

fn wrong(name: &str, value: &str, origin: &Origin, expected: &str) -> SettingError {
    let place = matches!(origin, Origin::File(..)).then(|| origin.to_string());
    SettingError { variable: name.to_owned(), value: redact(value), place, expected: expected.to_owned() }
}

/// Kubernetes sets such variables in every pod for each service of its namespace, and for one that is
/// called "tidegate" they begin as ours do.
///
/// <https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables>
fn is_service_link(name: &str) -> bool {
    let ends = |text: &str| -> bool {
        text == "SERVICE_HOST" || text == "PORT" || text == "SERVICE_PORT" || text.starts_with("SERVICE_PORT_") || {
            let mut parts = text.split('_');
            let port = parts.next() == Some("PORT") && parts.next().is_some_and(|n| digits(n).is_some_and(|n| n > 0));
            let protocol = matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"));
            let what = matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"));
            port && protocol && what && parts.next().is_none()
        }
    };
    // The service may be called tidegate, or tidegate-admin: TIDEGATE_ADMIN_SERVICE_HOST.
    let rest = &name[PREFIX.len()..];
    let starts = std::iter::once(0).chain(rest.match_indices('_').map(|(at, _)| at + 1));
    starts.map(|at| &rest[at..]).any(ends)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
