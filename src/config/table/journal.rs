//! What is stored before it is acknowledged, and where it goes from there.

use super::{Field, Setting, millis, number, of_server, seconds, text};
use crate::config::parse;
use crate::limits as at;

const JOURNAL: &str = "Journal";
const DELIVERY: &str = "Delivery";

/// A year. Seconds.
const YEAR_S: u64 = 366 * 86_400;

/// The group's settings.
pub(super) const SETTINGS: &[Setting] = &[
    number(
        JOURNAL,
        "TIDEGATE_JOURNAL_SEGMENT_BYTES",
        "67108864",
        "bytes",
        (at::MIN_SEGMENT_BYTES, at::MAX_SEGMENT_BYTES),
        "Bytes of one file of the journal; its room is taken from the disk at once.",
        of_server!(journal_segment_bytes: u64),
    ),
    number(
        JOURNAL,
        "TIDEGATE_JOURNAL_MAX_BYTES",
        "8589934592",
        "bytes",
        (4 * at::MIN_SEGMENT_BYTES, at::MAX_JOURNAL_BYTES),
        "Bytes of the whole journal; above, SUBMIT is OVERLOADED until messages are delivered or retained no longer. Dead \
         letters alone may take as much again.",
        of_server!(journal_max_bytes: u64),
    ),
    number(
        JOURNAL,
        "TIDEGATE_JOURNAL_MIN_FREE_BYTES",
        "268435456",
        "bytes",
        (0, at::MAX_JOURNAL_BYTES),
        "Bytes that the journal leaves free on its disk; below, SUBMIT is OVERLOADED.",
        of_server!(journal_min_free_bytes: u64),
    ),
    number(
        JOURNAL,
        "TIDEGATE_JOURNAL_QUEUE_BYTES",
        "67108864",
        "bytes",
        (at::MIN_SEGMENT_BYTES, at::MAX_JOURNAL_BYTES),
        "Bytes of messages that wait in memory for the journal's disk; above, SUBMIT is OVERLOADED.",
        of_server!(journal_queue_bytes: usize),
    ),
    number(
        JOURNAL,
        "TIDEGATE_JOURNAL_BUSY_POLL_US",
        "0",
        "microseconds",
        (0, at::MAX_BUSY_POLL_US as u64),
        "How long the journal's thread goes on looking for messages after it had some, before it sleeps; it costs a core \
         for a shorter wait. 0: it sleeps at once.",
        of_server!(journal_busy_poll_us: u32),
    ),
    number(
        JOURNAL,
        "TIDEGATE_JOURNAL_RETAIN_S",
        "604800",
        "seconds",
        (1, 100 * YEAR_S),
        "How long the journal keeps messages that go to no sink.",
        seconds!(journal_retain),
    ),
    number(
        JOURNAL,
        "TIDEGATE_JOURNAL_RETAIN_BYTES",
        "4294967296",
        "bytes",
        (0, at::MAX_JOURNAL_BYTES),
        "Bytes of the journal above which the oldest messages that go to no sink are deleted.",
        of_server!(journal_retain_bytes: u64),
    ),
    number(
        JOURNAL,
        "TIDEGATE_DEDUP_WINDOW_S",
        "600",
        "seconds",
        (1, YEAR_S),
        "How long a message's idempotency key is remembered: a retry within it is not stored twice.",
        seconds!(dedup_window),
    ),
    number(
        JOURNAL,
        "TIDEGATE_DEDUP_MAX",
        "1000000",
        "keys",
        (1, at::MAX_DEDUP as u64),
        "Idempotency keys that are remembered; of more, the oldest are forgotten.",
        of_server!(dedup_max: usize),
    ),
    text(
        DELIVERY,
        "TIDEGATE_SINKS",
        "*=none",
        "a comma list of PATTERN=SINK, where SINK is none, handler:NAME, file:PATH, exec:COMMAND, redis:URL or kafka:URL, and a comma within is %2C",
        "Where messages go by their topic, the first pattern that matches; + stands for one level of a topic, # for all \
         that follow, * for every topic. none: they stay in the journal.",
        parse::sinks,
        |c| c.sinks.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    ),
    text(
        DELIVERY,
        "TIDEGATE_SUBMIT_ACK",
        "journal",
        "journal or sink",
        "When SUBMIT is answered: when the message is on the disk, or when its sink has it, too.",
        parse::submit_ack,
        |c| c.submit_ack.name().to_owned(),
    ),
    number(
        DELIVERY,
        "TIDEGATE_SINK_BATCH",
        "500",
        "messages",
        (1, at::MAX_SINK_BATCH as u64),
        "Messages that a sink is given at once.",
        of_server!(sink_batch: usize),
    ),
    number(
        DELIVERY,
        "TIDEGATE_SINK_TRIES",
        "5",
        "tries",
        (1, 1_000),
        "How often a message that its sink refuses is tried until it is a dead letter.",
        of_server!(sink_tries: u32),
    ),
    number(
        DELIVERY,
        "TIDEGATE_SINK_BACKOFF_MS",
        "100",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "How long a sink is left alone after it was down or refused a message; each time twice as long, with jitter.",
        millis!(sink_backoff),
    ),
    number(
        DELIVERY,
        "TIDEGATE_SINK_BACKOFF_MAX_MS",
        "30000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "The longest such time.",
        millis!(sink_backoff_max),
    ),
    number(
        DELIVERY,
        "TIDEGATE_SINK_TIMEOUT_MS",
        "10000",
        "milliseconds",
        (1, at::MAX_TIMER_MS as u64),
        "How long a sink may take for what it is given until it is taken for down.",
        millis!(sink_timeout),
    ),
    text(
        DELIVERY,
        "TIDEGATE_DEAD_LETTER_TOPIC",
        "dead-letter",
        "a topic",
        "Where a message goes, with the reason, that its sink has refused for good.",
        parse::dead_letter_topic,
        |c| c.dead_letter_topic.clone(),
    ),
];
