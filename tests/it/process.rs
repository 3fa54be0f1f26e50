//! The program as a whole: signals, exit codes, the audit log.

use std::net::TcpListener;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tidegate::proto::{GoAwayReason, GoAwayStage};

use crate::support::{Client, Process, audit, get, post};

#[test]
fn sigterm_drains_prints_the_ledger_and_exits_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("DATA_DIR", dir.path().to_str().unwrap()), ("SERVICE_ID", "gate-1"), ("DRAIN_NOTICE_MS", "100")];
    let process = Process::serve(&settings);
    assert_eq!(get(process.admin, "/readyz").0, 200);
    let (mut client, _) = Client::ready(process.address);
    client.assert_alive();
    process.signal(Signal::TERM);
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    client.expect_eof();
    drop(client);
    let exit = process.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(exit.stdout.contains("Nothing was lost: 2 requests accepted, 2 answered."), "{exit:?}");
    let lines = audit(dir.path());
    let types: Vec<&Value> = lines.iter().map(|line| &line["event_type"]).collect();
    assert_eq!(types, ["start", "shutdown"]);
    for line in &lines {
        assert_eq!((&line["service_id"], &line["version"]), (&"gate-1".into(), &env!("CARGO_PKG_VERSION").into()));
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(timestamp).is_ok() && timestamp.ends_with('Z'), "{timestamp}");
    }
    let end = &lines[1];
    assert_eq!(end["reason"], "signal:SIGTERM");
    for (name, number) in [
        ("accepted", 2),
        ("answered", 2),
        ("failed", 0),
        ("pending", 0),
        ("cut", 0),
        ("connections", 1),
        ("refused", 0),
    ] {
        assert_eq!(end[name], number, "{name}");
    }
    let durations = &end["durations"];
    assert!(durations["notice_ms"].as_u64() >= Some(90) && durations["total_ms"].as_u64() >= Some(90), "{end}");
    assert!(end["bytes_unacked"].is_u64() && end["cuts"].as_array().is_some_and(Vec::is_empty), "{end}");
}

#[test]
fn sigint_skips_the_announcement() {
    let dir = tempfile::tempdir().unwrap();
    // With it, the test's patience would be over long before the drain.
    let settings = [
        ("DATA_DIR", dir.path().to_str().unwrap()),
        ("DRAIN_ANNOUNCE_MS", "60000"),
        ("DRAIN_TIMEOUT_MS", "90000"),
        ("DRAIN_NOTICE_MS", "20"),
    ];
    let process = Process::serve(&settings);
    let (mut client, _) = Client::ready(process.address);
    process.signal(Signal::INT);
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    client.expect_eof();
    drop(client);
    assert_eq!(process.wait().code, Some(0));
    assert_eq!(audit(dir.path())[1]["reason"], "signal:SIGINT");
}

#[test]
fn a_second_signal_cuts_at_once_and_exits_with_3() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::TERM, Signal::INT), (Signal::INT, Signal::TERM)] {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            [("DATA_DIR", dir.path().to_str().unwrap()), ("DRAIN_NOTICE_MS", "60000"), ("DRAIN_TIMEOUT_MS", "90000")];
        let process = Process::serve(&settings);
        let (mut client, _) = Client::ready(process.address);
        process.signal(first);
        client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
        client.assert_alive();
        process.signal(second);
        client.expect_reset();
        let exit = process.wait();
        assert_eq!(exit.code, Some(3), "{exit:?}");
        let peer = client.stream.local_addr().unwrap().to_string();
        assert!(exit.stdout.contains(&peer) && exit.stdout.contains("second_signal"), "{exit:?}");
        let end = &audit(dir.path())[1];
        assert_eq!((&end["cuts"][0]["peer"], &end["cuts"][0]["reason"]), (&peer.into(), &"second_signal".into()));
        assert_eq!((&end["exit_code"], &end["cut"], &end["connections_cut"]), (&3.into(), &0.into(), &1.into()));
    }
}

#[test]
fn what_the_plans_end_finds_is_cut_and_the_exit_code_says_so() {
    let settings = [("DRAIN_NOTICE_MS", "100"), ("DRAIN_TIMEOUT_MS", "400"), ("LINGER_MS", "60000")];
    let process = Process::serve(&settings);
    let (client, _) = Client::ready(process.address);
    process.signal(Signal::TERM);
    // It was told everything and has not closed: that is no loss, and nothing is left of it.
    assert_eq!(process.wait().code, Some(0));
    drop(client);
}

#[test]
fn posting_to_drain_ends_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::serve(&[("DATA_DIR", dir.path().to_str().unwrap())]);
    let admin = process.admin;
    assert_eq!(post(admin, "/drain").0, 202);
    let exit = process.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert_eq!(audit(dir.path())[1]["reason"], "admin");
}

#[test]
fn a_start_after_a_kill_records_the_crash_that_nobody_could() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("DATA_DIR", dir.path().to_str().unwrap())];
    let process = Process::serve(&settings);
    process.signal(Signal::KILL);
    assert_eq!(process.wait().code, None);
    let process = Process::serve(&settings);
    process.signal(Signal::TERM);
    let exit = process.wait();
    assert_eq!(exit.code, Some(0));
    assert!(exit.stderr.contains("crashed or was killed"), "{exit:?}");
    let lines = audit(dir.path());
    let told: Vec<(&Value, &Value)> = lines.iter().map(|line| (&line["event_type"], &line["reason"])).collect();
    let text = |event, reason| (Value::from(event), Value::from(reason));
    let expected =
        [text("start", "start"), text("shutdown", "crash"), text("start", "start"), text("shutdown", "signal:SIGTERM")];
    assert_eq!(told, expected.iter().map(|(a, b)| (a, b)).collect::<Vec<_>>());
    assert_eq!(lines[1]["started"], lines[0]["timestamp"]);
}

/// Runs `serve` to its end, which must come by itself. Exit code and what it complained of.
fn failing(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Process::command();
    command.arg("serve").stdin(Stdio::null());
    command.env("TIDEGATE_LISTEN", "127.0.0.1:0").env("TIDEGATE_ADMIN", "off");
    for (name, value) in settings {
        command.env(format!("TIDEGATE_{name}"), value);
    }
    let output = command.output().unwrap();
    assert!(output.stdout.is_empty(), "it says that it listens");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_wrong_configuration_exits_with_2_before_anything_is_bound() {
    // Taken: whoever binds first fails with another code.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for wrong in [
        &[("WORKERS", "none")][..],
        &[("HEARTBEAT_MS", "0")],
        &[("OUTBOUND_LOW", "9999999")],
        &[("AUTH", "tokens")],
        &[("AUTH", "tokens"), ("TOKENS_FILE", "/nowhere/tokens")],
    ] {
        let mut settings = vec![("LISTEN", address.as_str()), ("DATA_DIR", data.to_str().unwrap())];
        settings.extend(wrong);
        let (code, told) = failing(&settings);
        assert_eq!(code, Some(2), "{wrong:?}: {told}");
        assert!(told.contains("TIDEGATE_") && !data.exists(), "{told}");
    }
    let (code, told) = failing(&[("LISTEN", "0.0.0.0:0")]);
    assert!(code == Some(2) && told.contains("TIDEGATE_INSECURE"), "{told}");
}

#[test]
fn an_address_that_is_taken_exits_with_1_and_leaves_no_start_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    for (variable, name) in [("LISTEN", "TIDEGATE_LISTEN"), ("ADMIN", "TIDEGATE_ADMIN")] {
        let (code, told) = failing(&[(variable, &address), ("DATA_DIR", dir.path().to_str().unwrap())]);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(&address) && told.contains(name), "{told}");
    }
    assert!(audit(dir.path()).is_empty());
}

#[test]
fn two_processes_do_not_share_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("DATA_DIR", dir.path().to_str().unwrap())];
    let process = Process::serve(&settings);
    let (code, told) = failing(&settings);
    assert!(code == Some(1) && told.contains("another tidegate"), "{told}");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code, Some(0));
    assert_eq!(audit(dir.path()).len(), 2);
}
