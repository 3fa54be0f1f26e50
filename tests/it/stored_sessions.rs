//! Sessions that outlive the process: in the embedded store, through restarts and crashes, and with a store
//! that does as a test tells it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use tidegate::config::{AuthMode, Config};
use tidegate::proto::message::session_put_payload;
use tidegate::proto::{Command, SessionId};
use tidegate::server::Server;
use tidegate::session::store::embedded;

use crate::support::store_contract;
use crate::support::{Client, Process, config, frame, on_worker, start, until};

/// Whether the session was resumed.
fn resume(address: SocketAddr, session: SessionId) -> (Client, bool) {
    let mut client = Client::connect(address);
    let ready = client.resume(b"", session);
    assert_eq!(ready.resumed, ready.session == session, "{ready:?}");
    (client, ready.resumed)
}

fn kept_in(dir: &Path) -> Config {
    Config { data_dir: Some(dir.to_owned()), ..config() }
}

/// Ends a server in good order.
fn end(server: Server) {
    server.drain();
    assert_eq!(server.wait().exit_code(), 0);
}

#[test]
fn the_embedded_store_does_what_every_store_has_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = embedded::maker(dir.path(), Duration::from_secs(60))().unwrap();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    store_contract::check(&mut *store, *b"contract", now_ms);
}

#[test]
fn sessions_survive_a_restart_with_their_state_and_on_any_worker() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(kept_in(dir.path()), |b| b);
    let mut sessions = Vec::new();
    for n in 0..20u8 {
        let (mut client, ready) = Client::ready(address);
        client.put(b"n", &[n]);
        client.put(b"other", &[n; 100]);
        client.call(Command::SESSION_DELETE, b"other");
        sessions.push(ready.session);
    }
    let (_, without_state) = Client::ready(address);
    end(server);
    for workers in [1, 3] {
        let (server, address) = start(Config { workers, ..kept_in(dir.path()) }, |b| b);
        for (n, session) in sessions.iter().enumerate() {
            let (mut client, resumed) = resume(address, *session);
            assert!(resumed, "session {n}");
            assert_eq!((client.get(b"n"), client.get(b"other")), (Some(vec![n as u8]), None));
            client.put(b"n", &[n as u8]);
        }
        assert!(resume(address, without_state.session).1, "it held nothing, and is one all the same");
        end(server);
    }
}

#[test]
fn a_resumed_session_of_an_earlier_process_is_one_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(kept_in(dir.path()), |b| b);
    let session = Client::ready(address).1.session;
    end(server);
    let (server, _) = start(kept_in(dir.path()), |b| b);
    let mut first = on_worker(&server, 0);
    assert!(first.resume(b"", session).resumed);
    first.put(b"k", b"1");
    // From the other worker, while it is connected: the newer connection wins.
    let mut second = on_worker(&server, 1);
    assert!(second.resume(b"", session).resumed);
    first.rest();
    assert_eq!(second.get(b"k").unwrap(), b"1");
    second.put(b"k", b"2");
    drop(second);
    let mut third = on_worker(&server, 0);
    assert!(third.resume(b"", session).resumed);
    assert_eq!(third.get(b"k").unwrap(), b"2");
    let gone = server.disconnect(&session, Duration::from_secs(10));
    assert_eq!(gone.and_then(|gone| gone.info.session), Some(session), "an operator finds it by its id");
    end(server);
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("DATA_DIR", dir.path().to_str().unwrap()), ("WORKERS", "3")];
    let mut clients: Vec<(SessionId, u32)> = Vec::new();
    for round in 0..3u32 {
        let process = Process::serve(&settings);
        for (session, value) in &mut clients {
            let (mut client, resumed) = resume(process.address, *session);
            assert!(resumed, "round {round}");
            assert_eq!(client.get(b"k").unwrap(), value.to_be_bytes());
            *value += 1;
            client.put(b"k", &value.to_be_bytes());
        }
        for _ in 0..10 {
            let (mut client, ready) = Client::ready(process.address);
            client.put(b"k", &7u32.to_be_bytes());
            clients.push((ready.session, 7));
        }
        // The last reply was read just now.
        process.signal(Signal::KILL);
        assert_eq!(process.wait().code, None);
    }
}

#[test]
fn a_pipelining_client_reads_its_own_writes_and_finds_the_last_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("DATA_DIR", dir.path().to_str().unwrap())];
    let process = Process::serve(&settings);
    let (mut client, ready) = Client::ready(process.address);
    let mut bytes = Vec::new();
    for n in 0..200u32 {
        bytes.extend(frame(10 + 2 * n, Command::SESSION_PUT, &session_put_payload(b"k", &n.to_be_bytes()).unwrap()));
        bytes.extend(frame(11 + 2 * n, Command::SESSION_GET, b"k"));
    }
    client.send(&bytes);
    for n in 0..200u32 {
        assert_eq!(client.expect_reply(10 + 2 * n, Command::SESSION_PUT), b"");
        assert_eq!(client.expect_reply(11 + 2 * n, Command::SESSION_GET), n.to_be_bytes());
    }
    process.signal(Signal::KILL);
    process.wait();
    let process = Process::serve(&settings);
    let (mut client, resumed) = resume(process.address, ready.session);
    assert!(resumed);
    assert_eq!(client.get(b"k").unwrap(), 199u32.to_be_bytes());
}

#[test]
fn a_session_ended_by_bye_is_not_in_the_store_either() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(kept_in(dir.path()), |b| b);
    let (mut client, ready) = Client::ready(address);
    client.put(b"k", b"v");
    client.call(Command::BYE, b"");
    client.expect_eof();
    assert!(!resume(address, ready.session).1);
    end(server);
    let (_server, address) = start(kept_in(dir.path()), |b| b);
    assert!(!resume(address, ready.session).1);
}

#[test]
fn a_session_of_an_earlier_process_ends_when_its_time_has_run_out() {
    let dir = tempfile::tempdir().unwrap();
    let brief = || Config { session_ttl: Duration::from_secs(1), ..kept_in(dir.path()) };
    let (server, address) = start(brief(), |b| b);
    let (mut client, ready) = Client::ready(address);
    client.put(b"k", b"v");
    end(server);
    let ended = Instant::now();
    until("its time has run out", || ended.elapsed() > Duration::from_millis(1_100));
    let (server, address) = start(brief(), |b| b);
    assert!(!resume(address, ready.session).1);
    until("it is swept", || server.overview().store.unwrap().swept == 1);
    end(server);
}

#[test]
fn a_session_that_was_left_before_the_drain_has_no_more_time_than_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let brief = || Config { session_ttl: Duration::from_secs(3), ..kept_in(dir.path()) };
    let (server, address) = start(brief(), |b| b);
    let (client, left) = Client::ready(address);
    drop(client);
    let gone = Instant::now();
    until("it is left for a while", || gone.elapsed() > Duration::from_millis(1_900));
    end(server);
    let (server, address) = start(brief(), |b| b);
    until("its time has run out", || gone.elapsed() > Duration::from_millis(3_300));
    assert!(!resume(address, left.session).1);
    end(server);
}

#[test]
fn another_principals_session_stays_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let (alice, alices_line) = tidegate::auth::generate_token("alice").unwrap();
    let (bob, bobs_line) = tidegate::auth::generate_token("bob").unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, format!("{alices_line}\n{bobs_line}\n")).unwrap();
    let auth = || Config { auth: AuthMode::Tokens(tokens.clone()), ..kept_in(dir.path()) };
    let resumed = |address, token: &str, session| {
        let mut client = Client::connect(address);
        let resumed = client.resume(token.as_bytes(), session).resumed;
        (client, resumed)
    };
    let (server, address) = start(auth(), |b| b);
    let mut client = Client::connect(address);
    let session = client.auth(alice.as_bytes()).session;
    client.put(b"k", b"hers");
    end(server);
    let (server, address) = start(auth(), |b| b);
    let (mut client, foreign) = resumed(address, &bob, session);
    assert_eq!((foreign, client.get(b"k")), (false, None));
    let (mut client, own) = resumed(address, &alice, session);
    assert!(own);
    assert!(!resumed(address, &bob, session).1, "nor when it is here");
    assert_eq!(client.get(b"k").unwrap(), b"hers");
    end(server);
}

#[test]
fn a_damaged_store_stops_the_start_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(embedded::FILE_NAME), b"something else").unwrap();
    let error = Server::builder().config(kept_in(dir.path())).start().unwrap_err().to_string();
    assert!(error.contains("is damaged") && error.contains("move it away"), "{error}");
}

#[test]
fn with_memory_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let memory = || Config { session_store: tidegate::config::SessionStoreSpec::Memory, ..kept_in(dir.path()) };
    let (server, address) = start(memory(), |b| b);
    let session = Client::ready(address).1.session;
    assert!(server.overview().store.is_none());
    end(server);
    let (_server, address) = start(memory(), |b| b);
    assert!(!resume(address, session).1);
    assert!(!dir.path().join(embedded::FILE_NAME).exists());
}

#[test]
fn the_overview_tells_of_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(kept_in(dir.path()), |b| b);
    let (mut client, _) = Client::ready(address);
    client.put(b"k", b"v");
    let store = server.overview().store.unwrap();
    assert_eq!((store.kind, store.down, store.unsaved, store.failures), ("embedded", None, 0, 0));
    assert!(store.written >= 2 && store.commits >= 1 && store.latency.count() >= 1, "{}", store.written);
    until("nothing waits", || server.overview().store.unwrap().queued == 0);
    let _ = Arc::new(());
}
