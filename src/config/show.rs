//! `--print-config`: every value in effect, and where it comes from.

use std::fmt::Write as _;

use super::Config;
use super::settings::{Origin, Settings};
use super::table::{SETTINGS, Setting};

impl Settings {
    /// Every setting's value in `config`, which these settings gave, and its origin: a table for a
    /// person, in groups.
    pub fn table(&self, config: &Config) -> String {
        let rows: Vec<(&str, Vec<[String; 3]>)> =
            SETTINGS.iter().map(|setting| (setting.group, self.rows(setting, config))).collect();
        let width = |at: usize, most: usize| {
            let cells = rows.iter().flat_map(|(_, rows)| rows).map(|row| row[at].chars().count());
            cells.filter(|width| *width <= most).max().unwrap_or(0)
        };
        let (names, values) = (width(0, 48), width(1, 32));
        let mut table = String::new();
        let mut group = "";
        for (of, rows) in &rows {
            if *of != group {
                let _ = writeln!(table, "{}# {of}", if group.is_empty() { "" } else { "\n" });
                group = of;
            }
            for [name, value, origin] in rows {
                let _ = writeln!(table, "{name:names$}  {value:values$}  {origin}");
            }
        }
        table
    }

    /// The same as an environment file, to be used as one.
    pub fn env_file(&self, config: &Config) -> String {
        let mut file = String::new();
        for setting in SETTINGS.iter().filter(|setting| !setting.secret) {
            for [name, value, _] in self.rows(setting, config) {
                // Not set is said by leaving it out.
                if value != NOT_SET {
                    let _ = writeln!(file, "{name}={value}");
                }
            }
        }
        file
    }

    /// A setting's row, and one for each worker that has a value of its own.
    fn rows(&self, setting: &Setting, config: &Config) -> Vec<[String; 3]> {
        let given = self.text(setting.env).filter(|text| !text.is_empty());
        let value = match (setting.secret, given) {
            (true, Some(_)) => "<hidden>".to_owned(),
            (true, None) => NOT_SET.to_owned(),
            (false, _) => setting.value(config),
        };
        let mut origin = self.origin(setting.env).to_string();
        if given.unwrap_or(setting.default) == "auto" {
            origin += ": auto";
        }
        let value = if value.is_empty() { NOT_SET.to_owned() } else { value };
        let mut rows = vec![[setting.env.to_owned(), value, origin]];
        for worker in 0..config.workers {
            let name = setting.env_of_core(worker);
            if let (Some(value), false) = (setting.value_of_core(config, worker), self.origin(&name) == Origin::Default)
            {
                let origin = self.origin(&name).to_string();
                rows.push([name, value.to_string(), origin]);
            }
        }
        rows
    }
}

const NOT_SET: &str = "not set";
