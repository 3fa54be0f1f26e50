//! Sessions: state, bounds, ends, and the way back to them from any worker.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use tidegate::config::{AuthMode, Config, Core};
use tidegate::proto::message::session_put_payload;
use tidegate::proto::{Command, ErrorCode, GoAwayReason, GoAwayStage, SessionId};
use tidegate::server::Server;

use crate::support::{Client, Got, Latch, config, on_worker, start, sum, until};

const SLOW: Command = Command(0x20);

/// A client with a session that lives on worker 0.
fn at_home(server: &Server) -> (Client, SessionId) {
    let mut client = on_worker(server, 0);
    let session = client.auth(b"").session;
    (client, session)
}

#[test]
fn a_value_put_is_got_until_it_is_deleted() {
    let (_server, address) = start(config(), |b| b);
    let (mut client, _) = Client::ready(address);
    assert_eq!(client.get(b"k"), None);
    client.put(b"k", b"one");
    client.put(b"k", b"two");
    client.put(b"empty", b"");
    assert_eq!((client.get(b"k"), client.get(b"empty")), (Some(b"two".to_vec()), Some(vec![])));
    assert_eq!(client.call(Command::SESSION_DELETE, b"k"), b"");
    assert_eq!(client.call(Command::SESSION_DELETE, b"k"), b"", "deleting what is not there is no error");
    assert_eq!(client.get(b"k"), None);
    let (mut other, _) = Client::ready(address);
    assert_eq!(other.get(b"empty"), None, "another session's");
}

#[test]
fn a_payload_that_is_no_key_is_a_bad_request() {
    let (_server, address) = start(config(), |b| b);
    let (mut client, _) = Client::ready(address);
    for cmd in [Command::SESSION_GET, Command::SESSION_DELETE] {
        assert_eq!(client.call_failing(cmd, b""), ErrorCode::BadRequest);
        assert_eq!(client.call_failing(cmd, &[1; 256]), ErrorCode::BadRequest);
    }
    for wrong in [&b""[..], &[0], &[3, 1, 2]] {
        assert_eq!(client.call_failing(Command::SESSION_PUT, wrong), ErrorCode::BadRequest);
    }
    client.put(&[1; 255], b"the longest key");
    assert_eq!(client.get(&[1; 255]).unwrap(), b"the longest key");
}

#[test]
fn a_session_holds_no_more_keys_and_bytes_than_it_may() {
    let config = Config { session_max_entries: 2, session_max_bytes: 100, ..config() };
    let (_server, address) = start(config, |b| b);
    let (mut client, _) = Client::ready(address);
    client.put(b"a", &[0; 49]);
    client.put(b"b", &[0; 49]);
    let third = session_put_payload(b"c", b"").unwrap();
    assert_eq!(client.call_failing(Command::SESSION_PUT, &third), ErrorCode::BadRequest);
    let larger = session_put_payload(b"b", &[0; 50]).unwrap();
    assert_eq!(client.call_failing(Command::SESSION_PUT, &larger), ErrorCode::BadRequest);
    assert_eq!(client.get(b"b").unwrap(), [0; 49], "a refused put changes nothing");
    client.call(Command::SESSION_DELETE, b"a");
    client.put(b"c", &[0; 49]);
}

#[test]
fn a_session_is_resumed_with_its_state_on_its_own_worker_and_on_another() {
    let (server, _) = start(config(), |b| b);
    for worker in [0, 1, 0] {
        let (mut client, session) = at_home(&server);
        client.put(b"k", b"v");
        client.half_close();
        client.expect_eof();
        let mut again = on_worker(&server, worker);
        let ready = again.resume(b"", session);
        assert_eq!((ready.session, ready.resumed), (session, true), "on worker {worker}");
        assert_eq!(again.get(b"k").unwrap(), b"v");
        again.put(b"k", b"w");
        drop(again);
        // And back home, with what was written from there.
        let mut home = on_worker(&server, 0);
        assert!(home.resume(b"", session).resumed);
        assert_eq!(home.get(b"k").unwrap(), b"w");
    }
}

#[test]
fn session_operations_from_another_worker_keep_to_the_same_rules() {
    let config = Config { session_max_entries: 2, ..config() };
    let (server, address) = start(config, |b| b);
    let (client, session) = at_home(&server);
    drop(client);
    let mut remote = on_worker(&server, 1);
    assert!(remote.resume(b"", session).resumed);
    assert_eq!(remote.get(b"k"), None);
    // Pipelined: they are carried out in order, whenever their answers come.
    let first = remote.request(Command::SESSION_PUT, &session_put_payload(b"k", b"1").unwrap());
    let second = remote.request(Command::SESSION_PUT, &session_put_payload(b"k", b"2").unwrap());
    let third = remote.request(Command::SESSION_GET, b"k");
    remote.expect_reply(first, Command::SESSION_PUT);
    remote.expect_reply(second, Command::SESSION_PUT);
    assert_eq!(remote.expect_reply(third, Command::SESSION_GET), b"2");
    remote.put(b"l", b"");
    let third = session_put_payload(b"m", b"").unwrap();
    assert_eq!(remote.call_failing(Command::SESSION_PUT, &third), ErrorCode::BadRequest);
    assert_eq!(remote.call_failing(Command::SESSION_GET, b""), ErrorCode::BadRequest);
    remote.call(Command::SESSION_DELETE, b"k");
    assert_eq!(remote.get(b"k"), None);
    // BYE from there ends it at home, after everything that was asked before.
    let last = remote.request(Command::SESSION_GET, b"l");
    let bye = remote.request(Command::BYE, b"");
    assert_eq!(remote.expect_reply(last, Command::SESSION_GET), b"");
    remote.expect_reply(bye, Command::BYE);
    remote.expect_eof();
    until("the session is gone", || sum(&server, |s| &s.sessions) == 0);
    let mut late = Client::connect(address);
    assert!(!late.resume(b"", session).resumed);
}

#[test]
fn the_newer_connection_wins_and_the_older_is_answered_and_told() {
    let latch = Latch::new();
    let held = latch.clone();
    let (server, _) = start(config(), |b| {
        b.route_blocking(SLOW.0, move |_, responder| {
            held.pass();
            responder.reply(b"late");
        })
    });
    for (round, (old_on, new_on)) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().enumerate() {
        latch.close();
        let (home, session) = at_home(&server);
        drop(home);
        let mut older = on_worker(&server, old_on);
        assert!(older.resume(b"", session).resumed);
        older.put(b"k", b"v");
        let slow = older.request(SLOW, b"");
        latch.wait_for(round + 1);
        let mut newer = on_worker(&server, new_on);
        assert!(newer.resume(b"", session).resumed, "from worker {old_on} to {new_on}");
        let told = older.expect_goaway(GoAwayStage::Final, GoAwayReason::Replaced);
        assert_eq!(told.last_seq, slow);
        latch.open();
        assert_eq!(older.expect_reply(slow, SLOW), b"late");
        older.expect_eof();
        drop(older);
        assert_eq!(newer.get(b"k").unwrap(), b"v", "the older one's end does not touch it");
        newer.assert_alive();
    }
}

#[test]
fn an_unknown_id_gives_a_new_session_and_no_error() {
    let (server, address) = start(config(), |b| b);
    let (_owner, session) = at_home(&server);
    let mut guess = session;
    guess[15] ^= 1;
    for id in [[0; 16], [0xFF; 16], guess] {
        let mut client = Client::connect(address);
        let ready = client.resume(b"", id);
        assert!(!ready.resumed && ready.session != id && ready.session != session);
        client.assert_alive();
        client.put(b"k", b"v");
    }
}

#[test]
fn a_foreign_principals_id_gives_a_new_session_and_leaves_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (alice, alices_line) = tidegate::auth::generate_token("alice").unwrap();
    let (mallory, mallorys_line) = tidegate::auth::generate_token("mallory").unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, format!("{alices_line}\n{mallorys_line}\n")).unwrap();
    let (server, _) = start(Config { auth: AuthMode::Tokens(file), ..config() }, |b| b);
    for worker in [0, 1] {
        let mut owner = on_worker(&server, 0);
        let session = owner.auth(alice.as_bytes()).session;
        owner.put(b"k", b"secret");
        let mut thief = on_worker(&server, worker);
        let ready = thief.resume(mallory.as_bytes(), session);
        assert!(!ready.resumed && ready.session != session, "from worker {worker}");
        assert_eq!(thief.get(b"k"), None);
        assert_eq!(owner.get(b"k").unwrap(), b"secret", "still connected");
    }
}

#[test]
fn a_session_ends_when_its_time_to_live_has_run_out_and_not_while_it_is_connected() {
    let (server, address) = start(Config { session_ttl: Duration::from_secs(1), ..config() }, |b| b);
    let (kept, _) = Client::ready(address);
    let (mut left, ready) = Client::ready(address);
    left.half_close();
    left.expect_eof();
    until("the sweep has come", || sum(&server, |s| &s.sessions_expired) == 1);
    assert_eq!(sum(&server, |s| &s.sessions), 1);
    let mut late = Client::connect(address);
    assert!(!late.resume(b"", ready.session).resumed);
    drop(kept);
}

#[test]
fn ids_are_unique_and_every_byte_of_them_varies() {
    let (_server, address) = start(config(), |b| b);
    let ids: Vec<SessionId> = (0..300).map(|_| Client::ready(address).1.session).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    for byte in 0..16 {
        let values: HashSet<u8> = ids.iter().map(|id| id[byte]).collect();
        assert!(values.len() > 100, "byte {byte} has {} values in 300 ids", values.len());
    }
}

#[test]
fn a_full_table_forgets_sessions_without_state_and_refuses_when_there_are_none() {
    let (server, address) =
        start(Config { workers: 1, core: Core { max_sessions: 2, ..Core::default() }, ..config() }, |b| b);
    let (mut first, ready) = Client::ready(address);
    first.put(b"k", b"v");
    let (second, _) = Client::ready(address);
    refused(address);
    drop(second);
    until("its connection is gone", || sum(&server, |s| &s.connections_open) == 1);
    let (_third, _) = Client::ready(address);
    drop(first);
    until("its connection is gone", || sum(&server, |s| &s.connections_open) == 1);
    refused(address);
    let mut again = Client::connect(address);
    assert!(again.resume(b"", ready.session).resumed, "what was acknowledged is kept");
}

fn refused(address: SocketAddr) {
    let mut client = Client::connect(address);
    let seq = client.request(Command::AUTH, b"");
    let (code, retry_after_ms, _) = client.expect_error(seq);
    assert!(code == ErrorCode::Overloaded && retry_after_ms > 0);
    assert_eq!(client.next(), Got::Eof);
}
