//! Ends of the process, and of what it delivers to.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tidegate::proto::message::{parse_submitted, topic_payload};
use tidegate::proto::{Command, extension_type};

use super::{bodies, lines, submit};
use crate::support::{Client, Got, Process, audit, extension, get, until};

/// A data directory, and a file beside it to which everything goes.
struct Place {
    dir: TempDir,
    data: String,
    sinks: String,
}

impl Place {
    fn new(file: &str) -> Place {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data").to_str().unwrap().to_owned();
        let sinks = format!("orders/#=file:{}", dir.path().join(file).display());
        Place { dir, data, sinks }
    }

    fn serve(&self) -> Process {
        self.serve_with(&[])
    }

    fn serve_with(&self, more: &[(&str, &str)]) -> Process {
        let mut settings = vec![
            ("DATA_DIR", self.data.as_str()),
            ("SINKS", &self.sinks),
            ("SINK_BACKOFF_MS", "10"),
            ("SINK_BACKOFF_MAX_MS", "50"),
        ];
        settings.extend(more);
        Process::serve(&settings)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// The first route, as `/status` has it.
fn route(admin: SocketAddr) -> Value {
    let (code, text) = get(admin, "/status");
    assert_eq!(code, 200, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["routes"][0].clone()
}

/// Sends so many messages with keys and reads replies until there are enough or the server is gone; which of them
/// were acknowledged.
fn pour(address: SocketAddr, numbers: &[u64], enough: usize) -> HashSet<u64> {
    let (mut client, _) = Client::ready(address);
    let mut asked = HashMap::new();
    for number in numbers {
        let payload =
            topic_payload(format!("orders/{}", number % 3).as_bytes(), number.to_string().as_bytes()).unwrap();
        let mut key = [7; 16];
        key[..8].copy_from_slice(&number.to_be_bytes());
        asked.insert(
            client.request_v2(Command::SUBMIT, &extension(extension_type::IDEMPOTENCY, &key), &payload),
            *number,
        );
    }
    let mut acknowledged = HashSet::new();
    while acknowledged.len() < enough.min(numbers.len()) {
        match client.next() {
            Got::Frame(reply) if reply.cmd == Command::SUBMIT => {
                parse_submitted(&reply.payload).unwrap();
                acknowledged.insert(asked[&reply.seq]);
            }
            Got::Frame(reply) => assert!([Command::ERROR, Command::GOAWAY].contains(&reply.cmd), "{reply:?}"),
            Got::Eof | Got::Reset => break,
        }
    }
    acknowledged
}

#[test]
fn what_was_acknowledged_before_kill_9_is_in_the_file_once_and_in_order() {
    let place = Place::new("out.jsonl");
    let file = place.path("out.jsonl");
    let mut acknowledged = HashSet::new();
    let numbers: Vec<u64> = (0..600).collect();
    for life in 1..=5 {
        let server = place.serve();
        // Those in flight when it was killed are sent again, with their keys: at once, as a client does.
        let from = (life - 1) * 100;
        acknowledged.extend(pour(server.address, &numbers[from..from + 200], 40 * life));
        server.signal(Signal::KILL);
        let _ = server.wait();
    }
    let server = place.serve();
    let all = pour(server.address, &numbers, numbers.len());
    assert_eq!(all.len(), numbers.len());
    until("everything is delivered", || lines(&file).len() >= numbers.len());
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code, Some(0));
    let mut found: Vec<u64> = bodies(&file).iter().map(|body| body.parse().unwrap()).collect();
    let ids: Vec<u64> = lines(&file).iter().map(|line| line["id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "each once, in the journal's order: {ids:?}");
    found.sort_unstable();
    assert_eq!(found, numbers, "none is missing and none is there twice");
    assert!(acknowledged.len() >= 200, "{} were acknowledged before a kill", acknowledged.len());
}

#[test]
fn while_the_sink_is_dead_everything_is_accepted_and_delivered_when_it_is_back() {
    let place = Place::new("missing/out.jsonl");
    let server = place.serve();
    let (mut client, _) = Client::ready(server.address);
    let wanted: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    for body in &wanted {
        submit(&mut client, "orders/eu", body);
    }
    until("it is told", || route(server.admin)["down"].as_str().is_some_and(|why| why.contains("missing")));
    assert_eq!(get(server.admin, "/readyz").0, 200, "a dead sink costs nothing but room");
    let (_, metrics) = get(server.admin, "/metrics");
    assert!(metrics.contains("tidegate_sink_up{route=\"orders/#\",sink=\"file\"} 0"), "{metrics}");
    assert_eq!(route(server.admin)["behind"], 30);
    fs::create_dir(place.path("missing")).unwrap();
    let file = place.path("missing/out.jsonl");
    until("everything is delivered", || bodies(&file) == wanted);
    until("that is told", || route(server.admin)["down"].is_null() && route(server.admin)["behind"] == 0);
}

#[test]
fn what_a_drain_could_not_deliver_is_in_the_ledger_and_comes_first_after_the_start() {
    let place = Place::new("missing/out.jsonl");
    let server = place.serve();
    let (mut client, _) = Client::ready(server.address);
    for n in 0..10 {
        submit(&mut client, "orders", &n.to_string());
    }
    until("it is known to be down", || route(server.admin)["down"].is_string());
    drop(client);
    server.signal(Signal::TERM);
    let exit = server.wait();
    assert_eq!(exit.code, Some(0), "nothing is lost: {}", exit.stderr);
    let ledger = audit(Path::new(&place.data)).pop().unwrap();
    assert_eq!((&ledger["journal"]["pending"], &ledger["journal"]["delivered"]), (&10.into(), &0.into()), "{ledger}");
    fs::create_dir(place.path("missing")).unwrap();
    let server = place.serve();
    let (mut client, _) = Client::ready(server.address);
    submit(&mut client, "orders", "10");
    let wanted: Vec<String> = (0..=10).map(|n| n.to_string()).collect();
    until("all are there", || bodies(&place.path("missing/out.jsonl")) == wanted);
    drop(client);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code, Some(0));
    let ledger = audit(Path::new(&place.data)).pop().unwrap();
    assert_eq!((&ledger["journal"]["pending"], &ledger["journal"]["delivered"]), (&0.into(), &11.into()), "{ledger}");
}

#[test]
fn a_drain_delivers_what_was_accepted_until_its_end() {
    let place = Place::new("out.jsonl?max_bytes=65536");
    let server = place.serve_with(&[("SINK_BATCH", "7")]);
    let numbers: Vec<u64> = (0..1_000).collect();
    let address = server.address;
    let client = std::thread::spawn(move || pour(address, &numbers, 1_000));
    until("some are stored", || route(server.admin)["done"].as_u64().is_some_and(|done| done > 0));
    server.signal(Signal::TERM);
    let acknowledged = client.join().unwrap();
    assert_eq!(server.wait().code, Some(0));
    let mut found = HashSet::new();
    for entry in
        fs::read_dir(place.dir.path()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    {
        assert!(fs::metadata(&entry).unwrap().len() <= 65_536);
        for body in bodies(&entry) {
            assert!(found.insert(body.parse::<u64>().unwrap()), "{body} is there twice");
        }
    }
    assert!(found.is_superset(&acknowledged) && !acknowledged.is_empty(), "{} of {}", found.len(), acknowledged.len());
}
