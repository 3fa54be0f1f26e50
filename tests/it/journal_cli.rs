//! The journal as an operator meets it: submitted by hand, listed, followed, verified and repaired.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Process, audit, until};

fn serve(dir: &TempDir, settings: &[(&str, &str)]) -> Process {
    let mut all = vec![("DATA_DIR", dir.path().to_str().unwrap()), ("JOURNAL_SEGMENT_BYTES", "1048576")];
    all.extend(settings);
    Process::serve(&all)
}

/// Ctrl-C.
fn end(server: Process) {
    server.signal(Signal::INT);
    let exit = server.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn call(address: SocketAddr, args: &[&str]) -> String {
    let output = Process::command().arg("call").args(args).args(["--connect", &address.to_string()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

fn journal(dir: &Path, args: &[&str]) -> Output {
    Process::command().arg("journal").args(args).env("TIDEGATE_DATA_DIR", dir).output().unwrap()
}

/// What it prints; it must have this exit code.
fn printed(dir: &TempDir, args: &[&str], code: i32) -> String {
    let output = journal(dir.path(), args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    text(&output.stdout)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A topic of each line of `cat --json`.
fn topics(text: &str) -> Vec<String> {
    lines(text).iter().map(|line| line["topic"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_was_submitted_by_hand_is_there_after_a_restart_and_a_key_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(&dir, &[]);
    let (address, key) = (server.address, "a5".repeat(16));
    assert_eq!(call(address, &["SUBMIT", "orders/eu=hello"]), "id 1\n");
    assert_eq!(call(address, &["SUBMIT", "audit=two", "--key", &key]), "id 2\n");
    end(server);
    let server = serve(&dir, &[]);
    assert_eq!(call(server.address, &["SUBMIT", "audit=two", "--key", &key]), "id 2, duplicate\n");
    assert_eq!(call(server.address, &["SUBMIT", "--hex", "0161 00ff"]), format!("{:016x}00\n", 3));

    // Beside the running server.
    let people = printed(&dir, &["cat"], 0);
    let rows: Vec<Vec<&str>> = people.lines().map(|line| line.split_whitespace().collect()).collect();
    let shown: Vec<_> = rows.iter().map(|row| [row[0], row[2], row[3], row[4]]).collect();
    let me = "anonymous";
    assert_eq!(
        shown,
        [["1", "orders/eu", me, "hello"], ["2", "audit", me, "two"], ["3", "a", me, "0x00ff"]],
        "{people}"
    );
    let all = lines(&printed(&dir, &["cat", "--json"], 0));
    assert_eq!((all.len(), &all[1]["key"], &all[1]["body"]), (3, &Value::from(key), &Value::from("dHdv")));
    assert_eq!(topics(&printed(&dir, &["cat", "--json", "--topic", "orders/#"], 0)), ["orders/eu"]);
    assert_eq!(topics(&printed(&dir, &["cat", "--json", "--from", "2"], 0)), ["audit", "a"]);
    assert_eq!(printed(&dir, &["cat", "--from", "4"], 0), "");
    let listed = printed(&dir, &["ls"], 0);
    assert!(listed.starts_with("segment ") && listed.contains("\nroute ") && listed.contains("kept here"), "{listed}");
    let verdict = printed(&dir, &["verify"], 0);
    assert!(verdict.starts_with("sound: ") && verdict.contains(", 3 messages, ids 1 to 3, "), "{verdict}");
    end(server);
    let verdict = printed(&dir, &["verify", "--data-dir", dir.path().to_str().unwrap()], 0);
    assert!(verdict.contains("3 messages, ids 1 to 3"), "{verdict}");
}

/// `journal cat --follow`; killed when it is dropped.
struct Follower {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(dir: &TempDir, args: &[&str]) -> Follower {
        let mut command = Process::command();
        command.args(["journal", "cat", "--follow", "--json"]).args(args).env("TIDEGATE_DATA_DIR", dir.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Follower { child, stdout }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn code(mut self) -> Option<i32> {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_follower_sees_what_comes_over_restarts_and_ends_in_good_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(&dir, &[]);
    call(server.address, &["SUBMIT", "a/1=first"]);
    let mut all = Follower::start(&dir, &[]);
    let mut some = Follower::start(&dir, &["--topic", "b/+"]);
    assert_eq!(all.next()["id"], 1);
    call(server.address, &["SUBMIT", "b/1=second"]);
    assert_eq!((&all.next()["id"], &some.next()["id"]), (&2.into(), &2.into()));
    end(server);
    let server = serve(&dir, &[]);
    // More than a segment has room for.
    let body = format!("b/2={}", "x".repeat(60_000));
    assert!(call(server.address, &["SUBMIT", &body, "--repeat", "40"]).ends_with("id 42\n"));
    for id in 3..=42 {
        assert_eq!((&all.next()["id"], &some.next()["id"]), (&id.into(), &id.into()));
    }
    kill_process(Pid::from_child(&all.child), Signal::INT).unwrap();
    let mut rest = String::new();
    all.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), all.code()), ("", Some(0)));
    // Nobody reads it any more.
    drop(some.stdout.take());
    assert_eq!(some.code(), Some(0));
    end(server);
}

/// The journal's file that has the most records, and how many bytes they are.
fn fullest(dir: &TempDir) -> (u64, PathBuf) {
    let listed = printed(dir, &["ls"], 0);
    let rows = listed.lines().skip(1).map_while(|row| {
        let mut cells = row.split_whitespace();
        let (name, used) = (cells.next()?, cells.nth(1)?);
        Some((used.replace(',', "").parse::<u64>().ok()?, dir.path().join("journal").join(name)))
    });
    rows.filter(|(_, file)| file.exists()).max().unwrap()
}

#[test]
fn an_unfinished_record_at_the_end_is_no_damage_to_whoever_looks_and_the_start_cuts_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(&dir, &[]);
    call(server.address, &["SUBMIT", "t=body", "--repeat", "3"]);
    server.signal(Signal::KILL);
    server.wait();
    let (used, file) = fullest(&dir);
    fs::OpenOptions::new().write(true).open(file).unwrap().write_at(&[7; 100], used).unwrap();
    let verdict = printed(&dir, &["verify"], 0);
    assert!(verdict.contains(" of an unfinished record, never acknowledged"), "{verdict}");
    assert_eq!(printed(&dir, &["cat"], 0).lines().count(), 3);
    end(serve(&dir, &[]));
    let verdict = printed(&dir, &["verify"], 0);
    assert!(verdict.contains("3 messages") && !verdict.contains("unfinished"), "{verdict}");
}

#[test]
fn damage_stops_the_start_and_a_repair_says_what_is_lost_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(&dir, &[]);
    let body = format!("t={}", "x".repeat(1_000));
    call(server.address, &["SUBMIT", &body, "--repeat", "100"]);
    let refused = journal(dir.path(), &["repair"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("another tidegate uses the data directory"), "{refused:?}");
    end(server);
    assert!(printed(&dir, &["repair"], 0).starts_with("nothing to repair: 100 messages"));

    let (_, file) = fullest(&dir);
    let name = file.file_name().unwrap().to_str().unwrap();
    let segment = fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
    let mut byte = [0];
    segment.read_at(&mut byte, 50_000).unwrap();
    segment.write_at(&[byte[0] ^ 1], 50_000).unwrap();
    let found = printed(&dir, &["verify"], 1);
    assert!(found.starts_with("DAMAGED: ") && found.contains(&format!("{name} is damaged at byte ")), "{found}");
    let cat = journal(dir.path(), &["cat", "--json"]);
    assert!(cat.status.code() == Some(1) && text(&cat.stderr).contains(name), "{:?} {}", cat.status, text(&cat.stderr));
    let sound = lines(&text(&cat.stdout)).len();
    assert!((20..100).contains(&sound), "{sound} messages before the damage");

    let repaired = printed(&dir, &["repair"], 0);
    assert!(
        repaired.contains(&format!("{name} is damaged at byte ")) && repaired.contains("put aside: "),
        "{repaired}"
    );
    assert!(repaired.contains("the server can be started"), "{repaired}");
    assert!(printed(&dir, &["verify"], 0).starts_with("sound: "));
    let kept: Vec<u64> =
        lines(&printed(&dir, &["cat", "--json"], 0)).iter().map(|l| l["id"].as_u64().unwrap()).collect();
    assert!((90..100).contains(&kept.len()) && kept[..sound] == (1..=sound as u64).collect::<Vec<_>>(), "{kept:?}");
    let server = serve(&dir, &[]);
    let told = call(server.address, &["SUBMIT", "t=after"]);
    assert!(told.trim().strip_prefix("id ").unwrap().parse::<u64>().unwrap() > 100, "{told}");
    end(server);
    let records = audit(dir.path());
    let record = records.iter().find(|line| line["event_type"] == "journal_repair").expect("it is in the audit log");
    assert_eq!((&record["reason"], &record["losses"][0]["file"]), (&"operator".into(), &name.into()));
}

#[test]
fn where_there_is_no_journal_nothing_is_made_and_that_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["ls", "cat", "verify", "repair"] {
        let output = journal(dir.path(), &[command]);
        assert_eq!(output.status.code(), Some(2), "{command}: {output:?}");
        assert!(text(&output.stderr).contains("there is no journal in"), "{output:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let output = Process::command().args(["journal", "ls"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("TIDEGATE_DATA_DIR"), "{output:?}");
}
