//! The load generator against real servers, and against some that break the protocol.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;
use tidegate::load::reading::verdict;
use tidegate::load::report::{Event, Report};
use tidegate::proto::{Command, GoAway, GoAwayReason, GoAwayStage, encode};

use crate::support::{Load, Peer, Process, fake, metric, until};

/// A server with a data directory, and the path of its audit log.
pub fn serve(dir: &TempDir, settings: &[(&str, &str)]) -> (Process, PathBuf) {
    let mut all = vec![("DATA_DIR", dir.path().to_str().unwrap()), ("DRAIN_NOTICE_MS", "100")];
    all.extend(settings);
    (Process::serve(&all), dir.path().join("audit.jsonl"))
}

/// Ends a server in good order.
pub fn end(server: Process) {
    server.signal(Signal::TERM);
    let exit = server.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

/// Runs to the end while the server is ended as soon as the load has settled, and compares with its ledger.
pub fn run_with_ledger(settings: &[(&str, &str)], args: &[&str]) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let (server, ledger) = serve(&dir, settings);
    let with_ledger = [args, &["--ledger", ledger.to_str().unwrap()]].concat();
    let mut load = Load::start(server.address, &with_ledger);
    assert!(load.line().starts_with("connected "));
    load.await_line("settled");
    end(server);
    let report = load.wait().report(0);
    check(&report);
    report
}

/// What holds for every run in which nothing went wrong.
fn check(report: &Report) {
    let account = &report.account;
    assert!(account.adds_up() && verdict(report).passes(), "{report:#?}");
    assert_eq!((account.lost, account.wrong, account.unknown, account.broken), (0, 0, 0, 0), "{report:#?}");
    if let Some(ledger) = &report.ledger {
        assert_eq!(ledger.accepted, account.answered + account.failed, "{report:#?}");
    }
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

#[test]
fn an_echo_runs_account_is_the_ledgers() {
    let report =
        run_with_ledger(&[], &["echo", "--connections", "5", "--depth", "3", "--duration", "0.4", "--warm-up", "0.1"]);
    let (account, latency) = (&report.account, report.latency.as_ref().unwrap());
    assert_eq!((report.ledger.as_ref().unwrap().ledgers, account.connections), (1, 5));
    assert_eq!(account.sent, account.answered);
    // AUTH and BYE are no measured requests, nor are those of the warm-up.
    assert!(latency.count > 0 && latency.count + 10 < account.answered, "{report:#?}");
    let told: u64 = report.timeline.iter().map(|point| point.answered).sum();
    assert_eq!(told, account.answered - 10);
    assert!(report.timeline.iter().any(|point| point.connections == 5 && point.p50 > 0));
    assert!(report.rate > 0.0 && report.duration_ms > 0);
}

#[test]
fn a_drain_and_restart_on_the_same_port_in_the_middle_loses_nothing_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (first, ledger) = serve(&dir, &[]);
    let address = first.address;
    let args = ["echo", "--connections", "6", "--depth", "4", "--duration", "5m", "--ledger", ledger.to_str().unwrap()];
    let mut load = Load::start(address, &args);
    assert_eq!(load.line(), "connected 6");
    until("echoes are answered", || metric(&first, "requests_total") > 50);
    end(first);
    let (second, _) = serve(&dir, &[("LISTEN", &address.to_string())]);
    until("all are back", || metric(&second, "connections_accepted_total") == 6);
    until("echoes are answered again", || metric(&second, "requests_total") > 50);
    load.say("stop");
    assert_eq!(load.line(), "settled");
    end(second);
    let report = load.wait().report(0);
    check(&report);
    assert_eq!((report.account.connections, report.ledger.unwrap().ledgers), (12, 2));
    assert_eq!(kinds(&report.events), ["drain", "final", "restart"]);
}

/// Bytes that wait to be read by the sockets of a port: proc_net_tcp(5).
pub fn unread(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let here = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    // Column 1 is the own address, 3 the state (01: established), 4 the queues, tx:rx.
    let open = rows.filter(|row| row[1].ends_with(&here) && row[3] == "01");
    open.map(|row| u64::from_str_radix(&row[4][9..], 16).unwrap()).sum()
}

#[test]
fn a_kill_in_the_middle_leaves_requests_unknown_and_exits_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let (server, ledger) = serve(&dir, &[]);
    let args = ["echo", "--connections", "4", "--depth", "8", "--duration", "5m", "--no-reconnect"];
    let args = [&args[..], &["--ledger", ledger.to_str().unwrap(), "--ledger-wait", "0"]].concat();
    let mut load = Load::start(server.address, &args);
    assert_eq!(load.line(), "connected 4");
    until("echoes are answered", || metric(&server, "requests_total") > 50);
    // Not in a moment in which everything happens to be answered.
    server.signal(Signal::STOP);
    until("requests wait for the server", || unread(server.address.port()) > 0);
    server.signal(Signal::KILL);
    let report = load.wait().report(1);
    assert!(report.account.adds_up() && report.account.unknown > 0, "{report:#?}");
    assert_eq!((report.account.broken, report.account.lost, report.account.wrong), (4, 0, 0));
    assert_eq!(kinds(&report.events), ["lost connection"]);
    assert!(report.ledger.unwrap().differences[0].contains("still runs"));
}

#[test]
fn a_run_that_began_without_all_its_connections_says_so() {
    let settings = [("WORKERS", "1"), ("CORE_MAX_CONNECTIONS", "5")];
    let args = ["hold", "--connections", "8", "--duration", "10ms", "--connect-timeout", "300ms"];
    let report = run_with_ledger(&settings, &args);
    assert_eq!(report.missing, 3, "{report:#?}");
    let notes = verdict(&report).notes.join(" ");
    assert!(notes.contains("3 connections were still missing when the load began."), "{notes}");
}

#[test]
fn a_storm_makes_as_many_connections_as_it_was_asked_for() {
    let report = run_with_ledger(&[], &["connect", "--connections", "16", "--total", "300", "--interval", "2m"]);
    assert_eq!((report.account.connections, report.account.sent), (300, 600));
    let connect = report.connect.unwrap();
    assert_eq!((connect.count, report.latency), (300, None));
    // It is over with its last connection, and not with the interval in which that was.
    assert!(report.duration_ms < 60_000, "{}", report.duration_ms);
    assert_eq!(report.timeline.iter().map(|point| point.answered).sum::<u64>(), 300);
    assert!(report.events.is_empty(), "{:?}", report.events);
}

#[test]
fn held_connections_answer_heartbeats_and_echo_at_the_end() {
    // Without answers it would end them after 0.6 s.
    let heartbeats = [("HEARTBEAT_MS", "100"), ("HEARTBEAT_MISSES", "5")];
    let report = run_with_ledger(&heartbeats, &["hold", "--connections", "20", "--duration", "1.2", "--echo"]);
    assert_eq!((report.account.connections, report.account.sent), (20, 60));
    assert!(report.account.heartbeats >= 20, "{report:#?}");
    assert_eq!(report.latency.unwrap().count, 20);
}

#[test]
fn connections_are_held_through_a_drain_until_the_last_is_closed_and_echo_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let (server, ledger) = serve(&dir, &[]);
    let args = ["hold", "--connections", "30", "--until-closed", "--ledger", ledger.to_str().unwrap()];
    let mut load = Load::start(server.address, &[&args[..], &["--processes", "2"]].concat());
    assert_eq!(load.line(), "connected 30");
    load.say("echo");
    assert_eq!(load.line(), "echoed 30 of 30");
    end(server);
    let report = load.wait().report(0);
    check(&report);
    assert_eq!((report.account.connections, report.account.sent), (30, 60), "AUTH and ECHO, and no BYE");
    assert_eq!(kinds(&report.events), ["drain", "final"]);
}

#[test]
fn a_mix_sends_what_its_file_has_and_absent_keys_are_no_failures() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("day.mix");
    std::fs::write(&file, "5 ECHO 0-3000\n2 SESSION_PUT 64\n2 SESSION_GET\n1 SESSION_DELETE\n1 PING 9\n1 0x20 8\n")
        .unwrap();
    let mix = ["mix", "--mix", file.to_str().unwrap(), "--connections", "3"];
    for pacing in [["--depth", "5"], ["--rate", "2000"]] {
        let report = run_with_ledger(&[], &[&mix[..], &pacing, &["--duration", "0.5"]].concat());
        // Nothing serves 0x20 here; everything else is answered.
        let (what, count) = &report.errors[0];
        assert!(what.starts_with("UNKNOWN_COMMAND to 0x20") && report.errors.len() == 1, "{:?}", report.errors);
        assert_eq!(*count, report.account.failed);
    }
}

#[test]
fn helper_processes_are_one_run() {
    let args = ["echo", "--connections", "7", "--processes", "3", "--duration", "0.5"];
    let report = run_with_ledger(&[], &args);
    assert_eq!((report.generator.processes, report.account.connections), (3, 7));
    assert!(report.timeline.iter().any(|point| point.connections == 7), "{:?}", report.timeline);
    assert_eq!(report.latency.unwrap().count + 14, report.account.answered);
}

#[test]
fn more_connections_than_one_process_may_open_are_made_by_several() {
    let server = Process::serve(&[]);
    // A program needs some descriptors of its own.
    let mut load =
        Load::start_by(Process::command_with_open_files(100), server.address, &["hold", "--connections", "80"]);
    assert_eq!(load.line(), "connected 80");
    load.say("stop");
    let report = load.wait().report(0);
    assert!(report.generator.processes > 1 && report.account.connections == 80, "{report:#?}");
}

#[test]
fn helpers_end_when_the_one_that_started_them_is_killed() {
    let server = Process::serve(&[]);
    let mut load = Load::start(server.address, &["hold", "--connections", "4", "--processes", "2", "--duration", "5m"]);
    assert_eq!(load.line(), "connected 4");
    assert_eq!(metric(&server, "connections_open"), 4);
    load.signal(Signal::KILL);
    until("the connections are gone", || metric(&server, "connections_open") == 0);
}

#[test]
fn a_token_reaches_helpers_and_a_wrong_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (token, line) = tidegate::auth::generate_token("sensor-7").unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (tokens, right, wrong) = (write("tokens", &line), write("right", &token), write("wrong", "tg_00"));
    let server = Process::serve(&[("AUTH", "tokens"), ("TOKENS_FILE", &tokens)]);
    let args = ["echo", "--connections", "2", "--processes", "2", "--duration", "0.1", "--token-file"];
    check(&Load::run(server.address, &[&args[..], &[&right]].concat()).report(0));
    let refused = Load::run(server.address, &[&args[..], &[&wrong]].concat());
    assert!(refused.code == Some(1) && refused.stderr.contains("AUTH_FAILED"), "{refused:?}");
    assert!(!refused.stderr.contains("tg_00"), "{refused:?}");
}

#[test]
fn nobody_there_is_told_and_exits_with_1() {
    let address = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let ended = Load::run(address, &["echo", "--connect-timeout", "0.1"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(&address.to_string()) && ended.stderr.contains("refused"), "{ended:?}");
}

#[test]
fn a_storm_on_nobody_is_given_up() {
    let address = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let args = ["connect", "--connections", "2", "--duration", "5m", "--connect-timeout", "0.1"];
    let report = Load::run(address, &args).report(1);
    assert!(report.account.refused > 0 && report.account.sent == 0, "{report:#?}");
}

#[test]
fn ctrl_c_ends_a_run_in_good_order() {
    let dir = tempfile::tempdir().unwrap();
    let (server, ledger) = serve(&dir, &[]);
    let args = ["echo", "--connections", "4", "--processes", "2", "--duration", "5m"];
    let mut load = Load::start(server.address, &[&args[..], &["--ledger", ledger.to_str().unwrap()]].concat());
    assert_eq!(load.line(), "connected 4");
    until("echoes are answered", || metric(&server, "requests_total") > 50);
    load.signal(Signal::INT);
    assert_eq!(load.line(), "settled");
    end(server);
    check(&load.wait().report(0));
}

/// Echoes until the client has gone, through `change`.
fn echo(peer: &mut Peer, mut change: impl FnMut(&mut Peer, u32, Vec<u8>)) {
    while let Some(frame) = peer.frame() {
        match frame.cmd {
            Command::ECHO => change(peer, frame.seq, frame.payload),
            cmd => {
                peer.send(|out| assert!(encode(out, frame.seq, cmd, &frame.payload)));
                return;
            }
        }
    }
}

fn reply(peer: &mut Peer, seq: u32, payload: &[u8]) {
    peer.send(|out| assert!(encode(out, seq, Command::ECHO, payload)));
}

#[test]
fn a_reply_with_anothers_payload_is_noticed() {
    let address = fake(|_, peer| {
        let mut held: Option<(u32, Vec<u8>)> = None;
        echo(peer, |peer, seq, payload| match held.take() {
            // Each of a pair gets the other's payload.
            Some((before, swapped)) => {
                reply(peer, before, &payload);
                reply(peer, seq, &swapped);
            }
            None => held = Some((seq, payload)),
        });
    });
    let report = Load::run(address, &["echo", "--connections", "1", "--depth", "2", "--duration", "0.2"]).report(1);
    let account = &report.account;
    assert!(account.adds_up() && account.wrong > 0 && account.lost >= account.wrong, "{report:#?}");
    assert_eq!(account.answered, 2, "AUTH and BYE");
}

#[test]
fn a_reply_to_a_request_that_was_never_sent_is_noticed() {
    let address = fake(|_, peer| echo(peer, |peer, seq, payload| reply(peer, seq.wrapping_add(9), &payload)));
    let args = ["echo", "--connections", "1", "--duration", "0.2", "--no-reconnect"];
    let report = Load::run(address, &args).report(1);
    let account = &report.account;
    assert_eq!((account.wrong, account.unknown, account.broken, account.adds_up()), (1, 1, 1, true), "{report:#?}");
}

#[test]
fn an_accepted_request_without_an_answer_is_lost_and_one_beyond_last_seq_is_sent_again() {
    let address = fake(|nth, peer| {
        if nth > 0 {
            return echo(peer, |peer, seq, payload| reply(peer, seq, &payload));
        }
        let first = peer.frame().unwrap();
        peer.frame().unwrap();
        let goaway = goaway(GoAwayStage::Final, first.seq);
        peer.send(|out| goaway.encode(out));
        peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
        while peer.frame().is_some() {}
    });
    let report = Load::run(address, &["echo", "--connections", "1", "--depth", "2", "--duration", "0.5"]).report(1);
    let account = &report.account;
    assert_eq!((account.lost, account.safe, account.unknown, account.adds_up()), (1, 1, 0, true), "{report:#?}");
    assert_eq!(kinds(&report.events), ["final", "restart"]);
}

#[test]
fn a_rate_is_kept_and_latency_counts_from_the_intended_send_also_while_reconnecting() {
    // The first connection is sent away at its first request, for 300 ms.
    let address = fake(|nth, peer| {
        let (mut sent_away, mut last_seq) = (nth > 0, 0);
        while let Some(frame) = peer.frame() {
            match frame.cmd {
                Command::GOAWAY => {
                    peer.send(|out| goaway(GoAwayStage::Final, last_seq).encode(out));
                    return;
                }
                cmd => peer.send(|out| assert!(encode(out, frame.seq, cmd, &frame.payload))),
            }
            last_seq = frame.seq;
            if !std::mem::replace(&mut sent_away, true) {
                peer.send(|out| goaway(GoAwayStage::Notice, GoAway::NO_LAST_SEQ).encode(out));
            }
            if frame.cmd == Command::BYE {
                return;
            }
        }
    });
    let report = Load::run(address, &["rate", "--rate", "100", "--connections", "1", "--duration", "1"]).report(0);
    let latency = report.latency.unwrap();
    assert_eq!(latency.count, 100, "every request of the schedule, those that had to wait among them");
    // The request that came due right after the notice had to wait for nearly all of the 300 ms, and
    // those behind it 10 ms less each: on the whole more than 3 s, however fast the rest was.
    assert!(latency.max > 200_000_000, "{latency:?}");
    assert!(latency.mean * 100.0 > 2e9, "{latency:?}");
}

fn goaway(stage: GoAwayStage, last_seq: u32) -> GoAway {
    let reason = GoAwayReason::Drain;
    GoAway { stage, reason, last_seq, deadline_ms: 1_000, reconnect_after_ms: 300, addresses: Vec::new() }
}

#[test]
fn a_report_that_cannot_be_kept_is_told_before_the_run() {
    let mut command = Process::command();
    let nowhere = Path::new("/nowhere/at/all");
    let output = command.args(["load", "echo", "--html"]).arg(nowhere).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/at/all"));
}
