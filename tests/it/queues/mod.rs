//! The sinks that are servers of others: real ones, killed, frozen and full.

#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "redis")]
mod redis;

use tidegate::journal::Message;
use tidegate::journal::sink::{Down, Outcome, Sink};
use tidegate::proto::Trace;

/// How long a sink of these tests may take until it is down, in milliseconds: a busy machine must not exceed it.
const TIMEOUT_MS: u64 = 2_000;

/// A message with everything that one may have, the body not text.
fn message(id: u64, topic: &str) -> Message {
    Message {
        id,
        time_ms: 1_700_000_000_000 + id,
        topic: topic.to_owned(),
        principal: "sensor-7".to_owned(),
        key: Some([id as u8; 16]),
        trace: Some(Trace { trace_id: [0xab; 16], span_id: [0xcd; 8], flags: 1 }),
        session: Some([7; 16]),
        body: [b"\0\xff\r\n", id.to_string().as_bytes()].concat(),
    }
}

/// These ids, each of the topic that `topic` says.
fn messages(ids: std::ops::RangeInclusive<u64>, topic: impl Fn(u64) -> String) -> Vec<Message> {
    ids.map(|id| message(id, &topic(id))).collect()
}

fn deliver(sink: &mut dyn Sink, messages: &[Message]) -> (Vec<Outcome>, Result<(), Down>) {
    let messages: Vec<&Message> = messages.iter().collect();
    let mut outcomes = Vec::new();
    let result = sink.deliver(&messages, &mut outcomes);
    assert!(outcomes.len() <= messages.len());
    (outcomes, result)
}

/// Delivers all of them, whatever it takes: what is not delivered is tried again, in order, when the sink is open again.
fn deliver_all(sink: &mut dyn Sink, messages: &[Message]) {
    let mut left = messages.to_vec();
    super::support::until("everything is delivered", || {
        let (outcomes, result) = deliver(sink, &left);
        let mut outcomes = outcomes.into_iter();
        left.retain(|_| outcomes.next() != Some(Outcome::Delivered));
        if result.is_err() {
            let _ = sink.open(0);
        }
        left.is_empty()
    });
}
