//! An embedder's consumers.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidegate::config::{Config, SinkKind, SinkRoute, SinkSpec, SubmitAck};
use tidegate::journal::sink::ConsumeError;
use tidegate::journal::{Message, TopicPattern};
use tidegate::proto::Command;
use tidegate::proto::message::topic_payload;
use tidegate::server::{Server, StartError};

use super::submit;
use crate::support::{Client, Latch, config, start, until};

/// Routes to consumers of these names.
fn routed(dir: &Path, routes: &[(&str, &str)]) -> Config {
    let route = |(pattern, name): &(&str, &str)| SinkRoute {
        pattern: TopicPattern::parse(pattern).unwrap(),
        sink: SinkSpec { kind: SinkKind::Handler, argument: (*name).to_owned() },
    };
    Config {
        data_dir: Some(dir.to_owned()),
        sinks: routes.iter().map(route).collect(),
        sink_tries: 3,
        sink_backoff: Duration::from_millis(1),
        sink_backoff_max: Duration::from_millis(10),
        ..config()
    }
}

/// What a consumer has taken.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<Message>>>);

impl Taken {
    fn take(&self, message: &Message) -> Result<(), ConsumeError> {
        self.0.lock().unwrap().push(message.clone());
        Ok(())
    }

    fn ids(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().map(|message| message.id).collect()
    }
}

#[test]
fn a_consumer_gets_every_message_of_its_topics_and_each_topic_has_one_route() {
    let dir = TempDir::new().unwrap();
    let (orders, rest) = (Taken::default(), Taken::default());
    let (to_orders, to_rest) = (orders.clone(), rest.clone());
    let (server, address) = start(routed(dir.path(), &[("orders/#", "orders"), ("*", "rest")]), |builder| {
        builder.sink("orders", move |m: &Message| to_orders.take(m)).sink("rest", move |m: &Message| to_rest.take(m))
    });
    let (mut client, _) = Client::ready(address);
    let mut wanted: Vec<u64> = (0..20).map(|n| submit(&mut client, "orders/eu", &n.to_string())).collect();
    wanted.push(submit(&mut client, "orders", "x"));
    let other = submit(&mut client, "other", "y");
    until("all are delivered", || orders.ids() == wanted && rest.ids() == [other]);
    let message = orders.0.lock().unwrap()[0].clone();
    assert_eq!(
        (message.topic.as_str(), message.body.as_slice(), message.principal.is_empty()),
        ("orders/eu", &b"0"[..], false)
    );
    drop(client);
    server.drain();
    let ended = server.wait();
    assert!(ended.ledger.clean(), "{}", ended.ledger);
    let journal = ended.ledger.journal.unwrap();
    assert_eq!((journal.stored, journal.delivered, journal.pending), (22, 22, 0));
    // Nothing comes again.
    let again = Taken::default();
    let (first, second) = (again.clone(), again.clone());
    let (server, address) = start(routed(dir.path(), &[("orders/#", "orders"), ("*", "rest")]), |builder| {
        builder.sink("orders", move |m: &Message| first.take(m)).sink("rest", move |m: &Message| second.take(m))
    });
    let (mut client, _) = Client::ready(address);
    let last = submit(&mut client, "orders", "z");
    until("the new one is delivered", || again.ids() == [last]);
    drop(server);
}

#[test]
fn what_is_refused_or_panics_becomes_a_dead_letter_and_its_topic_moves_on() {
    let dir = TempDir::new().unwrap();
    let (taken, letters) = (Taken::default(), Taken::default());
    let (take, keep) = (taken.clone(), letters.clone());
    let tries = Arc::new(AtomicUsize::new(0));
    let tried = Arc::clone(&tries);
    let consumer = move |message: &Message| match message.body.as_slice() {
        b"bad" => {
            tried.fetch_add(1, Ordering::Relaxed);
            Err(ConsumeError::Refused("no such table".to_owned()))
        }
        b"worse" => panic!("cannot bear it"),
        _ => take.take(message),
    };
    let routes = [("dead-letter/#", "letters"), ("*", "all")];
    let (server, address) = start(routed(dir.path(), &routes), |builder| {
        builder.sink("all", consumer).sink("letters", move |m: &Message| keep.take(m))
    });
    let (mut client, _) = Client::ready(address);
    let bad = submit(&mut client, "a", "bad");
    let ids = [submit(&mut client, "a", "1"), submit(&mut client, "b", "2")];
    let worse = submit(&mut client, "b", "worse");
    let last = submit(&mut client, "b", "3");
    until("both are dead letters and the others delivered", || letters.ids().len() == 2 && taken.ids().len() == 3);
    assert_eq!(tries.load(Ordering::Relaxed), 3);
    let mut delivered = taken.ids();
    delivered.sort_unstable();
    assert_eq!(delivered, [ids[0], ids[1], last]);
    let letters: Vec<(String, Value)> = {
        let letters = letters.0.lock().unwrap();
        letters.iter().map(|l| (l.topic.clone(), serde_json::from_slice(&l.body).unwrap())).collect()
    };
    let of = |id: u64| letters.iter().find(|(_, body)| body["id"] == id).unwrap();
    assert_eq!((of(bad).0.as_str(), &of(bad).1["reason"]), ("dead-letter/a", &"no such table".into()));
    assert_eq!(of(worse).1["reason"], "the consumer panicked: cannot bear it");
    assert_eq!((&of(bad).1["tries"], &of(bad).1["body"]), (&3.into(), &"YmFk".into()));
    let routes = server.overview().routes;
    assert_eq!((routes[1].refused, routes[1].dead_letters, routes[1].dropped), (6, 2, 0));
}

#[test]
fn a_journal_full_of_messages_that_are_all_refused_is_not_full_for_ever() {
    let dir = TempDir::new().unwrap();
    let (letters, up) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, is_up) = (Arc::clone(&letters), Arc::clone(&up));
    let consumer = move |_: &Message| match is_up.load(Ordering::Relaxed) {
        true => Err(ConsumeError::Refused("no such table".to_owned())),
        false => Err(ConsumeError::Down("no database".to_owned())),
    };
    let config = Config {
        journal_segment_bytes: 1 << 20,
        journal_max_bytes: 4 << 20,
        sink_tries: 1,
        // For so long the dead letters are remembered, and stay.
        dedup_window: Duration::from_secs(1),
        ..routed(dir.path(), &[("dead-letter/#", "letters"), ("*", "all")])
    };
    let (server, address) = start(config, |builder| {
        builder.sink("all", consumer).sink("letters", move |_: &Message| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    });
    let (mut client, _) = Client::ready(address);
    let payload = topic_payload(b"a", &[1; 30_000]).unwrap();
    let accepted = |client: &mut Client| {
        client.request(Command::SUBMIT, &payload);
        client.frame().cmd == Command::SUBMIT
    };
    let stored = (0..1_000).take_while(|_| accepted(&mut client)).count();
    assert!((30..150).contains(&stored), "{stored}");
    up.store(true, Ordering::Relaxed);
    until("each has its dead letter", || letters.load(Ordering::Relaxed) == stored);
    until("there is room", || accepted(&mut client));
    drop(server);
}

#[test]
fn a_consumer_that_is_down_costs_nothing_but_room_and_gets_everything_when_it_is_back() {
    let dir = TempDir::new().unwrap();
    let (taken, up) = (Taken::default(), Arc::new(AtomicBool::new(false)));
    let (take, is_up) = (taken.clone(), Arc::clone(&up));
    let consumer = move |message: &Message| match is_up.load(Ordering::Relaxed) {
        true => take.take(message),
        false => Err(ConsumeError::Down("no database".to_owned())),
    };
    let (server, address) = start(routed(dir.path(), &[("*", "db")]), |builder| builder.sink("db", consumer));
    let (mut client, _) = Client::ready(address);
    let ids: Vec<u64> = (0..50).map(|n| submit(&mut client, "a", &n.to_string())).collect();
    until("it is said to be down", || server.overview().routes[0].down.as_deref() == Some("no database"));
    let view = server.overview().routes.remove(0);
    assert_eq!((view.delivered, view.behind, taken.ids().len()), (0, 50, 0));
    up.store(true, Ordering::Relaxed);
    until("all are delivered", || taken.ids() == ids);
    until("it is said to be up", || server.overview().routes[0].down.is_none());
}

#[test]
fn with_ack_sink_the_reply_waits_for_the_consumer_and_a_dead_letter_is_answered_too() {
    let dir = TempDir::new().unwrap();
    let latch = Latch::new();
    let held = latch.clone();
    let consumer = move |message: &Message| {
        if message.body == b"bad" {
            return Err(ConsumeError::Refused("no".to_owned()));
        }
        held.pass();
        Ok(())
    };
    let config = Config { submit_ack: SubmitAck::Sink, ..routed(dir.path(), &[("a/#", "slow")]) };
    let (server, address) = start(config, |builder| builder.sink("slow", consumer));
    let (mut client, _) = Client::ready(address);
    let seq = client.request(Command::SUBMIT, &topic_payload(b"a", b"x").unwrap());
    latch.wait_for(1);
    // Of no route: its reply does not wait, and is first.
    let free = submit(&mut client, "b", "y");
    assert!(server.overview().journal.unwrap().durable_id >= free, "both are on the disk");
    latch.open();
    client.expect_reply(seq, Command::SUBMIT);
    submit(&mut client, "a", "bad");
    assert_eq!(server.overview().routes[0].dead_letters, 1);
}

#[test]
fn with_ack_sink_a_drain_keeps_what_the_sink_has_not_got_and_the_ledger_balances() {
    let dir = TempDir::new().unwrap();
    let down = |_: &Message| Err(ConsumeError::Down("no database".to_owned()));
    let config = Config { submit_ack: SubmitAck::Sink, ..routed(dir.path(), &[("*", "db")]) };
    let config = Config { drain_timeout: Duration::from_secs(2), ..config };
    let (server, address) = start(config.clone(), |builder| builder.sink("db", down));
    let (mut client, _) = Client::ready(address);
    for _ in 0..3 {
        client.request(Command::SUBMIT, &topic_payload(b"a", b"x").unwrap());
    }
    until("they are on the disk", || server.overview().journal.unwrap().durable_id == 3);
    server.drain();
    let ended = server.wait();
    assert!(ended.ledger.balanced(), "{}", ended.ledger);
    let journal = ended.ledger.journal.unwrap();
    assert_eq!((journal.stored, journal.delivered, journal.pending), (3, 0, 3));
    let taken = Taken::default();
    let take = taken.clone();
    let (_server, _) = start(config, |builder| builder.sink("db", move |m: &Message| take.take(m)));
    until("the next start delivers them first", || taken.ids() == [1, 2, 3]);
}

#[test]
fn a_name_of_no_consumer_stops_the_start_and_names_the_setting() {
    let dir = TempDir::new().unwrap();
    let start =
        Server::builder().config(routed(dir.path(), &[("*", "mine")])).sink("other", |_: &Message| Ok(())).start();
    let Err(StartError::Config(text)) = start else { panic!("{start:?}") };
    assert!(text.contains("TIDEGATE_SINKS") && text.contains("mine") && text.contains("other"), "{text}");
}
