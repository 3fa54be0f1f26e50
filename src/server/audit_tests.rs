//! What the audit log promises.

use serde_json::Value;

use super::*;

fn read(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(FILE_NAME)).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "every line is whole: {text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line))).collect()
}

fn events(dir: &Path) -> Vec<String> {
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or("torn").to_owned();
    read(dir).iter().map(|line| format!("{} {}", text(line, "event_type"), text(line, "reason"))).collect()
}

/// One run of a server up to `start`, and without an end unless the caller writes one.
fn start(dir: &Path) -> (AuditLog, Option<String>) {
    let log = AuditLog::open(dir, "svc").unwrap();
    let crashed = log.start().unwrap();
    (log, crashed)
}

fn write_raw(dir: &Path, bytes: impl AsRef<[u8]>) {
    let mut file = OpenOptions::new().append(true).create(true).open(dir.join(FILE_NAME)).unwrap();
    file.write_all(bytes.as_ref()).unwrap();
}

#[test]
fn a_run_leaves_a_start_and_a_shutdown_with_its_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made/here");
    let (log, crashed) = start(&data);
    let ledger = Ledger { accepted: 7, answered: 6, cut: 1, ..Ledger::default() };
    log.shutdown("signal:SIGTERM", &ledger).unwrap();
    assert_eq!(crashed, None);
    let lines = read(&data);
    for (line, event) in lines.iter().zip(["start", "shutdown"]) {
        assert_eq!((&line["event_type"], &line["service_id"]), (&event.into(), &"svc".into()));
        assert_eq!((&line["version"], &line["pid"]), (&env!("CARGO_PKG_VERSION").into(), &std::process::id().into()));
        let time = line["timestamp"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok() && time.len() == 24 && time.ends_with('Z'), "{time}");
    }
    let shutdown = &lines[1];
    assert_eq!((&shutdown["reason"], &shutdown["exit_code"]), (&"signal:SIGTERM".into(), &3.into()));
    assert_eq!(serde_json::from_value::<Ledger>(shutdown.clone()).unwrap(), ledger);
    assert!(lines[0].get("exit_code").is_none() && lines[0].get("accepted").is_none());
}

#[test]
fn a_start_records_the_crash_that_nobody_could_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = start(dir.path());
    first.worker_panic(2, "index out of bounds\nsecond line").unwrap();
    drop(first);
    let (second, crashed) = start(dir.path());
    second.shutdown("admin", &Ledger::default()).unwrap();
    drop(second);
    let (_third, clean) = start(dir.path());
    let expected =
        ["start start", "worker_panic panic", "shutdown crash", "start start", "shutdown admin", "start start"];
    assert_eq!(events(dir.path()), expected);
    let lines = read(dir.path());
    assert_eq!((&lines[1]["worker"], &lines[1]["message"]), (&2.into(), &"index out of bounds\nsecond line".into()));
    assert_eq!(lines[2]["started"], lines[0]["timestamp"]);
    assert_eq!((crashed.as_deref(), clean), (lines[0]["timestamp"].as_str(), None));
    assert!(lines[2].get("accepted").is_none() && lines[2].get("exit_code").is_none());
}

#[test]
fn a_data_directory_belongs_to_one_server_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = start(dir.path());
    let error = AuditLog::open(dir.path(), "svc").unwrap_err();
    assert!(matches!(error, AuditError::InUse { .. }));
    assert!(error.to_string().starts_with("another tidegate uses the data directory "), "{error}");
    drop(log);
    assert!(AuditLog::open(dir.path(), "svc").is_ok());
}

#[test]
fn a_torn_shutdown_is_a_crash_and_the_lines_after_it_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    drop(start(dir.path()));
    write_raw(dir.path(), br#"{"timestamp":"2026-01-01T00:00:00.000Z","event_type":"shutdown","rea"#);
    let (_, crashed) = start(dir.path());
    assert!(crashed.is_some());
    assert_eq!(events(dir.path()), ["start start", "torn torn", "shutdown crash", "start start"]);
}

#[test]
fn a_last_line_that_lacks_only_its_newline_counts() {
    let dir = tempfile::tempdir().unwrap();
    write_raw(dir.path(), r#"{"timestamp":"t","event_type":"start"}"#);
    assert_eq!(start(dir.path()).1.as_deref(), Some("t"));
    write_raw(dir.path(), r#"{"timestamp":"t","event_type":"shutdown","reason":"x"}"#);
    assert_eq!(start(dir.path()).1, None);
    assert_eq!(events(dir.path()).last().map(String::as_str), Some("start start"));
}

#[test]
fn the_last_start_is_found_across_blocks_and_past_lines_of_any_length() {
    let start_line = "{\"timestamp\":\"t\",\"event_type\":\"start\"}\n";
    let padded =
        |n: usize| format!("{{\"timestamp\":\"p\",\"event_type\":\"worker_panic\",\"m\":\"{}\"}}\n", "x".repeat(n));
    let around_a_block = (0..200).map(|n| BLOCK - 100 + n);
    for padding in around_a_block.chain([0, 3 * BLOCK, MAX_LINE, 2 * MAX_LINE + 7]) {
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(format!("{start_line}{}", padded(padding)).as_bytes()).unwrap();
        assert_eq!(last_run(&file).unwrap(), LastRun::Running { started: "t".to_owned() }, "{padding}");
    }
    let file = tempfile::tempfile().unwrap();
    (&file).write_all(&vec![0; 5 * MAX_LINE]).unwrap();
    assert_eq!(last_run(&file).unwrap(), LastRun::NeverStarted);
}

#[test]
fn lines_of_others_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    write_raw(
        dir.path(),
        b"{\"timestamp\":\"t\",\"event_type\":\"start\"}\n\n[]\n{}\nnull\n\xff\xfe\n{\"event_type\":7}\n",
    );
    assert_eq!(AuditLog::open(dir.path(), "svc").unwrap().start().unwrap().as_deref(), Some("t"));
}

#[test]
fn a_server_without_a_data_directory_writes_nothing() {
    let log = AuditLog::none();
    assert_eq!(log.start().unwrap(), None);
    log.worker_panic(0, "x").unwrap();
    log.shutdown("admin", &Ledger::default()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = AuditLog::open(&file.join("data"), "svc").unwrap_err().to_string();
    assert!(error.starts_with("cannot make the data directory ") && error.contains("file/data: "), "{error}");
}
