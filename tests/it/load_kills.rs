//! The load generator with `--retry`: servers that die, and what they had acknowledged.

use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::Value;
use tidegate::proto::extension_type::IDEMPOTENCY;
use tidegate::proto::message::submitted_payload;
use tidegate::proto::{Command, encode};

use crate::load::{end, run_with_ledger, serve, unread};
use crate::support::{Load, Process, Reply, fake, metric, until};

/// A store of messages by topic that finds duplicates by their key, and may forget to answer.
#[derive(Default)]
struct Journal {
    /// Topic and key of each message; its id is its place, from 1 up.
    messages: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Journal {
    fn submit(&mut self, frame: &Reply) -> [u8; 9] {
        let (_, key) = frame.extensions.iter().find(|(kind, _)| *kind == IDEMPOTENCY).expect("a key");
        let topic = frame.payload[1..=usize::from(frame.payload[0])].to_vec();
        let known = self.messages.iter().position(|(_, before)| before == key);
        if known.is_none() {
            self.messages.push((topic, key.clone()));
        }
        submitted_payload(known.unwrap_or(self.messages.len() - 1) as u64 + 1, known.is_some())
    }
}

#[test]
fn messages_that_a_dying_server_stored_without_an_answer_are_sent_again_and_acknowledged_once() {
    let journal = Arc::new(Mutex::new(Journal::default()));
    let stored = Arc::clone(&journal);
    let address = fake(move |nth, peer| {
        for count in 1.. {
            let Some(frame) = peer.frame() else { return };
            if frame.cmd == Command::SUBMIT {
                let answer = stored.lock().unwrap().submit(&frame);
                if nth < 3 && count == 5 {
                    return; // stored, and it dies
                }
                peer.send(|out| assert!(encode(out, frame.seq, frame.cmd, &answer)));
            } else {
                peer.send(|out| assert!(encode(out, frame.seq, frame.cmd, &frame.payload)));
                return; // BYE
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let (mix, acks) = (dir.path().join("mix"), dir.path().join("acks"));
    std::fs::write(&mix, "1 SUBMIT 40\n").unwrap();
    let args = ["mix", "--connections", "1", "--depth", "3", "--duration", "1s", "--retry", "20s"];
    let files = ["--mix", mix.to_str().unwrap(), "--acks", acks.to_str().unwrap()];
    let report = Load::run(address, &[&args[..], &files].concat()).report(0);
    let account = &report.account;
    assert_eq!((account.duplicates, account.retried, account.broken), (3, 3, 3), "{report:#?}");
    assert_eq!((account.unknown, account.lost, account.adds_up()), (0, 0, true), "{report:#?}");
    let stored = &journal.lock().unwrap().messages;
    let acked = std::fs::read_to_string(&acks).unwrap();
    let acked = acked.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let acked: Vec<Value> = acked.filter(|line| line["kind"] == "submit").collect();
    assert!(stored.len() > 15 && acked.len() == stored.len(), "{} and {}", acked.len(), stored.len());
    for (place, (line, (topic, key))) in acked.iter().zip(stored).enumerate() {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((line["id"].as_u64(), line["seq_in_topic"].as_u64()), (Some(place as u64 + 1), Some(place as u64)));
        assert_eq!((line["topic"].as_str().unwrap().as_bytes(), line["key"].as_str()), (&topic[..], Some(&key[..])));
    }
}

/// Messages and values, and something in between.
const DURABLE: &str = "4 SUBMIT 10-3000\n3 SESSION_PUT 5-64\n1 SESSION_GET\n1 SESSION_DELETE\n2 ECHO 20\n";

#[test]
fn killed_again_and_again_a_server_keeps_every_message_and_value_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (mix, acks) = (dir.path().join("mix"), dir.path().join("acks"));
    std::fs::write(&mix, DURABLE).unwrap();
    let (mut server, _) = serve(&dir, &[]);
    let address = server.address;
    let args = ["mix", "--connections", "6", "--depth", "4", "--duration", "5m", "--retry", "30s", "--keep-sessions"];
    let files = ["--mix", mix.to_str().unwrap(), "--acks", acks.to_str().unwrap()];
    let mut load = Load::start(address, &[&args[..], &files].concat());
    assert_eq!(load.line(), "connected 6");
    for _ in 0..3 {
        until("requests are answered", || metric(&server, "requests_total") > 200);
        server.signal(Signal::KILL);
        assert_eq!(server.wait().code, None);
        server = serve(&dir, &[("LISTEN", &address.to_string())]).0;
    }
    until("all are back", || metric(&server, "connections_accepted_total") >= 6);
    until("requests are answered", || metric(&server, "requests_total") > 200);
    load.say("stop");
    let report = load.wait().report(0);
    let account = &report.account;
    assert_eq!((account.lost, account.wrong, account.unknown, account.forgotten), (0, 0, 0, 0), "{report:#?}");
    assert!(account.retried > 0 && account.broken >= 6 && account.adds_up(), "{report:#?}");
    end(server);

    let acked = std::fs::read_to_string(&acks).unwrap();
    let acked: Vec<Value> = acked.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut command = Process::command();
    let cat = command.args(["journal", "cat", "--json", "--data-dir"]).arg(dir.path()).output().unwrap();
    assert!(cat.status.success(), "{cat:?}");
    let lines = String::from_utf8(cat.stdout).unwrap();
    let stored: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Nothing is left over either: whatever got no answer was sent again until it got one.
    let mut messages: Vec<_> = acked.iter().filter(|line| line["kind"] == "submit").collect();
    messages.sort_by_key(|line| line["id"].as_u64());
    let told: Vec<_> = messages.iter().map(|line| (&line["id"], &line["topic"], &line["key"])).collect();
    let found: Vec<_> = stored.iter().map(|line| (&line["id"], &line["topic"], &line["key"])).collect();
    assert!(told.len() > 100 && told == found, "{} acknowledged, {} stored", told.len(), found.len());
    assert!(acked.iter().any(|line| line["kind"] == "ready" && line["resumed"] == true), "sessions are resumed");
}

#[test]
fn messages_of_many_are_stored_and_the_ledger_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mix");
    std::fs::write(&file, DURABLE).unwrap();
    let mix = ["mix", "--mix", file.to_str().unwrap(), "--connections", "5", "--depth", "8", "--duration", "0.5"];
    let report = run_with_ledger(&[], &mix);
    assert_eq!((report.errors.len(), report.account.failed, report.account.duplicates), (0, 0, 0), "{report:#?}");
}

#[test]
fn a_server_that_does_not_come_back_is_given_up_and_the_fate_of_its_requests_is_unknown() {
    let server = Process::serve(&[]);
    let mut load = Load::start(server.address, &["echo", "--connections", "2", "--duration", "5m", "--retry", "300ms"]);
    assert_eq!(load.line(), "connected 2");
    server.signal(Signal::STOP);
    until("requests wait for the server", || unread(server.address.port()) > 0);
    server.signal(Signal::KILL);
    let report = load.wait().report(1);
    let (account, errors) = (&report.account, &report.errors);
    assert_eq!((account.unknown, account.lost, account.adds_up()), (2, 0, true), "{report:#?}");
    assert!(errors.iter().any(|(text, _)| text.contains("no server for as long as --retry allows")), "{errors:?}");
}
