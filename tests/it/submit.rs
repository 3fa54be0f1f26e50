//! SUBMIT: a message is on the disk before its reply leaves, and a retry is recognised.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate::config::{Config, Core};
use tidegate::journal::{Disk, Reader};
use tidegate::proto::message::{parse_submitted, topic_payload};
use tidegate::proto::{Command, ErrorCode, ErrorReply, extension_type};

use crate::support::{Client, audit, config, extension, on_worker, start};

fn durable(dir: &Path) -> Config {
    Config { data_dir: Some(dir.to_owned()), ..config() }
}

fn submit(client: &mut Client, topic: &str, body: &[u8]) -> (u64, bool) {
    let reply = client.call(Command::SUBMIT, &topic_payload(topic.as_bytes(), body).unwrap());
    parse_submitted(&reply).expect("an id and flags")
}

fn submit_with_key(client: &mut Client, key: [u8; 16], body: &[u8]) -> (u64, bool) {
    let payload = topic_payload(b"orders", body).unwrap();
    let seq = client.request_v2(Command::SUBMIT, &extension(extension_type::IDEMPOTENCY, &key), &payload);
    parse_submitted(&client.expect_reply(seq, Command::SUBMIT)).expect("an id and flags")
}

#[test]
fn every_message_gets_an_id_above_those_before_it_also_across_restarts() {
    let dir = TempDir::new().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let (server, address) = start(durable(dir.path()), |b| b);
        let (mut client, _) = Client::ready(address);
        for body in [&b""[..], b"x", &[7; 60_000]] {
            let (id, duplicate) = submit(&mut client, "orders/eu", body);
            assert!(id > last && !duplicate, "{id} after {last}");
            last = id;
        }
        drop(client);
        server.drain();
        let ended = server.wait();
        assert!(ended.ledger.clean(), "{}", ended.ledger);
        let journal = ended.ledger.journal.unwrap();
        assert_eq!((journal.stored, journal.duplicates, journal.pending, journal.closed), (3, 0, 0, true));
    }
}

#[test]
fn a_journal_that_polls_stores_no_less_and_comes_to_its_end() {
    let dir = TempDir::new().unwrap();
    let core = Core { busy_poll_us: 1_000_000, ..Core::default() };
    let polling = Config { journal_busy_poll_us: 1_000_000, core, ..durable(dir.path()) };
    let (server, address) = start(polling, |b| b);
    let (mut client, _) = Client::ready(address);
    (1..=100).for_each(|n| assert_eq!(submit(&mut client, "orders/eu", b"x"), (n, false)));
    server.drain();
    let journal = server.wait().ledger.journal.unwrap();
    assert_eq!((journal.stored, journal.closed), (100, true));
}

#[test]
fn a_message_has_the_name_of_its_session_whoever_came_before() {
    let dir = TempDir::new().unwrap();
    let (server, _) = start(durable(dir.path()), |b| b);
    let mut clients = [on_worker(&server, 0), on_worker(&server, 0)];
    let ids = clients.each_mut().map(|client| client.auth(b"").session);
    for turn in [0, 1, 1, 0] {
        submit(&mut clients[turn], "orders/eu", b"x");
    }
    let mut reader = Reader::new(Arc::new(Disk::existing(dir.path()).unwrap()), 0);
    let names: Vec<_> = std::iter::from_fn(|| reader.next(u64::MAX).unwrap()).map(|m| m.session.unwrap()).collect();
    assert!(names.len() == 4 && names[0] == names[3] && names[1] == names[2] && names[0] != names[1], "{names:?}");
    assert!(names.iter().all(|name| !ids.contains(name)), "an id would let anybody in who reads it");
}

#[test]
fn a_retry_by_its_key_gets_the_first_id_on_any_connection_and_worker_and_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let (server, _) = start(durable(dir.path()), |b| b);
    let mut first = on_worker(&server, 0);
    first.auth(b"");
    let mut second = on_worker(&server, 1);
    second.auth(b"");
    let (id, duplicate) = submit_with_key(&mut first, [1; 16], b"once");
    assert!(!duplicate);
    assert_eq!(submit_with_key(&mut first, [1; 16], b"once"), (id, true));
    assert_eq!(submit_with_key(&mut second, [1; 16], b"once"), (id, true));
    let other = submit_with_key(&mut second, [2; 16], b"another");
    assert!(other.0 > id && !other.1);
    drop((first, second));
    server.drain();
    assert_eq!(server.wait().ledger.journal.unwrap().duplicates, 2);
    let (_server, address) = start(durable(dir.path()), |b| b);
    let (mut third, _) = Client::ready(address);
    assert_eq!(submit_with_key(&mut third, [1; 16], b"once"), (id, true), "after a restart");
    assert_eq!(submit_with_key(&mut third, [2; 16], b"another"), (other.0, true));
}

#[test]
fn retries_that_come_together_are_one_message() {
    let dir = TempDir::new().unwrap();
    let (_server, address) = start(durable(dir.path()), |b| b);
    let (mut client, _) = Client::ready(address);
    let payload = topic_payload(b"orders", b"once").unwrap();
    let block = extension(extension_type::IDEMPOTENCY, &[9; 16]);
    let seqs: Vec<u32> = (0..20).map(|_| client.request_v2(Command::SUBMIT, &block, &payload)).collect();
    let replies = seqs.into_iter().map(|seq| parse_submitted(&client.expect_reply(seq, Command::SUBMIT)).unwrap());
    let replies: Vec<(u64, bool)> = replies.collect();
    let ids: HashSet<u64> = replies.iter().map(|(id, _)| *id).collect();
    assert_eq!((ids.len(), replies.iter().filter(|(_, duplicate)| !duplicate).count()), (1, 1), "{replies:?}");
}

#[test]
fn without_a_data_directory_submit_says_what_is_missing() {
    let (_server, address) = start(config(), |b| b);
    let (mut client, _) = Client::ready(address);
    client.request(Command::SUBMIT, &topic_payload(b"orders", b"x").unwrap());
    let reply = client.frame();
    let error = ErrorReply::parse(&reply.payload).unwrap();
    assert_eq!(error.known_code(), Some(ErrorCode::UnknownCommand));
    assert!(error.text.contains("TIDEGATE_DATA_DIR"), "{}", error.text);
}

#[test]
fn what_is_no_topic_is_a_bad_request_and_stores_nothing() {
    let dir = TempDir::new().unwrap();
    let (server, address) = start(durable(dir.path()), |b| b);
    let (mut client, _) = Client::ready(address);
    for payload in [&b""[..], b"\x00body", b"\x05ab", b"\x02\xff\xfebody", b"\x03a\nbbody"] {
        assert_eq!(client.call_failing(Command::SUBMIT, payload), ErrorCode::BadRequest, "{payload:?}");
    }
    client.assert_alive();
    drop(client);
    server.drain();
    assert_eq!(server.wait().ledger.journal.unwrap().stored, 0);
}

#[test]
fn a_full_journal_says_so_with_a_time_to_wait_and_everything_else_is_served() {
    let dir = TempDir::new().unwrap();
    let (segment, most) = (1 << 20, 4 << 20);
    // Kept for longer than the test lasts.
    let config = Config { journal_segment_bytes: segment, journal_max_bytes: most, ..durable(dir.path()) };
    let (server, address) = start(config, |b| b);
    let (mut client, _) = Client::ready(address);
    let payload = topic_payload(b"orders", &[1; 60_000]).unwrap();
    let mut stored = 0;
    let error = loop {
        let seq = client.request(Command::SUBMIT, &payload);
        let reply = client.frame();
        if reply.cmd == Command::ERROR {
            assert_eq!(reply.seq, seq);
            break reply.payload;
        }
        stored += 1;
        assert!(stored < 100, "{most} bytes hold no more than 69 such messages");
    };
    let error = ErrorReply::parse(&error).unwrap();
    assert_eq!(error.known_code(), Some(ErrorCode::Overloaded));
    assert!(error.retry_after_ms > 0, "it says how long to wait");
    assert!(stored >= 17, "at least one segment's worth was stored before: {stored}");
    client.assert_alive();
    let bytes: u64 =
        std::fs::read_dir(dir.path().join("journal")).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= most, "{bytes} bytes are more than {most}");
    drop(client);
    server.drain();
    let ended = server.wait();
    assert_eq!(ended.ledger.journal.unwrap().stored, stored);
}

#[test]
fn a_drain_answers_every_message_that_was_accepted() {
    let dir = TempDir::new().unwrap();
    let config = Config { drain_notice: Duration::ZERO, ..durable(dir.path()) };
    let (server, address) = start(config, |b| b);
    let (mut client, _) = Client::ready(address);
    let payload = topic_payload(b"orders", &[1; 500]).unwrap();
    for _ in 0..60 {
        client.request(Command::SUBMIT, &payload);
    }
    server.drain();
    let (replies, _) = client.rest();
    let answered = replies.iter().filter(|reply| reply.cmd == Command::SUBMIT).count() as u64;
    drop(client);
    let ended = server.wait();
    assert!(ended.ledger.clean(), "{}", ended.ledger);
    assert_eq!(ended.ledger.journal.unwrap().stored, answered);
    let last = audit(dir.path()).pop().unwrap();
    assert_eq!(last["journal"]["stored"], answered, "the audit log has it, too");
    assert_eq!(last["journal"]["closed"], true);
}
