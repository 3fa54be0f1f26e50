//! What lines promise: one each, whole, and to be parsed, whatever is in them.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::kv::{ToValue, Value};
use log::{Level, Log, Record};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::fields::is_unsafe;
use super::logger::Logger;
use super::{Look, json, printer, text};
use crate::config::Config;
use crate::limits::{MAX_LOG_FIELD_BYTES, MAX_LOG_FIELDS, MAX_LOG_MESSAGE_BYTES};

const NOW: &str = "2026-01-02T03:04:05.678Z";

fn with_record<T>(target: &str, message: &str, kvs: &[(&str, Value<'_>)], then: impl FnOnce(&Record<'_>) -> T) -> T {
    let kvs = kvs.to_vec();
    let args = format_args!("{message}");
    let mut builder = Record::builder();
    then(&builder.level(Level::Warn).target(target).key_values(&kvs).args(args).build())
}

fn as_json(target: &str, message: &str, kvs: &[(&str, Value<'_>)]) -> (String, Json) {
    let mut line = Vec::new();
    with_record(target, message, kvs, |record| json::write(&mut line, NOW, "gate-1", record));
    let line = String::from_utf8(line).unwrap();
    let parsed = serde_json::from_str(&line).unwrap();
    (line, parsed)
}

fn as_text(color: bool, message: &str, kvs: &[(&str, Value<'_>)]) -> String {
    let mut line = String::new();
    with_record("tidegate::x", message, kvs, |record| text::write(&mut line, NOW, color, record));
    line
}

/// Whether it is one line, in any reader's eyes, and no terminal does anything but show it.
fn is_one_harmless_line(line: &str) -> bool {
    line.strip_suffix('\n').is_some_and(|line| !line.chars().any(is_unsafe))
}

#[test]
fn a_json_line_has_its_fields_in_their_order() {
    let none: Option<u64> = None;
    let kvs = [
        ("retry_ms", 5.to_value()),
        ("peer", "127.0.0.1:9".to_value()),
        ("trace_id", none.to_value()),
        ("principal", "alice".to_value()),
        ("worker", 3.to_value()),
    ];
    let (line, _) = as_json("tidegate::reactor", "said", &kvs);
    let expected = r#"{"timestamp":"2026-01-02T03:04:05.678Z","level":"WARN","target":"tidegate::reactor","message":"said","service_id":"gate-1","worker":3,"principal":"alice","peer":"127.0.0.1:9","retry_ms":5}"#;
    assert_eq!(line, format!("{expected}\n"));
}

#[test]
fn a_text_line_ends_with_what_it_concerns_and_quotes_what_could_be_misread() {
    let kvs = [("peer", "127.0.0.1:9".to_value()), ("worker", 3.to_value()), ("why", "a=\"b\"\n".to_value())];
    let expected =
        r#"2026-01-02T03:04:05.678Z  WARN tidegate::x: said\n2026 worker=3 peer=127.0.0.1:9 why="a=\"b\"\n""#;
    assert_eq!(as_text(false, "said\n2026", &kvs), format!("{expected}\n"));
    let colored = as_text(true, "said", &[("worker", 3.to_value())]);
    assert_eq!(
        colored,
        "\x1b[2m2026-01-02T03:04:05.678Z\x1b[0m \x1b[33m WARN\x1b[0m \x1b[2mtidegate::x:\x1b[0m said \x1b[2mworker=\x1b[0m3\n"
    );
}

#[test]
fn a_backtrace_is_set_in_below_its_line() {
    let shown = as_text(false, "panicked", &[("backtrace", "0: a\n1: b\x1b[2J".to_value()), ("worker", 1.to_value())]);
    let (first, rest) = shown.split_once('\n').unwrap();
    assert!(first.ends_with("panicked worker=1"), "{shown}");
    assert_eq!(rest, "    0: a\n    1: b\\u{1b}[2J\n");
}

#[test]
fn texts_of_64_kb_are_cut_and_say_by_how_much() {
    let long = "é".repeat(32 * 1024);
    let (line, json) = as_json("t", &long, &[("principal", long.as_str().to_value())]);
    let ends =
        |text: &Json, kept: usize| text.as_str().unwrap().ends_with(&format!("é… ({} more bytes)", long.len() - kept));
    assert!(ends(&json["message"], MAX_LOG_MESSAGE_BYTES) && ends(&json["principal"], MAX_LOG_FIELD_BYTES), "{line}");
    assert!(line.len() < MAX_LOG_MESSAGE_BYTES + MAX_LOG_FIELD_BYTES + 300);
}

#[test]
fn a_cut_never_splits_a_character_and_nothing_follows_it() {
    let text = super::fields::bounded(5, format_args!("{}{}", "aéé", "b"));
    assert_eq!(text, "aéé… (1 more bytes)");
    let text = super::fields::bounded(4, format_args!("{}{}", "aéé", "b"));
    assert_eq!(text, "aé… (3 more bytes)");
}

#[test]
fn keys_are_there_once_and_never_hide_the_lines_own() {
    let kvs = [("message", "mine".to_value()), ("a", 1.to_value()), ("a", 2.to_value()), ("", 3.to_value())];
    let (line, json) = as_json("t", "said", &kvs);
    assert_eq!(
        (&json["message"], &json["_message"], &json["a"], &json["_"]),
        (&"said".into(), &"mine".into(), &1.into(), &3.into())
    );
    assert_eq!(line.matches("\"a\":").count(), 1, "{line}");
}

#[test]
fn more_fields_than_a_line_has_room_for_are_left_out_and_counted() {
    let names: Vec<String> = (0..MAX_LOG_FIELDS + 5).map(|n| format!("k{n}")).collect();
    let kvs: Vec<_> = names.iter().map(|name| (name.as_str(), 1.to_value())).collect();
    let (_, json) = as_json("t", "said", &kvs);
    assert_eq!(json["fields_left_out"], 5);
    assert_eq!(json[format!("k{}", MAX_LOG_FIELDS - 1)], 1);
}

#[test]
fn numbers_that_json_readers_do_not_take_become_texts() {
    let kvs = [
        ("nan", f64::NAN.to_value()),
        ("inf", f64::NEG_INFINITY.to_value()),
        ("wide", u128::MAX.to_value()),
        ("fits", 7u128.to_value()),
        ("minus", (-7i128).to_value()),
        ("half", 0.5.to_value()),
        ("yes", true.to_value()),
    ];
    let (_, json) = as_json("t", "said", &kvs);
    assert_eq!((&json["nan"], &json["inf"]), (&"NaN".into(), &"-inf".into()));
    assert_eq!(json["wide"], u128::MAX.to_string());
    assert_eq!(
        (&json["fits"], &json["minus"], &json["half"], &json["yes"]),
        (&7.into(), &(-7).into(), &0.5.into(), &true.into())
    );
}

#[test]
fn the_worker_is_known_from_the_threads_name() {
    let of = |name: &str, given: Option<u64>| {
        let log = move || as_json("t", "said", &[("worker", given.to_value())]).1["worker"].clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(log).unwrap().join().unwrap()
    };
    assert_eq!(of("worker-12", None), 12);
    assert_eq!(of("pool-12", None), Json::Null);
    assert_eq!(of("worker-12", Some(4)), 4);
}

#[test]
fn what_fails_to_display_itself_does_not_take_the_line_with_it() {
    struct Fails;
    impl fmt::Display for Fails {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("so far")?;
            Err(fmt::Error)
        }
    }
    let (_, json) = as_json("t", "said", &[("odd", Value::from_display(&Fails)), ("peer", "p".to_value())]);
    assert_eq!((&json["odd"], &json["peer"]), (&"so far (and then its formatting failed)".into(), &"p".into()));
}

proptest! {
    #[test]
    fn any_text_anywhere_gives_one_line_that_parses_and_reads_back(
        target in any::<String>(),
        message in any::<String>(),
        key in any::<String>(),
        value in any::<String>(),
        raw in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let raw = String::from_utf8_lossy(&raw).into_owned();
        let kvs = [("principal", raw.as_str().to_value()), (key.as_str(), value.as_str().to_value())];
        let (line, json) = as_json(&target, &message, &kvs);
        prop_assert!(is_one_harmless_line(&line), "{:?}", line);
        prop_assert_eq!(json["message"].as_str(), Some(message.as_str()));
        prop_assert_eq!(json["principal"].as_str(), Some(raw.as_str()));
        let shown = as_text(false, &message, &kvs);
        prop_assert!(is_one_harmless_line(&shown), "{:?}", shown);
    }
}

/// A place to print to that the test can look at, and hold up.
#[derive(Clone, Default)]
struct Paper {
    text: Arc<Mutex<Vec<u8>>>,
    gate: Arc<Mutex<()>>,
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        drop(self.gate.lock().unwrap());
        self.text.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn lines(&self) -> Vec<Json> {
        let text = String::from_utf8(self.text.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A logger of this test's own, that prints on paper.
fn logger(config: &Config) -> (&'static Logger, Paper) {
    let look = Look { service_id: "gate-1".to_owned(), json: true, color: false };
    let logger: &'static Logger = Box::leak(Box::new(Logger::new(look, config)));
    let paper = Paper::default();
    assert!(printer::start(logger, paper.clone()));
    (logger, paper)
}

fn log(logger: &Logger, level: Level, line: u32, message: &str) {
    let args = format_args!("{message}");
    let mut builder = Record::builder();
    builder.level(level).target("tidegate::x").module_path(Some("tidegate::x")).line(Some(line));
    logger.log(&builder.args(args).build());
}

const LONG: Duration = Duration::from_secs(20);

fn config(log: &str, burst: u32) -> Config {
    Config { log: log.to_owned(), log_burst: burst, ..Config::default() }
}

#[test]
fn lines_come_out_in_order_and_a_flush_waits_for_them() {
    let (logger, paper) = logger(&config("info", 0));
    (0..1_000).for_each(|n| log(logger, Level::Info, 1, &n.to_string()));
    log(logger, Level::Debug, 2, "not wanted");
    assert!(logger.flush(LONG));
    let messages: Vec<String> = paper.lines().iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect();
    assert_eq!(messages, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn the_filter_changes_while_it_runs() {
    let (logger, paper) = logger(&config("warn", 0));
    log(logger, Level::Info, 1, "before");
    logger.reload(&config("tidegate::x=debug", 0));
    assert_eq!(logger.level(), log::LevelFilter::Debug);
    log(logger, Level::Debug, 1, "after");
    assert!(logger.flush(LONG));
    assert_eq!(paper.lines().iter().map(|line| line["message"].clone()).collect::<Vec<_>>(), ["after"]);
}

#[test]
fn a_flood_is_limited_and_no_count_is_lost() {
    let (logger, paper) = logger(&config("info", 3));
    (0..12_348).for_each(|n| log(logger, Level::Warn, 1, &format!("number {n}")));
    logger.tell_all_counts();
    assert!(logger.flush(LONG));
    let lines = paper.lines();
    assert_eq!(lines.len(), 4);
    let last = &lines[3];
    assert!(last["message"].as_str().unwrap().starts_with("… 12,345 more like this in "), "{last}");
    assert_eq!((&last["suppressed"], &last["like"]), (&12_345.into(), &"number 3".into()));
    assert_eq!((&last["level"], &last["target"]), (&"WARN".into(), &"tidegate::x".into()));
}

#[test]
fn nobody_waits_for_a_reader_that_stands_still_and_what_was_dropped_is_told() {
    let (logger, paper) = logger(&config("info", 0));
    let gate = paper.gate.clone();
    let held = gate.lock().unwrap();
    let text = "x".repeat(MAX_LOG_MESSAGE_BYTES);
    const LINES: usize = 5_000;
    (0..LINES).for_each(|_| log(logger, Level::Error, 1, &text));
    assert!(!logger.flush(Duration::from_millis(10)), "nothing can have been printed");
    drop(held);
    assert!(logger.flush(LONG));
    let lines = paper.lines();
    let dropped: u64 = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
    let printed = lines.iter().filter(|line| line["level"] == "ERROR").count();
    assert!(dropped > 0 && printed as u64 + dropped == LINES as u64, "{printed} + {dropped}");
    assert!(printed * MAX_LOG_MESSAGE_BYTES <= crate::limits::MAX_LOG_QUEUE_BYTES + MAX_LOG_MESSAGE_BYTES);
}

#[test]
fn a_value_that_panics_while_it_is_shown_leaves_no_half_line_behind() {
    struct Panics;
    impl fmt::Display for Panics {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half a ")?;
            panic!("a test asked for it")
        }
    }
    let (logger, paper) = logger(&config("info", 1));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        logger.log(&Record::builder().level(Level::Info).target("t").args(format_args!("{Panics}")).build());
    }));
    assert!(panicked.is_err());
    log(logger, Level::Info, 1, "next");
    assert!(logger.flush(LONG));
    assert_eq!(paper.lines().iter().map(|line| line["message"].clone()).collect::<Vec<_>>(), ["next"]);
}
