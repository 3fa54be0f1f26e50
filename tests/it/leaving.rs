//! What a drain does with clients that are in the middle of something, or do not behave.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate::config::{AuthMode, Config};
use tidegate::proto::{Command, ErrorCode, GoAway, GoAwayReason, GoAwayStage};

use crate::drain::{SLOW, assert_clean, with_slow_handler};
use crate::support::{Client, Got, Latch, Reply, config, frame, pour, start, sum, until};

#[test]
fn a_handler_in_flight_is_waited_for_and_its_reply_delivered() {
    let (server, address, latch) = with_slow_handler(config());
    let (mut client, _) = Client::ready(address);
    let seqs = [client.request(SLOW, b""), client.request(SLOW, b"")];
    latch.wait_for(2);
    server.drain();
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    assert_eq!(client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain).last_seq, seqs[1]);
    latch.open();
    let mut answered = [client.frame().seq, client.frame().seq];
    answered.sort_unstable();
    assert_eq!(answered, seqs);
    client.expect_eof();
    drop(client);
    assert_clean(&server.wait());
}

#[test]
fn a_client_that_was_not_being_read_is_read_to_its_end_though_nothing_of_that_is_accepted() {
    let (server, address, latch) = with_slow_handler(Config { max_in_flight: 1, ..config() });
    let (mut client, _) = Client::ready(address);
    let seq = client.request(SLOW, b"");
    latch.wait_for(1);
    // Nobody reads it now: it fills what the kernel holds between the two.
    let beyond: Vec<u8> = (0..2_000).flat_map(|n| frame(seq + 1 + n, Command::ECHO, &[7; 60_000])).collect();
    client.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut sent = 0;
    while let Ok(n) = (&client.stream).write(&beyond[sent..]) {
        sent += n;
    }
    assert!(sent < beyond.len() / 2, "{sent}");
    server.drain();
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    assert_eq!(client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain).last_seq, seq);
    client.stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    (&client.stream).write_all(&beyond[sent..]).expect("the client gets rid of what it has");
    client.half_close();
    latch.open();
    assert_eq!(client.expect_reply(seq, SLOW), b"late");
    client.expect_eof();
    assert_clean(&server.wait());
}

#[test]
fn a_request_whose_client_has_half_closed_is_waited_for_too() {
    let (server, address, latch) = with_slow_handler(config());
    let (mut client, _) = Client::ready(address);
    let seq = client.request(SLOW, b"");
    client.half_close();
    latch.wait_for(1);
    server.drain();
    until("the gate is closed", || TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err());
    latch.open();
    assert_eq!(client.expect_reply(seq, SLOW), b"late");
    client.expect_eof();
    assert_clean(&server.wait());
}

#[test]
fn a_handler_that_outlives_the_deadline_is_cut_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (token, line) = tidegate::auth::generate_token("sensor-7").unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, line).unwrap();
    let timeout = Duration::from_millis(500);
    let config = Config { drain_timeout: timeout, auth: AuthMode::Tokens(file), ..config() };
    let saw_the_cut = Arc::new(AtomicBool::new(false));
    let saw = Arc::clone(&saw_the_cut);
    let latch = Latch::new();
    let begun = latch.clone();
    begun.open();
    let (server, address) = start(config, |b| {
        b.route_blocking(SLOW.0, move |request, responder| {
            begun.pass();
            until("the handler is told", || request.is_cancelled());
            saw.store(true, Ordering::SeqCst);
            responder.reply(b"too late");
        })
    });
    let mut client = Client::connect(address);
    let session = client.auth(token.as_bytes()).session;
    client.request(SLOW, b"");
    client.request(SLOW, b"");
    latch.wait_for(2);
    server.drain();
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    client.expect_reset();
    let ended = server.wait();
    let ledger = &ended.ledger;
    assert!(ledger.balanced() && saw_the_cut.load(Ordering::SeqCst), "{ledger}");
    assert_eq!((ledger.cut, ledger.connections_cut, ledger.cuts.len(), ended.exit_code()), (2, 1, 1, 3));
    let cut = &ledger.cuts[0];
    assert_eq!((cut.principal.as_deref(), cut.requests, cut.reason.as_str()), (Some("sensor-7"), 2, "deadline"));
    assert_eq!(cut.peer, Some(client.stream.local_addr().unwrap().to_string()));
    assert_eq!(cut.session, Some(tidegate::session::log_name(&session)), "its name, and not what resumes it");
}

#[test]
fn idle_torn_mute_and_rude_clients_all_end_in_good_order() {
    let (server, address) = start(Config { linger: Duration::from_millis(300), ..config() }, |b| b);
    let (mut idle, _) = Client::ready(address);
    let (mut torn, _) = Client::ready(address);
    torn.request(Command::ECHO, b"whole");
    torn.send(&frame(3, Command::ECHO, b"never whole")[..15]);
    assert_eq!(torn.expect_reply(2, Command::ECHO), b"whole");
    let mut mute = Client::connect(address);
    let mut halfway = Client::connect(address);
    halfway.send(&frame(1, Command::AUTH, b"token")[..10]);
    let (mut rude, _) = Client::ready(address);
    until("all are in", || sum(&server, |s| &s.connections_open) == 5);
    server.drain();
    for (client, last_seq) in [(&mut idle, 1), (&mut torn, 2), (&mut rude, 1)] {
        client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
        assert_eq!(client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain).last_seq, last_seq);
        client.expect_eof();
    }
    for client in [&mut mute, &mut halfway] {
        client.expect_end(0, ErrorCode::Draining);
    }
    // The rude one neither closes nor stops; the others close only when it is over.
    let _ = rude.stream.write_all(&frame(9, Command::ECHO, b"beyond last seq"));
    let ended = server.wait();
    assert_clean(&ended);
    assert_eq!((ended.ledger.accepted, ended.ledger.connections, ended.ledger.refused), (4, 5, 2));
}

#[test]
fn a_slow_reader_gets_every_byte_before_the_half_close() {
    let (server, address) = start(Config { workers: 1, ..config() }, |b| b);
    let (mut client, _) = Client::ready(address);
    let (mut neighbour, _) = Client::ready(address);
    let payload = vec![9; 32_000];
    // More than the kernel takes at once: much of it waits in the server.
    client.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let requests: Vec<u8> = (2..1_000).flat_map(|seq| frame(seq, Command::ECHO, &payload)).collect();
    let mut sent = 0;
    while let Ok(n) = (&client.stream).write(&requests[sent..]) {
        sent += n;
    }
    server.drain();
    // A drain that does not wait for its readers is over when everybody else has gone.
    neighbour.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    neighbour.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    neighbour.expect_eof();
    drop(neighbour);
    until("the neighbour is gone", || sum(&server, |s| &s.connections_open) == 1);
    let (frames, end) = client.rest();
    assert_eq!(end, Got::Eof);
    let goaways: Vec<GoAway> =
        frames.iter().filter(|f| f.cmd == Command::GOAWAY).map(|f| GoAway::parse(&f.payload).unwrap()).collect();
    let last_seq = goaways.last().unwrap().last_seq;
    let replies: Vec<&Reply> = frames.iter().filter(|f| f.cmd == Command::ECHO).collect();
    assert!(replies.len() > 10 && replies.iter().all(|f| f.payload == payload));
    assert_eq!(replies.iter().map(|f| f.seq).collect::<Vec<_>>(), (2..=last_seq).collect::<Vec<_>>());
    drop(client);
    assert_clean(&server.wait());
}

#[test]
fn who_never_reads_is_cut_at_the_deadline_with_every_answer_that_it_did_not_get() {
    let config = Config { workers: 1, drain_timeout: Duration::from_millis(600), ..config() };
    let (server, address) = start(config, |b| b);
    let (client, _) = Client::ready(address);
    pour(&client, 30_000);
    server.drain();
    let ended = server.wait();
    let ledger = &ended.ledger;
    assert!(ledger.balanced() && ended.exit_code() == 3, "{ledger}");
    assert!(ledger.cut > 0 && ledger.cuts.len() == 1 && ledger.cuts[0].requests == ledger.cut, "{ledger}");
    assert_eq!(ledger.cuts[0].reason, "deadline");
    assert!(ledger.bytes_unacked > 0, "{ledger}");
}
