//! A drain, phase by phase, as clients see it.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::config::Config;
use tidegate::proto::{Command, ErrorCode, ErrorReply, GoAway, GoAwayReason, GoAwayStage};
use tidegate::server::{Ended, Server};

use crate::support::{Client, Got, Latch, config, frame, get, post, start, sum, until};

pub const SLOW: Command = Command(0x20);

/// A server with a handler on the pool that waits at the latch.
pub fn with_slow_handler(config: Config) -> (Server, SocketAddr, Latch) {
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

pub fn assert_clean(ended: &Ended) {
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
