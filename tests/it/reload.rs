//! What changes while the server runs: settings, tokens, and what is told of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tidegate::auth::generate_token;
use tidegate::config::{AuthMode, Config};
use tidegate::proto::{Command, ErrorCode, GoAwayReason, GoAwayStage};

use crate::support::{Client, Process, audit, config, post, start, until};

/// The audit log's lines about reloads, once there are this many.
fn reloads(data: &Path, count: usize) -> Vec<Value> {
    let of_reloads = |line: &Value| line["event_type"].as_str().is_some_and(|event| event.starts_with("reload"));
    let read = || audit(data).into_iter().filter(of_reloads).collect::<Vec<_>>();
    until("the reload is told of", || read().len() >= count);
    read()
}

fn refused(process: &Process, token: &str) {
    let mut client = Client::connect(process.address);
    let seq = client.request(Command::AUTH, token.as_bytes());
    client.expect_end(seq, ErrorCode::AuthFailed);
}

/// A server with this file of tokens, and a data directory, both in `dir`.
fn serve_tokens(dir: &Path, tokens: &str, watch_ms: &str) -> (Process, PathBuf, PathBuf) {
    let (file, data) = (dir.join("tokens"), dir.join("data"));
    fs::write(&file, tokens).unwrap();
    let process = Process::serve(&[
        ("AUTH", "tokens"),
        ("TOKENS_FILE", file.to_str().unwrap()),
        ("DATA_DIR", data.to_str().unwrap()),
        ("WATCH_MS", watch_ms),
    ]);
    (process, file, data)
}

/// As an agent does it: the new file takes the old one's place at once.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, file).unwrap();
}

#[test]
fn sighup_lets_new_tokens_in_and_old_ones_out_and_keeps_who_is_connected() {
    let dir = tempfile::tempdir().unwrap();
    let ((old, old_line), (new, new_line)) = (generate_token("alice").unwrap(), generate_token("bob").unwrap());
    let (process, tokens, data) = serve_tokens(dir.path(), &old_line, "0");
    let mut alice = Client::connect(process.address);
    alice.auth(old.as_bytes());
    fs::write(&tokens, new_line).unwrap();
    refused(&process, &new);
    process.signal(Signal::HUP);
    let told = reloads(&data, 1);
    assert_eq!((&told[0]["event_type"], &told[0]["reason"]), (&"reload".into(), &"signal:SIGHUP".into()));
    assert_eq!(told[0]["files"], serde_json::json!([tokens]));
    let mut bob = Client::connect(process.address);
    bob.auth(new.as_bytes());
    refused(&process, &old);
    alice.assert_alive();
    process.signal(Signal::TERM);
    alice.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    drop((alice, bob));
    assert_eq!(process.wait().code, Some(0));
}

#[test]
fn a_bad_file_is_named_and_everything_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (tokens, env, data) = (dir.path().join("tokens"), dir.path().join("gate.env"), dir.path().join("data"));
    let (token, line) = generate_token("alice").unwrap();
    fs::write(&tokens, &line).unwrap();
    fs::write(&env, "TIDEGATE_HEARTBEAT_MS=20000\n").unwrap();
    let mut command = Process::command();
    command.env("TIDEGATE_AUTH", "tokens").env("TIDEGATE_TOKENS_FILE", &tokens).env("TIDEGATE_DATA_DIR", &data);
    let process = Process::start_with(command, &["--env-file", env.to_str().unwrap()], &[("WATCH_MS", "0")]);
    let heartbeat = || Client::connect(process.address).auth(token.as_bytes()).heartbeat_ms;
    // The settings are right, the tokens are not: neither is taken over.
    fs::write(&env, "TIDEGATE_HEARTBEAT_MS=10000\n").unwrap();
    fs::write(&tokens, "alice sha256:12\n").unwrap();
    process.signal(Signal::HUP);
    let told = reloads(&data, 1);
    let error = told[0]["errors"][0].as_str().unwrap();
    assert_eq!(told[0]["event_type"], "reload_refused");
    assert!(error.contains("tokens, line 1: expected"), "{error}");
    assert_eq!(heartbeat(), 20_000);
    // The other way round.
    fs::write(&tokens, &line).unwrap();
    fs::write(&env, "TIDEGATE_HEARTBEAT_MS=10000\nTIDEGATE_LINGER_MS=never\n").unwrap();
    process.signal(Signal::HUP);
    let told = reloads(&data, 2);
    let error = told[1]["errors"][0].as_str().unwrap();
    assert!(error.starts_with("TIDEGATE_LINGER_MS=\"never\" in ") && error.contains("gate.env, line 2"), "{error}");
    assert_eq!(heartbeat(), 20_000);
    // All is well again.
    fs::write(&env, "TIDEGATE_HEARTBEAT_MS=10000\nTIDEGATE_BACKLOG=99\n").unwrap();
    process.signal(Signal::HUP);
    let told = &reloads(&data, 3)[2];
    let change =
        |setting: &str, from: &str, to: &str| serde_json::json!([{"setting": setting, "from": from, "to": to}]);
    assert_eq!(told["changed"], change("TIDEGATE_HEARTBEAT_MS", "20000", "10000"));
    assert_eq!(told["waiting"], change("TIDEGATE_BACKLOG", "4096", "99"));
    until("workers go by it", || heartbeat() == 10_000);
}

#[test]
fn a_secret_that_an_agent_replaces_is_picked_up_without_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let ((old, old_line), (new, new_line)) = (generate_token("alice").unwrap(), generate_token("bob").unwrap());
    let (process, tokens, data) = serve_tokens(dir.path(), &old_line, "20");
    replace(&tokens, &new_line);
    assert_eq!(reloads(&data, 1)[0]["reason"], "file");
    Client::connect(process.address).auth(new.as_bytes());
    refused(&process, &old);
}

#[test]
fn the_admin_port_reloads_as_a_signal_does() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::serve(&[("DATA_DIR", dir.path().to_str().unwrap())]);
    assert_eq!(post(process.admin, "/reload").0, 202);
    assert_eq!(reloads(dir.path(), 1)[0]["reason"], "admin");
}

#[test]
fn an_embedders_reload_changes_the_drain_that_comes_after_it() {
    let wanted = Config { drain_notice: Duration::from_secs(30), drain_timeout: Duration::from_secs(60), ..config() };
    let quick = Config { drain_notice: Duration::ZERO, ..config() };
    let (hook, seen) = crossbeam_channel::unbounded();
    let (server, address) = start(wanted, |builder| {
        builder.reload_from(move || Ok(quick.clone())).on_reload(move |now| hook.send(now.drain_notice).unwrap())
    });
    server.reload();
    assert_eq!(seen.recv(), Ok(Duration::ZERO));
    let (mut client, _) = Client::ready(address);
    server.drain();
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain); // no notice
    client.expect_eof();
    drop(client);
    assert!(server.wait().ledger.balanced());
}

#[test]
fn who_gets_in_is_not_changed_from_tokens_to_everybody_by_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    fs::write(&tokens, generate_token("alice").unwrap().1).unwrap();
    let strict = Config { auth: AuthMode::Tokens(tokens), ..config() };
    let (hook, seen) = crossbeam_channel::unbounded();
    let (server, address) = start(strict, |builder| {
        builder.reload_from(|| Ok(config())).on_reload(move |now| hook.send(now.auth.clone()).unwrap())
    });
    server.reload();
    assert!(matches!(seen.recv(), Ok(AuthMode::Tokens(_))));
    let mut client = Client::connect(address);
    let seq = client.request(Command::AUTH, b"");
    client.expect_end(seq, ErrorCode::AuthFailed);
}
