//! Redis as a cluster, behind a sentinel, with replicas; and its scripts.

use std::sync::atomic::{AtomicBool, Ordering};

use tidegate::session::store::{Wanted, Write, Written};

use super::{claim, key, now_ms, open, pair, put, store};
use crate::support::{Asked, Cluster, Redis, Watched, store_contract, until};

#[test]
fn a_cluster_keeps_the_contract_and_every_node_has_its_share() {
    let cluster = Cluster::start();
    let mut kept = store(&cluster.url());
    store_contract::check(&mut *kept, *b"contract", now_ms());
    let opens: Vec<Write> = (0..300).map(|n| open(n, vec![pair(b"k", &n.to_be_bytes())])).collect();
    assert_eq!(kept.commit(&opens).unwrap(), [Written::Done; 300]);
    for node in &cluster.nodes {
        assert!(node.call::<u64>(&["DBSIZE"]) > 50);
    }
    let mut other = store(&cluster.url());
    for n in 0..300 {
        assert_eq!(claim(&mut *other, n).unwrap().state, [pair(b"k", &n.to_be_bytes())]);
    }
    assert_eq!(kept.commit(&[put(7, 1, b"k", b"")]).unwrap(), [Written::Lost]);
}

/// A slot that moves to another node while sessions of it are written: what is there is still with the old one, what
/// is new goes to the new one, and in the end all is with the new one.
#[test]
fn sessions_follow_their_slot_to_another_node() {
    let cluster = Cluster::start();
    let url = format!("{}?prefix={{moves}}:", cluster.url());
    let slot: u64 = cluster.nodes[0].call(&["CLUSTER", "KEYSLOT", "{moves}"]);
    let (from, to) = cluster.of_slot(slot);
    let mut kept = store(&url);
    kept.commit(&[open(1, vec![pair(b"k", b"v")])]).unwrap();
    assert_eq!(from.call::<u64>(&["DBSIZE"]), 1);
    let (slot, from_id, to_id) = (slot.to_string(), node_id(from), node_id(to));
    let () = to.call(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    let () = from.call(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    let batch = [put(1, 1, b"a", b"1"), open(2, Vec::new()), put(2, 1, b"b", b"1"), put(1, 1, b"a", b"2")];
    assert_eq!(kept.commit(&batch).unwrap(), [Written::Done; 4]);
    assert_eq!((from.call::<u64>(&["DBSIZE"]), to.call::<u64>(&["DBSIZE"])), (1, 1));
    let name: Vec<String> = from.call(&["KEYS", "*"]);
    let () = from.call(&["MIGRATE", "127.0.0.1", &to.port.to_string(), &name[0], "0", "5000"]);
    for node in [to, from] {
        let () = node.call(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
    }
    let batch = [put(1, 1, b"a", b"3"), put(2, 1, b"b", b"2"), open(3, Vec::new())];
    assert_eq!(kept.commit(&batch).unwrap(), [Written::Done; 3]);
    assert_eq!(to.call::<u64>(&["DBSIZE"]), 3);
    let mut state = claim(&mut *kept, 1).unwrap().state;
    state.sort();
    assert_eq!(state, [pair(b"a", b"3"), pair(b"k", b"v")]);
}

fn node_id(node: &Redis) -> String {
    node.call(&["CLUSTER", "MYID"])
}

#[test]
fn a_sentinel_leads_to_the_master_and_to_the_next_when_that_is_gone() {
    let watched = Watched::start();
    let mut kept = store(&format!("{}?wait=1", watched.url()));
    kept.commit(&[open(1, vec![pair(b"k", b"v")])]).unwrap();
    watched.master.kill();
    kept.commit(&[put(1, 1, b"k", b"w")]).unwrap_err();
    let mut next = store(&watched.url());
    until("the replica is the master", || next.commit(&[put(1, 1, b"k", b"w")]).is_ok());
    // Another process, so another fence: it was the first that opened the session.
    assert_eq!(next.commit(&[put(1, 1, b"k", b"w")]).unwrap(), [Written::Lost]);
    let stored = claim(&mut *next, 1).unwrap();
    assert_eq!((stored.fence, stored.state), (2, vec![pair(b"k", b"v")]));
    assert_eq!(watched.replica.call::<u64>(&["DBSIZE"]), 1);
}

#[test]
fn a_write_that_too_few_replicas_have_is_not_confirmed() {
    let watched = Watched::start();
    let mut kept = store(&format!("{}?wait=1", watched.master.url()));
    assert_eq!(kept.commit(&[open(1, Vec::new())]).unwrap(), [Written::Done]);
    watched.replica.freeze();
    let why = kept.commit(&[put(1, 1, b"k", b"v")]).unwrap_err().0;
    assert!(why.contains("0 of 1 replicas"), "{why}");
    watched.replica.thaw();
    until("the replica has caught up", || kept.commit(&[put(1, 1, b"k", b"v")]).is_ok());
}

#[test]
fn scripts_that_redis_has_forgotten_are_loaded_again_and_order_is_kept() {
    let server = Redis::start();
    let mut kept = store(&server.url());
    kept.commit(&[open(1, Vec::new())]).unwrap();
    for n in 0..20_u8 {
        let () = server.call(&["SCRIPT", "FLUSH"]);
        let writes: Vec<Write> = (0..50).map(|m| put(1, 1, b"k", &[n, m])).collect();
        assert_eq!(kept.commit(&writes).unwrap(), [Written::Done; 50]);
        let () = server.call(&["SCRIPT", "FLUSH"]);
        let wanted = Wanted { key: key(1), principal: "bob".into() };
        assert_eq!(kept.claim(&[wanted], now_ms()).unwrap(), [None]);
    }
    assert_eq!(claim(&mut *kept, 1).unwrap().state, [pair(b"k", &[19, 49])]);
}

#[test]
fn what_redis_refuses_for_now_is_not_taken_for_done() {
    let server = Redis::start();
    let mut kept = store(&server.url());
    kept.commit(&[open(1, Vec::new())]).unwrap();
    let () = server.call(&["CONFIG", "SET", "maxmemory", "1"]);
    let why = kept.commit(&[put(1, 1, b"k", b"v")]).unwrap_err().0;
    assert!(why.contains("OOM"), "{why}");
    let () = server.call(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(kept.commit(&[put(1, 1, b"k", b"v")]).unwrap(), [Written::Done]);
}

/// In the middle of a pipeline scripts are forgotten and loaded again by others, so that of one key's writes some are
/// done and earlier ones are not.
#[test]
fn writes_of_a_session_keep_their_order_while_scripts_come_and_go() {
    let server = Redis::start();
    let mut kept = store(&server.url());
    kept.commit(&[open(1, Vec::new())]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Stop(&stop);
        scope.spawn(|| {
            // Each open of another session loads the scripts that were forgotten.
            let mut other = store(&server.url());
            for n in 2.. {
                let () = server.call(&["SCRIPT", "FLUSH"]);
                let _ = other.commit(&[open(n, Vec::new())]);
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        for n in 0..30_u16 {
            let writes: Vec<Write> = (0..1_000_u16).map(|m| put(1, 1, b"k", &(n * 1_000 + m).to_be_bytes())).collect();
            // Tries have an end; what is not done is done again.
            until("it is written", || kept.commit(&writes).is_ok_and(|done| done == [Written::Done; 1_000]));
            let last: Vec<u8> = server.call(&["HGET", &format!("tidegate:session:{}", hex(1)), "k:k"]);
            assert_eq!(last, (n * 1_000 + 999).to_be_bytes(), "round {n}");
        }
    });
}

/// Tells the other thread to end, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn hex(n: u64) -> String {
    key(n).iter().map(|byte| format!("{byte:02x}")).collect()
}
