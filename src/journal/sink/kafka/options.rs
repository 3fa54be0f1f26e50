//! What a `kafka` sink is told, and what Kafka's client is told.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

use crate::hex::hex;
use crate::journal::Message;
use crate::url::Url;

/// What a `kafka` sink is told.
#[derive(Clone)]
pub struct Options {
    brokers: String,
    topic: Vec<String>,
    key: Key,
    /// Properties of librdkafka.
    properties: Vec<(String, String)>,
}

/// By what a message's partition is chosen.
#[derive(Clone, Copy)]
enum Key {
    Principal,
    Session,
    Topic,
    None,
}

/// Longest name of a topic that Kafka takes. Bytes.
const MAX_TOPIC: usize = 249;

/// Most brokers that may be named; the client learns of the others from them.
const MAX_BROKERS: usize = 64;

/// Properties without which the promises of this sink do not hold.
const OWN: [&str; 13] = [
    "acks",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "request.required.acks",
    "retries",
    "transactional.id",
];

impl Options {
    /// Reads what follows `kafka:` in `TIDEGATE_SINKS`: `b1:9092;b2:9092?topic=…`, or that with `//` or `kafka://` before.
    ///
    /// # Errors
    /// What is wrong with it, in words, without a secret.
    pub fn parse(argument: &str) -> Result<Options, String> {
        let hosts = argument.strip_prefix("kafka://").or(argument.strip_prefix("//")).unwrap_or(argument);
        let mut url = Url::parse(&format!("kafka://{hosts}"))?;
        if url.user.is_some() || url.password.is_some() {
            return Err("an account is given as rdkafka.sasl.username=…&rdkafka.sasl.password=…, with \
                        rdkafka.security.protocol=sasl_plaintext&rdkafka.sasl.mechanism=PLAIN"
                .to_owned());
        }
        if url.parts().next().is_some() {
            return Err("nothing but ? may follow the brokers: the topic is topic=".to_owned());
        }
        if url.hosts.len() > MAX_BROKERS {
            return Err(format!("there are more than {MAX_BROKERS} brokers"));
        }
        let brokers: Vec<String> = url.hosts.iter().map(broker).collect();
        let topic = url.take("topic")?.unwrap_or_else(|| "{topic}".to_owned());
        let topic: Vec<String> = topic.split("{topic}").map(str::to_owned).collect();
        let fixed = topic.concat();
        if fixed.len() > MAX_TOPIC || !fixed.chars().all(is_legal) || topic == [""] {
            return Err("topic= is to be made of {topic}, letters, digits, '.', '_' and '-'".to_owned());
        }
        let key = match url.take("key")?.as_deref() {
            None | Some("principal") => Key::Principal,
            Some("session") => Key::Session,
            Some("topic") => Key::Topic,
            Some("none") => Key::None,
            Some(_) => return Err("key= is to be principal, session, topic or none".to_owned()),
        };
        let mut properties = Vec::new();
        for (option, property) in [("compression", "compression.type"), ("client.id", "client.id")] {
            properties.extend(url.take(option)?.map(|value| (property.to_owned(), value)));
        }
        properties.extend(url.take_prefixed("rdkafka."));
        url.finish("topic=, key=, compression=, client.id= and rdkafka.PROPERTY=")?;
        let read = Options { brokers: brokers.join(","), topic, key, properties };
        read.check()?;
        Ok(read)
    }

    /// Whether the client would take the properties.
    fn check(&self) -> Result<(), String> {
        for (at, (name, _)) in self.properties.iter().enumerate() {
            if OWN.contains(&name.as_str()) {
                return Err(format!("{name} is tidegate's own: what it promises rests on it"));
            }
            if self.properties.iter().skip(at + 1).any(|(other, _)| other == name) {
                return Err(format!("{name} is given twice"));
            }
        }
        // A value may be a secret: what is wrong with it is said without it.
        match self.config(Duration::from_secs(10)).create_native_config() {
            Ok(_) => Ok(()),
            Err(KafkaError::ClientConfig(_, text, name, value)) => {
                let text = if value.is_empty() { text } else { text.replace(&value, "…") };
                Err(format!("rdkafka.{name}: {text}"))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// What the client is told; what is given with `rdkafka.` goes before.
    pub(super) fn config(&self, timeout: Duration) -> ClientConfig {
        let millis = |time: Duration, min: u64, max: u64| {
            u64::try_from(time.as_millis()).unwrap_or(max).clamp(min, max).to_string()
        };
        let mut config = ClientConfig::new();
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Debug);
        config
            .set("client.id", "tidegate")
            // All of a batch is there at once.
            .set("linger.ms", "0")
            // As Kafka's own clients do it.
            .set("partitioner", "murmur2_random")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.connection.setup.timeout.ms", millis(timeout, 1_000, 60_000))
            // After it a request is sent anew. A broker that is slow must not be asked for ever.
            .set("socket.timeout.ms", millis(timeout, 10_000, 60_000))
            // How long a topic may be unknown until it is taken for one that is not there: less than a batch may take.
            .set("topic.metadata.propagation.max.ms", millis(timeout / 2, 1, 30_000))
            .set("log.connection.close", "false");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // One that fails takes those behind it along: they could not come after it any more.
            .set("enable.gapless.guarantee", "true")
            // Never: a message that ran out of time might be there, and those behind it would pass it.
            .set("message.timeout.ms", "0");
        config
    }

    /// Kafka's topic for one of ours: `/` becomes `.`, any other character that Kafka does not take `_`.
    ///
    /// # Errors
    /// Kafka would not take the name.
    pub(super) fn topic(&self, topic: &str) -> Result<String, String> {
        let legal = |c: char| match c {
            '/' => '.',
            c if is_legal(c) => c,
            _ => '_',
        };
        let topic: String = topic.chars().map(legal).collect();
        let name = self.topic.join(&topic);
        match name.len() <= MAX_TOPIC && name != "." && name != ".." {
            true => Ok(name),
            false => {
                Err(format!("{name:?} is no name that Kafka takes for a topic: of 1 to {MAX_TOPIC} bytes, not . or .."))
            }
        }
    }

    /// The key that decides on a message's partition.
    pub(super) fn key(&self, message: &Message) -> Option<String> {
        match self.key {
            Key::Principal => Some(message.principal.clone()),
            // What has no session is the server's own, a dead letter for instance.
            Key::Session => Some(message.session.map_or_else(|| message.principal.clone(), |session| hex(&session))),
            Key::Topic => Some(message.topic.clone()),
            Key::None => None,
        }
    }
}

fn broker((host, port): &(String, Option<u16>)) -> String {
    let port = port.unwrap_or(9092);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let read =
            Options::parse("b1;b2:19092?topic=in.{topic}&key=topic&compression=lz4&rdkafka.batch.size=1000").unwrap();
        assert_eq!(read.brokers, "b1:9092,b2:19092");
        assert_eq!(read.topic("orders/eu é").unwrap(), "in.orders.eu__");
        let config = read.config(Duration::from_secs(1));
        for (name, value) in
            [("compression.type", "lz4"), ("batch.size", "1000"), ("acks", "all"), ("client.id", "tidegate")]
        {
            assert_eq!(config.get(name), Some(value));
        }
        for other in ["kafka://b1,b2", "//[::1]:9092", "b1?client.id=me"] {
            Options::parse(other).unwrap_or_else(|e| panic!("{other}: {e}"));
        }
    }

    #[test]
    fn a_topic_that_kafka_would_not_take_is_found_before_it_is_asked() {
        let read = Options::parse("b").unwrap();
        assert_eq!(read.topic("a/b").unwrap(), "a.b");
        for wrong in ["/".to_owned(), "..".to_owned(), "a".repeat(250)] {
            assert!(read.topic(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(Options::parse("b?topic=all").unwrap().topic("x").unwrap(), "all");
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        for (wrong, part) in [
            ("", "host"),
            ("b/orders", "topic="),
            ("u:hush@b", "sasl"),
            ("b?topic=a b", "topic="),
            ("b?topic=", "topic="),
            ("b?key=body", "key="),
            ("b?acks=1", "\"acks\""),
            ("b?rdkafka.acks=1", "tidegate's own"),
            ("b?rdkafka.nothing=1", "rdkafka.nothing"),
            ("b?compression=hush", "compression.type"),
            ("b?compression=lz4&rdkafka.compression.type=lz4", "twice"),
            ("b?rdkafka.linger.ms=hush", "linger.ms"),
        ] {
            let error = Options::parse(wrong).err().unwrap_or_else(|| panic!("{wrong}"));
            assert!(error.contains(part) && !error.contains("hush"), "{wrong}: {error}");
        }
    }
}
