//! What is logged of a request: whose it is, and of which trace, when its handler fails, and when its
//! answer comes later.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use tidegate::config::Config;
use tidegate::proto::{Command, ErrorCode, extension_type};
use tidegate::session::log_name;

use crate::support::{Client, config, extension, frame_v2, start, sum, until};

const TRACE: [u8; 25] = *b"0123456789abcdefSPANSPAN\x01";

/// A log line, as the library gives it to whatever logger there is.
#[derive(Clone, Debug, Default)]
struct Line {
    target: String,
    message: String,
    fields: HashMap<String, String>,
}

/// Keeps errors and access lines, of every server of this process.
#[derive(Default)]
struct Collector(Mutex<Vec<Line>>);

impl Log for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() == Level::Error || metadata.target() == tidegate::logging::ACCESS
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut fields = Fields::default();
        record.key_values().visit(&mut fields).unwrap();
        let line = Line { target: record.target().to_owned(), message: record.args().to_string(), fields: fields.0 };
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

#[derive(Default)]
struct Fields(HashMap<String, String>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.insert(key.to_string(), value.to_string());
        Ok(())
    }
}

/// The lines with this command, once there are so many.
fn lines_about(target: &str, cmd: u8, count: usize) -> Vec<Line> {
    let cmd = Command(cmd).to_string();
    let matching = || {
        let lines = collector().0.lock().unwrap();
        let matches = |line: &&Line| line.target.starts_with(target) && line.fields.get("cmd") == Some(&cmd);
        lines.iter().filter(matches).cloned().collect::<Vec<_>>()
    };
    until("it is logged", || matching().len() >= count);
    matching()
}

fn collector() -> &'static Collector {
    static COLLECTOR: OnceLock<&'static Collector> = OnceLock::new();
    COLLECTOR.get_or_init(|| {
        let collector: &'static Collector = Box::leak(Box::default());
        log::set_logger(collector).unwrap();
        log::set_max_level(LevelFilter::Info);
        collector
    })
}

/// The fields of a line that say whose request it is, as they should be.
fn whose(client: &Client, session: &[u8; 16], worker: &str) -> Vec<(&'static str, String)> {
    vec![
        ("worker", worker.to_owned()),
        ("session", log_name(session)),
        ("principal", "anonymous".to_owned()),
        ("peer", client.stream.local_addr().unwrap().to_string()),
        ("trace_id", "30313233343536373839616263646566".to_owned()),
        ("span_id", "5350414e5350414e".to_owned()),
    ]
}

fn assert_tells(line: &Line, expected: &[(&'static str, String)]) {
    for (key, value) in expected {
        assert_eq!(line.fields.get(*key), Some(value), "{key} of {line:?}");
    }
    assert!(line.fields.contains_key("connection") && line.fields.contains_key("seq"), "{line:?}");
}

#[test]
fn a_handlers_failure_tells_whose_request_it_was_and_of_which_trace() {
    let _ = collector();
    let (server, address) = start(Config { workers: 1, ..config() }, |builder| {
        builder
            .route(0xE1, |_, _| panic!("an in-place panic"))
            .route(0xE2, |_, responder| drop(responder))
            .route_blocking(0xE3, |_, _| panic!("a panic on the pool"))
            .route(0xE4, |_, responder| drop(responder.defer().map(|later| std::thread::spawn(move || drop(later)))))
    });
    let (mut client, ready) = Client::ready(address);
    for cmd in [0xE1, 0xE2, 0xE3, 0xE4] {
        let seq = client.request_v2(Command(cmd), &extension(extension_type::TRACE, &TRACE), b"");
        assert_eq!(client.expect_error(seq).0, ErrorCode::Internal);
        let line = lines_about("tidegate::reactor", cmd, 1).remove(0);
        assert_tells(&line, &whose(&client, &ready.session, "0"));
        assert!(line.message.contains(&Command(cmd).to_string()) && line.message.contains("INTERNAL"), "{line:?}");
    }
    let panicked = lines_about("tidegate::reactor", 0xE1, 1).remove(0);
    assert_eq!(panicked.fields.get("panic").map(String::as_str), Some("an in-place panic"));
    drop(client);
    drop(server);
}

#[test]
fn an_answer_that_comes_later_is_in_the_access_log_when_it_lands() {
    let _ = collector();
    let config = Config { workers: 1, access_log_rate: 1_000, ..config() };
    let (server, address) =
        start(config, |builder| builder.route_blocking(0xE5, |request, responder| responder.reply(request.payload())));
    let (mut client, ready) = Client::ready(address);
    // Cut within the frame, and within its header: it is known when it is whole.
    for cut in [0, 4, 20] {
        client.seq += 1;
        let request = frame_v2(client.seq, Command(0xE5), &extension(extension_type::TRACE, &TRACE), b"later");
        let read = sum(&server, |stats| &stats.bytes_in);
        client.send(&request[..cut]);
        until("the first part is read", || sum(&server, |stats| &stats.bytes_in) == read + cut as u64);
        client.send(&request[cut..]);
        assert_eq!(client.expect_reply(client.seq, Command(0xE5)), b"later");
    }
    for line in lines_about("tidegate::access", 0xE5, 3) {
        assert_tells(&line, &whose(&client, &ready.session, "0"));
        let number = |key: &str| line.fields[key].parse::<usize>().unwrap();
        assert_eq!((line.fields["outcome"].as_str(), number("bytes_out")), ("answered", 9 + 5), "{line:?}");
        assert_eq!(number("bytes_in"), 9 + 1 + 27 + 5, "{line:?}");
        assert!(line.fields.contains_key("duration_us"), "{line:?}");
    }
    drop(client);
    drop(server);
}
