//! A worker's panic, a worker that hangs, and what the others notice of it: nothing.

use std::time::Duration;

use tidegate::config::Config;
use tidegate::proto::message::session_put_payload;
use tidegate::proto::{Command, GoAwayReason, GoAwayStage};
use tidegate::server::Server;

use crate::support::{Client, Latch, audit, config, frame, on_worker, pour, start, sum, until};

const SLOW: Command = Command(0x20);

#[test]
fn a_workers_panic_cuts_its_own_connections_and_its_core_is_served_again() {
    let dir = tempfile::tempdir().unwrap();
    let latch = Latch::new();
    let held = latch.clone();
    let (server, _) = start(Config { data_dir: Some(dir.path().to_owned()), ..config() }, |b| {
        b.route_blocking(SLOW.0, move |_, responder| {
            held.pass();
            responder.reply(b"");
        })
    });
    let mut other = on_worker(&server, 1);
    other.auth(b"");
    let others = other.request(SLOW, b"");
    let mut lost = on_worker(&server, 0);
    let session = lost.auth(b"").session;
    lost.call(Command::SESSION_PUT, &session_put_payload(b"k", b"v").unwrap());
    lost.request(SLOW, b"");
    latch.wait_for(2);
    let peer = lost.stream.local_addr().unwrap();
    server.panic_worker(0);
    lost.expect_reset();
    other.assert_alive();
    latch.open();
    other.expect_reply(others, SLOW);
    for worker in [0, 1] {
        let mut again = on_worker(&server, worker);
        assert!(again.resume(b"", session).resumed, "on worker {worker}");
        assert_eq!(again.call(Command::SESSION_GET, b"k"), b"v");
        again.half_close();
        again.expect_eof();
    }
    other.half_close();
    other.expect_eof();
    server.drain();
    let ended = server.wait();
    let ledger = &ended.ledger;
    assert!(ledger.balanced(), "{ledger}");
    assert_eq!((ledger.cut, ledger.connections_cut, ended.exit_code()), (1, 1, 3));
    let cut = &ledger.cuts[0];
    assert_eq!((cut.worker, cut.requests, cut.reason.as_str()), (0, 1, "worker_panic"));
    assert_eq!((cut.peer.clone(), cut.principal.as_deref()), (Some(peer.to_string()), Some("anonymous")));
    let lines = audit(dir.path());
    let panics: Vec<_> = lines.iter().filter(|line| line["event_type"] == "worker_panic").collect();
    assert_eq!(panics.len(), 1);
    assert!(panics[0]["worker"] == 0 && panics[0]["message"].as_str().unwrap().contains("asked this worker"));
}

#[test]
fn a_worker_that_panics_again_and_again_is_started_again_and_again() {
    let (server, _) = start(config(), |b| b);
    let mut other = on_worker(&server, 1);
    other.auth(b"");
    // One more than are started anew without a rest.
    for panics in 1..=4 {
        let mut client = on_worker(&server, 0);
        client.auth(b"");
        client.assert_alive();
        server.panic_worker(0);
        client.expect_reset();
        until("the panic is counted", || sum(&server, |s| &s.worker_panics) == panics);
        other.assert_alive();
    }
    let mut client = on_worker(&server, 0);
    client.auth(b"");
    client.half_close();
    client.expect_eof();
    other.half_close();
    other.expect_eof();
    server.drain();
    let ledger = server.wait().ledger;
    assert!(ledger.balanced(), "{ledger}");
    assert_eq!((ledger.connections_cut, ledger.cut, ledger.cuts.len()), (4, 0, 4));
}

#[test]
fn sessions_that_a_panic_left_without_a_connection_expire_wherever_they_live() {
    let (server, _) = start(Config { session_ttl: Duration::from_secs(1), ..config() }, |b| b);
    let mut here = on_worker(&server, 0);
    here.auth(b"");
    let mut at_home = on_worker(&server, 1);
    let session = at_home.auth(b"").session;
    drop(at_home);
    let mut elsewhere = on_worker(&server, 0);
    assert!(elsewhere.resume(b"", session).resumed);
    assert_eq!(sum(&server, |s| &s.sessions), 2);
    server.panic_worker(0);
    here.expect_reset();
    elsewhere.expect_reset();
    until("both have expired", || sum(&server, |s| &s.sessions_expired) == 2);
}

#[test]
fn what_other_workers_asked_of_a_panicking_one_is_still_answered() {
    let latch = Latch::new();
    let held = latch.clone();
    let (server, _) = start(config(), |b| {
        b.route(SLOW.0, move |_, responder| {
            held.pass();
            responder.reply(b"");
        })
    });
    let mut home = on_worker(&server, 0);
    let session = home.auth(b"").session;
    drop(home);
    let mut remote = on_worker(&server, 1);
    assert!(remote.resume(b"", session).resumed);
    remote.call(Command::SESSION_PUT, &session_put_payload(b"k", b"v").unwrap());
    let mut holding = on_worker(&server, 0);
    holding.auth(b"");
    holding.request(SLOW, b"");
    latch.wait_for(1);
    // While worker 0 is held up, its mailbox gets the word to panic and, behind it, a question.
    server.panic_worker(0);
    let question = remote.request(Command::SESSION_GET, b"k");
    // Answered here, behind the question: that one is in the mailbox by now.
    remote.assert_alive();
    latch.open();
    assert_eq!(remote.expect_reply(question, Command::SESSION_GET), b"v");
}

#[test]
fn a_worker_that_hangs_in_a_handler_is_named_and_its_requests_are_cut() {
    let latch = Latch::new();
    let held = latch.clone();
    let config = Config { drain_timeout: Duration::from_secs(2), ..config() };
    let (server, _) = start(config, |b| {
        b.route(SLOW.0, move |_, responder| {
            held.pass();
            responder.reply(b"");
        })
    });
    let mut other = on_worker(&server, 1);
    other.auth(b"");
    let mut hung = on_worker(&server, 0);
    hung.auth(b"");
    hung.request(SLOW, b"");
    latch.wait_for(1);
    server.drain();
    other.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    other.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    other.expect_eof();
    drop(other);
    let ended = server.wait();
    let ledger = &ended.ledger;
    assert!(ledger.balanced(), "{ledger}");
    assert_eq!((ledger.missing_workers.as_slice(), ledger.cut, ledger.connections_cut), (&[0][..], 1, 1));
    assert_eq!(ended.exit_code(), 3);
    latch.open();
}

#[test]
fn a_workers_panic_within_a_drain_does_not_stop_the_drain() {
    let latch = Latch::new();
    let held = latch.clone();
    let (server, _) = start(config(), |b| {
        b.route_blocking(SLOW.0, move |_, responder| {
            held.pass();
            responder.reply(b"late");
        })
    });
    let mut kept = on_worker(&server, 1);
    kept.auth(b"");
    let mut lost = on_worker(&server, 0);
    lost.auth(b"");
    let seq = kept.request(SLOW, b"");
    lost.request(SLOW, b"");
    latch.wait_for(2);
    server.drain();
    for client in [&mut kept, &mut lost] {
        client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
        client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    }
    server.panic_worker(0);
    lost.expect_reset();
    latch.open();
    assert_eq!(kept.expect_reply(seq, SLOW), b"late");
    kept.expect_eof();
    drop(kept);
    let ended = server.wait();
    assert!(ended.ledger.balanced() && ended.ledger.missing_workers.is_empty(), "{}", ended.ledger);
    assert_eq!((ended.ledger.cut, ended.exit_code()), (1, 3));
}

#[test]
fn a_panic_of_every_worker_leaves_a_server_that_serves() {
    let (server, address) = start(config(), |b| b);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::ready(address).0).collect();
    server.panic_worker(0);
    server.panic_worker(1);
    clients.iter_mut().for_each(Client::expect_reset);
    until("both are back", || sum(&server, |s| &s.worker_panics) == 2);
    for _ in 0..8 {
        Client::ready(address).0.assert_alive();
    }
}

/// Fails if the workers' loops turn much more often than timers would have it.
fn assert_rests(server: &Server, what: &str) {
    let before = sum(server, |s| &s.ticks);
    // Measured, not waited for: a loop that spins turns thousands of times in it.
    std::thread::park_timeout(Duration::from_millis(200));
    let turns = sum(server, |s| &s.ticks) - before;
    assert!(turns < 100, "{what}: {turns} turns");
}

#[test]
fn a_worker_with_nothing_to_do_does_not_spin_whatever_it_waits_for() {
    let latch = Latch::new();
    let held = latch.clone();
    let config = Config {
        max_in_flight: 2,
        outbound_low: 1_024,
        outbound_high: 16 * 1024,
        linger: Duration::from_secs(60),
        slow_consumer: Duration::from_secs(60),
        drain_announce: Duration::from_secs(2),
        drain_notice: Duration::from_secs(2),
        ..config()
    };
    let (server, address) = start(config, |b| {
        b.route_blocking(SLOW.0, move |_, responder| {
            held.pass();
            responder.reply(b"late");
        })
    });
    assert_rests(&server, "no connection");
    let (idle, _) = Client::ready(address);
    let mute = Client::connect(address);
    assert_rests(&server, "idle connections");
    let (mut torn, _) = Client::ready(address);
    torn.send(&frame(2, Command::ECHO, &[1; 1_000])[..500]);
    assert_rests(&server, "a torn frame");
    let (mut left, _) = Client::ready(address);
    left.request(SLOW, b"");
    left.half_close();
    latch.wait_for(1);
    assert_rests(&server, "a handler, its client half-closed");
    let (mut full, _) = Client::ready(address);
    (0..9).for_each(|_| {
        full.request(SLOW, &[1; 30_000]);
    });
    latch.wait_for(3);
    assert_rests(&server, "requests over the limit of those in flight");
    let (slow, _) = Client::ready(address);
    pour(&slow, 30_000);
    assert_rests(&server, "a slow reader");
    let (mut bye, _) = Client::ready(address);
    bye.request(Command::BYE, b"");
    bye.expect_reply(2, Command::BYE);
    bye.expect_eof();
    assert_rests(&server, "an EOF that does not come");
    server.drain();
    assert_rests(&server, "the announcement");
    let mut told = idle;
    told.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    assert_rests(&server, "the notice");
    told.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    assert_rests(&server, "the finish");
    latch.open();
    drop((told, mute, torn, left, full));
    until("the handlers are done", || sum(&server, |s| &s.in_flight) == 0);
    assert_rests(&server, "the flush");
    server.cut();
    assert!(server.wait().ledger.balanced());
    drop((slow, bye));
}
