//! From text to one setting's value.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::cpus::{self, Machine};
use super::sinks::hide_password;
use super::table::{Field, Kind, Setting};
use super::{
    AdminAuth, AuthExpiry, AuthMode, Config, JwtAlgorithm, JwtKeys, JwtSettings, LogFormat, Secret, SessionStoreSpec,
    SinkRoute, Steering, SubmitAck, is_admin_token,
};
use crate::limits::{MAX_CLAIM_CHARS, MAX_LISTEN_ADDRESSES, MAX_NAME_CHARS, MAX_SINK_ROUTES, MAX_WORKERS};

/// A setting that can't be used. Its display is `TIDEGATE_X="abc": expected …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The environment variable.
    pub variable: String,
    /// What it was set to. A secret, or a token that was put here by mistake, is not shown.
    pub value: String,
    /// Where, when that is a file: its path and line.
    pub place: Option<String>,
    /// What would be accepted, to follow the word "expected".
    pub expected: String,
}

impl SettingError {
    /// An error of `setting`, whose text was `value`.
    pub fn new(setting: &Setting, value: &str, expected: impl Into<String>) -> SettingError {
        let value = if setting.secret { "<hidden>".to_owned() } else { redact(value) };
        SettingError { variable: setting.env.to_owned(), value, place: None, expected: expected.into() }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.variable, quote(&self.value))?;
        if let Some(place) = &self.place {
            write!(f, " in {place}")?;
        }
        write!(f, ": expected {}", self.expected)
    }
}

impl std::error::Error for SettingError {}

/// What a principal or a service may be called: 1 to [`MAX_NAME_CHARS`] printable characters, no spaces.
pub fn is_name(text: &str) -> bool {
    // Invisible characters and those that turn the direction of text: one name could look like another.
    let invisible = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}');
    let printable = |c: char| !c.is_control() && !c.is_whitespace() && !invisible(c);
    (1..=MAX_NAME_CHARS).contains(&text.chars().count()) && text.chars().all(printable)
}

/// A configuration in the making.
pub(super) struct Draft<'m> {
    pub config: Config,
    machine: &'m Machine,
    /// `None`: auto.
    workers: Option<usize>,
    /// As [`AuthMode::name`] has it.
    pub auth: &'static str,
    pub tokens_file: Option<PathBuf>,
    pub jwt: JwtDraft,
    pub admin_token_file: Option<PathBuf>,
    pub admin_token: Option<Secret>,
    /// Where systemd keeps this service's credentials.
    credentials: Option<&'m Path>,
}

/// The settings of `TIDEGATE_AUTH=jwt` that were given.
#[derive(Default)]
pub(super) struct JwtDraft {
    pub key_file: Option<PathBuf>,
    pub keys_dir: Option<PathBuf>,
    pub algorithms: Vec<JwtAlgorithm>,
    pub audience: Option<String>,
    pub issuer: Option<String>,
}

impl<'m> Draft<'m> {
    pub fn new(machine: &'m Machine, credentials: Option<&'m Path>) -> Draft<'m> {
        let config = Config::default();
        Draft {
            config,
            machine,
            workers: None,
            auth: AuthMode::None.name(),
            tokens_file: None,
            jwt: JwtDraft::default(),
            admin_token_file: None,
            admin_token: None,
            credentials,
        }
    }

    /// Fills in what depends on more than one setting.
    pub fn settle(&mut self) {
        let listed = if self.config.cpus.is_empty() { None } else { Some(self.config.cpus.len().min(MAX_WORKERS)) };
        self.config.workers = self.workers.or(listed).unwrap_or_else(|| self.machine.auto_workers());
    }

    pub fn finish(self) -> Config {
        let JwtDraft { key_file, keys_dir, algorithms, audience, issuer } = self.jwt;
        let keys = key_file.map(JwtKeys::File).or(keys_dir.map(JwtKeys::Directory));
        let auth = match (self.auth, self.tokens_file, keys) {
            ("tokens", Some(path), _) => AuthMode::Tokens(path),
            ("jwt", _, Some(keys)) => AuthMode::Jwt(JwtSettings { keys, algorithms, audience, issuer }),
            _ => AuthMode::None,
        };
        let admin_auth = match (self.admin_token_file, self.admin_token) {
            (Some(path), _) => AdminAuth::File(path),
            (None, Some(token)) => AdminAuth::Token(token),
            (None, None) => AdminAuth::None,
        };
        Config { auth, admin_auth, ..self.config }
    }
}

/// A whole number in decimal digits and nothing else: no sign, no spaces.
pub(super) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

pub(super) fn listen(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for item in text.split(',').map(str::trim) {
        let address = item.parse().map_err(|_| String::new())?;
        // Two listeners on one address would both bind, by SO_REUSEPORT, to no purpose.
        if address_port_fixed(address) && addresses.contains(&address) {
            return Err(format!("{address} is listed twice"));
        }
        addresses.push(address);
    }
    if addresses.len() > MAX_LISTEN_ADDRESSES {
        return Err(format!("{} are listed", addresses.len()));
    }
    draft.config.listen = addresses;
    Ok(())
}

pub(super) fn admin(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.config.admin = if text == "off" { None } else { Some(text.parse().map_err(|_| String::new())?) };
    Ok(())
}

pub(super) fn admin_token_file(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.admin_token_file = Some(secret_path(draft, text)?);
    Ok(())
}

pub(super) fn admin_token(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    if !is_admin_token(text.as_bytes()) {
        return Err(String::new());
    }
    draft.admin_token = Some(Secret::new(text));
    Ok(())
}

pub(super) fn workers(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    let number = || digits(text).and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=MAX_WORKERS).contains(n));
    draft.workers = if text == "auto" { None } else { Some(number().ok_or_else(String::new)?) };
    Ok(())
}

pub(super) fn cpus(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.config.cpus = match text {
        "auto" => draft.machine.auto_cpus(),
        "off" => Vec::new(),
        list => cpus::parse_list(list, draft.machine)?,
    };
    Ok(())
}

pub(super) fn nodelay(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.config.sockets.nodelay = choice(text, "yes", "no")?;
    Ok(())
}

pub(super) fn steering(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    let by_cpu = choice(text, "cpu", "kernel")?;
    if by_cpu && !cfg!(target_os = "linux") {
        return Err("only Linux steers connections by CPU".to_owned());
    }
    draft.config.sockets.steering = if by_cpu { Steering::Cpu } else { Steering::Kernel };
    Ok(())
}

pub(super) fn auth(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.auth = ["none", "tokens", "jwt"].into_iter().find(|mode| *mode == text).ok_or_else(String::new)?;
    Ok(())
}

pub(super) fn tokens_file(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.tokens_file = Some(secret_path(draft, text)?);
    Ok(())
}

pub(super) fn jwt_key_file(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.jwt.key_file = Some(secret_path(draft, text)?);
    Ok(())
}

pub(super) fn jwt_keys_dir(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.jwt.keys_dir = Some(secret_path(draft, text)?);
    Ok(())
}

pub(super) fn jwt_algorithm(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    let mut algorithms = Vec::new();
    for name in text.split(',').map(str::trim) {
        let algorithm = JwtAlgorithm::parse(name).ok_or_else(String::new)?;
        if algorithms.contains(&algorithm) {
            return Err(format!("{name} is listed twice"));
        }
        algorithms.push(algorithm);
    }
    draft.jwt.algorithms = algorithms;
    Ok(())
}

pub(super) fn jwt_audience(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.jwt.audience = Some(claim(text)?);
    Ok(())
}

pub(super) fn jwt_issuer(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.jwt.issuer = Some(claim(text)?);
    Ok(())
}

pub(super) fn auth_expiry(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.config.auth_expiry = if choice(text, "close", "keep")? { AuthExpiry::Close } else { AuthExpiry::Keep };
    Ok(())
}

pub(super) fn insecure(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.config.insecure = choice(text, "yes", "no")?;
    Ok(())
}

pub(super) fn service_id(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    if !is_name(text) {
        return Err(String::new());
    }
    draft.config.service_id = text.to_owned();
    Ok(())
}

pub(super) fn data_dir(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.config.data_dir = Some(path(text)?);
    Ok(())
}

pub(super) fn sinks(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    let routes: Vec<SinkRoute> = text.split(',').map(|item| SinkRoute::parse(item.trim())).collect::<Result<_, _>>()?;
    if routes.len() > MAX_SINK_ROUTES {
        return Err(format!("{} are listed", routes.len()));
    }
    for (index, route) in routes.iter().enumerate() {
        if routes[..index].iter().any(|before| before.pattern == route.pattern) {
            return Err(format!("{} is listed twice", route.pattern));
        }
        crate::journal::sink::check(&route.sink).map_err(|why| redact(&format!("{}: {why}", route.pattern)))?;
    }
    draft.config.sinks = routes;
    Ok(())
}

pub(super) fn submit_ack(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.config.submit_ack = if choice(text, "sink", "journal")? { SubmitAck::Sink } else { SubmitAck::Journal };
    Ok(())
}

pub(super) fn dead_letter_topic(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    let topic = crate::journal::is_topic(text.as_bytes()).filter(|topic| !topic.contains(['+', '#', '*']));
    draft.config.dead_letter_topic = topic.ok_or_else(String::new)?.to_owned();
    Ok(())
}

pub(super) fn session_store(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    let store = SessionStoreSpec::parse(text)?;
    crate::session::store::check(&store)?;
    draft.config.session_store = store;
    Ok(())
}

pub(super) fn log(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    // Checked here because env_logger takes a misspelt level for a module's name, and logs everything.
    let level = |text: &str| text.parse::<log::LevelFilter>().is_ok();
    let module =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:-".contains(&b));
    let directive = |item: &str| match item.split_once('=') {
        Some((name, value)) => module(name) && level(value),
        None => level(item),
    };
    if !text.split(',').all(directive) {
        return Err(String::new());
    }
    draft.config.log = text.to_owned();
    Ok(())
}

pub(super) fn log_format(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.config.log_format = if choice(text, "json", "text")? { LogFormat::Json } else { LogFormat::Text };
    Ok(())
}

/// Parses one setting. The error is what would be accepted.
pub(super) fn apply(setting: &Setting, draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    match &setting.kind {
        Kind::Number { field, .. } => {
            let n = number(setting, text)?;
            match field {
                Field::Server { set, .. } => set(&mut draft.config, n),
                Field::Core { set, .. } => set(&mut draft.config.core, n),
            }
            Ok(())
        }
        Kind::Text { form, set, .. } => set(draft, text).map_err(|detail| match detail.as_str() {
            "" => (*form).to_owned(),
            detail => format!("{form}, but {detail}"),
        }),
    }
}

/// Parses what `worker` alone is given. The settings for every worker have been applied before.
pub(super) fn apply_to_core(setting: &Setting, draft: &mut Draft<'_>, worker: usize, text: &str) -> Result<(), String> {
    let Kind::Number { field: Field::Core { set, .. }, .. } = &setting.kind else { return Err(String::new()) };
    let n = number(setting, text)?;
    let every = &draft.config.core;
    set(draft.config.cores.entry(worker).or_insert_with(|| every.clone()), n);
    Ok(())
}

fn number(setting: &Setting, text: &str) -> Result<u64, String> {
    let Kind::Number { min, max, .. } = setting.kind else { return Err(setting.accepted()) };
    digits(text).filter(|n| (min..=max).contains(n)).ok_or_else(|| setting.accepted())
}

fn choice(text: &str, yes: &str, no: &str) -> Result<bool, String> {
    if text == yes || text == no { Ok(text == yes) } else { Err(String::new()) }
}

/// What a claim of a token is compared with, letter by letter.
fn claim(text: &str) -> Result<String, String> {
    let fits = text.chars().count() <= MAX_CLAIM_CHARS && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    if fits { Ok(text.to_owned()) } else { Err(String::new()) }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') { Err("a path holds no NUL".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// A path of a secret: as it stands, or `credential:NAME` for what systemd's `LoadCredential=` brings
/// (systemd.exec(5), `$CREDENTIALS_DIRECTORY`).
pub(super) fn secret_path(draft: &Draft<'_>, text: &str) -> Result<PathBuf, String> {
    let Some(name) = text.strip_prefix("credential:") else { return path(text) };
    let plain = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
    if !plain {
        return Err("credential: is to be followed by a credential's name".to_owned());
    }
    match draft.credentials {
        Some(dir) => Ok(dir.join(name)),
        None => Err("systemd gives this process no credentials ($CREDENTIALS_DIRECTORY is not set)".to_owned()),
    }
}

pub(super) fn show_path(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}

pub(super) fn address_port_fixed(address: SocketAddr) -> bool {
    address.port() != 0
}

/// Quoted, with control characters escaped, and no longer than a person reads.
pub(super) fn quote(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Hides what looks like a token, and passwords in URLs.
pub(super) fn redact(text: &str) -> String {
    let text = &hide_password(text);
    const PREFIX: &str = super::TOKEN_PREFIX;
    let mut shown = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(PREFIX) {
        let (before, token) = rest.split_at(at + PREFIX.len());
        let secret = token.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(token.len());
        // Shorter ones are names that happen to begin like a token.
        let hidden = if secret >= 16 { "<hidden>" } else { &token[..secret] };
        shown.extend([before, hidden]);
        rest = &token[secret..];
    }
    shown + rest
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
