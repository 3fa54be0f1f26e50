//! The real program is killed at any moment: what it has answered is there after the restart.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use tidegate::journal::{Disk, Message, Reader};
use tidegate::proto::message::{parse_submitted, topic_payload};
use tidegate::proto::{Command, extension_type};

use crate::support::{Client, Got, Process, extension, frame_v2, until};

/// One topic for each client.
const TOPICS: [&str; 4] = ["orders/a", "orders/b", "audit", "other"];
const KILLS: usize = 5;
/// Requests that a client has under way.
const WINDOW: usize = 16;

/// The ids that a client was told, by the numbers of its messages.
type Told = BTreeMap<usize, u64>;

fn serve(dir: &Path) -> Process {
    // Small segments: some processes fill more than one.
    Process::serve(&[("DATA_DIR", dir.to_str().unwrap()), ("JOURNAL_SEGMENT_BYTES", "1048576")])
}

fn body(client: usize, n: usize) -> Vec<u8> {
    let mut body = format!("{client} {n} ").into_bytes();
    body.resize(body.len() + n * 37 % 3_000, b'.');
    body
}

fn key(client: usize, n: usize) -> [u8; 16] {
    let mut key = [client as u8; 16];
    key[8..].copy_from_slice(&(n as u64).to_be_bytes());
    key
}

/// Sends from its first unanswered message on, in order, until the server is gone or `end` messages are answered.
fn submit(address: SocketAddr, client: usize, told: &mut Told, end: usize, answered: &AtomicUsize) {
    let (mut connection, _) = Client::ready(address);
    let first = (0..).find(|n| !told.contains_key(n)).unwrap_or(0);
    let (mut next, mut open) = (first, 0);
    let base = connection.seq + 1;
    loop {
        while open < WINDOW && next < end {
            let payload = topic_payload(TOPICS[client].as_bytes(), &body(client, next)).unwrap();
            let key = extension(extension_type::IDEMPOTENCY, &key(client, next));
            let request = frame_v2(base + (next - first) as u32, Command::SUBMIT, &key, &payload);
            if connection.stream.write_all(&request).is_err() {
                break;
            }
            (next, open) = (next + 1, open + 1);
        }
        if open == 0 {
            return;
        }
        let Got::Frame(reply) = connection.next() else { return };
        let n = first + (reply.seq - base) as usize;
        assert_eq!(reply.cmd, Command::SUBMIT, "{reply:?}");
        let (id, duplicate) = parse_submitted(&reply.payload).unwrap();
        if let Some(before) = told.insert(n, id) {
            assert_eq!((before, true), (id, duplicate), "message {n} of client {client}");
        }
        open -= 1;
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Everything in the journal, also what no client was told of.
fn read(dir: &Path) -> Vec<Message> {
    let mut reader = Reader::new(Arc::new(Disk::existing(dir).unwrap()), 0);
    std::iter::from_fn(|| reader.next(u64::MAX).unwrap()).collect()
}

#[test]
fn what_was_answered_survives_kill_9_once_and_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut told: [Told; TOPICS.len()] = Default::default();
    for round in 0..KILLS {
        let process = serve(dir.path());
        let address = process.address;
        let answered: [AtomicUsize; TOPICS.len()] = Default::default();
        std::thread::scope(|scope| {
            for (client, (told, answered)) in told.iter_mut().zip(&answered).enumerate() {
                scope.spawn(move || submit(address, client, told, usize::MAX, answered));
            }
            let most = 20 + fastrand::usize(..300) * round;
            until("there are answers", || {
                let answered = answered.each_ref().map(|n| n.load(Ordering::Relaxed));
                answered.iter().all(|n| *n > 0) && answered.iter().sum::<usize>() >= most
            });
            process.signal(Signal::KILL);
        });
        process.wait();
    }
    // Whoever had no answer asks again; then everything is answered.
    let process = serve(dir.path());
    for (client, told) in told.iter_mut().enumerate() {
        let end = told.keys().next_back().map_or(0, |last| last + 1) + WINDOW;
        submit(process.address, client, told, end, &AtomicUsize::new(0));
        assert_eq!(told.len(), end);
    }
    process.signal(Signal::KILL);
    process.wait();

    let found = read(dir.path());
    assert!(found.is_sorted_by_key(|message| message.id));
    for (client, told) in told.iter().enumerate() {
        let mine: Vec<&Message> = found.iter().filter(|message| message.topic == TOPICS[client]).collect();
        assert_eq!(mine.len(), told.len(), "none is missing, and none is there twice");
        for (message, (n, id)) in mine.iter().zip(told) {
            assert_eq!((message.id, message.key), (*id, Some(key(client, *n))), "in the order in which they were sent");
            assert_eq!(message.body, body(client, *n));
        }
    }
    println!("journal: {} messages survived {} kills", found.len(), KILLS + 1);
}
