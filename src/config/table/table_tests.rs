//! What the table promises.

use std::collections::HashSet;

use super::*;
use crate::config::Settings;

#[test]
fn every_setting_has_a_variable_of_its_own_and_the_flag_derived_from_it() {
    let names: HashSet<_> = SETTINGS.iter().map(|s| s.env).collect();
    assert_eq!(names.len(), SETTINGS.len());
    assert!(SETTINGS.iter().all(|s| s.env.starts_with("TIDEGATE_") && !s.help.is_empty()));
    let budget = SETTINGS.iter().find(|s| s.env == "TIDEGATE_CORE_READ_BUDGET").unwrap();
    assert_eq!((budget.flag().as_str(), budget.per_core()), ("core-read-budget", true));
    assert_eq!(budget.env_of_core(3), "TIDEGATE_CORE_3_READ_BUDGET");
}

#[test]
fn what_a_worker_owns_has_the_prefix_that_says_so_and_nothing_else_has() {
    for setting in SETTINGS.iter() {
        assert_eq!(setting.per_core(), setting.env.starts_with("TIDEGATE_CORE_"), "{}", setting.env);
    }
}

#[test]
fn a_value_in_effect_is_shown_as_an_operator_would_write_it() {
    let config = Settings::default().config().unwrap();
    for setting in SETTINGS.iter().filter(|s| s.default != "auto") {
        assert_eq!(setting.value(&config), setting.default, "{}", setting.env);
    }
}

#[test]
fn the_markdown_table_has_a_row_of_four_cells_for_every_setting() {
    let table = markdown_table();
    assert_eq!(table.lines().count(), SETTINGS.len() + 2);
    assert!(table.lines().all(|row| row.matches('|').count() == 5), "{table}");
    for setting in SETTINGS.iter() {
        let live = if setting.live { " *" } else { "" };
        let row = table.lines().find(|row| row.starts_with(&format!("| `{}`{live} |", setting.env))).unwrap();
        assert!(row.contains(&setting.accepted()) && row.contains(setting.help), "{row}");
        assert!(row.ends_with(&format!("| `{}` |", setting.default)) || row.ends_with("| not set |"), "{row}");
    }
}

#[test]
fn the_readme_shows_this_table() {
    let readme = include_str!("../../../README.md");
    let start = readme.find("<!-- settings -->\n").unwrap() + "<!-- settings -->\n".len();
    let end = readme.find("<!-- /settings -->").unwrap();
    assert!(readme[start..end] == markdown_table(), "put this between the markers:\n{}", markdown_table());
}

#[test]
fn documented_defaults_are_the_defaults() {
    let documented = Settings::default().config().unwrap();
    let auto = Config { workers: documented.workers, cpus: documented.cpus.clone(), ..Config::default() };
    assert_eq!(documented, auto);
}
