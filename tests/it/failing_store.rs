//! Sessions in a store that several gateways share, and that is slow, down or forgetful.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate::config::Config;
use tidegate::proto::message::session_put_payload;
use tidegate::proto::{Command, ErrorCode, GoAwayReason, GoAwayStage, extension_type};
use tidegate::server::Server;
use tidegate::stats::StoreView;

use crate::support::{
    Client, Manner, SharedStore, config, extension, frame, on_worker, start, store_contract, sum, until,
};

fn with(store: &SharedStore, config: Config) -> Server {
    start(config, |builder| builder.session_store(store.maker())).0
}

/// Fails quickly, and tries again quickly.
fn quick() -> Config {
    Config {
        session_store_timeout: Duration::from_millis(200),
        session_store_failures: 1,
        session_store_retry: Duration::from_millis(20),
        session_store_connections: 2,
        ..config()
    }
}

fn view(server: &Server) -> StoreView {
    server.overview().store.unwrap()
}

fn connect(server: &Server) -> Client {
    Client::connect(server.local_addrs()[0])
}

fn end(server: Server) {
    server.drain();
    assert_eq!(server.wait().exit_code(), 0);
}

#[test]
fn the_tests_own_store_does_what_every_store_has_to() {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    store_contract::check(&mut SharedStore::new(), *b"contract", now_ms);
}

#[test]
fn a_session_goes_on_on_another_gateway_and_the_one_that_had_it_lets_it_go() {
    let store = SharedStore::new();
    let (a, b) = (with(&store, quick()), with(&store, quick()));
    let mut first = connect(&a);
    let session = first.auth(b"").session;
    first.put(b"k", b"from a");
    let mut second = connect(&b);
    assert!(second.resume(b"", session).resumed, "while it is connected to the other gateway");
    second.put(b"k", b"from b");
    drop(second);
    // The first gateway has a copy still, and finds out that it is old.
    drop(first);
    let mut first = connect(&a);
    assert!(first.resume(b"", session).resumed);
    assert_eq!(first.call(Command::SESSION_GET, b"k"), b"from b");
    first.put(b"k", b"from a");
    let mut second = connect(&b);
    assert!(second.resume(b"", session).resumed);
    assert_eq!(second.call(Command::SESSION_GET, b"k"), b"from a");
    second.put(b"k", b"from b");
    // The first learns it as soon as it writes, and changes nothing.
    let late = first.request(Command::SESSION_PUT, &session_put_payload(b"k", b"late").unwrap());
    assert_eq!(first.expect_error(late).0, ErrorCode::Unavailable);
    first.expect_goaway(GoAwayStage::Final, GoAwayReason::Replaced);
    first.expect_eof();
    assert_eq!((view(&a).lost, view(&b).lost), (2, 1));
    assert_eq!(second.call(Command::SESSION_GET, b"k"), b"from b");
    // And back again, as it is.
    let mut third = connect(&a);
    assert!(third.resume(b"", session).resumed);
    assert_eq!(third.call(Command::SESSION_GET, b"k"), b"from b");
    end(a);
    end(b);
    let (closed, open) = store.closed();
    assert!(closed >= 2 && open == 0, "each thread's store is closed: {closed}, {open}");
}

#[test]
fn a_connection_that_writes_nothing_learns_within_the_ttl_that_its_session_is_elsewhere() {
    let store = SharedStore::new();
    let ttl = || Config { session_ttl: Duration::from_secs(3), ..quick() };
    let (a, b) = (with(&store, ttl()), with(&store, ttl()));
    let mut first = connect(&a);
    let session = first.auth(b"").session;
    until("it is saved", || store.sessions().0 == 1);
    let mut second = connect(&b);
    assert!(second.resume(b"", session).resumed);
    first.expect_goaway(GoAwayStage::Final, GoAwayReason::Replaced);
    // The other one stays, though nobody says anything: it is touched.
    let begun = Instant::now();
    until("longer than its time to live", || begun.elapsed() > Duration::from_millis(3_500));
    second.assert_alive();
    assert_eq!(store.sessions().0, 1, "no sweep has taken it");
    end(b);
}

#[test]
fn without_the_store_auth_works_state_is_unavailable_and_new_sessions_are_saved_when_it_is_back() {
    let store = SharedStore::new();
    let server = with(&store, quick());
    let mut before = connect(&server);
    let known = before.auth(b"").session;
    before.put(b"k", b"v");
    store.be(Manner::Down);
    until("that is known", || view(&server).down.is_some());
    // Nobody knows of it: to be given a new one would lose its client what is in it.
    connect(&server).expect_resume_unavailable([7; 16]);
    let mut during = connect(&server);
    let ready = during.auth(b"");
    assert_eq!(
        during.call_failing(Command::SESSION_PUT, &session_put_payload(b"k", b"1").unwrap()),
        ErrorCode::Unavailable
    );
    assert_eq!(during.call_failing(Command::SESSION_GET, b"k"), ErrorCode::NotFound, "the copy was not changed");
    assert_eq!(before.call(Command::SESSION_GET, b"k"), b"v", "what is here can be read");
    let mut again = on_worker(&server, 0);
    assert!(again.resume(b"", known).resumed, "and resumed");
    until("the new one is counted", || view(&server).unsaved == 1);
    store.be(Manner::Up);
    until("it is saved", || view(&server).unsaved == 0 && store.sessions().0 == 2);
    until("the store is up", || view(&server).down.is_none());
    during.put(b"k", b"2");
    let other = with(&store, quick());
    let mut elsewhere = connect(&other);
    assert!(elsewhere.resume(b"", ready.session).resumed);
    assert_eq!(elsewhere.call(Command::SESSION_GET, b"k"), b"2");
    let told = view(&server);
    assert!(told.broken >= 1 && told.failures >= 1 && told.queued == 0, "{told:?}");
}

#[test]
fn a_store_that_hangs_holds_up_no_auth_and_no_request_for_longer_than_it_may() {
    let store = SharedStore::new();
    let server = with(&store, quick());
    let mut client = connect(&server);
    client.auth(b"");
    client.put(b"k", b"v");
    store.be(Manner::Hangs);
    let begun = Instant::now();
    let slow = client.request(Command::SESSION_PUT, &session_put_payload(b"k", b"1").unwrap());
    let behind = client.request(Command::SESSION_GET, b"k");
    let brief =
        client.request_v2(Command::SESSION_DELETE, &extension(extension_type::DEADLINE, &50u32.to_be_bytes()), b"k");
    assert_eq!(client.call(Command::ECHO, b"x"), b"x", "whatever needs no store is answered meanwhile");
    assert_eq!(client.expect_error(brief).0, ErrorCode::DeadlineExceeded);
    assert_eq!(client.expect_error(slow).0, ErrorCode::Unavailable);
    assert_eq!(client.expect_error(behind).0, ErrorCode::Unavailable);
    connect(&server).expect_resume_unavailable([9; 16]);
    connect(&server).auth(b"");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    store.be(Manner::Up);
    // Nobody waits for them any more, and they are done all the same, in their order.
    until("they are done", || view(&server).queued == 0);
    assert_eq!(client.call_failing(Command::SESSION_GET, b"k"), ErrorCode::NotFound);
    client.put(b"k", b"2");
    assert_eq!(client.call(Command::SESSION_GET, b"k"), b"2");
    assert_eq!(sum(&server, |stats| &stats.in_flight), 0);
}

#[test]
fn a_write_that_was_done_though_it_failed_is_put_right() {
    let store = SharedStore::new();
    let server = with(&store, quick());
    let mut client = connect(&server);
    let session = client.auth(b"").session;
    client.put(b"k", b"told");
    store.be(Manner::Forgetful);
    assert_eq!(
        client.call_failing(Command::SESSION_PUT, &session_put_payload(b"k", b"not told").unwrap()),
        ErrorCode::Unavailable
    );
    assert_eq!(client.call(Command::SESSION_GET, b"k"), b"told");
    store.be(Manner::Up);
    let other = with(&store, quick());
    let commits = store.commits();
    until("it is put right", || store.commits() > commits && view(&server).down.is_none());
    let mut elsewhere = connect(&other);
    assert!(elsewhere.resume(b"", session).resumed);
    assert_eq!(elsewhere.call(Command::SESSION_GET, b"k"), b"told");
}

#[test]
fn a_store_that_has_lost_a_session_gets_it_again_with_the_next_write() {
    let store = SharedStore::new();
    let server = with(&store, quick());
    let mut client = connect(&server);
    let session = client.auth(b"").session;
    client.put(b"a", b"1");
    store.lose_all();
    client.put(b"b", b"2");
    let other = with(&store, quick());
    let mut elsewhere = connect(&other);
    assert!(elsewhere.resume(b"", session).resumed);
    assert_eq!(
        (elsewhere.call(Command::SESSION_GET, b"a"), elsewhere.call(Command::SESSION_GET, b"b")),
        (b"1".to_vec(), b"2".to_vec())
    );
}

#[test]
fn puts_of_many_clients_share_commits() {
    let store = SharedStore::new();
    let server = with(
        &store,
        Config { session_store_connections: 1, session_store_timeout: Duration::from_secs(20), ..quick() },
    );
    let mut clients: Vec<Client> = (0..40)
        .map(|_| {
            let mut client = connect(&server);
            client.auth(b"");
            client
        })
        .collect();
    until("all are saved", || store.sessions().0 == 40);
    store.be(Manner::Hangs);
    for client in &mut clients {
        let mut bytes = Vec::new();
        for n in 0..10u32 {
            bytes.extend(frame(100 + n, Command::SESSION_PUT, &session_put_payload(b"k", &[n as u8]).unwrap()));
        }
        client.send(&bytes);
    }
    until("all wait", || view(&server).queued == 400);
    let before = store.commits();
    store.be(Manner::Up);
    for client in &mut clients {
        for n in 0..10 {
            client.expect_reply(100 + n, Command::SESSION_PUT);
        }
    }
    let commits = store.commits() - before;
    assert!(commits <= 20, "{commits} commits for 400 writes");
}

#[test]
fn a_drain_tells_the_store_when_sessions_end_and_closes_it() {
    let store = SharedStore::new();
    let ttl = Duration::from_secs(50);
    let server = with(&store, Config { session_ttl: ttl, ..quick() });
    let mut clients: Vec<Client> = (0..10).map(|_| connect(&server)).collect();
    for client in &mut clients {
        client.auth(b"");
    }
    until("all are saved", || store.sessions().0 == 10);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    end(server);
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let ends = store.ends();
    let (from, to) = (before + 48_000, after + 52_000);
    assert!(ends.len() == 10 && ends[0] >= from && ends[9] <= to, "{ends:?} from {from} to {to}");
    assert_eq!(store.closed().1, 0);
}

#[test]
fn a_drain_saves_what_was_not_saved_and_waits_for_a_store_that_is_down_no_longer_than_it_must() {
    let store = SharedStore::new();
    let server = with(&store, Config { session_store_retry: Duration::from_secs(3_600), ..quick() });
    store.be(Manner::Down);
    let mut client = connect(&server);
    let session = client.auth(b"").session;
    until("it is unsaved", || view(&server).down.is_some() && view(&server).unsaved == 1);
    let begun = Instant::now();
    end(server);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(store.sessions().0, 0);
    // One that comes back before the end has it, though it was to be left alone for longer.
    let patient = Config { session_store_failures: 1_000, session_store_retry: Duration::from_secs(3_600), ..quick() };
    let server = with(&store, patient);
    let mut client = connect(&server);
    let second = client.auth(b"").session;
    until("it is unsaved", || view(&server).unsaved == 1 && view(&server).failures > 0);
    store.be(Manner::Up);
    end(server);
    assert_eq!(store.sessions().0, 1);
    let server = with(&store, quick());
    assert!(!connect(&server).resume(b"", session).resumed);
    assert!(connect(&server).resume(b"", second).resumed);
}

#[test]
fn a_store_that_hangs_at_the_end_is_left_behind() {
    let store = SharedStore::new();
    let server = with(&store, Config { drain_timeout: Duration::from_secs(2), ..quick() });
    let mut client = connect(&server);
    client.auth(b"");
    client.put(b"k", b"v");
    store.be(Manner::Hangs);
    drop(client);
    let begun = Instant::now();
    server.drain();
    server.wait();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    store.be(Manner::Up);
}
