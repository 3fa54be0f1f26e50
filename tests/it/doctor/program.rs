//! The program: table, JSON, exit codes, settings.

use std::process::Command;

use serde_json::Value;

use super::bare_metal;
use crate::support::{MadeUp, Process};

/// `tidegate doctor` of a made-up host.
fn doctor(host: &MadeUp, args: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Process::command();
    command.args(["doctor", "--root"]).arg(host.root()).args(args).env("TIDEGATE_WORKERS", "4");
    run(command.envs(settings.iter().copied()))
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_table_and_the_json_are_one_report() {
    let host = bare_metal();
    host.set("net.core.somaxconn", "128");
    host.set("fs.nr_open", "20000");
    let (code, table, _) = doctor(&host, &[], &[]);
    let (json_code, json, _) = doctor(&host, &["--json"], &[]);
    assert_eq!((code, json_code), (Some(1), Some(1)));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["verdict"].as_str(), json["connections"].as_u64()), (Some("fail"), Some(1_000_000)));
    let checks = json["checks"].as_array().unwrap();
    for check in checks {
        let keys: Vec<&str> = check.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(["check", "have", "need", "verdict", "fix", "why"].iter().all(|key| keys.contains(key)), "{keys:?}");
        let text = |key: &str| check[key].as_str().unwrap_or("-");
        let line = table
            .lines()
            .find(|line| line.get(9..).is_some_and(|rest| rest.starts_with(text("check")) && !line.starts_with(' ')));
        let line = line.unwrap_or_else(|| panic!("no line of {check}"));
        assert!(line.starts_with(text("verdict")) && line.ends_with(text("need")), "{line}");
        assert!(line.contains(text("have")), "{line}");
        assert_eq!(check["fix"].is_null(), !table.contains(&format!("fix: {}\n", text("fix"))));
    }
    let lines = table.lines().filter(|line| ["ok ", "warn ", "fail ", "unknown "].iter().any(|v| line.starts_with(v)));
    assert_eq!(lines.count(), checks.len());
    assert!(table.contains("\nNOT READY for 1000000 connections: as it is, it allows 17952 (fs.nr_open)\n"), "{table}");
    assert!(!table.contains('\x1b'), "colours are for terminals");
    assert_eq!(json["allows"], 17_952);
}

#[test]
fn the_exit_code_is_0_with_warnings_1_when_something_fails_and_2_for_wrong_usage() {
    let host = bare_metal();
    assert_eq!(doctor(&host, &[], &[]).0, Some(0));
    host.set("net.core.somaxconn", "128");
    let (code, table, _) = doctor(&host, &[], &[]);
    assert_eq!(code, Some(0));
    assert!(table.contains("\nREADY for 1000000 connections: "), "{table}");
    assert_eq!(doctor(&host, &["--connections", "2000000"], &[]).0, Some(1));
    for wrong in [
        &["--connections", "0"][..],
        &["--connections", "many"],
        &["--connections", "1000000000"],
        &["--pid", "0"],
        &["more"],
    ] {
        let (code, stdout, stderr) = doctor(&host, wrong, &[]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(stderr.starts_with("error: "), "{stderr}");
    }
    let (code, stdout, stderr) = doctor(&host, &[], &[("TIDEGATE_BACKLOG", "many")]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("TIDEGATE_BACKLOG=\"many\""), "{stderr}");
}

#[test]
fn the_server_s_settings_are_looked_at_from_the_environment_and_a_file() {
    let host = bare_metal();
    let (code, table, _) = doctor(&host, &[], &[("TIDEGATE_CORE_2_MAX_CONNECTIONS", "1000")]);
    assert_eq!(code, Some(1), "{table}");
    assert!(table.contains("fix: TIDEGATE_CORE_MAX_CONNECTIONS=252500, "), "{table}");
    host.write("tidegate.env", "TIDEGATE_BACKLOG=9999\n");
    let file = host.root().join("tidegate.env");
    let (_, table, _) = doctor(&host, &["--env-file", file.to_str().unwrap()], &[]);
    assert!(table.contains("fix: sysctl -w net.core.somaxconn=9999\n"), "{table}");
}

#[test]
fn a_running_server_s_limits_are_looked_at_by_its_pid() {
    let host = bare_metal();
    host.write("proc/77/limits", "Max open files  64  64  files\n");
    let (code, table, _) = doctor(&host, &["--pid", "77"], &[]);
    assert_eq!(code, Some(1));
    assert!(table.contains("\nfail     open files, hard limit "), "{table}");
    let (code, stdout, stderr) = doctor(&host, &["--pid", "78"], &[]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(2), "", "error: --pid 78: there is no such process\n"));
}

#[test]
fn this_very_host_is_looked_at_with_its_addresses_and_its_disk() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = Process::command();
    command.args(["doctor", "--connections", "1", "--json"]).env("TIDEGATE_DATA_DIR", &data);
    command.env("TIDEGATE_LISTEN", "127.0.0.1:0,192.0.2.1:7400").env("TIDEGATE_ADMIN", "off");
    command.env("TIDEGATE_AUTH", "none").env("TIDEGATE_INSECURE", "yes");
    let (code, stdout, stderr) = run(&mut command);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    let json: Value = serde_json::from_str(&stdout).unwrap();
    let of = |name: &str| json["checks"].as_array().unwrap().iter().find(|c| c["check"] == name).unwrap().clone();
    assert_eq!(of("TIDEGATE_LISTEN 127.0.0.1:0")["verdict"], "ok");
    assert_eq!(of("TIDEGATE_LISTEN 192.0.2.1:7400")["verdict"], "fail");
    assert_eq!(of("data directory, writable")["have"], "will be made");
    assert!(of("open files, hard limit")["have"].is_string() && of("memory")["have"].is_string());
    assert!(!data.exists(), "a look makes nothing");
}
