//! What kills gateways, against one of few lines that keeps its promises, and breaks them when told to.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Two lives of three kills each, under a gateway that lies so.
fn crash(name: &str, lie: &str, more: &[&str]) -> (Output, String) {
    let folder: PathBuf = std::env::temp_dir().join(format!("peers-crash-{}-{name}", std::process::id()));
    let crash = PathBuf::from(env!("CARGO_BIN_EXE_crash"));
    let gateway = crash.with_file_name("examples").join("stub_gateway");
    assert!(gateway.exists(), "cargo test builds it; with --test crash alone: cargo build --example stub_gateway");
    let output = Command::new(crash)
        .args([&gateway, &folder])
        .args(["--kills", "6", "--per-life", "3", "--clients", "6", "--longest-ms", "120", "--patience", "8"])
        .args(more)
        .env("STUB_LIE", lie)
        .output()
        .unwrap();
    drop(std::fs::remove_dir_all(folder));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, said)
}

/// The number behind a name in the table.
fn count(said: &str, name: &str) -> u64 {
    let line =
        said.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("{name}: {said}"));
    let digits: String = line[34..].trim_start().chars().take_while(|c| *c != ' ').filter(|c| *c != ',').collect();
    digits.parse().unwrap()
}

#[test]
fn a_gateway_that_keeps_its_promises_passes() {
    let (output, said) = crash("honest", "", &[]);
    assert_eq!(output.status.code(), Some(0), "{said}{output:?}");
    assert!(count(&said, "SUBMIT acknowledged") > 100 && count(&said, "SESSION_PUT acknowledged") > 50, "{said}");
    assert!(count(&said, "retries known by their key") > 0, "{said}");
}

#[test]
fn one_that_answers_before_it_writes_has_lost_messages() {
    let (output, said) = crash("early", "early-ack", &[]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(count(&said, "RPO") > 0, "{said}");
}

#[test]
fn one_that_knows_no_keys_has_messages_twice() {
    let (output, said) = crash("twice", "no-dedup", &[]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(count(&said, "duplicated") > 0 && count(&said, "lost in the journal") == 0, "{said}");
}

#[test]
fn one_that_keeps_sessions_in_memory_has_lost_puts() {
    let (output, said) = crash("puts", "puts-in-memory", &[]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(count(&said, "lost in the journal") == 0 && said.contains("acknowledged PUTs is gone"), "{said}");
    let (output, said) = crash("memory", "puts-in-memory", &["--sessions-in-memory"]);
    assert_eq!(output.status.code(), Some(0), "that is known: {said}");
}

#[test]
fn what_is_broken_in_the_sink_on_purpose_is_found() {
    for (plant, name) in [("lost", "RPO"), ("duplicate", "duplicated"), ("reorder", "out of order")] {
        let (output, said) = crash(plant, "", &["--plant", plant]);
        assert_eq!(output.status.code(), Some(1), "{plant}: {said}");
        assert!(count(&said, name) > 0, "{plant}: {said}");
    }
}
