//! The log of a real process: lines that parse, floods that are limited, a reader that stands still.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;
use tidegate::config::{Config, LogFormat};
use tidegate::proto::{Command, ErrorCode, extension_type};
use tidegate::session::log_name;

use crate::support::{Client, Exit, Process, audit, extension, frame, frame_v2, metric, until};

/// Each line of standard error, which has to be a JSON object with what every line has.
fn lines(stderr: &str) -> Vec<Value> {
    stderr.lines().map(parse).collect()
}

fn parse(line: &str) -> Value {
    let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    let timestamp = parsed["timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 24 && humantime::parse_rfc3339(timestamp).is_ok(), "{line}");
    assert!(parsed["level"].as_str().unwrap().parse::<log::Level>().is_ok(), "{line}");
    assert!(["target", "message", "service_id"].iter().all(|key| parsed[key].is_string()), "{line}");
    parsed
}

fn drained(process: Process) -> Exit {
    process.signal(Signal::TERM);
    let exit = process.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    exit
}

fn of_target<'l>(lines: &'l [Value], target: &'l str) -> impl Iterator<Item = &'l Value> {
    lines.iter().filter(move |line| line["target"] == target)
}

fn accepted(stdout: &str) -> u64 {
    let before = stdout.split(" requests accepted").next().unwrap();
    before.rsplit(' ').next().unwrap().replace(',', "").parse().unwrap()
}

#[test]
fn every_line_is_json_whatever_hostile_clients_send() {
    let settings = [
        ("LOG", "trace"),
        ("LOG_FORMAT", "json"),
        ("LOG_BURST", "0"),
        ("ACCESS_LOG_RATE", "100000"),
        ("SERVICE_ID", "gate-\"1\""),
        ("DRAIN_NOTICE_MS", "20"),
    ];
    let process = Process::serve(&settings);
    // What ends a line, a text or a terminal's patience, and what is no text at all.
    let nasty: [&[u8]; 6] = [
        b"\"}\n{\"level\":\"ERROR\"}",
        b"\x1b[2J\r\n\0",
        b"\xff\xfe\xc3",
        "\u{2028}\u{202e}\u{9b}".as_bytes(),
        b"\\",
        &[0x80; 400],
    ];
    for bytes in nasty {
        let raw = TcpStream::connect(process.address).unwrap();
        (&raw).write_all(bytes).unwrap();
        let admin = TcpStream::connect(process.admin).unwrap();
        (&admin).write_all(bytes).unwrap();
        let (mut client, _) = Client::ready(process.address);
        let trace = extension(extension_type::TRACE, &[bytes[0]; 25]);
        // One after the other: of those that come together the first one is logged.
        client.request_v2(Command::SESSION_GET, &trace, bytes);
        assert_eq!(client.frame().cmd, Command::ERROR);
        assert_eq!(client.call_failing(Command(0xF0), bytes), ErrorCode::UnknownCommand);
        client.request_v2(Command::ECHO, &extension(0xFF, bytes.get(..9).unwrap_or(bytes)), bytes);
        assert_eq!(client.frame().cmd, Command::ERROR);
        client.send(&frame(0, Command::ECHO, bytes)); // a sequence number that does not follow
        client.expect_end(0, ErrorCode::BadSequence);
        let mut stranger = Client::connect(process.address);
        stranger.send(&frame_v2(1, Command::AUTH, &extension(extension_type::RESUME, &[bytes[0]; 16]), bytes));
        stranger.expect_ready(1);
    }
    let exit = drained(process);
    let lines = lines(&exit.stderr);
    assert!(lines.iter().all(|line| line["service_id"] == "gate-\"1\""));
    let access: Vec<_> = of_target(&lines, "tidegate::access").collect();
    let failed = |code: &str| access.iter().filter(|line| line["code"] == code).count();
    // The longest is no key.
    let found = ["NOT_FOUND", "BAD_REQUEST", "UNKNOWN_COMMAND", "UNSUPPORTED_EXTENSION", "BAD_SEQUENCE"].map(failed);
    assert_eq!(found, [5, 1, 6, 6, 6], "{access:#?}");
    let traced = access.iter().find(|line| line["cmd"] == "SESSION_GET").unwrap();
    assert_eq!((&traced["trace_id"], &traced["span_id"]), (&"22".repeat(16).into(), &"22".repeat(8).into()));
    let closed: Vec<_> = lines.iter().filter(|line| line["message"] == "connection closed").collect();
    assert!(
        closed.iter().any(|line| line["cause"] == "bad_sequence" && line["principal"] == "anonymous"),
        "{closed:#?}"
    );
}

#[test]
fn access_lines_add_up_to_the_ledger_and_tell_whose_requests_they_are() {
    let settings = [("LOG_FORMAT", "json"), ("ACCESS_LOG_RATE", "20"), ("WORKERS", "1"), ("DRAIN_NOTICE_MS", "20")];
    let process = Process::serve(&settings);
    let (mut client, ready) = Client::ready(process.address);
    let peer = client.stream.local_addr().unwrap().to_string();
    (0..500).for_each(|_| client.assert_alive());
    let pipelined: Vec<u8> = (1..=500).flat_map(|n| frame(client.seq + n, Command::ECHO, b"12345678")).collect();
    client.send(&pipelined);
    (0..500).for_each(|_| assert_eq!(client.frame().payload, b"12345678"));
    drop(client);
    let exit = drained(process);
    let lines = lines(&exit.stderr);
    let access: Vec<_> = of_target(&lines, "tidegate::access").collect();
    let requests: u64 = access.iter().map(|line| line["requests"].as_u64().unwrap()).sum();
    assert_eq!((requests, accepted(&exit.stdout)), (1_001, 1_001), "{access:#?}");
    assert!(access.len() < 500, "the rate is kept: {}", access.len());
    let auth = access.iter().find(|line| line["cmd"] == "AUTH").unwrap();
    let whose = (&auth["worker"], &auth["session"], &auth["principal"], &auth["peer"]);
    assert_eq!(whose, (&0.into(), &log_name(&ready.session).into(), &"anonymous".into(), &peer.into()));
    assert_eq!((&auth["outcome"], &auth["bytes_in"], &auth["seq"]), (&"answered".into(), &9.into(), &1.into()));
    assert!(auth["duration_us"].is_u64() && auth["connection"].is_u64() && auth["bytes_out"].as_u64() > Some(9));
}

#[test]
fn without_a_rate_there_is_no_access_line() {
    let process = Process::serve(&[("LOG", "trace"), ("DRAIN_NOTICE_MS", "20")]);
    let (mut client, _) = Client::ready(process.address);
    client.assert_alive();
    drop(client);
    let exit = drained(process);
    assert!(!exit.stderr.contains("tidegate::access"), "{}", exit.stderr);
}

#[test]
fn a_flood_of_one_complaint_is_limited_and_counted_before_the_ledger_is_said() {
    let settings = [
        ("LOG_FORMAT", "json"),
        ("LOG_BURST", "5"),
        ("LOG_INTERVAL_MS", "3600000"),
        ("WORKERS", "1"),
        ("CORE_MAX_CONNECTIONS", "1"),
        ("DRAIN_NOTICE_MS", "20"),
    ];
    // Both to one place, to see what comes first.
    let process = Process::start(Process::command_under_shell("exec 2>&1"), &settings);
    let (client, _) = Client::ready(process.address);
    for _ in 0..300 {
        let mut turned_away = Client::connect(process.address);
        assert_eq!(turned_away.expect_error(0).0, ErrorCode::Overloaded);
    }
    drop(client);
    let exit = drained(process);
    let (before, _) = exit.stdout.split_once("\nNothing was lost").expect("the ledger is the last word");
    let lines: Vec<Value> = before.lines().filter(|line| line.starts_with('{')).map(parse).collect();
    let complaints = lines.iter().filter(|line| line["message"].as_str().unwrap().contains("is turned away"));
    assert_eq!(complaints.count(), 5, "{lines:#?}");
    let more = lines.iter().find(|line| line["suppressed"].is_u64()).unwrap();
    assert_eq!(
        (&more["suppressed"], &more["level"], &more["target"]),
        (&295.into(), &"WARN".into(), &"tidegate::reactor::gate".into())
    );
    assert!(more["message"].as_str().unwrap().starts_with("… 295 more like this in "), "{more}");
}

/// Standard error is a pipe that nobody reads.
fn unread(dir: &std::path::Path, settings: &[(&str, &str)]) -> (Process, std::path::PathBuf) {
    let pipe = dir.join("stderr");
    // Open in both directions, as an end of its own keeps a pipe from being broken.
    let first = format!("mkfifo '{0}'; exec 2<>'{0}'", pipe.display());
    (Process::start(Process::command_under_shell(&first), settings), pipe)
}

/// Has more logged than a pipe and the queue before it hold.
fn fill(process: &Process) {
    let (mut client, _) = Client::ready(process.address);
    let before = metric(process, "requests_total");
    for _ in 0..40_000 {
        client.assert_alive();
    }
    assert!(metric(process, "requests_total") >= before + 40_000);
}

const EVERY_REQUEST: [(&str, &str); 4] =
    [("LOG_FORMAT", "json"), ("ACCESS_LOG_RATE", "1000000"), ("WORKERS", "1"), ("DRAIN_NOTICE_MS", "20")];

#[test]
fn a_standard_error_that_nobody_reads_holds_up_neither_requests_nor_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (process, pipe) = unread(dir.path(), &EVERY_REQUEST);
    fill(&process);
    let exit = drained(process);
    assert!(exit.stdout.contains("Nothing was lost"), "{exit:?}");
    drop(pipe);
}

#[test]
fn what_was_dropped_is_counted_and_told_once_somebody_reads_again() {
    let dir = tempfile::tempdir().unwrap();
    let (process, pipe) = unread(dir.path(), &EVERY_REQUEST);
    fill(&process);
    let requests = metric(&process, "requests_total");
    let reader = BufReader::new(fs::File::open(pipe).unwrap());
    let (mut printed, mut dropped) = (0, 0);
    for line in reader.lines() {
        let line = parse(&line.unwrap());
        printed += u64::from(line["target"] == "tidegate::access");
        dropped += line["dropped"].as_u64().unwrap_or(0);
        if dropped > 0 && printed + dropped >= requests {
            break;
        }
    }
    assert_eq!(printed + dropped, requests, "{printed} printed, {dropped} dropped");
    until("it serves on", || Client::ready(process.address).0.call(Command::ECHO, b"x") == b"x");
    drop(process);
}

#[test]
fn a_reload_changes_filter_and_rates() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidegate.env");
    fs::write(&file, "TIDEGATE_LOG=info\n").unwrap();
    let args = ["--env-file", file.to_str().unwrap()];
    let data = dir.path().join("data");
    let settings = [("LOG_FORMAT", "json"), ("DATA_DIR", data.to_str().unwrap()), ("DRAIN_NOTICE_MS", "20")];
    let process = Process::start_with(Process::command(), &args, &settings);
    drop(Client::ready(process.address));
    fs::write(&file, "TIDEGATE_LOG=debug\nTIDEGATE_ACCESS_LOG_RATE=10\n").unwrap();
    process.signal(Signal::HUP);
    until("the reload is recorded", || audit(&data).iter().any(|line| line["event_type"] == "reload"));
    drop(Client::ready(process.address));
    let exit = drained(process);
    let lines = lines(&exit.stderr);
    assert!(of_target(&lines, "tidegate::access").next().is_some(), "{lines:#?}");
    assert!(lines.iter().any(|line| line["message"] == "connection accepted"), "{lines:#?}");
}

#[test]
fn a_filter_a_format_or_a_rate_that_is_none_is_named_and_nothing_is_bound() {
    for (name, value) in [("LOG", "loud"), ("LOG_FORMAT", "xml"), ("LOG_BURST", "-1"), ("ACCESS_LOG_RATE", "all")] {
        let variable = format!("TIDEGATE_{name}");
        let output = Process::command().arg("serve").env(&variable, value).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with(&format!("error: {variable}={value:?}: expected ")), "{stderr}");
    }
}

#[test]
fn what_keeps_it_from_starting_is_json_too() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Process::command();
    command.arg("serve").env("TIDEGATE_LISTEN", &address).env("TIDEGATE_ADMIN", "off").env("TIDEGATE_CPUS", "off");
    let output = command.env("TIDEGATE_LOG_FORMAT", "json").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&String::from_utf8(output.stderr).unwrap());
    let last = lines.last().unwrap();
    assert!(last["level"] == "ERROR" && last["message"].as_str().unwrap().contains(&address), "{last}");
}

/// Not a test of its own: what the next one runs in a process that it may take down.
#[test]
#[ignore = "run by a_panic_is_a_line_like_any_other_even_the_last_one"]
fn panics_until_nothing_is_left() {
    struct PanicsAgain;
    impl Drop for PanicsAgain {
        fn drop(&mut self) {
            panic!("the last word");
        }
    }
    let config = Config { log_format: LogFormat::Json, service_id: "gate-1".to_owned(), ..Config::default() };
    let _logs = tidegate::logging::start(&config).unwrap();
    let worker = std::thread::Builder::new().name("worker-7".to_owned());
    worker.spawn(|| panic!("a \"quoted\"\nword")).unwrap().join().unwrap_err();
    let _again = PanicsAgain;
    panic!("the word before");
}

#[test]
fn a_panic_is_a_line_like_any_other_even_the_last_one() {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "logs::panics_until_nothing_is_left", "--ignored", "--nocapture"]);
    let output = command.env_remove("RUST_BACKTRACE").output().unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = stderr.lines().filter(|line| line.starts_with('{')).map(parse).collect();
    let of = |text: &str| lines.iter().find(|line| line["message"].as_str().unwrap().ends_with(text)).expect(&stderr);
    let first = of(": a \"quoted\"\nword");
    assert_eq!((&first["level"], &first["worker"], &first["thread"]), (&"ERROR".into(), &7.into(), &"worker-7".into()));
    assert!(first["location"].as_str().unwrap().starts_with("tests/it/logs.rs:"), "{first}");
    of(": the word before");
    of(": the last word");
}
