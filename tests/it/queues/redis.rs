//! Redis Streams.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::{Connection, cmd};
use tidegate::journal::Message;
use tidegate::journal::sink::redis::{Options, RedisSink};
use tidegate::journal::sink::{Outcome, Sink};

use super::{TIMEOUT_MS, deliver, deliver_all, message, messages};
use crate::support::{Asked, Cluster, Redis, Watched, until};

type Entry = HashMap<String, Vec<u8>>;

fn sink(url: &str) -> RedisSink {
    RedisSink::new(Options::parse(url).unwrap(), Duration::from_millis(TIMEOUT_MS))
}

fn opened(url: &str) -> RedisSink {
    let mut sink = sink(url);
    assert_eq!(sink.open(0).unwrap(), 0);
    sink
}

/// The entries of a stream, oldest first.
fn entries(connection: &mut Connection, stream: &str) -> Vec<Entry> {
    let entries: Vec<(String, Entry)> = cmd("XRANGE").arg(stream).arg("-").arg("+").query(connection).unwrap();
    entries.into_iter().map(|(_, fields)| fields).collect()
}

/// Their ids.
fn ids(connection: &mut Connection, stream: &str) -> Vec<u64> {
    let id = |entry: Entry| String::from_utf8(entry["id"].clone()).unwrap().parse().unwrap();
    entries(connection, stream).into_iter().map(id).collect()
}

#[test]
fn a_message_arrives_with_all_its_fields_in_the_stream_of_its_topic() {
    let server = Redis::start();
    let mut sink = opened(&server.url());
    let full = message(1, "orders/eu");
    let bare = Message { key: None, trace: None, session: None, body: Vec::new(), ..message(2, "orders/{us}") };
    let (outcomes, result) = deliver(&mut sink, &[full.clone(), bare]);
    assert_eq!((outcomes, result), (vec![Outcome::Delivered; 2], Ok(())));

    let mut connection = server.connect();
    let entry = entries(&mut connection, "orders/eu").pop().unwrap();
    let text = |name: &str| String::from_utf8(entry[name].clone()).unwrap();
    assert_eq!((text("id"), text("topic"), text("principal")), ("1".into(), "orders/eu".into(), "sensor-7".into()));
    assert_eq!((text("key"), text("trace_id")), ("01".repeat(16), "ab".repeat(16)));
    assert_eq!(text("time"), "2023-11-14T22:13:20.001Z");
    assert_eq!((&entry["body"], entry.len()), (&full.body, 7));
    let entry = entries(&mut connection, "orders/%7Bus%7D").pop().unwrap();
    let mut names: Vec<&str> = entry.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["body", "id", "principal", "time", "topic"]);
    assert_eq!(entry["topic"], b"orders/{us}");
    sink.close().unwrap();
}

#[test]
fn many_messages_of_many_topics_arrive_in_order_in_their_streams_or_in_one() {
    let server = Redis::start();
    let mut connection = server.connect();
    let mut many = messages(1..=1_700, |id| format!("t/{}", id % 7));
    // Some of them fill a socket.
    many.iter_mut().filter(|message| message.id % 100 == 0).for_each(|message| message.body = vec![7; 65_000]);

    deliver_all(&mut opened(&server.url()), &many);
    for topic in 0..7 {
        let expected: Vec<u64> = (1..=1_700).filter(|id| id % 7 == topic).collect();
        assert_eq!(ids(&mut connection, &format!("t/{topic}")), expected);
    }
    deliver_all(&mut opened(&format!("{}?stream=everything", server.url())), &many);
    assert_eq!(ids(&mut connection, "everything"), (1..=1_700).collect::<Vec<_>>());
}

#[test]
fn what_was_added_and_not_answered_for_is_not_added_twice() {
    let server = Redis::start();
    let mut connection = server.connect();
    let url = format!("{}?stream=all", server.url());
    let first = messages(1..=10, |id| format!("t/{}", id % 2));
    deliver_all(&mut opened(&url), &first);
    // The gateway comes back and knows less, and has more.
    let more = messages(4..=20, |id| format!("t/{}", id % 2));
    deliver_all(&mut opened(&url), &more);
    assert_eq!(ids(&mut connection, "all"), (1..=20).collect::<Vec<_>>());
    // Of two topics in one stream the one may be behind the other.
    let late: Vec<Message> = [30, 25].into_iter().map(|id| message(id, &format!("t/{id}"))).collect();
    deliver_all(&mut opened(&url), &late);
    assert_eq!(ids(&mut connection, "all")[20..], [30, 25]);

    // And without it they are.
    let url = format!("{}?stream=plain&dedup=0", server.url());
    deliver_all(&mut opened(&url), &first);
    deliver_all(&mut opened(&url), &first);
    assert_eq!(ids(&mut connection, "plain").len(), 20);
    let keys: Vec<String> = cmd("KEYS").arg("*plain*").query(&mut connection).unwrap();
    assert_eq!(keys, ["plain"]);
}

#[test]
fn another_journals_message_of_the_same_id_is_not_taken_for_a_repeat() {
    let server = Redis::start();
    let mut connection = server.connect();
    let first = messages(1..=5, |_| "t".into());
    deliver_all(&mut opened(&server.url()), &first);
    // Another gateway's, in the same millisecond; one begun anew, later; one of which only the body is another.
    let changes: [fn(&mut Message); 3] =
        [|m| m.session = Some([8; 16]), |m| m.time_ms += 60_000, |m| m.body = b"other".to_vec()];
    for (at, change) in changes.into_iter().enumerate() {
        let mut other = first.clone();
        other.iter_mut().for_each(change);
        deliver_all(&mut opened(&server.url()), &other);
        assert_eq!(ids(&mut connection, "t")[5 * (at + 1)..], [1, 2, 3, 4, 5]);
    }
}

#[test]
fn what_a_server_knows_of_a_stream_is_bounded() {
    let server = Redis::start();
    let mut connection = server.connect();
    let mut sink = opened(&format!("{}?dedup=10", server.url()));
    deliver_all(&mut sink, &messages(1..=100, |_| "t".into()));
    let known = "{t}:tidegate";
    assert_eq!(cmd("ZCARD").arg(known).query::<u64>(&mut connection).unwrap(), 10);
    let left: u64 = cmd("PTTL").arg(known).query(&mut connection).unwrap();
    assert!((600_000_000..=604_800_000).contains(&left), "{left}");
    // It knows the latest.
    deliver_all(&mut sink, &messages(91..=100, |_| "t".into()));
    assert_eq!(ids(&mut connection, "t").len(), 100);
}

#[test]
fn a_stream_is_cut_down_to_its_length() {
    let server = Redis::start();
    let mut connection = server.connect();
    let many = messages(1..=1_000, |_| "t".into());
    deliver_all(&mut opened(&format!("{}?stream=exact&maxlen=50&approx=no", server.url())), &many);
    assert_eq!(ids(&mut connection, "exact"), (951..=1_000).collect::<Vec<_>>());
    deliver_all(&mut opened(&format!("{}?stream=about&maxlen=50", server.url())), &many);
    let about = ids(&mut connection, "about");
    assert!((50..400).contains(&about.len()) && about.last() == Some(&1_000), "{}", about.len());
}

#[test]
fn a_server_that_is_killed_and_started_again_has_every_message_once_and_in_order() {
    let server = Redis::start();
    let many = messages(1..=4_000, |id| format!("t/{}", id % 3));
    let url = server.url();
    let writer = std::thread::spawn(move || {
        let mut sink = opened(&url);
        many.chunks(40).for_each(|chunk| deliver_all(&mut sink, chunk));
    });
    for _ in 0..3 {
        let mut connection = server.connect();
        let length = |connection: &mut Connection| cmd("XLEN").arg("t/0").query::<u64>(connection).unwrap();
        let before = length(&mut connection);
        until("it takes some more", || length(&mut connection) > before + 50 || writer.is_finished());
        server.kill();
        server.restart();
    }
    writer.join().unwrap();
    let mut connection = server.connect();
    for topic in 0..3 {
        let expected: Vec<u64> = (1..=4_000).filter(|id| id % 3 == topic).collect();
        assert_eq!(ids(&mut connection, &format!("t/{topic}")), expected);
    }
}

#[test]
fn a_frozen_server_is_down_in_time_and_back_afterwards() {
    let server = Redis::start();
    let timeout = Duration::from_millis(400);
    let mut sink = RedisSink::new(Options::parse(&server.url()).unwrap(), timeout);
    sink.open(0).unwrap();
    let some = messages(1..=200, |id| format!("t/{}", id % 50));
    server.freeze();
    let begun = Instant::now();
    let (outcomes, result) = deliver(&mut sink, &some);
    assert!(result.is_err() && outcomes.is_empty());
    assert!((timeout..2 * timeout).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert!(sink.open(0).is_err());
    assert!(begun.elapsed() < 2 * timeout, "{:?}", begun.elapsed());
    // Not even with a password and a database, which are two answers more.
    let with_login = format!("redis://:secret@{}/1", server.address());
    let begun = Instant::now();
    let down = RedisSink::new(Options::parse(&with_login).unwrap(), timeout).open(0).unwrap_err();
    assert!(begun.elapsed() < 2 * timeout && !down.0.contains("secret"), "{:?} {down:?}", begun.elapsed());

    server.thaw();
    deliver_all(&mut sink, &some);
    // What it was sent while it was frozen, it has done when it went on: and not twice.
    assert_eq!(ids(&mut server.connect(), "t/1"), [1, 51, 101, 151]);
}

#[test]
fn a_key_that_is_no_stream_refuses_its_topic_and_the_others_go_on() {
    let server = Redis::start();
    let mut connection = server.connect();
    cmd("SET").arg("bad").arg("text").exec(&mut connection).unwrap();
    let mut sink = opened(&server.url());
    let some: Vec<Message> = (1..=600).map(|id| message(id, if id % 3 == 0 { "bad" } else { "good" })).collect();
    let (outcomes, result) = deliver(&mut sink, &some);
    assert_eq!((result, outcomes.len()), (Ok(()), 600));
    for (message, outcome) in some.iter().zip(&outcomes) {
        match (message.topic.as_str(), message.id) {
            ("good", _) => assert_eq!(*outcome, Outcome::Delivered),
            (_, 3) => assert!(
                matches!(outcome, Outcome::Refused(why) if why.contains("WRONGTYPE") || why.contains("wrong kind")),
                "{outcome:?}"
            ),
            _ => assert_eq!(*outcome, Outcome::Untried),
        }
    }
    assert_eq!(ids(&mut connection, "good").len(), 400);
    cmd("DEL").arg("bad").exec(&mut connection).unwrap();
    deliver_all(&mut sink, &some);
    assert_eq!((ids(&mut connection, "bad").len(), ids(&mut connection, "good").len()), (200, 400));
}

#[test]
fn a_key_that_the_account_may_not_write_refuses_and_a_command_that_it_may_not_run_is_down() {
    let server = Redis::start();
    let mut connection = server.connect();
    let user = |connection: &mut Connection, rules: &[&str]| {
        cmd("ACL").arg("SETUSER").arg("gate").arg("reset").arg("on").arg(">pw").arg(rules).exec(connection).unwrap();
    };
    user(&mut connection, &["~good", "~{good}*", "~{bad}*", "+@all"]);
    let mut gate = opened(&format!("redis://gate:pw@{}", server.address()));
    let (outcomes, result) = deliver(&mut gate, &[message(1, "bad"), message(2, "good")]);
    assert_eq!(result, Ok(()));
    assert!(matches!(outcomes[0], Outcome::Refused(_)) && outcomes[1] == Outcome::Delivered, "{outcomes:?}");
    for rules in [&["~*", "+@all", "-evalsha"], &["~*", "+@all", "-xadd"]] {
        user(&mut connection, rules);
        let mut gate = opened(&format!("redis://gate:pw@{}", server.address()));
        let (outcomes, result) = deliver(&mut gate, &[message(3, "good")]);
        assert!(result.is_err() && !outcomes.contains(&Outcome::Delivered), "{outcomes:?}");
        assert!(!outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_))), "{outcomes:?}");
    }
    let wrong = sink(&format!("redis://gate:hush@{}", server.address())).open(0).unwrap_err();
    assert!(!wrong.0.contains("hush"), "{wrong:?}");
}

#[test]
fn a_server_that_takes_nothing_for_now_is_down_and_refuses_no_message() {
    let server = Redis::start();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", "1"]);
    let mut connection = server.connect();
    let set = |connection: &mut Connection, name: &str, value: &str| {
        cmd("CONFIG").arg("SET").arg(name).arg(value).exec(connection).unwrap();
    };
    let mut sink = opened(&server.url());
    // No memory; too few replicas.
    for (name, value, back) in [("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0")] {
        set(&mut connection, name, value);
        let (outcomes, result) = deliver(&mut sink, &[message(1, "t"), message(2, "u")]);
        assert!(result.is_err() && outcomes.iter().all(|outcome| *outcome == Outcome::Untried), "{outcomes:?}");
        set(&mut connection, name, back);
        deliver_all(&mut sink, &[message(1, "t"), message(2, "u")]);
    }
    assert_eq!(ids(&mut connection, "t"), [1]);
    // A replica.
    let mut sink = opened(&replica.url());
    let (outcomes, result) = deliver(&mut sink, &[message(1, "t")]);
    assert!(result.is_err() && outcomes.iter().all(|outcome| *outcome == Outcome::Untried), "{outcomes:?}");
    cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut replica.connect()).unwrap();
    deliver_all(&mut sink, &[message(1, "t")]);
}

#[test]
fn a_cluster_has_every_message_once_also_while_a_stream_moves_to_another_node() {
    let cluster = Cluster::start();
    let mut sink = opened(&cluster.url());
    let many = messages(1..=900, |id| format!("t/{}", id % 30));
    deliver_all(&mut sink, &many[..300]);
    assert!(cluster.nodes.iter().all(|node| node.call::<u64>(&["DBSIZE"]) > 2));

    let slot: u64 = cluster.nodes[0].call(&["CLUSTER", "KEYSLOT", "t/0"]);
    let (from, to) = cluster.of_slot(slot);
    let (slot, from_id, to_id) =
        (slot.to_string(), from.call::<String>(&["CLUSTER", "MYID"]), to.call::<String>(&["CLUSTER", "MYID"]));
    let () = to.call(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    let () = from.call(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    deliver_all(&mut sink, &many[300..600]);
    for key in from.call::<Vec<String>>(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]) {
        let () = from.call(&["MIGRATE", "127.0.0.1", &to.port.to_string(), &key, "0", "5000"]);
    }
    // Both keys are gone from here, and the slot is not there yet.
    deliver_all(&mut sink, &many[500..700]);
    for node in [to, from] {
        let () = node.call(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
    }
    deliver_all(&mut sink, &many[700..]);
    deliver_all(&mut opened(&cluster.url()), &many[800..]);
    for topic in 0..30 {
        let stream = format!("t/{topic}");
        let slot: u64 = cluster.nodes[0].call(&["CLUSTER", "KEYSLOT", &stream]);
        let node = if topic == 0 { to } else { cluster.of_slot(slot).0 };
        let expected: Vec<u64> = (1..=900).filter(|id| id % 30 == topic).collect();
        assert_eq!(ids(&mut node.connect(), &stream), expected, "{stream}");
    }
}

#[test]
fn a_message_that_a_failover_could_lose_is_not_delivered_and_comes_to_the_next_master() {
    let watched = Watched::start();
    let mut sink = opened(&format!("{}?wait=1", watched.url()));
    deliver_all(&mut sink, &messages(1..=100, |_| "t".into()));
    // The master goes on, and its replica has nothing of what it adds.
    watched.replica.freeze();
    let (outcomes, result) = deliver(&mut sink, &messages(101..=110, |_| "t".into()));
    assert!(result.is_err() && !outcomes.contains(&Outcome::Delivered), "{outcomes:?}");
    watched.master.kill();
    watched.replica.thaw();
    let mut sink = opened_when_it_is(&watched.url());
    deliver_all(&mut sink, &messages(101..=120, |_| "t".into()));
    assert_eq!(ids(&mut watched.replica.connect(), "t"), (1..=120).collect::<Vec<_>>());
}

fn opened_when_it_is(url: &str) -> RedisSink {
    let mut sink = sink(url);
    until("a master is there", || sink.open(0).is_ok());
    sink
}
