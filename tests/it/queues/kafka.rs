//! Kafka: a real broker, and the client's own simulated cluster for what a real one does not do on demand.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use tidegate::journal::Message;
use tidegate::journal::sink::kafka::{KafkaSink, Options};
use tidegate::journal::sink::{Outcome, Sink};

use super::{TIMEOUT_MS, deliver, deliver_all, message, messages};
use crate::support::{Kafka, until};

/// A record as a consumer has it.
#[derive(Debug)]
struct Record {
    partition: i32,
    key: Option<String>,
    headers: HashMap<String, String>,
    time_ms: i64,
    body: Vec<u8>,
}

impl Record {
    fn id(&self) -> u64 {
        self.headers["id"].parse().unwrap()
    }
}

fn sink(argument: &str) -> KafkaSink {
    sink_for(argument, Duration::from_millis(TIMEOUT_MS))
}

fn sink_for(argument: &str, timeout: Duration) -> KafkaSink {
    KafkaSink::new(Options::parse(argument).unwrap_or_else(|e| panic!("{argument}: {e}")), timeout)
}

fn opened(argument: &str) -> KafkaSink {
    let mut sink = sink(argument);
    until("a broker answers", || sink.open(0).is_ok());
    sink
}

/// Everything that is in a topic, each partition's in its order.
fn records(brokers: &str, topic: &str, partitions: i32) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut records, mut ends) = (Vec::new(), 0);
    until("the topic is read", || {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let headers = message.headers().unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                records.push(Record {
                    partition: message.partition(),
                    key: message.key().map(text),
                    headers: headers.iter().map(|h| (h.key.to_owned(), text(h.value.unwrap()))).collect(),
                    time_ms: message.timestamp().to_millis().unwrap(),
                    body: message.payload().unwrap_or_default().to_vec(),
                });
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
            _ => {}
        }
        ends == partitions
    });
    records
}

fn ids(brokers: &str, topic: &str, partitions: i32) -> Vec<u64> {
    records(brokers, topic, partitions).iter().map(Record::id).collect()
}

#[test]
fn a_message_arrives_with_key_headers_and_time_in_the_topic_of_its_name() {
    let broker = Kafka::start();
    let mut sink = opened(&format!("kafka://{}?topic=in.{{topic}}", broker.address()));
    let full = message(1, "orders/eu é");
    let bare = Message { key: None, trace: None, session: None, body: Vec::new(), ..message(2, "orders/eu é") };
    let (outcomes, result) = deliver(&mut sink, &[full.clone(), bare]);
    assert_eq!((outcomes, result), (vec![Outcome::Delivered; 2], Ok(())));
    sink.close().unwrap();

    let records = records(&broker.address(), "in.orders.eu__", 1);
    assert_eq!(records.len(), 2);
    let header = |name: &str| records[0].headers[name].as_str();
    assert_eq!((header("id"), header("topic"), header("principal")), ("1", "orders/eu é", "sensor-7"));
    assert_eq!(header("key"), "01".repeat(16));
    assert_eq!(header("traceparent"), format!("00-{}-{}-01", "ab".repeat(16), "cd".repeat(8)));
    assert_eq!((records[0].key.as_deref(), &records[0].body), (Some("sensor-7"), &full.body));
    assert_eq!(records[0].time_ms, 1_700_000_000_001);
    assert_eq!((records[1].headers.len(), records[1].id(), records[1].body.len()), (3, 2, 0));
}

#[test]
fn many_messages_of_many_topics_arrive_once_and_in_order() {
    let broker = Kafka::start();
    let mut sink = opened(&format!("{}?compression=lz4", broker.address()));
    let mut many = messages(1..=3_000, |id| format!("t/{}", id % 5));
    many.iter_mut().filter(|message| message.id % 100 == 0).for_each(|message| message.body = vec![7; 65_000]);
    many.chunks(500).for_each(|chunk| deliver_all(&mut sink, chunk));
    for topic in 0..5 {
        let expected: Vec<u64> = (1..=3_000).filter(|id| id % 5 == topic).collect();
        assert_eq!(ids(&broker.address(), &format!("t.{topic}"), 1), expected);
    }
}

#[test]
fn the_key_decides_on_the_partition() {
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let mut many = messages(1..=200, |id| format!("t/{}", id % 4));
    for message in &mut many {
        message.principal = format!("p{}", message.id % 20);
        message.session = Some([message.id as u8 % 10; 16]);
    }
    for (at, (option, distinct)) in [("principal", 20), ("session", 10), ("topic", 4)].into_iter().enumerate() {
        let topic = format!("keys{at}");
        cluster.create_topic(&topic, 8, 1).unwrap();
        deliver_all(&mut opened(&format!("{brokers}?topic={topic}&key={option}")), &many);
        let records = records(&brokers, &topic, 8);
        let mut of_key: HashMap<String, (i32, u64, u64)> = HashMap::new();
        for record in &records {
            let known = of_key.entry(record.key.clone().unwrap()).or_insert((record.partition, 0, 0));
            assert!(known.0 == record.partition && known.1 < record.id(), "{option}: {record:?}");
            (known.1, known.2) = (record.id(), known.2 + 1);
        }
        assert_eq!((records.len(), of_key.len()), (200, distinct), "{option}");
        assert!(records.iter().any(|record| record.partition != records[0].partition));
    }
    deliver_all(&mut opened(&format!("{brokers}?topic=nokey&key=none")), &many);
    assert!(records(&brokers, "nokey", 4).iter().all(|record| record.key.is_none()));
}

#[test]
fn a_message_too_large_for_kafka_is_refused_and_the_others_go_on() {
    let broker = Kafka::start();
    let mut sink = opened(&format!("{}?rdkafka.message.max.bytes=2000", broker.address()));
    let mut some = messages(1..=9, |id| if id % 3 == 0 { "large".into() } else { "t".into() });
    some[5].body = vec![7; 5_000];
    let (outcomes, result) = deliver(&mut sink, &some);
    assert_eq!(result, Ok(()));
    assert!(matches!(&outcomes[5], Outcome::Refused(why) if why.contains("large")), "{outcomes:?}");
    assert_eq!(outcomes[8], Outcome::Untried);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Delivered).count(), 7);
    deliver_all(&mut sink, &some[8..]);
    assert_eq!(ids(&broker.address(), "large", 1), [3, 9]);
    assert_eq!(ids(&broker.address(), "t", 1), [1, 2, 4, 5, 7, 8]);
}

#[test]
fn a_topic_that_kafka_does_not_take_is_refused_and_the_others_go_on() {
    let broker = Kafka::start();
    let mut sink = opened(&broker.address());
    let (outcomes, result) = deliver(&mut sink, &[message(1, "/"), message(2, "t"), message(3, "/")]);
    assert_eq!(result, Ok(()));
    assert!(matches!(outcomes[0], Outcome::Refused(_)), "{outcomes:?}");
    assert_eq!(outcomes[1..], [Outcome::Delivered, Outcome::Untried]);
}

/// A broker refuses all messages that came with the one that it does not take.
#[test]
fn what_a_broker_refuses_is_refused_alone_and_nothing_passes_it() {
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("t", 1, 1).unwrap();
    let mut sink = opened(&brokers);
    deliver_all(&mut sink, &messages(1..=10, |_| "t".into()));
    // As many requests as the batch is sent in, and then the first message alone.
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 50]);
    let some = messages(11..=20, |_| "t".into());
    let (outcomes, result) = deliver(&mut sink, &some);
    assert!(matches!(outcomes[0], Outcome::Refused(_)), "{result:?} {outcomes:?}");
    assert_eq!((&outcomes[1..], result), (&vec![Outcome::Untried; 9][..], Ok(())));
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    assert_eq!(ids(&brokers, "t", 1), (1..=10).collect::<Vec<_>>());
    deliver_all(&mut sink, &some);
    assert_eq!(ids(&brokers, "t", 1), (1..=20).collect::<Vec<_>>());
}

#[test]
fn a_topic_that_an_account_may_not_write_is_refused() {
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("t", 1, 1).unwrap();
    let mut sink = opened(&brokers);
    deliver_all(&mut sink, &[message(1, "t")]);
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let (outcomes, result) = deliver(&mut sink, &[message(2, "t"), message(3, "t")]);
    assert!(matches!(outcomes[0], Outcome::Refused(_)) && result.is_ok(), "{result:?} {outcomes:?}");
    assert_eq!(outcomes[1], Outcome::Untried);
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    deliver_all(&mut sink, &[message(2, "t"), message(3, "t")]);
    assert_eq!(ids(&brokers, "t", 1), [1, 2, 3]);
}

#[test]
fn an_outage_of_the_brokers_loses_nothing_and_keeps_the_order() {
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    (0..3).for_each(|topic| cluster.create_topic(&format!("t.{topic}"), 1, 1).unwrap());
    let timeout = Duration::from_millis(500);
    let mut sink = sink_for(&brokers, timeout);
    until("a broker answers", || sink.open(0).is_ok());
    let many = messages(1..=2_000, |id| format!("t/{}", id % 3));
    deliver_all(&mut sink, &many[..100]);

    // Slow, so that they are on their way when it goes down.
    cluster.broker_round_trip_time(1, Duration::from_millis(50)).unwrap();
    let (outcomes, _) = deliver(&mut sink, &many[100..200]);
    let delivered = outcomes.iter().filter(|outcome| **outcome == Outcome::Delivered).count();
    cluster.broker_down(1).unwrap();
    let begun = Instant::now();
    let (outcomes, result) = deliver(&mut sink, &many[100 + delivered..1_000]);
    let down = result.unwrap_err();
    assert!(begun.elapsed() < timeout * 3, "{:?}", begun.elapsed());
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Untried), "{down:?}");
    assert!(down.0.contains("900 messages") || down.0.contains("messages were not acknowledged"), "{down:?}");

    cluster.broker_up(1).unwrap();
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    deliver_all(&mut sink, &many[100 + delivered..]);
    for topic in 0..3 {
        let expected: Vec<u64> = (1..=2_000).filter(|id| id % 3 == topic).collect();
        assert_eq!(ids(&brokers, &format!("t.{topic}"), 1), expected);
    }
}

#[test]
fn an_error_after_which_a_client_may_not_go_on_is_met_with_another_client() {
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("t", 1, 1).unwrap();
    let mut sink = opened(&brokers);
    deliver_all(&mut sink, &messages(1..=10, |_| "t".into()));
    // What this client wrote before is unknown to the broker: a fatal error for it.
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    let (outcomes, result) = deliver(&mut sink, &messages(11..=20, |_| "t".into()));
    assert_eq!((outcomes, result), (vec![Outcome::Delivered; 10], Ok(())));
    // A real broker takes nothing behind a gap in the sequence; this one does not look at it, and what was
    // on its way behind the refused request may come first.
    let mut there = ids(&brokers, "t", 1);
    there.sort_unstable();
    assert_eq!(there, (1..=20).collect::<Vec<_>>());
}

#[test]
fn a_frozen_broker_is_down_in_time_and_has_everything_once_afterwards() {
    let broker = Kafka::start();
    let timeout = Duration::from_millis(500);
    let mut sink = sink_for(&broker.address(), timeout);
    until("the broker answers", || sink.open(0).is_ok());
    let some = messages(1..=300, |id| format!("t/{}", id % 3));
    deliver_all(&mut sink, &some[..30]);
    broker.freeze();
    let begun = Instant::now();
    let (outcomes, result) = deliver(&mut sink, &some[30..]);
    assert!(result.is_err() && outcomes.iter().all(|outcome| *outcome == Outcome::Untried), "{outcomes:?}");
    assert!((timeout..3 * timeout).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert!(sink_for(&broker.address(), timeout).open(0).is_err());
    assert!(begun.elapsed() < 4 * timeout, "{:?}", begun.elapsed());
    broker.thaw();
    deliver_all(&mut sink, &some[30..]);
    for topic in 0..3 {
        let expected: Vec<u64> = (1..=300).filter(|id| id % 3 == topic).collect();
        assert_eq!(ids(&broker.address(), &format!("t.{topic}"), 1), expected);
    }
}

#[test]
fn a_broker_that_is_killed_and_started_again_gets_what_it_has_not_acknowledged() {
    let broker = Kafka::start();
    let mut sink = sink_for(&broker.address(), Duration::from_millis(500));
    until("the broker answers", || sink.open(0).is_ok());
    let some = messages(1..=200, |_| "t".into());
    deliver_all(&mut sink, &some[..100]);
    broker.kill();
    let (outcomes, result) = deliver(&mut sink, &some[100..]);
    assert!(result.is_err() && outcomes.iter().all(|outcome| *outcome == Outcome::Untried));
    broker.restart();
    deliver_all(&mut sink, &some[100..]);
    // This broker keeps nothing over a restart: what it has is what came after.
    assert_eq!(ids(&broker.address(), "t", 1), (101..=200).collect::<Vec<_>>());
}

#[test]
fn closing_waits_for_what_is_on_its_way() {
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("t", 1, 1).unwrap();
    let mut sink = sink_for(&brokers, Duration::from_millis(1_000));
    until("a broker answers", || sink.open(0).is_ok());
    deliver_all(&mut sink, &[message(1, "t")]);
    cluster.broker_round_trip_time(1, Duration::from_millis(1_500)).unwrap();
    let (outcomes, result) = deliver(&mut sink, &[message(2, "t")]);
    assert!(result.is_err(), "{outcomes:?}");
    sink.close().unwrap();
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    assert_eq!(ids(&brokers, "t", 1), [1, 2]);

    // And says so when it waited for nothing.
    let mut sink = sink_for(&brokers, Duration::from_millis(300));
    until("a broker answers", || sink.open(0).is_ok());
    cluster.broker_down(1).unwrap();
    assert!(deliver(&mut sink, &[message(3, "t")]).1.is_err());
    let begun = Instant::now();
    assert!(sink.close().is_err());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}
