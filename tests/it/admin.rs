//! What an operator sees and does at the admin port of a real server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tidegate::config::{AdminAuth, AuthMode, Config, Secret};
use tidegate::proto::{Command, GoAwayReason, GoAwayStage, SessionId};
use tidegate::server::Server;

use crate::support::{Client, Latch, PATIENCE, Process, audit, config, get, on_worker, post, start, until};

const TOKEN: &str = "correct-horse-battery";

fn watched() -> Config {
    Config { admin: Some("127.0.0.1:0".parse().unwrap()), ..config() }
}

fn json(admin: SocketAddr, path: &str) -> Value {
    let (status, body) = get(admin, path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn hex(session: SessionId) -> String {
    session.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends these bytes and reads until the server closes.
fn raw(admin: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn admin(server: &Server) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.admin_addr().unwrap().port()))
}

#[test]
fn status_has_the_documented_keys_and_the_servers_own_numbers() {
    let config = Config { service_id: "gate-7".to_owned(), ..watched() };
    let (server, address) = start(config, |builder| builder);
    let (mut client, _) = Client::ready(address);
    for _ in 0..41 {
        client.assert_alive();
    }
    let status = json(admin(&server), "/status");
    assert_eq!((&status["service_id"], &status["version"]), (&"gate-7".into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!((&status["pid"], &status["listen"][0]), (&std::process::id().into(), &address.to_string().into()));
    assert!(status["features"].as_array().unwrap().contains(&"admin".into()) && status["commit"].is_string());
    let [started, now] = ["started", "now"].map(|key| humantime::parse_rfc3339(status[key].as_str().unwrap()).unwrap());
    assert!(started <= now && status["uptime_s"].as_f64().unwrap() >= 0.0);
    assert_eq!((&status["ready"]["ok"], &status["healthy"]["ok"]), (&true.into(), &true.into()));
    assert_eq!((&status["totals"]["accepted"], &status["totals"]["answered"]), (&42.into(), &42.into()));
    let workers = status["workers"].as_array().unwrap();
    let sum: u64 = workers.iter().map(|worker| worker["stats"]["answered"].as_u64().unwrap()).sum();
    assert_eq!((workers.len(), sum, &workers[1]["worker"]), (2, 42, &1.into()));
    assert_eq!(status["totals"]["connections_open"], 1);
    let echo = status["requests"].as_array().unwrap().iter().find(|of| of["name"] == "ECHO").unwrap();
    assert_eq!((&echo["cmd"], &echo["answered"], &echo["failed"]), (&"0x10".into(), &41.into(), &0.into()));
    assert_eq!((&workers[0]["alive"], &workers[0]["phase"]), (&true.into(), &"serving".into()));
    assert!(workers[0]["last_tick_ms_ago"].is_u64() && workers[0]["seconds"]["poll"].is_f64(), "{}", workers[0]);
    for (group, causes) in [
        ("refusals", ["limit", "draining", "auth_failed"]),
        ("faults", ["idle", "malformed", "bad_sequence"]),
        ("cuts", ["slow_consumer", "drain_deadline", "second_signal"]),
        ("errors", ["OVERLOADED", "INTERNAL", "UNKNOWN_COMMAND"]),
    ] {
        assert!(causes.iter().all(|cause| status[group][cause] == 0), "{group}: {}", status[group]);
    }
    let (bounds, counts) = (&status["latency"]["bounds_s"], &status["latency"]["counts"]);
    assert_eq!(bounds.as_array().unwrap().len() + 1, counts.as_array().unwrap().len());
    assert_eq!((&status["pool"]["threads"], &status["pool"]["busy"]), (&4.into(), &0.into()));
    #[cfg(target_os = "linux")]
    assert!(["rss_bytes", "open_fds", "cpu_seconds"].iter().all(|key| status["process"][key].as_f64() > Some(0.0)));
    let drain = &status["drain"];
    assert_eq!((&drain["phase"], &drain["reason"], &drain["left_ms"]), (&"serving".into(), &Value::Null, &Value::Null));
    assert_eq!((&drain["ledger"]["accepted"], &drain["ledger"]["balanced"]), (&42.into(), &true.into()));
}

#[test]
fn status_follows_a_drain_and_its_ledger_adds_up_at_every_look() {
    let latch = Latch::new();
    let held = latch.clone();
    let config = Config { drain_notice: Duration::ZERO, ..watched() };
    let (server, address) = start(config, |builder| {
        builder.route_blocking(0x20, move |_, responder| {
            held.pass();
            responder.reply(b"");
        })
    });
    let admin = admin(&server);
    let (mut client, _) = Client::ready(address);
    let (other, _) = Client::ready(address);
    let seq = client.request(Command(0x20), b"");
    latch.wait_for(1);
    server.drain();
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    drop(other);
    let look = || json(admin, "/status");
    until("one has gone", || look()["drain"]["connections_left"] == 1);
    let status = look();
    let drain = &status["drain"];
    assert_eq!((&drain["phase"], &drain["reason"]), (&"finish".into(), &"embedder".into()));
    assert_eq!((&status["ready"]["ok"], &status["healthy"]["ok"]), (&false.into(), &true.into()));
    assert_eq!((&drain["connections_at_begin"], &drain["requests_in_flight"]), (&2.into(), &1.into()));
    assert!(drain["left_ms"].as_u64() <= Some(15_000) && drain["begun"].is_string(), "{drain}");
    assert!(drain["phases"]["gate_ms"].is_u64() && drain["phases"]["finish_ms"].is_null(), "{drain}");
    let count = |name: &str| drain["ledger"][name].as_u64().unwrap();
    assert_eq!((count("accepted"), count("answered"), count("in_flight")), (3, 2, 1));
    latch.open();
    client.expect_reply(seq, Command(0x20));
    drop(client);
    assert!(server.wait().ledger.clean());
}

#[test]
fn connections_show_who_is_there_and_are_filtered_and_limited() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    let made = ["alice", "b\u{e9}/+&b"].map(|name| tidegate::auth::generate_token(name).unwrap());
    std::fs::write(&tokens, made.iter().map(|(_, line)| format!("{line}\n")).collect::<String>()).unwrap();
    let config = Config { auth: AuthMode::Tokens(tokens), ..watched() };
    let latch = Latch::new();
    let held = latch.clone();
    let (server, address) = start(config, |builder| {
        builder.route_blocking(0x20, move |_, responder| {
            held.pass();
            responder.reply(b"");
        })
    });
    let admin = admin(&server);
    let mut clients: Vec<(Client, SessionId)> = Vec::new();
    for (token, count) in [(&made[0].0, 3), (&made[1].0, 2)] {
        for _ in 0..count {
            let mut client = Client::connect(address);
            let session = client.auth(token.as_bytes()).session;
            clients.push((client, session));
        }
    }
    let silent = Client::connect(address);
    clients[0].0.request(Command(0x20), b"");
    latch.wait_for(1);
    until("all are accepted", || json(admin, "/status")["totals"]["connections_open"] == 6);

    let all = json(admin, "/connections");
    assert_eq!((&all["complete"], all["connections"].as_array().unwrap().len()), (&true.into(), 6));
    let row = |session: SessionId| {
        let rows = all["connections"].as_array().unwrap();
        rows.iter().find(|row| row["session"] == hex(session)).unwrap().clone()
    };
    let first = row(clients[0].1);
    assert_eq!(
        (&first["principal"], &first["in_flight"], &first["state"]),
        (&"alice".into(), &1.into(), &"ready".into())
    );
    assert_eq!(first["peer"], clients[0].0.stream.local_addr().unwrap().to_string());
    assert_eq!((&first["queued_bytes"], &first["heartbeat_ms"]), (&0.into(), &30_000.into()));
    assert!(first["idle_s"].as_f64().unwrap() < PATIENCE.as_secs_f64());
    let nobody = all["connections"].as_array().unwrap().iter().find(|row| row["principal"].is_null()).unwrap().clone();
    assert_eq!((&nobody["state"], &nobody["session"]), (&"auth".into(), &Value::Null));

    let alices = json(admin, "/connections?principal=alice");
    assert!(alices["connections"].as_array().unwrap().iter().all(|row| row["principal"] == "alice"));
    assert_eq!((&alices["complete"], alices["connections"].as_array().unwrap().len()), (&true.into(), 3));
    let others = json(admin, "/connections?principal=b%C3%A9%2F+%26b");
    assert_eq!(others["connections"].as_array().unwrap().len(), 2);
    assert_eq!(json(admin, "/connections?principal=ali")["connections"], serde_json::json!([]));
    let two = json(admin, "/connections?limit=2");
    assert_eq!((&two["truncated"], &two["complete"]), (&true.into(), &false.into()));
    assert_eq!(two["connections"].as_array().unwrap().len(), 2);
    let exact = json(admin, "/connections?limit=6");
    assert_eq!((&exact["truncated"], &exact["complete"]), (&false.into(), &true.into()));
    latch.open();
    drop((silent, clients));
}

#[test]
fn more_connections_than_a_slice_holds_are_all_listed() {
    // Each takes the room of several in a worker's slice: these take more than one.
    let (server, address) = start(Config { workers: 1, ..watched() }, |builder| builder);
    let clients: Vec<Client> = (0..600).map(|_| Client::connect(address)).collect();
    until("all are accepted", || json(admin(&server), "/status")["totals"]["connections_open"] == 600);
    let found = server.connections(None, 10_000, PATIENCE);
    assert_eq!((found.connections.len(), found.truncated, found.silent.len()), (600, false, 0));
    let mut peers: Vec<_> = found.connections.iter().filter_map(|(_, info)| info.peer).collect();
    peers.sort_unstable();
    let mut ours: Vec<_> = clients.iter().map(|client| client.stream.local_addr().unwrap()).collect();
    ours.sort_unstable();
    assert_eq!(peers, ours);
}

#[test]
fn a_disconnected_client_is_answered_and_told_that_an_operator_did_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { data_dir: Some(dir.path().to_owned()), ..watched() };
    let latch = Latch::new();
    let held = latch.clone();
    let (server, _) = start(config, |builder| {
        builder.route_blocking(0x20, move |_, responder| {
            held.pass();
            responder.reply(b"done");
        })
    });
    let admin = admin(&server);
    let mut client = on_worker(&server, 0);
    let session = client.auth(b"").session;
    let seq = client.request(Command(0x20), b"");
    latch.wait_for(1);
    let path = format!("/disconnect/{}", hex(session));
    let (status, body) = post(admin, &path);
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &told["told"], &told["worker"]), (202, &true.into(), &0.into()), "{told}");
    assert_eq!((&told["principal"], &told["in_flight"]), (&"anonymous".into(), &1.into()));
    let last_word = client.expect_goaway(GoAwayStage::Final, GoAwayReason::Operator);
    assert_eq!(last_word.last_seq, seq);
    let (status, body) = post(admin, &path);
    let again: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &again["told"]), (202, &false.into()), "it is on its way out already");
    latch.open();
    assert_eq!(client.expect_reply(seq, Command(0x20)), b"done");
    client.expect_eof();
    let peer = client.stream.local_addr().unwrap().to_string();
    drop(client);
    until("it is gone", || post(admin, &path).0 == 404);
    let line = || audit(dir.path()).into_iter().find(|line| line["event_type"] == "disconnect");
    until("it is recorded", || line().is_some());
    let line = line().unwrap();
    assert_eq!((&line["session"], &line["principal"]), (&hex(session).into(), &"anonymous".into()));
    assert_eq!((&line["peer"], &line["worker"], &line["reason"]), (&peer.into(), &0.into(), &"operator".into()));
    assert!(line["by"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    server.drain();
    let ended = server.wait();
    assert!(ended.ledger.clean(), "{:?}", ended.ledger);
    let lines = audit(dir.path());
    assert_eq!(lines.iter().filter(|line| line["event_type"] == "disconnect").count(), 1);
}

#[test]
fn a_client_is_disconnected_wherever_its_session_lives() {
    let (server, _) = start(watched(), |builder| builder);
    let mut first = on_worker(&server, 0);
    let session = first.auth(b"").session;
    drop(first);
    let mut second = on_worker(&server, 1);
    assert!(second.resume(b"", session).resumed, "the session's home is worker 0, its connection on worker 1");
    let gone = server.disconnect(&session, PATIENCE).unwrap();
    assert_eq!((gone.info.session, gone.was_leaving), (Some(session), false));
    second.expect_goaway(GoAwayStage::Final, GoAwayReason::Operator);
    second.expect_eof();
    drop(second);
    // It is a connection that is told to go, not a session that ends.
    let mut third = on_worker(&server, 0);
    assert!(third.resume(b"", session).resumed);
    third.assert_alive();
    assert!(server.disconnect(&[7; 16], PATIENCE).is_none());
}

#[test]
fn a_worker_that_hangs_is_named_and_keeps_nobody_waiting() {
    let latch = Latch::new();
    let held = latch.clone();
    let (server, _) = start(watched(), |builder| {
        builder.route(0x20, move |_, responder| {
            held.pass();
            responder.reply(b"");
        })
    });
    let (mut busy, mut idle) = (on_worker(&server, 1), on_worker(&server, 0));
    busy.auth(b"");
    idle.auth(b"");
    busy.request(Command(0x20), b"");
    latch.wait_for(1);
    let found = server.connections(None, 100, Duration::from_millis(50));
    assert_eq!((found.silent, found.connections.len()), (vec![1], 1));
    let list = json(admin(&server), "/connections");
    assert_eq!((&list["complete"], &list["silent_workers"]), (&false.into(), &serde_json::json!([1])));
    latch.open();
}

#[test]
fn beyond_loopback_the_operators_routes_want_the_token() {
    let open: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let (server, _) = start(Config { admin: Some(open), ..config() }, |builder| builder);
    for path in ["/", "/status", "/connections"] {
        let (status, body) = get(admin(&server), path);
        assert!(status == 403 && body.contains("TIDEGATE_ADMIN_TOKEN_FILE"), "{path}: {status} {body}");
    }
    assert_eq!(post(admin(&server), "/drain").0, 403);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(admin(&server), path).0, 200, "{path}");
    }
    drop(server);
    let auth = AdminAuth::Token(Secret::new(TOKEN));
    let (server, _) = start(Config { admin: Some(open), admin_auth: auth, ..config() }, |builder| builder);
    let admin = admin(&server);
    let ask = |method: &str, path: &str, token: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: gate.example\r\nConnection: close\r\n");
        let answer = raw(admin, &format!("{head}Authorization: Bearer {token}\r\n\r\n"));
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!((get(admin, "/status").0, get(admin, "/").0), (401, 200));
    assert_eq!((ask("GET", "/status", "guess"), ask("GET", "/status", TOKEN)), (401, 200));
    assert_eq!(ask("POST", "/drain", TOKEN), 202);
    assert!(server.wait().ledger.clean());
}

#[test]
fn the_admin_token_is_rotated_with_its_file_and_a_bad_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, TOKEN).unwrap();
    let auth = AdminAuth::File(path.clone());
    let data_dir = Some(dir.path().join("data"));
    let config = Config { admin_auth: auth, watch: Duration::from_millis(10), data_dir: data_dir.clone(), ..watched() };
    let (server, _) = start(config, |builder| builder);
    let status = |token: &str| {
        let head = "GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let answer = raw(admin(&server), &format!("{head}Authorization: Bearer {token}\r\n\r\n"));
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    let replace = |text: &str, event: &str| {
        std::fs::write(path.with_extension("new"), text).unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        let dir = data_dir.as_deref().unwrap();
        until("it is looked at", || audit(dir).iter().any(|line| line["event_type"] == event));
    };
    replace("short", "reload_refused");
    assert_eq!(status(TOKEN), 200);
    replace("another-good-token\n", "reload");
    assert_eq!((status(TOKEN), status("another-good-token")), (401, 200));
}

#[test]
fn hostile_requests_are_refused_and_cost_nobody_else_anything() {
    let (server, _) = start(watched(), |builder| builder);
    let admin = admin(&server);
    let long = "x".repeat(7_000);
    for path in [
        &format!("/{long}"),
        &format!("/connections?principal={long}"),
        &format!("/disconnect/{long}"),
        "/connections?limit=%31%30%30%30%31",
        "/connections?principal=%c3%28",
        "/connections?principal=%",
        "/connections?limit=1&limit=2",
        "/../../etc/passwd",
        "/disconnect/%2e%2e",
        "//status",
    ] {
        let status = get(admin, path).0;
        assert!(matches!(status, 200 | 400 | 404 | 405), "{path}: {status}");
    }
    let too_long = raw(admin, &format!("GET /connections?principal={} HTTP/1.1\r\n\r\n", "x".repeat(9_000)));
    assert!(too_long.starts_with("HTTP/1.1 431 "), "{too_long}");
    let rebound = raw(admin, "GET /status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(rebound.starts_with("HTTP/1.1 403 ") && !rebound.contains("service_id"), "{rebound}");
    assert_eq!(get(admin, "/healthz").0, 200);
}

#[test]
fn a_bad_admin_token_is_named_before_anything_is_bound_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "tooshort-secret\n").unwrap();
    let cases = [
        ("TIDEGATE_ADMIN_TOKEN", "tooshort-secret", "TIDEGATE_ADMIN_TOKEN="),
        ("TIDEGATE_ADMIN_TOKEN_FILE", path.to_str().unwrap(), "line 1: expected an admin token"),
        ("TIDEGATE_ADMIN_TOKEN_FILE", "/nowhere/token", "cannot read the admin token from /nowhere/token"),
    ];
    for (name, value, word) in cases {
        let mut command = Process::command();
        let output = command.arg("serve").env(name, value).env("TIDEGATE_ADMIN", "127.0.0.1:0").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(word) && !stderr.contains("tooshort-secret"), "{stderr}");
    }
}
