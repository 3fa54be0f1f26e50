//! Two gateways, processes of the real program, that share a store.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tidegate::proto::message::session_put_payload;
use tidegate::proto::{Command, ErrorCode, ErrorReply, GoAway, GoAwayReason, SessionId};

use crate::support::{Client, Daemon, MariaDb, Process, Redis, get, until};

/// The servers of a test, one after the other: each has its URL, and can be killed, frozen and started again.
struct Server<'a> {
    url: String,
    daemon: &'a Daemon,
    restart: &'a dyn Fn(),
}

fn on_both(name: &str, promise: impl Fn(&Server<'_>)) {
    let redis = Redis::start();
    promise(&Server { url: redis.url(), daemon: &redis, restart: &|| redis.restart() });
    drop(redis);
    let mariadb = MariaDb::start();
    let url = mariadb.database(name);
    promise(&Server { url, daemon: &mariadb.daemon, restart: &|| mariadb.restart() });
}

fn gateway(url: &str) -> Process {
    Process::serve(&[
        ("SESSION_STORE", url),
        ("SESSION_STORE_TIMEOUT_MS", "600"),
        ("SESSION_STORE_RETRY_MS", "100"),
        ("SESSION_STORE_FAILURES", "2"),
    ])
}

/// Whether it was committed; if not, that was said.
fn try_put(client: &mut Client, key: &[u8], value: &[u8]) -> bool {
    let seq = client.request(Command::SESSION_PUT, &session_put_payload(key, value).unwrap());
    let reply = client.frame();
    assert_eq!(reply.seq, seq, "{reply:?}");
    if reply.cmd == Command::ERROR {
        let error = ErrorReply::parse(&reply.payload).unwrap();
        assert_eq!(error.known_code(), Some(ErrorCode::Unavailable), "{error:?}");
    }
    reply.cmd == Command::SESSION_PUT
}

fn read(client: &mut Client, key: &[u8]) -> Vec<u8> {
    client.call(Command::SESSION_GET, key)
}

/// The session, resumed.
#[track_caller]
fn resume(gateway: &Process, session: SessionId) -> Client {
    let mut client = Client::connect(gateway.address);
    let ready = client.resume(b"", session);
    assert_eq!((ready.session, ready.resumed), (session, true));
    client
}

fn metric(gateway: &Process, name: &str) -> u64 {
    let (_, page) = get(gateway.admin, "/metrics");
    let line = page.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
}

#[test]
fn a_session_is_resumed_on_another_gateway_and_the_older_connection_is_told() {
    on_both("resumed", |server| {
        let (a, b) = (gateway(&server.url), gateway(&server.url));
        let (mut older, ready) = Client::ready(a.address);
        older.put(b"k", b"from a");
        let mut newer = resume(&b, ready.session);
        assert_eq!(read(&mut newer, b"k"), b"from a");
        newer.put(b"k", b"from b");
        // It learns at its next write, which changes nothing.
        let late = older.request(Command::SESSION_PUT, &session_put_payload(b"k", b"late").unwrap());
        let (frames, _) = older.rest();
        assert!(frames.iter().any(|frame| frame.seq == late && frame.cmd == Command::ERROR), "{frames:?}");
        let told = frames.iter().find(|frame| frame.cmd == Command::GOAWAY).expect("it is told");
        assert_eq!(GoAway::parse(&told.payload).unwrap().reason, GoAwayReason::Replaced);
        assert_eq!(read(&mut newer, b"k"), b"from b");
        newer.assert_alive();
    });
}

#[test]
fn a_session_that_goes_to_and_fro_always_has_what_was_acknowledged_last() {
    on_both("fro", |server| {
        let gateways = [gateway(&server.url), gateway(&server.url)];
        let (mut client, ready) = Client::ready(gateways[0].address);
        client.put(b"n", b"0");
        for n in 1..20_usize {
            drop(client);
            client = resume(&gateways[n % 2], ready.session);
            assert_eq!(read(&mut client, b"n"), (n - 1).to_string().as_bytes(), "round {n}");
            client.put(b"n", n.to_string().as_bytes());
        }
    });
}

#[test]
fn what_a_gateway_acknowledged_before_it_was_killed_is_on_the_other() {
    on_both("killed", |server| {
        let b = gateway(&server.url);
        for round in 0..5_u8 {
            let a = gateway(&server.url);
            let (mut client, ready) = Client::ready(a.address);
            for n in 0..50_u8 {
                client.put(&[n], &[round, n]);
            }
            a.signal(Signal::KILL);
            a.wait();
            let mut client = resume(&b, ready.session);
            for n in 0..50_u8 {
                assert_eq!(read(&mut client, &[n]), [round, n]);
            }
        }
    });
}

#[test]
fn a_gateway_that_drains_leaves_its_sessions_to_the_other() {
    on_both("drained", |server| {
        let (a, b) = (gateway(&server.url), gateway(&server.url));
        let mut sessions = Vec::new();
        for n in 0..20_u8 {
            let (mut client, ready) = Client::ready(a.address);
            client.put(b"n", &[n]);
            sessions.push((client, ready.session));
        }
        // One that holds nothing is one, too.
        let (bare, ready) = Client::ready(a.address);
        drop(bare);
        a.signal(Signal::TERM);
        let mut clients = Vec::new();
        for (mut client, session) in sessions {
            client.half_close();
            client.rest();
            clients.push(session);
        }
        let exit = a.wait();
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        for (n, session) in clients.into_iter().enumerate() {
            assert_eq!(read(&mut resume(&b, session), b"n"), [n as u8]);
        }
        resume(&b, ready.session);
    });
}

#[test]
fn a_store_that_is_killed_and_comes_back_has_lost_nothing_that_was_acknowledged() {
    on_both("down", |server| {
        let (a, b) = (gateway(&server.url), gateway(&server.url));
        let (mut client, ready) = Client::ready(a.address);
        client.put(b"k", b"before");
        server.daemon.kill();
        assert!(!try_put(&mut client, b"k", b"lost"), "nothing is acknowledged that is not committed");
        assert!(!try_put(&mut client, b"k", b"lost"));
        client.assert_alive();
        // Who comes without a session gets in, and has one; who comes with one that is elsewhere is to try again.
        let (mut fresh, in_memory) = Client::ready(a.address);
        fresh.assert_alive();
        Client::connect(b.address).expect_resume_unavailable(ready.session);
        until("they are counted", || metric(&a, "tidegate_session_store_unsaved") >= 1);
        (server.restart)();
        until("what is put is committed again", || try_put(&mut client, b"k", b"after"));
        until("the new one can hold something", || try_put(&mut fresh, b"f", b"kept"));
        until("all are saved", || metric(&a, "tidegate_session_store_unsaved") == 0);
        // The other gateway asks the store again only after a while.
        until("the other gateway has seen it, too", || metric(&b, "tidegate_session_store_up") == 1);
        assert_eq!(read(&mut resume(&b, ready.session), b"k"), b"after");
        assert_eq!(read(&mut resume(&b, in_memory.session), b"f"), b"kept");
    });
}

#[test]
fn a_store_that_is_frozen_holds_up_nobody_who_does_not_need_it() {
    on_both("frozen", |server| {
        let a = gateway(&server.url);
        let (mut client, ready) = Client::ready(a.address);
        client.put(b"k", b"v");
        server.daemon.freeze();
        let begun = Instant::now();
        assert_eq!(read(&mut client, b"k"), b"v", "from the copy");
        let (mut fresh, _) = Client::ready(a.address);
        fresh.assert_alive();
        assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
        assert!(!try_put(&mut client, b"k", b"w"));
        client.assert_alive();
        server.daemon.thaw();
        until("it is committed again", || try_put(&mut client, b"k", b"x"));
        let b = gateway(&server.url);
        assert_eq!(read(&mut resume(&b, ready.session), b"k"), b"x");
    });
}

#[test]
fn a_gateway_starts_without_its_store_and_uses_it_when_it_is_there() {
    on_both("absent", |server| {
        server.daemon.kill();
        let a = gateway(&server.url);
        let (mut client, ready) = Client::ready(a.address);
        assert!(!try_put(&mut client, b"k", b"v"));
        (server.restart)();
        until("it is committed", || try_put(&mut client, b"k", b"v"));
        let b = gateway(&server.url);
        assert_eq!(read(&mut resume(&b, ready.session), b"k"), b"v");
    });
}
