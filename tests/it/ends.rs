//! How connections end, each way produced for real and counted once.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate::auth::generate_token;
use tidegate::config::{AuthMode, Config, Core};
use tidegate::proto::{Command, ErrorCode, GoAwayReason, GoAwayStage, MAGIC, extension_type};
use tidegate::server::Server;
use tidegate::stats::{Cause, Label};

use crate::metrics::{SLOW, application, metrics, serve};
use crate::support::{Client, Got, Latch, config, extension, frame, on_worker, pour, until};

/// Waits until this many connections have ended for this cause, and no other number has.
pub fn until_closed(server: &Server, cause: Cause, n: u64) {
    let closed = || server.stats().iter().map(|stats| stats.closed.of(cause).get()).sum::<u64>();
    until(cause.name(), || closed() == n);
    let labels = [("cause", cause.name()), ("kind", cause.kind().name())];
    assert_eq!(metrics(server).sum("tidegate_connections_closed_total", &labels), n as f64);
}

/// Every connection that was accepted is open, or has ended once.
pub fn assert_connections_add_up(server: &Server) {
    let page = metrics(server);
    let sum = |name| page.sum(name, &[]);
    let (accepted, open) = (sum("tidegate_connections_accepted_total"), sum("tidegate_connections_open"));
    assert_eq!(accepted, open + sum("tidegate_connections_closed_total"));
}

/// A client whose AUTH is refused.
fn refused(address: SocketAddr, token: &[u8], code: ErrorCode) {
    let mut client = Client::connect(address);
    let seq = client.request(Command::AUTH, token);
    client.expect_end(seq, code);
}

#[test]
fn whoever_is_refused_is_counted_by_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (token, line) = generate_token("alice").unwrap();
    std::fs::write(&file, line).unwrap();
    let core = Core { max_connections: 4, max_sessions: 2, ..Core::default() };
    let auth_timeout = Duration::from_millis(200);
    let (server, address) =
        serve(Config { workers: 1, auth: AuthMode::Tokens(file), core, auth_timeout, ..config() }, |b| b);
    refused(address, b"wrong", ErrorCode::AuthFailed);
    until_closed(&server, Cause::AuthFailed, 1);
    let mut silent = Client::connect(address);
    silent.expect_end(0, ErrorCode::AuthTimeout);
    drop(silent);
    until_closed(&server, Cause::AuthTimeout, 1);
    let mut hasty = Client::connect(address);
    let seq = hasty.request(Command::ECHO, b"");
    hasty.expect_end(seq, ErrorCode::AuthRequired);
    drop(hasty);
    until_closed(&server, Cause::AuthRequired, 1);
    let mut odd = Client::connect(address);
    let seq = odd.request_v2(Command::AUTH, &extension(extension_type::SESSION, &[0; 16]), token.as_bytes());
    odd.expect_end(seq, ErrorCode::BadRequest);
    drop(odd);
    until_closed(&server, Cause::AuthMalformed, 1);
    let mut ready: Vec<Client> = (0..2).map(|_| Client::connect(address)).collect();
    for client in &mut ready {
        client.auth(token.as_bytes());
    }
    refused(address, token.as_bytes(), ErrorCode::Overloaded);
    until_closed(&server, Cause::Overloaded, 1);
    assert_connections_add_up(&server);
    let stays: Vec<Client> = (0..2).map(|_| Client::connect(address)).collect();
    let mut over = Client::connect(address);
    over.expect_end(0, ErrorCode::Overloaded);
    drop((over, stays));
    until_closed(&server, Cause::Limit, 1);
    assert_connections_add_up(&server);
}

#[test]
fn whoever_is_not_ready_when_a_drain_gives_notice_is_refused_as_draining() {
    let (server, address) = serve(Config { workers: 1, linger: Duration::from_secs(9), ..config() }, |b| b);
    let (mut ready, _) = Client::ready(address);
    let mut unready = Client::connect(address);
    until("it is there", || server.stats()[0].connections_open.get() == 2);
    server.drain();
    unready.expect_end(0, ErrorCode::Draining);
    drop(unready);
    until_closed(&server, Cause::Draining, 1);
    ready.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    ready.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    ready.expect_eof();
    let stats = server.stats()[0].clone();
    drop(ready);
    assert!(server.wait().ledger.clean());
    assert_eq!((stats.closed.of(Cause::Drain).get(), stats.closed.sum()), (1, 2));
}

#[test]
fn whoever_breaks_the_protocol_is_counted_by_how() {
    let times = (Duration::from_millis(300), Duration::from_millis(100));
    let config = Config { workers: 1, max_payload: 512, frame_timeout: times.0, heartbeat: times.1, ..config() };
    let (server, address) = serve(config, |b| b);
    let broken = |bytes: &[u8], cause| {
        let (mut client, _) = Client::ready(address);
        client.send(bytes);
        client.rest();
        drop(client);
        until_closed(&server, cause, 1);
    };
    broken(b"GET / HTTP/1.1\r\n", Cause::WrongMagic);
    broken(&[MAGIC, 9, 0, 0, 0, 0, 0, 9, 0x10], Cause::UnsupportedVersion);
    broken(&frame(9, Command::READY, b""), Cause::Malformed);
    broken(&frame(0, Command::ECHO, b""), Cause::BadSequence);
    broken(&[MAGIC, 1, 0xFF, 0xFF, 0, 0, 0, 9, 0x10], Cause::TooLarge);
    broken(&frame(9, Command::ECHO, b"torn")[..5], Cause::FrameTimeout);
    broken(b"", Cause::Idle);
    assert_connections_add_up(&server);
}

#[test]
fn whoever_leaves_is_counted_by_how() {
    let (server, address) = serve(Config { workers: 1, ..config() }, |b| b);
    let (mut client, _) = Client::ready(address);
    client.half_close();
    client.expect_eof();
    until_closed(&server, Cause::Eof, 1);
    let (mut client, _) = Client::ready(address);
    client.send(&frame(0, Command::GOAWAY, b""));
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Asked);
    client.expect_eof();
    drop(client);
    until_closed(&server, Cause::GoAway, 1);
    let (client, _) = Client::ready(address);
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    until_closed(&server, Cause::Lost, 1);
    let (mut older, ready) = Client::ready(address);
    let mut newer = Client::connect(address);
    newer.resume(b"", ready.session);
    older.expect_goaway(GoAwayStage::Final, GoAwayReason::Replaced);
    older.expect_eof();
    drop(older);
    until_closed(&server, Cause::Replaced, 1);
    let session = ready.session;
    server.disconnect(&session, Duration::from_secs(20)).expect("it is there");
    newer.expect_goaway(GoAwayStage::Final, GoAwayReason::Operator);
    newer.expect_eof();
    drop(newer);
    until_closed(&server, Cause::Operator, 1);
    assert_connections_add_up(&server);
}

#[test]
fn whatever_is_cut_is_counted_by_the_cause() {
    let limits = Config {
        workers: 1,
        outbound_low: 1_024,
        outbound_high: 64 * 1024,
        slow_consumer: Duration::from_millis(100),
        linger: Duration::from_millis(100),
        ..config()
    };
    let (server, address) = serve(limits.clone(), |b| b);
    let (slow, _) = Client::ready(address);
    pour(&slow, 4_000);
    until_closed(&server, Cause::SlowConsumer, 1);
    let on = on_worker(&server, 0);
    server.panic_worker(0);
    until_closed(&server, Cause::WorkerPanic, 1);
    drop((on, slow));
    assert_connections_add_up(&server);

    let core = Core { buffer_bytes: 1 << 20, ..Core::default() };
    let (server, address) = serve(Config { core, ..limits.clone() }, |b| b);
    // Each keeps most of a frame that it does not complete.
    let torn: Vec<Client> = (0..40)
        .map(|_| {
            let (mut client, _) = Client::ready(address);
            client.send(&frame(9, Command::ECHO, &[7; 60_000])[..50_000]);
            client
        })
        .collect();
    let cut = &server.stats()[0].closed.of(Cause::BufferMemory);
    until("some are cut", || cut.get() > 0 && cut.get() + server.stats()[0].connections_open.get() == 40);
    until("all of them are gone", || server.stats()[0].connections_cut.get() == cut.get());
    drop(torn);
}

#[test]
fn what_the_end_of_a_drain_cuts_is_counted_by_who_ended_it() {
    for (by_hand, cause) in [(true, Cause::SecondSignal), (false, Cause::DrainDeadline)] {
        let latch = Latch::new();
        let drain_timeout = if by_hand { Duration::from_secs(60) } else { Duration::from_millis(400) };
        let (server, address) = serve(Config { workers: 1, drain_timeout, ..config() }, application(&latch));
        let (mut client, _) = Client::ready(address);
        client.request(SLOW, b"");
        latch.wait_for(1);
        server.drain();
        client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
        let stats = server.stats()[0].clone();
        if by_hand {
            server.cut();
        }
        assert!(matches!(client.rest().1, Got::Reset));
        latch.open();
        assert_eq!((server.wait().exit_code(), stats.closed.of(cause).get(), stats.closed.sum()), (3, 1, 1));
    }
}
