//! The one table of settings: flags, help, the README, the parser and `--print-config` come from it.

mod connections;
mod drain;
mod identity;
mod journal;
mod network;
mod records;
mod sessions;
mod sockets;
mod workers;

use std::sync::LazyLock;

use super::parse::Draft;
use super::{Config, Core};

/// Every setting, in the order in which help and the README show them.
pub static SETTINGS: LazyLock<Vec<&'static Setting>> = LazyLock::new(|| {
    let groups: [&'static [Setting]; 9] = [
        network::SETTINGS,
        sockets::SETTINGS,
        workers::SETTINGS,
        identity::SETTINGS,
        connections::SETTINGS,
        sessions::SETTINGS,
        journal::SETTINGS,
        drain::SETTINGS,
        records::SETTINGS,
    ];
    groups.into_iter().flatten().collect()
});

/// One thing that the operator may set.
pub struct Setting {
    /// The environment variable.
    pub env: &'static str,
    /// Settings of one group stand together in help.
    pub group: &'static str,
    /// The default as an operator would write it; empty: not set.
    pub default: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// Whether a reload (SIGHUP) applies a change of it; else it takes a restart.
    pub live: bool,
    /// A secret itself, and not the path of one: it has no flag and is never shown.
    pub secret: bool,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// A whole number within bounds.
    Number { unit: &'static str, min: u64, max: u64, field: Field },
    /// Anything else. An error from `set` is a detail to follow the accepted form; it may be empty.
    Text {
        form: &'static str,
        set: fn(&mut Draft<'_>, &str) -> Result<(), String>,
        /// The value in effect, as an operator would write it; empty: not set.
        get: fn(&Config) -> String,
        /// Takes the value over from another configuration, where that can be done live.
        take: fn(&mut Config, &Config),
    },
}

/// Where a number is kept: how it gets there and back.
pub(super) enum Field {
    /// Of the whole server.
    Server { set: fn(&mut Config, u64), get: fn(&Config) -> u64 },
    /// Of each worker.
    Core { set: fn(&mut Core, u64), get: fn(&Core) -> u64 },
}

impl Setting {
    /// The flag of `tidegate serve`, without its dashes: `TIDEGATE_CORE_MAILBOX` is `core-mailbox`.
    pub fn flag(&self) -> String {
        self.env.trim_start_matches("TIDEGATE_").to_ascii_lowercase().replace('_', "-")
    }

    /// The accepted form with its unit and bounds, to follow the word "expected".
    pub fn accepted(&self) -> String {
        match self.kind {
            Kind::Number { unit, min, max, .. } => format!("a number of {unit}, {min} to {max}"),
            Kind::Text { form, .. } => form.to_owned(),
        }
    }

    /// Whether each worker may have a value of its own.
    pub fn per_core(&self) -> bool {
        matches!(self.kind, Kind::Number { field: Field::Core { .. }, .. })
    }

    /// The variable for one worker alone: `TIDEGATE_CORE_3_MAILBOX`.
    pub fn env_of_core(&self, worker: usize) -> String {
        self.env.replacen("TIDEGATE_CORE_", &format!("TIDEGATE_CORE_{worker}_"), 1)
    }

    /// The value in effect, as an operator would write it; empty: not set. Not for secrets.
    pub fn value(&self, config: &Config) -> String {
        match &self.kind {
            Kind::Number { field: Field::Server { get, .. }, .. } => get(config).to_string(),
            Kind::Number { field: Field::Core { get, .. }, .. } => get(&config.core).to_string(),
            Kind::Text { get, .. } => get(config),
        }
    }

    /// The value in effect on one worker: a number, where each worker has one.
    pub fn value_of_core(&self, config: &Config, worker: usize) -> Option<u64> {
        match &self.kind {
            Kind::Number { field: Field::Core { get, .. }, .. } => Some(get(config.core(worker))),
            _ => None,
        }
    }

    /// Takes the value over from another configuration.
    pub(super) fn take(&self, to: &mut Config, from: &Config) {
        match &self.kind {
            Kind::Number { field: Field::Server { set, get }, .. } => set(to, get(from)),
            Kind::Number { field: Field::Core { set, get }, .. } => {
                let workers: Vec<usize> = to.cores.keys().chain(from.cores.keys()).copied().collect();
                for worker in workers {
                    let value = get(from.core(worker));
                    let core = to.core.clone();
                    set(to.cores.entry(worker).or_insert(core), value);
                }
                set(&mut to.core, get(&from.core));
            }
            Kind::Text { take, .. } => take(to, from),
        }
    }

    const fn live(self) -> Setting {
        Setting { live: true, ..self }
    }

    const fn secret(self) -> Setting {
        Setting { secret: true, ..self }
    }
}

/// The settings as a Markdown table, for the README. A star marks what a reload applies.
pub fn markdown_table() -> String {
    let mut table = String::from("| Variable | What it is | Accepted | Default |\n|---|---|---|---|\n");
    for setting in SETTINGS.iter() {
        let default = if setting.default.is_empty() { "not set".to_owned() } else { format!("`{}`", setting.default) };
        let live = if setting.live { " *" } else { "" };
        table += &format!("| `{}`{live} | {} | {} | {default} |\n", setting.env, setting.help, setting.accepted());
    }
    table
}

const fn number(
    group: &'static str,
    env: &'static str,
    default: &'static str,
    unit: &'static str,
    (min, max): (u64, u64),
    help: &'static str,
    field: Field,
) -> Setting {
    let kind = Kind::Number { unit, min, max, field };
    Setting { env, group, default, help, live: false, secret: false, kind }
}

/// A text, from its [`Form`] and [`Access`].
const fn text(
    group: &'static str,
    env: &'static str,
    default: &'static str,
    form: &'static str,
    help: &'static str,
    set: fn(&mut Draft<'_>, &str) -> Result<(), String>,
    get: fn(&Config) -> String,
) -> Setting {
    let kind = Kind::Text { form, set, get, take: |_, _| () };
    Setting { env, group, default, help, live: false, secret: false, kind }
}

/// A text that a reload applies: `take` copies it from one configuration to another.
const fn live_text(setting: Setting, take: fn(&mut Config, &Config)) -> Setting {
    match setting.kind {
        Kind::Text { form, set, get, .. } => {
            Setting { live: true, kind: Kind::Text { form, set, get, take }, ..setting }
        }
        Kind::Number { .. } => setting.live(),
    }
}

/// A number field of [`Config`].
macro_rules! of_server {
    ($field:ident: $type:ty) => {
        Field::Server { set: |c, n| c.$field = n as $type, get: |c| c.$field as u64 }
    };
}

/// A number field of [`Core`].
macro_rules! of_core {
    ($field:ident: $type:ty) => {
        Field::Core { set: |c, n| c.$field = n as $type, get: |c| c.$field as u64 }
    };
}

/// A duration field of [`Config`], in milliseconds.
macro_rules! millis {
    ($field:ident) => {
        Field::Server {
            set: |c, n| c.$field = std::time::Duration::from_millis(n),
            get: |c| c.$field.as_millis().min(u128::from(u64::MAX)) as u64,
        }
    };
}

/// A duration field of [`Config`], in seconds.
macro_rules! seconds {
    ($field:ident) => {
        Field::Server { set: |c, n| c.$field = std::time::Duration::from_secs(n), get: |c| c.$field.as_secs() }
    };
}

use {millis, of_core, of_server, seconds};

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
