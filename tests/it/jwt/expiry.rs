//! Tokens that expire under their connection. The clock is the tests' own; what is waited for is told.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use tempfile::TempDir;
use tidegate::client::{Client as Library, ClientOptions, Token};
use tidegate::config::{AuthExpiry, Config, JwtAlgorithm};
use tidegate::proto::{Command, ErrorCode, GoAwayReason, GoAwayStage};
use tidegate::server::Server;
use tidegate::stats::Cause;

use super::mint::{Key, NOW};
use crate::support::{Client, Latch, config, on_worker, sum, until};

/// A server with one key and a clock that stands still until it is set.
struct Gate {
    server: Server,
    address: SocketAddr,
    key: Key,
    clock: Arc<AtomicU64>,
    dir: TempDir,
}

/// Just before the second at which tokens of [`Gate::token`] expire.
const BEFORE_MS: u64 = NOW * 1_000 - 1;

impl Gate {
    fn start(config: Config) -> Gate {
        Gate::start_with(config, |builder| builder)
    }

    fn start_with(config: Config, build: impl FnOnce(tidegate::server::Builder) -> tidegate::server::Builder) -> Gate {
        let key = Key::new(JwtAlgorithm::Hs256);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        fs::write(&file, key.file()).unwrap();
        let config = Config { jwt_leeway: Duration::ZERO, auth: super::config_of(&file, &super::ALL).auth, ..config };
        let clock = Arc::new(AtomicU64::new(BEFORE_MS));
        let shown = Arc::clone(&clock);
        let wall = Arc::new(move || UNIX_EPOCH + Duration::from_millis(shown.load(Ordering::SeqCst)));
        let builder = Server::builder().config(config).wall_clock(wall);
        let server = build(builder).start().unwrap();
        let address = server.local_addrs()[0];
        Gate { server, address, key, clock, dir }
    }

    /// One that expires `seconds` after [`NOW`].
    fn token(&self, seconds: i64) -> Vec<u8> {
        self.key.token(&json!({"sub": "me", "exp": NOW.checked_add_signed(seconds)})).into_bytes()
    }

    fn ready(&self, seconds: i64) -> Client {
        let mut client = Client::connect(self.address);
        client.auth(&self.token(seconds));
        client
    }

    fn set_clock(&self, after: u64) {
        self.clock.store((NOW + after) * 1_000, Ordering::SeqCst);
    }

    fn token_file(&self, seconds: i64) -> PathBuf {
        let file = self.dir.path().join("token");
        fs::write(&file, self.token(seconds)).unwrap();
        file
    }
}

fn grace(ms: u64) -> Config {
    Config { auth_expiry_grace: Duration::from_millis(ms), ..config() }
}

#[test]
fn a_connection_whose_token_expires_is_told_served_and_ended_in_good_order() {
    let gate = Gate::start(grace(60));
    let mut client = gate.ready(0);
    client.assert_alive();
    gate.set_clock(0);
    let notice = client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Operator);
    assert_eq!((notice.deadline_ms, notice.reconnect_after_ms, notice.addresses), (60, 0, vec![]));
    let seq = client.request(Command::ECHO, b"still served");
    assert_eq!(client.expect_reply(seq, Command::ECHO), b"still served");
    let last = client.expect_goaway(GoAwayStage::Final, GoAwayReason::Operator);
    assert_eq!(last.last_seq, seq);
    client.expect_eof();
    assert_eq!(sum(&gate.server, |s| &s.auth_expired), 1);
    assert_eq!(sum(&gate.server, |s| &s.connections_cut), 0);
    drop(client);
    until("it has ended for that", || sum(&gate.server, |s| s.closed.of(Cause::Expired)) == 1);
}

#[test]
fn requests_in_flight_when_the_grace_ends_are_answered() {
    let latch = Latch::new();
    let held = latch.clone();
    let gate = Gate::start_with(grace(1), |b| {
        b.route_blocking(0x20, move |_, responder| {
            held.pass();
            responder.reply(b"late");
        })
    });
    let mut client = gate.ready(0);
    let seq = client.request(Command(0x20), b"");
    gate.set_clock(0);
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Operator);
    assert_eq!(client.expect_goaway(GoAwayStage::Final, GoAwayReason::Operator).last_seq, seq);
    latch.open();
    assert_eq!(client.expect_reply(seq, Command(0x20)), b"late");
    client.expect_eof();
}

#[test]
fn a_client_that_answers_the_notice_is_not_kept_waiting() {
    let gate = Gate::start(grace(3_600_000));
    let mut client = gate.ready(0);
    gate.set_clock(0);
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Operator);
    client.send(&crate::support::frame(0, Command::GOAWAY, b""));
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Operator);
    client.expect_eof();
    drop(client);
    until("it has ended for that", || sum(&gate.server, |s| s.closed.of(Cause::Expired)) == 1);
}

#[test]
fn without_a_grace_the_last_word_comes_first() {
    let gate = Gate::start(grace(0));
    let mut client = gate.ready(0);
    gate.set_clock(0);
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Operator);
    client.expect_eof();
}

#[test]
fn a_session_is_taken_along_to_a_connection_with_a_fresh_token() {
    let gate = Gate::start(grace(3_600_000));
    let mut old = Client::connect(gate.address);
    let session = old.auth(&gate.token(0)).session;
    gate.set_clock(0);
    old.expect_goaway(GoAwayStage::Notice, GoAwayReason::Operator);
    let mut late = Client::connect(gate.address);
    let seq = late.request(Command::AUTH, &gate.token(0));
    late.expect_end(seq, ErrorCode::AuthFailed);
    let mut new = Client::connect(gate.address);
    assert!(new.resume(&gate.token(3600), session).resumed);
    old.expect_goaway(GoAwayStage::Final, GoAwayReason::Replaced);
    new.assert_alive();
}

#[test]
fn the_next_connection_in_the_place_of_one_that_left_is_not_told() {
    let gate = Gate::start(Config { workers: 1, ..grace(1) });
    gate.clock.store(NOW * 1_000 - 200, Ordering::SeqCst);
    let mut first = gate.ready(0);
    first.send(&crate::support::frame(0, Command::GOAWAY, b""));
    first.rest();
    drop(first);
    until("it is gone", || sum(&gate.server, |s| &s.connections_open) == 0);
    let mut second = gate.ready(i64::MAX); // never: nothing is set for it
    let mut third = gate.ready(0);
    gate.set_clock(0);
    third.expect_goaway(GoAwayStage::Notice, GoAwayReason::Operator);
    second.assert_alive();
    third.rest();
    assert_eq!(sum(&gate.server, |s| &s.auth_expired), 1);
}

#[test]
fn a_connection_that_resumed_a_session_of_another_worker_is_told_too() {
    let gate = Gate::start(grace(3_600_000));
    let session = on_worker(&gate.server, 0).auth(&gate.token(3600)).session;
    let mut client = on_worker(&gate.server, 1);
    assert!(client.resume(&gate.token(0), session).resumed);
    gate.set_clock(0);
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Operator);
}

#[test]
fn where_expiry_is_not_heeded_nothing_happens() {
    let gate = Gate::start(Config { auth_expiry: AuthExpiry::Keep, ..grace(0) });
    let mut kept = gate.ready(0);
    gate.set_clock(3600);
    // What there is no event for: a whole granularity of timers passes with a clock long past it.
    let closing = Gate::start(grace(0));
    let mut told = closing.ready(0);
    closing.set_clock(0);
    told.expect_goaway(GoAwayStage::Final, GoAwayReason::Operator);
    kept.assert_alive();
    assert_eq!(sum(&gate.server, |s| &s.auth_expired), 0);
}

#[test]
fn in_a_drain_the_drain_alone_says_when_to_go() {
    let minute = Duration::from_secs(60);
    let gate = Gate::start(Config { drain_notice: minute, drain_timeout: 2 * minute, ..grace(1) });
    let mut client = gate.ready(0);
    gate.server.drain();
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    gate.set_clock(0);
    let other = Gate::start(grace(0));
    let mut told = other.ready(0);
    other.set_clock(0);
    told.expect_goaway(GoAwayStage::Final, GoAwayReason::Operator);
    client.assert_alive();
    client.send(&crate::support::frame(0, Command::GOAWAY, b""));
    client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    client.expect_eof();
    drop(client);
    assert_eq!(sum(&gate.server, |s| &s.auth_expired), 0);
    assert!(gate.server.wait().ledger.balanced());
}

#[test]
fn a_clock_that_was_set_back_gives_a_connection_its_time_back() {
    let gate = Gate::start(Config { workers: 1, ..grace(3_600_000) });
    gate.clock.store(BEFORE_MS + 5_000, Ordering::SeqCst);
    let mut first = gate.ready(5);
    gate.clock.store(BEFORE_MS - 10_000, Ordering::SeqCst);
    // The timer of the first is set for a millisecond from then, and that of the second one for later.
    let mut second = gate.ready(-10);
    gate.clock.store(BEFORE_MS - 9_000, Ordering::SeqCst);
    second.expect_goaway(GoAwayStage::Notice, GoAwayReason::Operator);
    first.assert_alive();
    assert_eq!(sum(&gate.server, |s| &s.auth_expired), 1);
}

#[test]
fn the_client_comes_back_with_the_token_that_its_file_holds_by_then() {
    let gate = Gate::start(grace(3_600_000));
    let file = gate.token_file(0);
    let token = Token::from_file(&file);
    let options = ClientOptions { token: Some(token), ..ClientOptions::new([gate.address.to_string()]) };
    let client = Library::connect(options).unwrap();
    client.session_put(b"key", b"value").unwrap();
    gate.token_file(3600);
    gate.set_clock(0);
    until("the client has moved", || client.stats().reconnects == 1);
    assert_eq!(client.session_get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
    assert_eq!(sum(&gate.server, |s| &s.auth_failures), 0);
    client.close().unwrap();
}

#[test]
fn a_client_whose_file_is_late_stays_where_it_is_and_moves_once_there_is_a_fresh_token() {
    let gate = Gate::start(grace(3_600_000));
    let file = gate.token_file(0);
    let options = ClientOptions {
        token: Some(Token::from_file(&file)),
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
        ..ClientOptions::new([gate.address.to_string()])
    };
    let client = Library::connect(options).unwrap();
    gate.set_clock(0);
    until("it was refused", || sum(&gate.server, |s| &s.auth_failures) == 1);
    for _ in 0..20 {
        assert_eq!(client.echo(b"on the old connection").unwrap(), b"on the old connection");
    }
    gate.token_file(3600);
    until("the client has moved", || client.stats().reconnects == 1);
    assert_eq!(sum(&gate.server, |s| &s.auth_failures), 1, "no token is shown twice once it was refused");
    client.close().unwrap();
}
