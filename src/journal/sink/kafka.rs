//! The sink `kafka`: each message a record of a Kafka topic, by an idempotent producer that waits for all replicas.
//!
//! `kafka:b1:9092;b2:9092?topic=…&key=…`, or with `kafka://` before; brokers stand between `;` or `,`.
//!
//! | option | | default |
//! |---|---|---|
//! | `topic` | Kafka's topic; `{topic}` in it stands for the message's | `{topic}` |
//! | `key` | what is the record's key, which decides on its partition: `principal`, `session`, `topic` or `none` | `principal` |
//! | `compression` | `none`, `gzip`, `snappy` or `lz4` | `none` |
//! | `client.id` | what brokers call this gateway | `tidegate` |
//! | `rdkafka.…` | any property of librdkafka, save those that the promises below rest on | |
//!
//! Kafka's names of topics hold letters, digits, `.`, `_` and `-`: of a message's topic `/` becomes `.`, and every other
//! character that Kafka does not take `_`. So two topics may have one name there: the header tells them apart.
//!
//! A record's value is the body, its time the message's. Headers: `id`, `topic`, `principal`, `key` (the idempotency key, 32 hex
//! digits), `traceparent` (W3C). A message without a key or a trace has no such header. With `key=session` the key is a digest of the session's
//! id, and of a message without one its principal.
//!
//! # Order
//! Kafka keeps the order of a partition. With `key=principal` or `session` a topic's messages from one principal or
//! session are in order; with `key=topic`, or where the topic has one partition, all of a topic's. With `key=none` and
//! more than one partition there is no order.
//!
//! # Not twice
//! A message is delivered when Kafka's client says so in its report on that message, and on nothing else. What is not
//! acknowledged in time stays with the client, which tries on with the same sequence numbers, so that brokers tell repeats;
//! when it is asked for again, its report is waited for. It is sent a second time only by another client: after the end
//! of this process, after an error with which this client may not go on, or when brokers answer and it gets nowhere.

mod options;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

pub use options::Options;

use super::{Down, Outcome, Sink};
use crate::hex::hex;
use crate::journal::Message;
use crate::limits::MAX_SINK_BATCH;

/// Reports that nobody asked for, above which a client is given up with all that it has.
const MAX_REPORTS: usize = 4 * MAX_SINK_BATCH;

/// How long the client waits for a report before it looks at the time.
const STEP: Duration = Duration::from_millis(1);

/// So often a client may report nothing at all in the time that a batch may take. A broker that has forgotten what it
/// knew refuses what this client sends for ever, and the client tries for ever.
const STALLED: u32 = 2;

/// Kafka.
pub struct KafkaSink {
    options: Options,
    timeout: Duration,
    client: Option<Client>,
    /// Messages up to this id are sent one at a time: one of a batch was refused, and it is not known which.
    one_by_one: u64,
    /// Batches in a row of which nothing was reported.
    stalled: u32,
}

impl KafkaSink {
    /// Connects to nothing yet. Connecting, and each batch, may take `timeout`.
    pub fn new(options: Options, timeout: Duration) -> KafkaSink {
        KafkaSink { options, timeout, client: None, one_by_one: 0, stalled: 0 }
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.timeout).unwrap_or(now)
    }

    /// Sends what has no result, and waits for the reports. Returns whether there is a result for all: if not, another
    /// round by another client may have more.
    fn round(&mut self, batch: &mut Batch<'_>, deadline: Instant) -> Result<bool, Down> {
        let client = match &mut self.client {
            Some(client) => client,
            None => self.client.insert(Client::new(&self.options, self.timeout)?),
        };
        for at in 0..batch.messages.len() {
            let Some((message, topic)) = batch.next(at, &self.options) else { continue };
            match client.send(message, &topic, self.options.key(message).as_deref(), deadline) {
                Ok(()) if message.id <= self.one_by_one => {
                    client.wait(deadline, |client| !client.is_flying(message.id));
                    batch.settle(at, client, true);
                }
                Ok(()) => {}
                Err(KafkaError::MessageProduction(code)) if is_about_message(code) || is_about_topic(code) => {
                    batch.refuse(at, code);
                }
                // No message is taken any more; those that are on their way are still reported.
                Err(_) if client.is_over() => break,
                Err(error) => return Err(Down(error.to_string())),
            }
            if client.is_over() {
                break;
            }
        }
        client.wait(deadline, |client| client.flying == 0);
        let suspects = (0..batch.messages.len()).filter(|at| batch.settle(*at, client, false)).count();
        if suspects > 0 {
            self.one_by_one = batch.messages.iter().map(|message| message.id).max().unwrap_or(0);
        }
        let over = client.is_over() || suspects > 0;
        let why = client.why(batch.left());
        if over {
            self.client = None;
        }
        match batch.left() {
            0 => Ok(true),
            _ if over => Ok(false),
            _ => Err(Down(why)),
        }
    }
}

impl Sink for KafkaSink {
    fn open(&mut self, done: u64) -> Result<u64, Down> {
        if self.client.as_ref().is_some_and(Client::is_over) {
            self.client = None;
        }
        let client = match &mut self.client {
            // What it has not acknowledged it is still at.
            Some(client) if client.flying > 0 && self.stalled < STALLED => return Ok(done),
            Some(client) if client.flying > 0 => {
                let asked = client.producer.client().fetch_metadata(Some(&client.topic), self.timeout);
                asked.map_err(|_| Down(client.why(client.flying)))?;
                // Brokers are there, and it gets nowhere.
                self.stalled = 0;
                self.client.insert(Client::new(&self.options, self.timeout)?)
            }
            Some(client) => client,
            None => self.client.insert(Client::new(&self.options, self.timeout)?),
        };
        // A client is there whether or not brokers are: this asks one.
        match client.producer.client().fetch_cluster_id(self.timeout) {
            Some(_) => Ok(done),
            None => Err(Down(client.why(0))),
        }
    }

    fn deliver(&mut self, messages: &[&Message], outcomes: &mut Vec<Outcome>) -> Result<(), Down> {
        if self.client.as_ref().is_some_and(|client| client.reports.len() > MAX_REPORTS) {
            self.client = None;
        }
        let deadline = self.deadline();
        let mut batch = Batch { messages, results: vec![None; messages.len()], refused: HashSet::new() };
        let mut idle = 0;
        let ended = loop {
            let (left, one_by_one) = (batch.left(), self.one_by_one);
            match self.round(&mut batch, deadline) {
                Ok(true) => break Ok(()),
                Err(down) => break Err(down),
                Ok(false) if Instant::now() >= deadline => break Err(Down("it took too long".to_owned())),
                Ok(false) => {}
            }
            // One new client for nothing may be bad luck; two are not.
            idle = if batch.left() < left || self.one_by_one > one_by_one { 0 } else { idle + 1 };
            if idle > 1 {
                break Err(Down("its clients end with errors, one after the other".to_owned()));
            }
        };
        let moved = batch.results.iter().any(|result| !matches!(result, None | Some(Outcome::Untried)));
        self.stalled = if ended.is_err() && !moved { self.stalled.saturating_add(1) } else { 0 };
        outcomes.extend(batch.results.into_iter().map(|result| result.unwrap_or(Outcome::Untried)));
        ended
    }

    fn close(&mut self) -> Result<(), Down> {
        let deadline = self.deadline();
        let Some(mut client) = self.client.take() else { return Ok(()) };
        client.wait(deadline, |client| client.flying == 0);
        match client.flying {
            0 => Ok(()),
            left => Err(Down(client.why(left))),
        }
    }
}

/// Messages, and what became of each.
struct Batch<'m> {
    messages: &'m [&'m Message],
    results: Vec<Option<Outcome>>,
    /// Topics of which one was refused: nothing of them may be sent after it.
    refused: HashSet<&'m str>,
}

impl<'m> Batch<'m> {
    /// Messages without a result.
    fn left(&self) -> usize {
        self.results.iter().filter(|result| result.is_none()).count()
    }

    /// A message that is to be sent, and Kafka's topic for it.
    fn next(&mut self, at: usize, options: &Options) -> Option<(&'m Message, String)> {
        let message = *self.messages.get(at)?;
        if self.results.get(at)?.is_some() {
            return None;
        }
        if self.refused.contains(message.topic.as_str()) {
            self.set(at, Outcome::Untried);
            return None;
        }
        match options.topic(&message.topic) {
            Ok(topic) => Some((message, topic)),
            Err(why) => {
                self.refused.insert(&message.topic);
                self.set(at, Outcome::Refused(why));
                None
            }
        }
    }

    fn refuse(&mut self, at: usize, code: Code) {
        let Some(message) = self.messages.get(at) else { return };
        let first = self.refused.insert(&message.topic);
        self.set(at, if first { Outcome::Refused(code.to_string()) } else { Outcome::Untried });
    }

    /// Takes over what the client reports on a message, which was sent `alone` or with others. Returns whether it may be the
    /// one that keeps others from being taken.
    fn settle(&mut self, at: usize, client: &mut Client, alone: bool) -> bool {
        let Some(message) = self.messages.get(at) else { return false };
        if self.results.get(at).is_none_or(Option::is_some) {
            return false;
        }
        match client.report(message.id) {
            Some(Ok(())) => self.set(at, Outcome::Delivered),
            Some(Err(code)) if is_about_topic(code) || (alone && is_about_message(code)) => self.refuse(at, code),
            Some(Err(code)) => return is_about_message(code),
            None => {}
        }
        false
    }

    fn set(&mut self, at: usize, outcome: Outcome) {
        if let Some(result) = self.results.get_mut(at) {
            *result = Some(outcome);
        }
    }
}

/// Kafka's client, and what it has said of the messages that it was given.
struct Client {
    producer: BaseProducer<Reports>,
    /// `None`: it is at it.
    reports: HashMap<u64, Option<Result<(), Code>>>,
    /// Those it is at.
    flying: usize,
    /// Kafka's topic of the last of them.
    topic: String,
}

impl Client {
    fn new(options: &Options, timeout: Duration) -> Result<Client, Down> {
        let producer =
            options.config(timeout).create_with_context(Reports::default()).map_err(|error| match error {
                // The value may be a secret.
                KafkaError::ClientConfig(_, text, name, _) => Down(format!("{name}: {text}")),
                error => Down(error.to_string()),
            })?;
        Ok(Client { producer, reports: HashMap::new(), flying: 0, topic: String::new() })
    }

    /// Gives the client a message, unless it has it.
    fn send(&mut self, message: &Message, topic: &str, key: Option<&str>, deadline: Instant) -> Result<(), KafkaError> {
        if self.reports.contains_key(&message.id) {
            return Ok(());
        }
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(message.id))
            .payload(message.body.as_slice())
            .timestamp(i64::try_from(message.time_ms).unwrap_or(i64::MAX))
            .headers(headers(message));
        if let Some(key) = key {
            record = record.key(key);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(Code::QueueFull), again)) if Instant::now() < deadline => {
                    self.poll();
                    record = again;
                }
                Err((error, _)) => return Err(error),
            }
        }
        self.reports.insert(message.id, None);
        self.flying += 1;
        topic.clone_into(&mut self.topic);
        Ok(())
    }

    /// What was reported on a message; forgotten then.
    fn report(&mut self, id: u64) -> Option<Result<(), Code>> {
        let report = self.reports.get(&id).cloned().flatten()?;
        self.reports.remove(&id);
        Some(report)
    }

    fn is_flying(&self, id: u64) -> bool {
        matches!(self.reports.get(&id), Some(None))
    }

    /// Whether an error was met after which it sends nothing any more.
    fn is_over(&self) -> bool {
        self.producer.client().fatal_error().is_some()
    }

    fn wait(&mut self, deadline: Instant, done: impl Fn(&Client) -> bool) {
        while !done(self) && Instant::now() < deadline {
            self.poll();
        }
    }

    /// Takes in reports; waits for them for a moment.
    fn poll(&mut self) {
        self.producer.poll(STEP);
        for (id, report) in lock(&self.producer.context().reports).drain(..) {
            if let Some(known @ None) = self.reports.get_mut(&id) {
                *known = Some(report);
                self.flying -= 1;
            }
        }
    }

    /// Why so many messages are not delivered.
    fn why(&mut self, left: usize) -> String {
        self.poll();
        let said = lock(&self.producer.context().said).clone();
        let said = if said.is_empty() { "no broker answered in time" } else { &said };
        match self.producer.client().fatal_error() {
            Some((_, text)) => text,
            None if left == 0 => said.to_owned(),
            None => format!("{left} messages were not acknowledged in time: {said}"),
        }
    }
}

/// What the client says.
#[derive(Default)]
struct Reports {
    reports: Mutex<Vec<(u64, Result<(), Code>)>>,
    /// The last error that is not a message's.
    said: Mutex<String>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // What matters of it is said when the sink is down.
        log::debug!(level:? = level, facility = facility; "Kafka's client: {text}");
    }

    fn error(&self, _: KafkaError, reason: &str) {
        reason.clone_into(&mut lock(&self.said));
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<u64>) {
        let report = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        };
        lock(&self.reports).push((*id, report));
    }
}

/// A panic while it was held has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Errors of one message: but a broker refuses the whole batch that it came with.
fn is_about_message(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::PolicyViolation
    )
}

/// Errors of one topic.
fn is_about_topic(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
    )
}

fn headers(message: &Message) -> OwnedHeaders {
    let Message { id, topic, principal, key, trace, .. } = message;
    let headers = OwnedHeaders::new_with_capacity(5)
        .insert(Header { key: "id", value: Some(&id.to_string()) })
        .insert(Header { key: "topic", value: Some(topic) })
        .insert(Header { key: "principal", value: Some(principal) });
    let headers = match key {
        Some(key) => headers.insert(Header { key: "key", value: Some(&hex(key)) }),
        None => headers,
    };
    match trace {
        Some(trace) => {
            let trace = format!("00-{}-{}-{:02x}", hex(&trace.trace_id), hex(&trace.span_id), trace.flags);
            headers.insert(Header { key: "traceparent", value: Some(&trace) })
        }
        None => headers,
    }
}
