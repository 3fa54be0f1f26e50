//! Whatever a host's files hold, there is a report.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;
use tidegate::config::Config;
use tidegate::doctor::{Style, Verdict};

use super::{bare_metal, config, look_for};

/// Files of the made-up host, which are what is read of a real one.
fn files(dir: &Path, into: &mut Vec<String>, root: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into, root);
        } else {
            into.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_in_the_files_there_is_a_report(
        seeds in proptest::collection::vec(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "[0-9 \t,:/.-]{0,30}".prop_map(String::into_bytes),
            "(18446744073709551615|9223372036854775808|-1|0|max|unlimited)( [0-9]{1,20}){0,3}".prop_map(String::into_bytes),
            "Max open files  [0-9a-z]{1,21}  [0-9a-z]{1,21}".prop_map(String::into_bytes),
            "(MemTotal|MemAvailable|SwapTotal):  [0-9]{1,21} kB".prop_map(String::into_bytes),
            "(0::|4:memory:)(/[a-z.]{0,4}){0,9}".prop_map(String::into_bytes),
        ], 1..30),
        connections in 1..1_000_000_000u64,
        workers in 1..1025usize,
    ) {
        let host = bare_metal();
        let mut paths = Vec::new();
        files(host.root(), &mut paths, host.root());
        paths.sort();
        for (seed, path) in seeds.iter().zip((connections as usize % paths.len()..paths.len()).chain(0..)) {
            if let Some(path) = paths.get(path) {
                std::fs::write(host.root().join(path), seed).unwrap();
            }
        }
        let report = look_for(&host, connections, &Config { workers, ..config() });
        prop_assert!(report.checks.len() > 30);
        prop_assert!(report.table(Style::Coloured).contains("connections"));
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        prop_assert_eq!(json["checks"].as_array().unwrap().len(), report.checks.len());
        prop_assert!(report.allows.is_none_or(|allows| allows < connections));
        for check in &report.checks {
            prop_assert_eq!(check.fix.is_some(), matches!(check.verdict, Verdict::Warn | Verdict::Fail));
        }
    }
}
