//! `tidegate doctor`, on hosts that are a few files, on this one, and beside `scripts/tune-host.sh`.

mod anything;
mod bare_metal;
mod program;
mod script;
mod verdicts;

use tidegate::config::Config;
use tidegate::doctor::{Check, Host, Plan, Report, Style, examine};

use crate::support::MadeUp;
use bare_metal::bare_metal;

fn config() -> Config {
    Config { workers: 4, cpus: vec![0, 1, 2, 3], ..Config::default() }
}

fn look_for(host: &MadeUp, connections: u64, config: &Config) -> Report {
    examine(&Host::under(host.root()), &Plan::new(connections, config), Vec::new())
}

fn look(host: &MadeUp) -> Report {
    look_for(host, 1_000_000, &config())
}

fn find<'a>(report: &'a Report, name: &str) -> &'a Check {
    let found = report.checks.iter().find(|check| check.check == name);
    found.unwrap_or_else(|| panic!("no check of {name} in\n{}", report.table(Style::Plain)))
}
