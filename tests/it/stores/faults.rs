//! Servers that freeze, die, come back, and networks that are late.

use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate::session::store::remote::{Gateway, Patience};
use tidegate::session::store::{Wanted, Written};

use super::{PATIENT, claim, open, pair, put, store, store_of};
use crate::support::{Asked, Daemon, Latch, MariaDb, Redis, until};

/// A server that is killed with `kill -9` has what it has confirmed.
fn killed(url: &str, kill: impl Fn(), restart: impl Fn()) {
    let mut store = store(url);
    let opens: Vec<_> = (0..20).map(|n| open(n, vec![pair(b"k", b"first")])).collect();
    store.commit(&opens).unwrap();
    let puts: Vec<_> = (0..20).map(|n| put(n, 1, b"k", &[n as u8])).collect();
    assert_eq!(store.commit(&puts).unwrap(), [Written::Done; 20]);
    kill();
    store.commit(&puts).unwrap_err();
    restart();
    // The same store finds the server again, and its sessions.
    assert_eq!(store.commit(&[put(3, 1, b"l", b"more")]).unwrap(), [Written::Done]);
    for n in 0..20 {
        let mut state = claim(&mut *store, n).unwrap().state;
        state.retain(|(name, _)| **name == *b"k");
        assert_eq!(state, [pair(b"k", &[n as u8])]);
    }
}

#[test]
fn what_was_committed_survives_the_kill_of_redis() {
    let server = Redis::start();
    killed(&server.url(), || server.kill(), || server.restart());
}

#[test]
fn what_was_committed_survives_the_kill_of_mariadb() {
    let server = MariaDb::start();
    killed(&server.database("killed"), || server.daemon.kill(), || server.restart());
}

/// A connection that the server's restart has cut costs nobody an error.
#[test]
fn a_server_that_was_started_anew_in_between_is_not_noticed() {
    let server = Redis::start();
    let database = MariaDb::start();
    let restarts: [(String, &dyn Fn()); 2] =
        [(server.url(), &|| server.restart()), (database.database("anew"), &|| database.restart())];
    for (url, restart) in restarts {
        let mut store = store(&url);
        store.commit(&[open(1, vec![pair(b"k", b"v")])]).unwrap();
        restart();
        assert_eq!(store.commit(&[put(1, 1, b"k", b"w")]).unwrap(), [Written::Done], "{url}");
        restart();
        assert_eq!(claim(&mut *store, 1).unwrap().state, [pair(b"k", b"w")]);
    }
}

fn frozen(url: &str, daemon: &Daemon) {
    let timeout = Duration::from_millis(400);
    let patience = Patience { timeout, ..PATIENT };
    let gateway = Gateway::new().unwrap();
    let mut used = store_of(&gateway, url, patience);
    used.commit(&[open(1, vec![pair(b"k", b"v")])]).unwrap();
    let mut fresh = store_of(&gateway, url, patience);
    let in_time = |what: &str, begun: Instant| {
        assert!(begun.elapsed() < timeout + Duration::from_millis(250), "{url}, {what}: {:?}", begun.elapsed());
    };
    daemon.freeze();
    let large: Vec<_> = (0..200).map(|n: u8| put(1, 1, &[n], &[n; 60_000])).collect();
    for (what, store) in [("a connection in use", &mut used), ("a new connection", &mut fresh)] {
        let begun = Instant::now();
        store.commit(&large).unwrap_err();
        in_time(what, begun);
        let begun = Instant::now();
        let wanted = Wanted { key: super::key(2), principal: "alice".into() };
        store.claim(&[wanted], 0).unwrap_err();
        in_time(what, begun);
        let begun = Instant::now();
        store.sweep(0, 1).unwrap_err();
        in_time(what, begun);
    }
    daemon.thaw();
    let mut thawed = store_of(&gateway, url, PATIENT);
    assert_eq!(thawed.commit(&[put(1, 1, b"k", b"w")]).unwrap(), [Written::Done]);
    used.close().unwrap();
}

#[test]
fn a_frozen_redis_holds_nobody_up_for_longer_than_the_time_out() {
    let server = Redis::start();
    frozen(&server.url(), &server);
}

#[test]
fn a_frozen_mariadb_holds_nobody_up_for_longer_than_the_time_out() {
    let server = MariaDb::start();
    frozen(&server.database("frozen"), &server.daemon);
}

/// Passes bytes on to a server, and holds them back while it is told to.
struct Proxy {
    port: u16,
    holds: Arc<AtomicBool>,
    latch: Latch,
}

impl Proxy {
    fn start(to: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (holds, latch) = (Arc::new(AtomicBool::new(false)), Latch::new());
        let (held, passes) = (Arc::clone(&holds), latch.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let (mut back, mut out) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut back, &mut out));
                let (held, passes) = (Arc::clone(&held), passes.clone());
                std::thread::spawn(move || forward(client, server, &held, &passes));
            }
        });
        Proxy { port, holds, latch }
    }
}

fn forward(mut client: TcpStream, mut server: TcpStream, holds: &AtomicBool, latch: &Latch) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(n) = client.read(&mut bytes) {
        if holds.load(Ordering::SeqCst) {
            latch.pass();
        }
        if n == 0 || server.write_all(&bytes[..n]).is_err() {
            return;
        }
    }
}

/// A network that delivers late what a store has given up, after it has sent it again by another connection and has
/// written more.
#[test]
fn what_redis_is_told_late_undoes_nothing() {
    let server = Redis::start();
    let proxy = Proxy::start(server.port);
    let gateway = Gateway::new().unwrap();
    let patience = Patience { timeout: Duration::from_millis(300), ..PATIENT };
    let mut late = store_of(&gateway, &format!("redis://127.0.0.1:{}", proxy.port), patience);
    late.commit(&[open(1, vec![pair(b"k", b"0")])]).unwrap();
    proxy.holds.store(true, Ordering::SeqCst);
    late.commit(&[put(1, 1, b"k", b"1")]).unwrap_err();
    let mut direct = store_of(&gateway, &server.url(), PATIENT);
    assert_eq!(direct.commit(&[put(1, 1, b"k", b"1"), put(1, 1, b"k", b"2")]).unwrap(), [Written::Done; 2]);
    let calls = || -> u64 {
        let stats: String = server.call(&["INFO", "commandstats"]);
        let of = stats.split("cmdstat_evalsha:calls=").nth(1).unwrap();
        of.split(',').next().unwrap().parse().unwrap()
    };
    let before = calls();
    proxy.latch.open();
    until("the late command has come", || calls() > before);
    assert_eq!(claim(&mut *direct, 1).unwrap().state, [pair(b"k", b"2")]);
}

#[test]
fn an_error_does_not_tell_the_password() {
    let server = Redis::start();
    let () = server.call(&["CONFIG", "SET", "requirepass", "s3cr3t"]);
    let database = MariaDb::shared();
    database.database("password");
    let wrong: [(String, &str); 3] = [
        (format!("redis://:hush-hush@{}", server.address()), "hush"),
        (format!("mysql://gate:hush-hush@127.0.0.1:{}/password", database.daemon.port), "hush"),
        ("mysql://gate:hush-hush@127.0.0.1:1/password".to_owned(), "hush"),
    ];
    for (url, secret) in wrong {
        let why = store(&url).commit(&[open(1, Vec::new())]).unwrap_err().0;
        assert!(!why.contains(secret) && why.len() > 10, "{why}");
    }
}
