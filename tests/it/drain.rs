//! A drain, phase by phase, as clients see it.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::config::{AuthMode, Config};
use tidegate::proto::{Command, ErrorCode, ErrorReply, GoAway, GoAwayReason, GoAwayStage};
use tidegate::server::{Ended, Server};

use crate::support::{Client, Got, Latch, Reply, config, frame, get, post, pour, start, sum, until};

const SLOW: Command = Command(0x20);

/// A server with a handler on the pool that waits at the latch.
fn with_slow_handler(config: Config) -> (Server, SocketAddr, Latch) {
    let latch = Latch::new();
    let held = latch.clone();
    let (server, address) = start(config, |b| {
        b.route_blocking(SLOW.0, move |_, responder| {
            held.pass();
            responder.reply(b"late");
        })
    });
    (server, address, latch)
}

fn assert_clean(ended: &Ended) {
    let ledger = &ended.ledger;
    assert!(ledger.balanced() && ledger.clean(), "{ledger}");
    assert_eq!((ended.exit_code(), ledger.undelivered, ledger.pending), (0, 0, 0), "{ledger}");
}

fn with_admin() -> Config {
    Config { admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), ..config() }
}

#[test]
fn announced_a_drain_is_not_ready_at_once_and_still_accepts_and_serves() {
    let announce = Duration::from_secs(8);
    let (server, address) = start(Config { drain_announce: announce, ..with_admin() }, |b| b);
    let admin = server.admin_addr().unwrap();
    assert_eq!(get(admin, "/readyz").0, 200);
    let (mut before, _) = Client::ready(address);
    server.drain();
    let (status, why) = get(admin, "/readyz");
    assert!(status == 503 && why.contains("draining"), "{why}");
    assert_eq!(get(admin, "/healthz").0, 200, "draining is not ill");
    let (mut after, _) = Client::ready(address);
    // Echoes and nothing else: no GOAWAY has come.
    after.assert_alive();
    before.assert_alive();
    server.cut();
    before.expect_reset();
    after.expect_reset();
    let ended = server.wait();
    assert!(ended.ledger.balanced() && ended.exit_code() == 3);
    assert!(ended.ledger.cuts.iter().all(|cut| cut.reason == "second_signal"), "{}", ended.ledger);
}

#[test]
fn nobody_who_got_a_connection_is_reset_by_the_closing_gate() {
    // A handshake must meet the close within microseconds to be lost: several tries.
    (0..6).for_each(|_| close_the_gate_on_a_crowd());
}

fn close_the_gate_on_a_crowd() {
    let (server, address) = start(Config { drain_notice: Duration::ZERO, ..config() }, |b| b);
    let connecting: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut connected = Vec::new();
                // Until the listeners are gone, or take no more handshakes.
                while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
                    connected.push(stream);
                }
                connected
            })
        })
        .collect();
    until("many have come", || sum(&server, |s| &s.connections_accepted) > 100);
    server.drain();
    let connected: Vec<TcpStream> = connecting.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let count = connected.len() as u64;
    for (at, stream) in connected.into_iter().enumerate() {
        let mut client = Client::over(stream);
        let (frames, end) = client.rest();
        assert_eq!(end, Got::Eof, "the {at}th of {count}");
        let [told] = &frames[..] else { panic!("{frames:?}") };
        let code = ErrorReply::parse(&told.payload).unwrap().known_code();
        assert!(matches!(code, Some(ErrorCode::Draining | ErrorCode::Overloaded)), "{code:?}");
    }
    let ended = server.wait();
    assert_eq!((ended.ledger.connections, ended.ledger.refused), (count, count));
    assert_clean(&ended);
}

#[test]
fn notice_comes_first_with_a_slot_of_its_own_for_each_and_a_clients_goaway_ends_it_early() {
    let notice = Duration::from_secs(10);
    let (server, address) = start(Config { drain_notice: notice, ..config() }, |b| b);
    let mut clients: Vec<Client> = (0..10).map(|_| Client::ready(address).0).collect();
    server.drain();
    let mut slots = Vec::new();
    for client in &mut clients {
        let told = client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
        assert_eq!(told.last_seq, GoAway::NO_LAST_SEQ);
        assert!((1..=15_000).contains(&told.deadline_ms) && told.reconnect_after_ms <= 10_000);
        slots.push(told.reconnect_after_ms);
    }
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), clients.len());
    for client in &mut clients {
        client.assert_alive();
        client.assert_alive();
        client.send(&frame(0, Command::GOAWAY, b""));
        let told = client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
        assert_eq!(told.last_seq, 3);
        client.expect_eof();
    }
    drop(clients);
    let ended = server.wait();
    assert_clean(&ended);
    assert!(ended.ledger.durations.total_ms < 10_000, "a phase ends when it has nothing left to do");
    assert_eq!((ended.ledger.accepted, ended.ledger.answered, ended.reason.as_str()), (30, 30, "embedder"));
}

#[test]
fn a_notice_of_no_time_is_not_given_and_the_last_word_comes_at_once() {
    let (server, address) = start(Config { drain_notice: Duration::ZERO, ..config() }, |b| b);
    let (mut client, _) = Client::ready(address);
    let mut stranger = Client::connect(address);
    until("both are served", || sum(&server, |s| &s.connections_open) == 2);
    server.drain();
    assert_eq!(client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain).last_seq, 1);
    client.expect_eof();
    stranger.expect_end(0, ErrorCode::Draining);
    drop((client, stranger));
    assert_clean(&server.wait());
}

#[test]
fn every_request_up_to_last_seq_is_answered_and_none_beyond_it_is_processed() {
    let handled = Arc::new(Mutex::new(Vec::new()));
    let (in_place, on_pool) = (Arc::clone(&handled), Arc::clone(&handled));
    let seq_of = |payload: &[u8]| u32::from_be_bytes(payload.try_into().unwrap());
    let (server, address) = start(config(), |b| {
        b.route(0x30, move |request, responder| {
            in_place.lock().unwrap().push(seq_of(request.payload()));
            responder.reply(b"");
        })
        .route_blocking(0x31, move |request, responder| {
            on_pool.lock().unwrap().push(seq_of(request.payload()));
            responder.reply(b"");
        })
    });
    let (mut client, _) = Client::ready(address);
    let mut writer = client.stream.try_clone().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU32::new(1));
    let (stop, high) = (Arc::clone(&ended), Arc::clone(&sent));
    // It ignores every GOAWAY, and goes on until the server has closed.
    let writing = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let seq = high.fetch_add(1, Ordering::Relaxed) + 1;
            let cmd = Command(0x30 + (seq % 2) as u8);
            if writer.write_all(&frame(seq, cmd, &seq.to_be_bytes())).is_err() {
                return;
            }
        }
    });
    until("requests are served", || sum(&server, |s| &s.answered) > 200);
    server.drain();
    let (mut last_seq, mut answered) = (None, Vec::new());
    loop {
        match client.next() {
            Got::Frame(reply) if reply.cmd == Command::GOAWAY => {
                let goaway = GoAway::parse(&reply.payload).unwrap();
                if goaway.stage == GoAwayStage::Final {
                    assert_eq!(last_seq.replace(goaway.last_seq), None, "the last word is said once");
                }
            }
            Got::Frame(reply) => {
                assert_ne!(reply.cmd, Command::ERROR);
                answered.push(reply.seq);
            }
            end => break assert_eq!(end, Got::Eof),
        }
    }
    ended.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    // It read the last word, and goes on all the same; the server still reads.
    let last_seq = last_seq.unwrap();
    let beyond = last_seq.max(sent.load(Ordering::Relaxed)) + 1;
    for seq in beyond..beyond + 20 {
        client.send(&frame(seq, Command(0x30), &seq.to_be_bytes()));
    }
    drop(client);
    let outcome = server.wait();
    let all: Vec<u32> = (2..=last_seq).collect();
    let mut handled = handled.lock().unwrap().clone();
    handled.sort_unstable();
    answered.sort_unstable();
    assert!(answered == all, "{} answered of {}", answered.len(), all.len());
    assert!(handled == all, "{} handled of {}", handled.len(), all.len());
    assert!(outcome.ledger.clean(), "{}", outcome.ledger);
    assert_eq!(outcome.ledger.accepted, u64::from(last_seq));
}

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
    let session: String = session.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(cut.session, Some(session));
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

#[test]
fn a_drain_without_connections_does_not_wait_for_the_notice() {
    let config = Config { drain_notice: Duration::from_secs(10), ..config() };
    let (server, _) = start(config, |b| b);
    server.drain();
    server.drain();
    let ended = server.wait();
    assert_clean(&ended);
    assert!(ended.ledger.durations.total_ms < 8_000, "{}", ended.ledger);
}

#[test]
fn posting_to_drain_drains() {
    let (server, address) = start(with_admin(), |b| b);
    let admin = server.admin_addr().unwrap();
    let (mut client, _) = Client::ready(address);
    assert_eq!(get(admin, "/drain").0, 405);
    client.assert_alive();
    assert_eq!(post(admin, "/drain").0, 202);
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    client.expect_eof();
    drop(client);
    let ended = server.wait();
    assert_clean(&ended);
    assert_eq!(ended.reason, "admin");
}

#[test]
fn of_two_servers_in_one_process_one_is_drained_and_the_other_serves_on() {
    let (first, first_address) = start(config(), |b| b);
    let (second, second_address) = start(config(), |b| b);
    let (mut one, _) = Client::ready(first_address);
    let (mut two, _) = Client::ready(second_address);
    first.drain();
    one.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    one.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    one.expect_eof();
    drop(one);
    assert_clean(&first.wait());
    two.assert_alive();
    Client::ready(second_address).0.assert_alive();
    second.drain();
    two.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    drop(two);
    assert!(second.wait().ledger.balanced());
}

#[test]
fn a_server_that_is_dropped_is_drained() {
    let (server, address) = start(config(), |b| b);
    let (mut client, _) = Client::ready(address);
    let dropping = std::thread::spawn(move || drop(server));
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    client.expect_eof();
    drop(client);
    dropping.join().unwrap();
}

#[test]
fn sessions_are_kept_on_all_workers_until_the_last_request_is_answered() {
    let (server, _, latch) = with_slow_handler(config());
    let mut home = crate::support::on_worker(&server, 0);
    let session = home.auth(b"").session;
    drop(home);
    let mut remote = crate::support::on_worker(&server, 1);
    assert!(remote.resume(b"", session).resumed);
    let slow = remote.request(SLOW, b"");
    latch.wait_for(1);
    server.drain();
    remote.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    // Worker 0 has no connection of its own left, and still answers for its session.
    let question = remote.request(Command::SESSION_GET, b"k");
    let reply = remote.frame();
    if reply.cmd == Command::ERROR {
        assert_eq!(reply.seq, question);
        assert_eq!(ErrorReply::parse(&reply.payload).unwrap().known_code(), Some(ErrorCode::NotFound));
        remote.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    } else {
        assert_eq!((reply.cmd, GoAway::parse(&reply.payload).unwrap().last_seq), (Command::GOAWAY, slow));
    }
    latch.open();
    remote.expect_reply(slow, SLOW);
    remote.expect_eof();
    drop(remote);
    assert!(server.wait().ledger.clean());
}
