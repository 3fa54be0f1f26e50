//! What ships the logs: that its parts know of each other, and keep what they say they keep.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deploy").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(deploy(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn json(file: &str) -> Value {
    serde_json::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A section of Fluent Bit's classic configuration.
struct Section {
    name: String,
    pairs: Vec<(String, String)>,
}

impl Section {
    fn get(&self, key: &str) -> &str {
        let value = self.pairs.iter().find(|(have, _)| have == key).map(|(_, value)| value.as_str());
        value.unwrap_or_else(|| panic!("[{}] {:?} has no {key}", self.name, self.pairs.first()))
    }
}

/// As strict as its format is simple: sections, and indented keys with values; anything else is a mistake.
fn sections(file: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in read(file).lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name: name.to_owned(), pairs: Vec::new() });
            continue;
        }
        let (key, value) = line.strip_prefix("    ").and_then(|pair| pair.split_once(' ')).expect(line);
        let pair = (key.to_owned(), value.trim().to_owned());
        assert!(!pair.1.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || "_.".contains(c)), "{line}");
        sections.last_mut().expect(line).pairs.push(pair);
    }
    sections
}

fn of<'s>(sections: &'s [Section], name: &str) -> Vec<&'s Section> {
    sections.iter().filter(|section| section.name == name).collect()
}

/// What each of Fluent Bit's parts that is used here may be told, and what it must be told.
fn known(section: &Section) -> (&'static [&'static str], &'static [&'static str]) {
    let plugin = section.pairs.iter().find(|(key, _)| key == "name").map_or("", |(_, name)| name);
    match (section.name.as_str(), plugin) {
        ("SERVICE", _) => (
            &["parsers_file", "storage.path"],
            &["flush", "grace", "log_level", "storage.sync", "storage.backlog.mem_limit"],
        ),
        ("INPUT", "systemd") => {
            (&["tag", "systemd_filter", "db"], &["name", "read_from_tail", "strip_underscores", "storage.type"])
        }
        ("INPUT", "tail") => (
            &["tag", "path", "parser", "db"],
            &["name", "read_from_head", "buffer_max_size", "skip_long_lines", "storage.type"],
        ),
        ("FILTER", "parser") => (&["match", "key_name", "parser"], &["name", "reserve_data"]),
        ("FILTER", "rewrite_tag") => {
            (&["match_regex", "rule"], &["name", "emitter_name", "emitter_storage.type", "emitter_mem_buf_limit"])
        }
        ("OUTPUT", "es") => (
            &["host", "port", "tls", "http_user", "http_passwd", "index", "write_operation", "suppress_type_name"],
            &["name", "match", "match_regex", "time_key", "trace_error", "retry_limit", "storage.total_limit_size"],
        ),
        ("PARSER", _) => (&["name", "format", "time_key", "time_format"], &["time_keep"]),
        other => panic!("{other:?} is none"),
    }
}

#[test]
fn the_log_shippers_parts_are_told_all_they_need_and_nothing_they_do_not_know() {
    for section in sections("fluent-bit.conf").iter().chain(&sections("fluent-bit-parsers.conf")) {
        let (needed, more) = known(section);
        for key in needed {
            section.get(key);
        }
        let mut seen = HashSet::new();
        for (key, _) in &section.pairs {
            assert!(needed.contains(&key.as_str()) || more.contains(&key.as_str()), "[{}] {key}", section.name);
            assert!(key == "rule" || seen.insert(key), "[{}] {key} twice", section.name);
        }
    }
}

#[test]
fn every_kind_of_line_goes_to_a_stream_that_is_kept_for_the_time_that_is_said() {
    let sections = sections("fluent-bit.conf");
    let filters = of(&sections, "FILTER");
    let rewrite = filters.iter().find(|filter| filter.get("name") == "rewrite_tag").unwrap();
    let routed: HashMap<&str, &str> = rewrite
        .pairs
        .iter()
        .filter(|(key, _)| key == "rule")
        .map(|(_, rule)| {
            let parts: Vec<&str> = rule.split_whitespace().collect();
            let [_key, pattern, tag, "false"] = parts[..] else { panic!("{rule}") };
            (tag, pattern)
        })
        .collect();
    let patterns =
        [("to.error", "^(ERROR|WARN)$"), ("to.debug", "^(DEBUG|TRACE)$"), ("to.access", "^tidegate::access$")];
    assert_eq!(routed, patterns.into_iter().collect());
    assert_eq!(tidegate::logging::ACCESS, "tidegate::access");
    let outputs = of(&sections, "OUTPUT");
    let to = |index: &str| *outputs.iter().find(|output| output.get("index") == index).unwrap();
    for (index, tag, days) in [
        ("tidegate-error", "to.error", "90d"),
        ("tidegate-debug", "to.debug", "7d"),
        ("tidegate-access", "to.access", "365d"),
        ("tidegate-info", "", "30d"),
    ] {
        let kind = index.strip_prefix("tidegate-").unwrap();
        // What no rule takes keeps its tag.
        if tag.is_empty() {
            assert_eq!(to(index).get("match_regex"), rewrite.get("match_regex"));
        } else {
            assert_eq!(to(index).get("match"), tag);
        }
        let template = json(&format!("elasticsearch-template-{kind}.json"));
        assert_eq!(template["index_patterns"], serde_json::json!([index]));
        assert_eq!(template["composed_of"], serde_json::json!(["tidegate-mappings"]));
        assert!(template["data_stream"].is_object() && template["priority"].as_u64() > Some(100), "{template}");
        assert_eq!(template["template"]["settings"]["index.lifecycle.name"], index, "the policy that the setup puts");
        let policy = json(&format!("elasticsearch-policy-{kind}.json"));
        let phases = &policy["policy"]["phases"];
        assert_eq!(
            (&phases["delete"]["min_age"], &phases["hot"]["actions"]["rollover"]["max_age"]),
            (&days.into(), &"1d".into())
        );
        assert!(phases["delete"]["actions"]["delete"].is_object());
    }
    assert_eq!(outputs.len(), 4);
}

#[test]
fn inputs_and_filters_name_parsers_that_there_are() {
    let (sections, parsers) = (sections("fluent-bit.conf"), sections("fluent-bit-parsers.conf"));
    assert!(deploy(of(&sections, "SERVICE")[0].get("parsers_file")).is_file());
    let names: Vec<&str> = of(&parsers, "PARSER").iter().map(|parser| parser.get("name")).collect();
    let users = sections.iter().flat_map(|section| &section.pairs).filter(|(key, _)| key == "parser");
    assert_eq!(users.map(|(_, parser)| names.contains(&parser.as_str())).collect::<Vec<_>>(), [true, true]);
    let parser = of(&parsers, "PARSER")[0];
    let time = (parser.get("format"), parser.get("time_key"), parser.get("time_format"));
    assert_eq!(time, ("json", "timestamp", "%Y-%m-%dT%H:%M:%S.%LZ"));
}

#[test]
fn the_mapping_has_every_field_of_a_line_and_cannot_grow() {
    let mapping = &json("elasticsearch-mappings.json")["template"]["mappings"];
    assert_eq!(mapping["dynamic"], false);
    let of_every_line = ["@timestamp", "timestamp", "level", "target", "message", "service_id", "worker"];
    let of_whom = ["trace_id", "span_id", "connection", "session", "principal", "peer"];
    let of_access = ["cmd", "seq", "outcome", "code", "bytes_in", "bytes_out", "duration_us", "requests"];
    let of_floods = ["suppressed", "like", "dropped"];
    for field in of_every_line.iter().chain(&of_whom).chain(&of_access).chain(&of_floods) {
        assert!(mapping["properties"][field]["type"].is_string(), "{field}");
    }
}

#[test]
fn fluent_bit_itself_takes_the_configuration_where_it_is_installed() {
    let mut command = Command::new("fluent-bit");
    command.arg("--dry-run").arg("-c").arg(deploy("fluent-bit.conf")).current_dir(deploy(""));
    command.envs([
        ("ES_HOST", "127.0.0.1"),
        ("ES_PORT", "9200"),
        ("ES_TLS", "off"),
        ("ES_USER", "u"),
        ("ES_PASSWORD", "p"),
    ]);
    let Ok(output) = command.output() else { return }; // not installed
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("configuration test is successful"), "{told}");
}
