//! From text to a validated [`Config`]: each setting by itself, then how they go together.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::cpus::{self, Machine};
use super::table::{Kind, SETTINGS, Setting};
use super::{AuthMode, Config};
use crate::limits::{MAX_LISTEN_ADDRESSES, MAX_NAME_CHARS, MAX_WORKERS};
use crate::proto::HEADER_LEN;

/// A setting that can't be used. Its display is `TIDEGATE_X="abc": expected …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The environment variable.
    pub variable: &'static str,
    /// What it was set to. A token that was put here by mistake is not shown.
    pub value: String,
    /// What would be accepted, to follow the word "expected".
    pub expected: String,
}

impl SettingError {
    /// An error of `setting`, whose text was `value`.
    pub fn new(setting: &Setting, value: &str, expected: impl Into<String>) -> SettingError {
        SettingError { variable: setting.env, value: redact(value), expected: expected.into() }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}: expected {}", self.variable, quote(&self.value), self.expected)
    }
}

impl std::error::Error for SettingError {}

impl Config {
    /// Reads every setting of [`SETTINGS`] through `lookup`, which gives the text of an environment
    /// variable, or `None` where it is not set.
    ///
    /// # Errors
    /// All settings that can't be used, not only the first.
    pub fn from_settings(lookup: impl Fn(&str) -> Option<String>) -> Result<Config, Vec<SettingError>> {
        Config::from_settings_on(&Machine::detect(), lookup)
    }

    /// As [`Config::from_settings`], for a machine that is described and not asked.
    ///
    /// # Errors
    /// All settings that can't be used, not only the first.
    pub fn from_settings_on(
        machine: &Machine,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Config, Vec<SettingError>> {
        let given: Vec<Option<String>> = SETTINGS.iter().map(|setting| lookup(setting.env)).collect();
        let mut draft = Draft { config: Config::default(), machine, workers: None, tokens: false, tokens_file: None };
        let mut errors = Vec::new();
        for (setting, given) in SETTINGS.iter().zip(&given) {
            let text = given.as_deref().unwrap_or(setting.default);
            // Empty is how an operator says "not set" where that is the default, and a mistake elsewhere.
            if text.is_empty() && setting.default.is_empty() {
                continue;
            }
            if let Err(expected) = apply(setting, &mut draft, text) {
                errors.push(SettingError::new(setting, text, expected));
            }
        }
        draft.settle();
        errors.extend(Cross { given: &given, failed: &errors.clone(), draft: &draft, found: Vec::new() }.check());
        if errors.is_empty() { Ok(draft.finish()) } else { Err(errors) }
    }
}

/// What a principal or a service may be called: 1 to [`MAX_NAME_CHARS`] printable characters, no spaces.
pub fn is_name(text: &str) -> bool {
    // Invisible characters and those that turn the direction of text: one name could look like another.
    let invisible = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}');
    let printable = |c: char| !c.is_control() && !c.is_whitespace() && !invisible(c);
    (1..=MAX_NAME_CHARS).contains(&text.chars().count()) && text.chars().all(printable)
}

/// A configuration in the making.
pub(super) struct Draft<'m> {
    config: Config,
    machine: &'m Machine,
    /// `None`: auto.
    workers: Option<usize>,
    tokens: bool,
    tokens_file: Option<PathBuf>,
}

impl Draft<'_> {
    /// Fills in what depends on more than one setting.
    fn settle(&mut self) {
        let listed = if self.config.cpus.is_empty() { None } else { Some(self.config.cpus.len().min(MAX_WORKERS)) };
        self.config.workers = self.workers.or(listed).unwrap_or_else(|| self.machine.auto_workers());
    }

    fn finish(self) -> Config {
        let auth = match self.tokens_file {
            Some(path) if self.tokens => AuthMode::Tokens(path),
            _ => AuthMode::None,
        };
        Config { auth, ..self.config }
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

pub(super) fn auth(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.tokens = choice(text, "tokens", "none")?;
    Ok(())
}

pub(super) fn tokens_file(draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    draft.tokens_file = Some(path(text)?);
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

/// Parses one setting. The error is what would be accepted.
fn apply(setting: &Setting, draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
    match setting.kind {
        Kind::Number { min, max, set, .. } => match digits(text).filter(|n| (min..=max).contains(n)) {
            Some(n) => {
                set(&mut draft.config, n);
                Ok(())
            }
            None => Err(setting.accepted()),
        },
        Kind::Text { form, set } => set(draft, text).map_err(|detail| match detail.as_str() {
            "" => form.to_owned(),
            detail => format!("{form}, but {detail}"),
        }),
    }
}

fn choice(text: &str, yes: &str, no: &str) -> Result<bool, String> {
    if text == yes || text == no { Ok(text == yes) } else { Err(String::new()) }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') { Err("a path holds no NUL".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn address_port_fixed(address: SocketAddr) -> bool {
    address.port() != 0
}

/// How settings go together. A rule is skipped when one of its settings could not be parsed.
struct Cross<'a> {
    given: &'a [Option<String>],
    failed: &'a [SettingError],
    draft: &'a Draft<'a>,
    found: Vec<SettingError>,
}

impl Cross<'_> {
    fn check(mut self) -> Vec<SettingError> {
        let draft = self.draft;
        let c = &draft.config;
        const LOW: &str = "TIDEGATE_OUTBOUND_LOW";
        const HIGH: &str = "TIDEGATE_OUTBOUND_HIGH";
        const MAX: &str = "TIDEGATE_OUTBOUND_MAX";
        let tokens = draft.tokens;
        let file = draft.tokens_file.is_some();
        let open = c.listen.iter().any(|a| !a.ip().to_canonical().is_loopback());
        let plan = c.drain_announce + c.drain_notice;
        self.rule(&[HIGH, LOW], c.outbound_low < c.outbound_high, "TIDEGATE_OUTBOUND_LOW below TIDEGATE_OUTBOUND_HIGH");
        self.rule(&[MAX, HIGH], c.outbound_high < c.outbound_max, "TIDEGATE_OUTBOUND_HIGH below TIDEGATE_OUTBOUND_MAX");
        self.rule(
            &[MAX, "TIDEGATE_MAX_PAYLOAD"],
            c.outbound_max >= c.max_payload + HEADER_LEN,
            "TIDEGATE_OUTBOUND_MAX to hold a frame of TIDEGATE_MAX_PAYLOAD and its 9-byte header",
        );
        self.rule(
            &["TIDEGATE_DRAIN_TIMEOUT_MS", "TIDEGATE_DRAIN_ANNOUNCE_MS", "TIDEGATE_DRAIN_NOTICE_MS"],
            plan < c.drain_timeout,
            "TIDEGATE_DRAIN_ANNOUNCE_MS and TIDEGATE_DRAIN_NOTICE_MS together below TIDEGATE_DRAIN_TIMEOUT_MS",
        );
        self.rule(
            &["TIDEGATE_AUTH", "TIDEGATE_TOKENS_FILE"],
            !tokens || file,
            "TIDEGATE_TOKENS_FILE to be set with TIDEGATE_AUTH=tokens",
        );
        self.rule(
            &["TIDEGATE_TOKENS_FILE", "TIDEGATE_AUTH"],
            !file || tokens,
            "TIDEGATE_AUTH=tokens with TIDEGATE_TOKENS_FILE: without it the file is not used and everybody gets in",
        );
        self.rule(
            &["TIDEGATE_LISTEN", "TIDEGATE_AUTH", "TIDEGATE_INSECURE"],
            tokens || c.insecure || !open,
            "loopback addresses only, because TIDEGATE_AUTH=none lets everybody in; use TIDEGATE_AUTH=tokens, or \
             TIDEGATE_INSECURE=yes to listen all the same",
        );
        let clash = c.admin.is_some_and(|admin| address_port_fixed(admin) && c.listen.contains(&admin));
        self.rule(&["TIDEGATE_ADMIN", "TIDEGATE_LISTEN"], !clash, "TIDEGATE_ADMIN to differ from TIDEGATE_LISTEN");
        self.found
    }

    /// Where a rule is broken, blames the first of its settings that the operator gave.
    fn rule(&mut self, settings: &[&'static str], holds: bool, expected: &str) {
        if holds || self.failed.iter().any(|error| settings.contains(&error.variable)) {
            return;
        }
        let texts = |name: &&str| {
            let at = SETTINGS.iter().position(|setting| setting.env == *name)?;
            Some((&SETTINGS[at], self.given[at].as_deref()))
        };
        let known: Vec<_> = settings.iter().filter_map(texts).collect();
        let Some((blamed, text)) = known.iter().find(|(_, text)| text.is_some()).or(known.first()) else { return };
        let others = known.iter().filter(|(setting, _)| setting.env != blamed.env);
        let others: Vec<String> = others
            .map(|(setting, text)| format!("{}={}", setting.env, quote(&redact(text.unwrap_or(setting.default)))))
            .collect();
        let expected = format!("{expected} (now {})", others.join(", "));
        self.found.push(SettingError::new(blamed, text.unwrap_or(blamed.default), expected));
    }
}

/// Quoted, with control characters escaped, and no longer than a person reads.
fn quote(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Hides what looks like a token.
fn redact(text: &str) -> String {
    const PREFIX: &str = super::TOKEN_PREFIX;
    let mut shown = String::new();
    let mut rest = text;
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
