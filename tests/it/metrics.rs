//! What `/metrics` tells, and that it is true.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tidegate::config::{Config, Core};
use tidegate::proto::{Command, ErrorCode, GoAwayReason, GoAwayStage};
use tidegate::server::{Builder, Server};
use tidegate::service::Failure;
use tidegate::stats::{Cause, Label};

use crate::ends::{assert_connections_add_up, until_closed};
use crate::support::{Client, Latch, Metrics, config, get, on_worker, start, until};

const ADDS: Command = Command(0x20);
const FAILS: Command = Command(0x21);
/// On the pool, held by the latch.
pub const SLOW: Command = Command(0x22);
const LATER: Command = Command(0x23);

/// With an admin port.
fn watched(config: Config) -> Config {
    Config { admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..config }
}

/// A server with an admin port.
pub fn serve(config: Config, build: impl FnOnce(Builder) -> Builder) -> (Server, SocketAddr) {
    start(watched(config), build)
}

/// What it tells.
pub fn metrics(server: &Server) -> Metrics {
    let (status, page) = get(server.admin_addr().unwrap(), "/metrics");
    assert_eq!(status, 200, "{page}");
    Metrics::read(&page)
}

/// Handlers that answer at once, never well, and when the latch lets them.
pub fn application(latch: &Latch) -> impl FnOnce(Builder) -> Builder + use<> {
    let (held, held_later) = (latch.clone(), latch.clone());
    move |builder| {
        builder
            .route(ADDS.0, |request, responder| responder.reply(&[request.payload().iter().sum()]))
            .route(FAILS.0, |_, responder| responder.fail(Failure::of(ErrorCode::NotFound)))
            .route_blocking(SLOW.0, move |_, responder| {
                held.pass();
                responder.reply(b"");
            })
            .route(LATER.0, move |_, responder| {
                let (later, held) = (responder.defer().unwrap(), held_later.clone());
                std::thread::spawn(move || {
                    held.pass();
                    later.reply(b"");
                });
            })
    }
}

#[test]
fn the_page_keeps_the_format_and_its_numbers_are_what_was_done() {
    let latch = Latch::new();
    let (server, address) = serve(config(), application(&latch));
    let fresh = metrics(&server);
    let (mut client, _) = Client::ready(address);
    for n in 0..5 {
        client.call(Command::ECHO, &[n; 100]);
    }
    let seq = client.request(Command::PING, b"");
    client.expect_reply(seq, Command::PONG);
    client.call(Command::SESSION_PUT, b"\x01kv");
    assert_eq!(client.call_failing(Command::SESSION_GET, b"x"), ErrorCode::NotFound);
    client.call(ADDS, &[1, 2]);
    assert_eq!(client.call_failing(FAILS, b""), ErrorCode::NotFound);
    assert_eq!(client.call_failing(Command(0x77), b""), ErrorCode::UnknownCommand);
    let slow = [client.request(SLOW, b""), client.request(LATER, b"")];
    latch.wait_for(2);
    let busy = metrics(&server);
    assert_eq!((busy.sum("tidegate_requests_in_flight", &[]), busy.sum("tidegate_pending", &[])), (2.0, 2.0));
    let pool = ["threads", "busy_threads", "queued"].map(|what| busy.sum(&format!("tidegate_pool_{what}"), &[]));
    assert_eq!(pool, [4.0, 1.0, 0.0]);
    latch.open();
    let mut seqs = [client.frame().seq, client.frame().seq];
    seqs.sort_unstable();
    assert_eq!(seqs, slow);
    let seq = client.request(Command::BYE, b"");
    client.expect_reply(seq, Command::BYE);
    client.expect_eof();
    drop(client);
    until_closed(&server, Cause::Bye, 1);
    let page = metrics(&server);
    let requests = |cmd, outcome| page.sum("tidegate_requests_total", &[("cmd", cmd), ("outcome", outcome)]);
    for (cmd, answered, failed) in [
        ("AUTH", 1.0, 0.0),
        ("ECHO", 5.0, 0.0),
        ("PING", 1.0, 0.0),
        ("BYE", 1.0, 0.0),
        ("SESSION_PUT", 1.0, 0.0),
        ("SESSION_GET", 0.0, 1.0),
        ("SESSION_DELETE", 0.0, 0.0),
        ("0x20", 1.0, 0.0),
        ("0x21", 0.0, 1.0),
        ("0x22", 1.0, 0.0),
        ("0x23", 1.0, 0.0),
        ("other", 0.0, 1.0),
    ] {
        assert_eq!((requests(cmd, "answered"), requests(cmd, "failed")), (answered, failed), "{cmd}");
    }
    let errors = |code| page.sum("tidegate_request_errors_total", &[("code", code)]);
    assert_eq!((errors("NOT_FOUND"), errors("UNKNOWN_COMMAND"), errors("INTERNAL")), (2.0, 1.0, 0.0));
    assert_eq!(page.sum("tidegate_frames_in_total", &[]), 15.0);
    assert_eq!(page.sum("tidegate_frames_out_total", &[]), 15.0);
    for (cmd, place) in [("0x20", "worker"), ("0x21", "worker"), ("0x22", "pool"), ("0x23", "worker")] {
        assert_eq!(page.sum("tidegate_handler_seconds_count", &[("cmd", cmd), ("place", place)]), 1.0, "{cmd}");
    }
    assert_eq!(page.series(), fresh.series(), "what may be there is there from the beginning");
    assert_eq!(page.sum("tidegate_ledger_unbalanced_requests", &[]), 0.0);
    assert_connections_add_up(&server);
}

#[test]
fn a_handlers_time_is_from_its_call_to_its_answer_wherever_it_runs() {
    const HELD: Duration = Duration::from_millis(30);
    let latch = Latch::new();
    let (server, address) = serve(config(), application(&latch));
    let (mut client, _) = Client::ready(address);
    for cmd in [SLOW, LATER] {
        latch.close();
        let arrived = latch.arrived();
        let seq = client.request(cmd, b"");
        latch.wait_for(arrived + 1);
        std::thread::park_timeout(HELD); // what is measured, and at least that
        latch.open();
        client.expect_reply(seq, cmd);
        let name = cmd.to_string();
        let labels = [("cmd", name.as_str())];
        let page = metrics(&server);
        assert!(page.sum("tidegate_handler_seconds_sum", &labels) >= 0.02, "{cmd}");
        let below = [("cmd", name.as_str()), ("le", "0.01")];
        assert_eq!(page.sum("tidegate_handler_seconds_bucket", &below), 0.0, "{cmd}");
    }
}

#[test]
fn labels_stay_the_same_whatever_clients_send() {
    let (server, address) = serve(config(), application(&Latch::new()));
    let fresh = metrics(&server);
    for cmd in (0..=255).map(Command).filter(|cmd| ![SLOW, LATER].contains(cmd)) {
        for first in [false, true] {
            let mut client = Client::connect(address);
            if !first {
                client.auth(b"");
            }
            client.request(cmd, b"\xff\"\\\n{} 1");
            client.half_close();
            client.rest();
        }
    }
    let total = || server.stats().iter().map(|stats| stats.requests.sum()).map(|(a, f)| a + f).sum::<u64>();
    let page = metrics(&server);
    assert_eq!(page.series(), fresh.series());
    let served = ["AUTH", "PING", "BYE", "ECHO", "SESSION_GET", "SESSION_PUT", "SESSION_DELETE", "SUBMIT"];
    let routed = ["0x20", "0x21", "0x22", "0x23", "other"];
    let expected: BTreeSet<String> = served.iter().chain(&routed).map(|cmd| (*cmd).to_owned()).collect();
    assert_eq!(page.labels("tidegate_requests_total", "cmd"), expected);
    // 0x10 to 0xFF, each behind AUTH and each in its place, without those that have a name above.
    let other = 2 * (0xF0 - 5 - 4);
    assert_eq!(page.sum("tidegate_requests_total", &[("cmd", "other")]), f64::from(other));
    assert!(total() > 0 && page.sum("tidegate_requests_total", &[]) == total() as f64);
}

#[test]
fn a_drain_can_be_watched_phase_by_phase() {
    let latch = Latch::new();
    let (server, _) = serve(config(), application(&latch));
    let in_phase = |page: &Metrics, phase| page.sum("tidegate_drain_phase", &[("phase", phase)]);
    let mut client = on_worker(&server, 0);
    client.auth(b"");
    client.request(SLOW, b"");
    latch.wait_for(1);
    let page = metrics(&server);
    assert_eq!((in_phase(&page, "serving"), page.sum("tidegate_draining", &[])), (2.0, 0.0));
    assert_eq!(page.sum("tidegate_ready", &[]), 1.0);
    server.drain();
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    until("one finishes, the other has nothing left", || {
        let page = metrics(&server);
        in_phase(&page, "finish") == 1.0 && in_phase(&page, "persist") == 1.0
    });
    let page = metrics(&server);
    assert_eq!(page.sum("tidegate_drain_phase", &[]), 2.0, "each worker is in one phase");
    assert_eq!((page.sum("tidegate_draining", &[]), page.sum("tidegate_ready", &[])), (1.0, 0.0));
    assert_eq!(page.sum("tidegate_drain_connections_at_begin", &[]), 1.0);
    assert_eq!((page.sum("tidegate_connections_open", &[]), page.sum("tidegate_requests_in_flight", &[])), (1.0, 1.0));
    let [elapsed, left] = ["elapsed", "left"].map(|what| page.sum(&format!("tidegate_drain_{what}_seconds"), &[]));
    assert!(elapsed > 0.0 && left > 0.0 && elapsed + left <= 15.001, "{elapsed} and {left}");
    let view = server.overview().drain.unwrap();
    let done: Vec<&str> = view.phases.iter().map(|(phase, _)| phase.name()).collect();
    assert_eq!((view.phase.name(), done), ("finish", vec!["announce", "gate", "notice"]));
    latch.open();
    client.frame();
    client.expect_eof();
    drop(client);
    assert!(server.wait().ledger.clean());
}

#[test]
fn a_worker_that_a_handler_holds_up_is_unhealthy_until_it_is_let_go() {
    let latch = Latch::new();
    let held = latch.clone();
    let config = Config { health_limit: Duration::from_millis(300), ..config() };
    let (server, _) = serve(config, |b| {
        b.route(ADDS.0, move |_, responder| {
            held.pass();
            responder.reply(b"");
        })
    });
    let health = || get(server.admin_addr().unwrap(), "/healthz");
    let mut client = on_worker(&server, 1);
    client.auth(b"");
    let seq = client.request(ADDS, b"");
    latch.wait_for(1);
    until("it is told", || health().0 == 503);
    let why = health().1;
    assert!(why.starts_with("worker 1 has not turned its loop for ") && why.contains("TIDEGATE_HEALTH_LIMIT_MS=300"));
    let ready = get(server.admin_addr().unwrap(), "/readyz");
    assert!(ready.0 == 503 && ready.1.starts_with("worker 1 has not turned"), "{ready:?}");
    let page = metrics(&server);
    assert_eq!((page.sum("tidegate_healthy", &[]), page.sum("tidegate_ready", &[])), (0.0, 0.0));
    assert!(page.sum("tidegate_worker_last_tick_age_seconds", &[("worker", "1")]) > 0.3);
    latch.open();
    client.expect_reply(seq, ADDS);
    until("it is told", || health().0 == 200);
}

#[test]
fn workers_with_nothing_to_do_stay_healthy() {
    let config = Config { health_limit: Duration::from_secs(2), ..config() };
    let (server, _) = serve(config, |b| b);
    let ticks = || server.stats().iter().map(|stats| stats.ticks.get()).min().unwrap();
    let begin = ticks();
    // Half a second apart: for longer than the limit.
    until("they have turned", || {
        assert_eq!(server.healthy(), Ok(()));
        ticks() >= begin + 6
    });
}

#[test]
fn what_a_worker_may_have_is_shown_for_each() {
    let own = Core { read_budget: 4_096, ..Core::default() };
    let (server, _) = serve(Config { cores: [(1, own)].into(), ..config() }, |b| b);
    let page = metrics(&server);
    let setting = |name, worker| page.sum("tidegate_setting", &[("name", name), ("worker", worker)]);
    assert_eq!((setting("read_budget", "0"), setting("read_budget", "1")), (262_144.0, 4_096.0));
    assert_eq!(setting("max_connections", "0"), 1_000.0);
    assert_eq!(page.sum("tidegate_connection_slots", &[("worker", "0")]), 1_256.0);
}

#[test]
fn a_workers_time_is_all_accounted_for() {
    let (server, address) = serve(Config { workers: 1, ..config() }, |b| b);
    let begun = std::time::Instant::now();
    let (mut client, _) = Client::ready(address);
    while begun.elapsed() < Duration::from_millis(300) {
        client.call(Command::ECHO, &[1; 1_000]);
    }
    let page = metrics(&server);
    let step = |step| page.sum("tidegate_worker_step_seconds_total", &[("step", step)]);
    for of in ["poll", "read", "handle", "flush", "other"] {
        assert!(step(of) > 0.0, "{of}: {page:?}");
    }
    let age = page.sum("tidegate_worker_last_tick_age_seconds", &[]);
    let told = page.sum("tidegate_worker_step_seconds_total", &[]);
    // What is not shared out yet is of the last 64 ticks, or of 100 ms.
    assert!(told + age > 0.15 && told < begun.elapsed().as_secs_f64() + 0.1, "{told} s");
    assert!(page.sum("tidegate_worker_cpu_seconds_total", &[]) >= 0.0);
}
