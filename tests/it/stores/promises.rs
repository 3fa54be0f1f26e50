//! What stores promise, whatever they are.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tidegate::session::store::remote::{Gateway, Patience};
use tidegate::session::store::{Write, WriteOp, Written};

use super::{PATIENT, claim, key, now_ms, open, pair, put, store, store_of};
use crate::support::{Asked, MariaDb, Redis, store_contract, until};

#[test]
fn redis_keeps_the_contract_of_stores() {
    let server = Redis::start();
    store_contract::check(&mut *store(&server.url()), *b"contract", now_ms());
    let (mut a, mut b) = (store(&server.url()), store(&format!("{}?prefix=other:", server.url())));
    assert_eq!(a.commit(&[open(1, Vec::new())]).unwrap(), [Written::Done]);
    assert_eq!(claim(&mut *b, 1), None, "another prefix is another store");
    a.close().unwrap();
}

#[test]
fn mariadb_keeps_the_contract_of_stores() {
    let server = MariaDb::shared();
    let url = server.database("contract");
    store_contract::check(&mut *store(&url), *b"contract", now_ms());
    store(&url).close().unwrap();
}

/// Two processes that claim the same session all the time, on two connections.
fn race(url: &str) {
    assert_eq!(store(url).commit(&[open(1, vec![pair(b"k", b"v")])]).unwrap(), [Written::Done]);
    let claimers: Vec<_> = (0..2)
        .map(|_| {
            let url = url.to_owned();
            std::thread::spawn(move || {
                let mut store = store(&url);
                let fences: Vec<u64> = (0..100).map(|_| claim(&mut *store, 1).unwrap().fence).collect();
                (store, fences)
            })
        })
        .collect();
    let mut ended: Vec<_> = claimers.into_iter().map(|claimer| claimer.join().unwrap()).collect();
    let fences: HashSet<u64> = ended.iter().flat_map(|(_, fences)| fences.clone()).collect();
    assert_eq!(fences.len(), 200, "no fence is given twice");
    ended.sort_by_key(|(_, fences)| *fences.last().unwrap());
    let (newer, older) = (ended.pop().unwrap(), ended.pop().unwrap());
    assert_eq!(*newer.1.last().unwrap(), 201);
    for ((mut store, fences), result) in [(older, Written::Lost), (newer, Written::Done)] {
        let fence = *fences.last().unwrap();
        assert_eq!(store.commit(&[put(1, fence, b"k", b"mine")]).unwrap(), [result]);
    }
}

#[test]
fn of_two_that_claim_a_session_at_the_same_time_one_owns_it() {
    let server = Redis::start();
    race(&server.url());
    race(&MariaDb::shared().database("race"));
}

/// Many processes that write many sessions each in every commit, the same ones in another order.
#[test]
fn commits_that_meet_in_the_same_sessions_are_all_done() {
    let server = MariaDb::shared();
    let url = server.database("meet");
    let gateway = Gateway::new().unwrap();
    let opens: Vec<Write> = (0..50).map(|n| open(n, Vec::new())).collect();
    store_of(&gateway, &url, PATIENT).commit(&opens).unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let mut store = store_of(&gateway, &url, PATIENT);
            std::thread::spawn(move || {
                for round in 0..20 {
                    let order = |n: u64| if writer % 2 == 0 { n } else { 49 - n };
                    let name = [writer, round];
                    let writes: Vec<Write> = (0..50).map(|n| put(order(n), 1, &name, b"x")).collect();
                    assert_eq!(store.commit(&writes).unwrap(), [Written::Done; 50]);
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(claim(&mut *store(&url), 7).unwrap().state.len(), 80);
}

fn thousand() -> Vec<Write> {
    (0..1_000).map(|n| put(n % 100, 1, &n.to_be_bytes(), &[7; 100])).collect()
}

#[test]
fn a_thousand_puts_are_few_round_trips() {
    let opens: Vec<Write> = (0..100).map(|n| open(n, Vec::new())).collect();

    let server = Redis::start();
    let mut redis = store(&server.url());
    redis.commit(&opens).unwrap();
    let before = server.info("total_reads_processed");
    assert_eq!(redis.commit(&thousand()).unwrap(), [Written::Done; 1_000]);
    // The server reads 16 KiB at once; the second INFO and its connection are counted, too.
    let reads = server.info("total_reads_processed") - before;
    assert!(reads < 60, "{reads} reads");
    assert_eq!(claim(&mut *redis, 42).unwrap().state.len(), 10);

    let server = MariaDb::start();
    let mut mariadb = store(&server.database("many"));
    mariadb.commit(&opens).unwrap();
    let (statements, commits) = (server.status("Com_stmt_execute"), server.status("Com_commit"));
    assert_eq!(mariadb.commit(&thousand()).unwrap(), [Written::Done; 1_000]);
    let statements = server.status("Com_stmt_execute") - statements;
    assert!(statements < 30, "{statements} statements");
    assert_eq!(server.status("Com_commit") - commits, 1, "one transaction");
    assert_eq!(claim(&mut *mariadb, 42).unwrap().state.len(), 10);
}

#[test]
fn the_largest_session_comes_back_whole() {
    let value = |n: u16| -> Vec<u8> { (0..60_000_u32).map(|at| (at * u32::from(n + 1)) as u8).collect() };
    let state: Vec<_> = (0..100).map(|n: u16| pair(&n.to_be_bytes(), &value(n))).collect();
    let server = Redis::start();
    for url in [server.url(), MariaDb::shared().database("large")] {
        let mut store = store(&url);
        assert_eq!(store.commit(&[open(1, state.clone())]).unwrap(), [Written::Done]);
        let mut found = claim(&mut *store, 1).unwrap().state;
        found.sort();
        assert!(found == state, "{url}");
    }
}

#[test]
fn a_session_whose_time_has_run_out_is_gone_with_its_state() {
    let server = Redis::start();
    let mut redis = store(&server.url());
    let op = WriteOp::Open { principal: "alice".into(), ends_ms: now_ms() + 50, state: vec![pair(b"k", b"v")] };
    redis.commit(&[Write { key: key(1), fence: 1, op: op.clone() }]).unwrap();
    until("Redis has forgotten it", || server.call::<u64>(&["DBSIZE"]) == 0);
    assert_eq!(redis.commit(&[put(1, 1, b"k", b"v")]).unwrap(), [Written::Gone]);

    let server = MariaDb::shared();
    let mut mariadb = store(&server.database("ends"));
    mariadb.commit(&[Write { key: key(1), fence: 1, op }, open(2, vec![pair(b"k", b"v")])]).unwrap();
    let rows = || server.query::<u64>("SELECT COUNT(*) FROM ends.tidegate_state")[0];
    assert_eq!(rows(), 2);
    assert_eq!(mariadb.sweep(now_ms() + 100, 10).unwrap(), 1);
    assert_eq!(rows(), 1, "its state is gone with it, and nothing else is");
    assert_eq!(mariadb.sweep(now_ms() + 100, 10).unwrap(), 0);
    let more: Vec<Write> = (10..30).map(|n| open(n, vec![pair(b"k", b"v")])).collect();
    mariadb.commit(&more).unwrap();
    assert_eq!(mariadb.sweep(u64::MAX, 15).unwrap(), 15, "no more than it is told to");
}

/// A process that has forgotten, or never known, that another owns a session with the same fence: a server that
/// failed over may have forgotten a claim.
#[test]
fn the_same_fence_in_another_process_is_not_the_owners() {
    let server = Redis::start();
    for url in [server.url(), MariaDb::shared().database("same")] {
        let (mut ours, mut theirs) = (store(&url), store(&url));
        ours.commit(&[open(1, vec![pair(b"k", b"ours")])]).unwrap();
        let end = Write { key: key(1), fence: 1, op: WriteOp::End };
        assert_eq!(theirs.commit(&[put(1, 1, b"k", b"theirs"), end]).unwrap(), [Written::Lost; 2]);
        assert_eq!(claim(&mut *ours, 1).unwrap().state, [pair(b"k", b"ours")]);
    }
}

#[test]
fn connections_that_are_old_or_were_idle_are_replaced() {
    let server = Redis::start();
    let old = Patience { lifetime: Duration::ZERO, ..PATIENT };
    let idle = Patience { idle: Duration::from_millis(20), ..PATIENT };
    let database = MariaDb::start();
    let url = database.database("age");
    for (url, opened) in [
        (server.url(), &(|| server.info("total_connections_received")) as &dyn Fn() -> u64),
        (url, &|| database.status("Connections")),
    ] {
        // Each question opens one itself.
        for (patience, fresh) in [(PATIENT, 1), (old, 3), (idle, 2)] {
            let mut store = store_of(&Gateway::new().unwrap(), &url, patience);
            let before = opened();
            claim(&mut *store, 1);
            claim(&mut *store, 1);
            let pause = Instant::now();
            until("it was idle", || pause.elapsed() > Duration::from_millis(30));
            claim(&mut *store, 1);
            let opened = opened() - before - 1;
            assert!(
                opened == fresh || (patience.idle < PATIENT.idle && opened == 3),
                "{url}: {opened} for {patience:?}"
            );
        }
    }
}

#[test]
fn a_store_at_rest_closes_its_connection_when_that_has_been_idle() {
    let server = Redis::start();
    let database = MariaDb::start();
    let url = database.database("rest");
    let open: [(String, &dyn Fn() -> u64); 2] =
        [(server.url(), &|| server.info("connected_clients")), (url, &|| database.status("Threads_connected"))];
    for (url, connections) in open {
        let idle = Patience { idle: Duration::from_millis(100), ..PATIENT };
        let mut store = store_of(&Gateway::new().unwrap(), &url, idle);
        claim(&mut *store, 1);
        // The question has a connection, too.
        until("there is one", || connections() == 2);
        until("it is closed", || {
            store.rest();
            connections() == 1
        });
        assert_eq!(claim(&mut *store, 1), None);
    }
}
