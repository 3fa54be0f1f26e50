//! From one configuration to the next, without a restart: what can change live, and what can't.

use serde::Serialize;

use super::Config;
use super::table::{SETTINGS, Setting};

/// A setting that has another value than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its environment variable.
    pub setting: String,
    /// The value before.
    pub from: String,
    /// The value that is wanted now.
    pub to: String,
}

/// What a reload makes of a new configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// The old configuration with the changes that can be made live.
    pub config: Config,
    /// Those changes.
    pub applied: Vec<Change>,
    /// Changes that wait for a restart.
    pub waiting: Vec<Change>,
}

impl Config {
    /// What of `wanted` can take effect now.
    pub fn reload(&self, wanted: &Config) -> Reload {
        let mut config = self.clone();
        // All of them, also where nothing is seen to change: what a secret is, is not shown.
        SETTINGS.iter().filter(|setting| setting.live).for_each(|setting| setting.take(&mut config, wanted));
        let (mut applied, mut waiting) = (Vec::new(), Vec::new());
        for setting in SETTINGS.iter() {
            let took = |change: &Change| setting.live && change_is_made(setting, &config, wanted, &change.setting);
            let (made, left): (Vec<Change>, Vec<Change>) = changes(setting, self, wanted).into_iter().partition(took);
            applied.extend(made);
            waiting.extend(left);
        }
        Reload { config, applied, waiting }
    }
}

/// Where `setting` differs: for the server or every worker, and for workers with a value of their own.
fn changes(setting: &Setting, old: &Config, new: &Config) -> Vec<Change> {
    let change = |setting: String, from: String, to: String| (from != to).then_some(Change { setting, from, to });
    let mut changes: Vec<Change> =
        change(setting.env.to_owned(), setting.value(old), setting.value(new)).into_iter().collect();
    if setting.per_core() {
        let mut workers: Vec<usize> = old.cores.keys().chain(new.cores.keys()).copied().collect();
        workers.sort_unstable();
        workers.dedup();
        let value = |config, worker| setting.value_of_core(config, worker).map_or_else(String::new, |n| n.to_string());
        let of_worker = |worker| change(setting.env_of_core(worker), value(old, worker), value(new, worker));
        changes.extend(workers.into_iter().filter_map(of_worker));
    }
    changes
}

/// Some live settings can follow only a part of the way: the tokens file, but not from `none` to `tokens`.
fn change_is_made(setting: &Setting, now: &Config, wanted: &Config, name: &str) -> bool {
    !changes(setting, now, wanted).iter().any(|left| left.setting == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, Settings};

    fn config(pairs: &[(&str, &str)]) -> Config {
        let machine = Machine { cpus: vec![0, 1], parallelism: 2 };
        pairs.iter().copied().collect::<Settings>().config_on(&machine).unwrap()
    }

    fn change(setting: &str, from: &str, to: &str) -> Change {
        Change { setting: setting.to_owned(), from: from.to_owned(), to: to.to_owned() }
    }

    #[test]
    fn what_can_change_live_does_and_the_rest_waits_for_a_restart() {
        let old = config(&[("TIDEGATE_BACKLOG", "8")]);
        let wanted = config(&[("TIDEGATE_BACKLOG", "9"), ("TIDEGATE_HEARTBEAT_MS", "5000"), ("TIDEGATE_LOG", "debug")]);
        let reload = old.reload(&wanted);
        let applied = [change("TIDEGATE_HEARTBEAT_MS", "30000", "5000"), change("TIDEGATE_LOG", "info", "debug")];
        assert_eq!(reload.applied, applied);
        assert_eq!(reload.waiting, [change("TIDEGATE_BACKLOG", "8", "9")]);
        assert_eq!(reload.config, Config { backlog: 8, ..wanted });
    }

    #[test]
    fn one_workers_change_is_named_as_its_own() {
        let old = config(&[("TIDEGATE_CORE_1_READ_BUDGET", "4096"), ("TIDEGATE_CORE_0_MAILBOX", "7")]);
        let wanted = config(&[("TIDEGATE_CORE_READ_BUDGET", "8192"), ("TIDEGATE_CORE_0_READ_BUDGET", "2048")]);
        let reload = old.reload(&wanted);
        let budgets = |config: &Config| [config.core(0).read_budget, config.core(1).read_budget];
        assert_eq!((budgets(&reload.config), reload.config.core(0).mailbox), ([2048, 8192], 7));
        let applied = [
            change("TIDEGATE_CORE_READ_BUDGET", "262144", "8192"),
            change("TIDEGATE_CORE_0_READ_BUDGET", "262144", "2048"),
            change("TIDEGATE_CORE_1_READ_BUDGET", "4096", "8192"),
        ];
        assert_eq!(reload.applied, applied);
        assert_eq!(reload.waiting, [change("TIDEGATE_CORE_0_MAILBOX", "7", "4096")]);
    }

    #[test]
    fn the_tokens_file_may_be_another_but_who_gets_in_is_decided_at_the_start() {
        let tokens = |path| [("TIDEGATE_AUTH", "tokens"), ("TIDEGATE_TOKENS_FILE", path)];
        let reload = config(&tokens("/a")).reload(&config(&tokens("/b")));
        assert_eq!(reload.applied, [change("TIDEGATE_TOKENS_FILE", "/a", "/b")]);
        let reload = config(&tokens("/a")).reload(&config(&[]));
        assert_eq!((reload.applied, reload.waiting.len()), (vec![], 2));
        assert_eq!(reload.config, config(&tokens("/a")));
    }

    #[test]
    fn nothing_changes_where_nothing_is_different() {
        let old = config(&[]);
        assert_eq!(old.reload(&old), Reload { config: old.clone(), applied: vec![], waiting: vec![] });
    }
}
