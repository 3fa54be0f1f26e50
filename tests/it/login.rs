//! Failed logins: slowed by their source, and then not looked at.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tidegate::auth::generate_token;
use tidegate::config::{AuthMode, Config, Core};
use tidegate::proto::{Command, ErrorCode};
use tidegate::server::Server;

use crate::support::{Client, config, start, sum, until};

const HOUR: Duration = Duration::from_secs(3600);

/// A server that lets one token in.
struct Gate {
    server: Server,
    address: SocketAddr,
    token: String,
    _dir: tempfile::TempDir,
}

impl Gate {
    fn start(config: Config) -> Gate {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens");
        let (token, line) = generate_token("alice").unwrap();
        fs::write(&file, line).unwrap();
        let (server, address) = start(Config { auth: AuthMode::Tokens(file), ..config }, |b| b);
        Gate { server, address, token, _dir: dir }
    }

    /// Shows a wrong token; gives its `seq`.
    fn fail(&self, client: &mut Client) -> u32 {
        client.request(Command::AUTH, b"wrong")
    }

    /// Fails at once, so many times.
    fn fail_at_once(&self, times: usize) {
        for _ in 0..times {
            let mut client = Client::connect(self.address);
            let seq = self.fail(&mut client);
            client.expect_end(seq, ErrorCode::AuthFailed);
        }
    }

    /// One whose answer is put off by an hour.
    fn held(&self) -> (Client, u32) {
        let before = self.slowed();
        let mut client = Client::connect(self.address);
        let seq = self.fail(&mut client);
        until("it is held", || self.slowed() > before);
        (client, seq)
    }

    fn slowed(&self) -> u64 {
        sum(&self.server, |s| &s.auth_slowed)
    }

    fn failures(&self) -> u64 {
        sum(&self.server, |s| &s.auth_failures)
    }
}

/// The second failure of a source waits for an hour, unless something else happens.
fn slow() -> Config {
    Config {
        auth_timeout: HOUR,
        auth_failures_free: 1,
        auth_failures_delay: HOUR,
        auth_failures_max_delay: HOUR,
        auth_failures_refuse: 0,
        ..config()
    }
}

/// A connection from another address of this host.
fn from(source: Ipv4Addr, to: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    Client::over(socket.into())
}

#[test]
fn the_first_failures_are_told_at_once_and_the_next_ones_later() {
    let delay = Duration::from_millis(20);
    let gate = Gate::start(Config { auth_failures_free: 2, auth_failures_delay: delay, ..slow() });
    gate.fail_at_once(2);
    assert_eq!(gate.slowed(), 0);
    let mut client = Client::connect(gate.address);
    let seq = gate.fail(&mut client);
    client.request(Command::ECHO, b"behind a wrong token");
    client.expect_end(seq, ErrorCode::AuthFailed);
    assert_eq!((gate.slowed(), gate.failures()), (1, 3));
}

#[test]
fn a_right_token_from_a_source_in_debt_gets_in_at_once() {
    let gate = Gate::start(slow());
    gate.fail_at_once(1);
    let (_held, _) = gate.held();
    let mut client = Client::connect(gate.address);
    client.auth(gate.token.as_bytes());
    client.assert_alive();
}

#[test]
fn another_source_is_not_slowed() {
    let gate = Gate::start(slow());
    gate.fail_at_once(1);
    let (_held, _) = gate.held();
    let mut other = from(Ipv4Addr::new(127, 0, 0, 2), gate.address);
    let seq = gate.fail(&mut other);
    other.expect_end(seq, ErrorCode::AuthFailed);
    assert_eq!(gate.slowed(), 1);
}

#[test]
fn no_answer_is_put_off_beyond_the_auth_timer() {
    let gate = Gate::start(Config { auth_timeout: Duration::from_millis(50), ..slow() });
    gate.fail_at_once(1);
    let (mut client, seq) = gate.held();
    client.expect_end(seq, ErrorCode::AuthFailed);
}

#[test]
fn no_more_are_held_than_a_worker_may_and_the_rest_are_told_at_once() {
    let core = Core { auth_held: 2, ..config().core };
    let gate = Gate::start(Config { workers: 1, core, ..slow() });
    gate.fail_at_once(1);
    let held = [gate.held(), gate.held()];
    gate.fail_at_once(3);
    assert_eq!((gate.slowed(), gate.failures()), (2, 6));
    drop(held);
}

#[test]
fn a_held_connection_is_told_draining_and_holds_no_drain_up() {
    let gate = Gate::start(slow());
    gate.fail_at_once(1);
    let (mut client, seq) = gate.held();
    gate.server.drain();
    client.expect_end(seq, ErrorCode::Draining);
    drop(client);
    let ended = gate.server.wait();
    assert_eq!((ended.exit_code(), ended.ledger.accepted, ended.ledger.failed), (0, 2, 2), "{:?}", ended.ledger);
}

#[test]
fn a_held_connection_that_is_cut_is_accounted_for() {
    let gate = Gate::start(slow());
    gate.fail_at_once(1);
    let (_client, _) = gate.held();
    gate.server.cut();
    let ended = gate.server.wait();
    assert!(ended.ledger.balanced(), "{:?}", ended.ledger);
    assert_eq!((ended.ledger.cut, ended.ledger.connections_cut), (1, 1));
}

#[test]
fn a_source_that_fails_on_and_on_is_refused_with_its_token_not_looked_at() {
    let gate = Gate::start(Config { auth_failures_delay: Duration::ZERO, auth_failures_refuse: 3, ..slow() });
    gate.fail_at_once(3);
    let mut client = Client::connect(gate.address);
    let seq = client.request(Command::AUTH, gate.token.as_bytes());
    let (code, retry_after_ms, cmd) = client.expect_error(seq);
    assert_eq!((code, cmd), (ErrorCode::RateLimited, Command::AUTH.0));
    assert!((1..=3_600_000).contains(&retry_after_ms), "{retry_after_ms}");
    client.expect_eof();
    let unchecked = sum(&gate.server, |s| &s.auth_refused_unchecked);
    assert_eq!((unchecked, gate.failures(), gate.slowed()), (1, 3, 0));
    let mut other = from(Ipv4Addr::new(127, 0, 0, 2), gate.address);
    other.auth(gate.token.as_bytes());
}

#[test]
fn a_source_that_was_refused_is_let_in_again_once_its_failures_are_forgotten() {
    let forgotten_in = Duration::from_millis(200);
    let (delay, max_delay) = (Duration::ZERO, forgotten_in);
    let gate = Gate::start(Config {
        auth_failures_delay: delay,
        auth_failures_max_delay: max_delay,
        auth_failures_refuse: 1,
        ..slow()
    });
    gate.fail_at_once(1);
    until("it is let in", || {
        let mut client = Client::connect(gate.address);
        client.request(Command::AUTH, gate.token.as_bytes());
        client.frame().cmd == Command::READY
    });
}

#[test]
fn where_it_is_off_every_failure_is_told_at_once() {
    let gate = Gate::start(Config { auth_failures_free: 0, auth_failures_delay: Duration::ZERO, ..slow() });
    gate.fail_at_once(150);
    assert_eq!((gate.slowed(), sum(&gate.server, |s| &s.auth_refused_unchecked)), (0, 0));
}

#[test]
fn a_client_that_left_while_it_was_held_is_gone_when_its_time_is_up() {
    let delay = Duration::from_millis(100);
    let gate = Gate::start(Config { auth_failures_delay: delay, ..slow() });
    gate.fail_at_once(1);
    let (client, _) = gate.held();
    drop(client);
    until("it is gone", || sum(&gate.server, |s| &s.connections_open) == 0);
    gate.fail_at_once(0);
    gate.server.drain();
    assert!(gate.server.wait().ledger.balanced());
}
