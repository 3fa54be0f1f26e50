//! The journal on a disk that fails: strace(1) makes system calls of the real program fail.

use std::ffi::OsString;
use std::process::Command as Program;

use rustix::process::Signal;
use tempfile::TempDir;
use tidegate::proto::message::{parse_submitted, topic_payload};
use tidegate::proto::{Command, ErrorCode, extension_type};

use crate::support::{Client, Process, audit, extension, get, until};

/// The program, whose threads each meet `fault` as strace writes it: `fdatasync:error=EIO:when=3+`. It stays
/// the child that signals reach.
fn failing(fault: &str) -> Program {
    let call = fault.split(':').next().unwrap();
    let program = Process::command();
    let mut command = Program::new("strace");
    command.args([
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={fault}"),
    ]);
    command.arg(program.get_program());
    let removed: Vec<OsString> = program.get_envs().filter(|(_, v)| v.is_none()).map(|(k, _)| k.to_owned()).collect();
    for name in &removed {
        command.env_remove(name);
    }
    command
}

fn submit(client: &mut Client, key: u8) -> Result<(u64, bool), ErrorCode> {
    let payload = topic_payload(b"orders", &[key]).unwrap();
    let block = extension(extension_type::IDEMPOTENCY, &[key; 16]);
    let seq = client.request_v2(Command::SUBMIT, &block, &payload);
    let reply = client.frame();
    assert_eq!(reply.seq, seq);
    match reply.cmd {
        Command::SUBMIT => Ok(parse_submitted(&reply.payload).unwrap()),
        _ => Err(tidegate::proto::ErrorReply::parse(&reply.payload).unwrap().known_code().unwrap()),
    }
}

#[test]
fn after_a_failed_fdatasync_nothing_is_assumed_and_everything_but_submit_is_served() {
    let dir = TempDir::new().unwrap();
    let settings = [("DATA_DIR", dir.path().to_str().unwrap()), ("SESSION_STORE", "memory")];
    let server = Process::start(failing("fdatasync:error=EIO:when=12+"), &settings);
    let (mut client, _) = Client::ready(server.address);
    let first = submit(&mut client, 1).unwrap();
    let second = submit(&mut client, 2).unwrap();
    assert!(first.0 < second.0);
    let failed = (3..100).find(|key| submit(&mut client, *key).is_err()).expect("the disk fails at some time");
    for key in [failed, failed + 1] {
        assert_eq!(submit(&mut client, key), Err(ErrorCode::Unavailable), "message {key}");
    }
    client.assert_alive();
    let (status, text) = get(server.admin, "/readyz");
    assert_eq!(status, 503);
    assert!(text.contains("journal") && text.contains("restart"), "{text}");
    assert_eq!(get(server.admin, "/healthz").0, 200, "a restart by itself would not mend a disk");
    until("the audit log has it", || audit(dir.path()).iter().any(|line| line["event_type"] == "journal_failed"));
    drop(client);
    server.signal(Signal::TERM);
    let exit = server.wait();
    assert!(exit.stderr.contains("SUBMIT is UNAVAILABLE until a restart"), "{}", exit.stderr);
    assert_eq!(audit(dir.path()).pop().unwrap()["journal"]["closed"], false);
    // On a sound disk again.
    let server = Process::serve(&settings);
    let (mut client, _) = Client::ready(server.address);
    assert_eq!(submit(&mut client, 1), Ok((first.0, true)));
    assert_eq!(submit(&mut client, 2), Ok((second.0, true)));
    assert!(submit(&mut client, 200).unwrap().0 > second.0);
}

#[test]
fn a_disk_without_room_is_overloaded_before_it_is_full_and_takes_messages_again_when_there_is_room() {
    let dir = TempDir::new().unwrap();
    // The first segment is had, the next two are not, the one after them is.
    let settings =
        [("DATA_DIR", dir.path().to_str().unwrap()), ("SESSION_STORE", "memory"), ("JOURNAL_SEGMENT_BYTES", "1048576")];
    let server = Process::start(failing("fallocate:error=ENOSPC:when=1..2"), &settings);
    let (mut client, _) = Client::ready(server.address);
    let payload = topic_payload(b"orders", &[1; 60_000]).unwrap();
    let mut stored = 0;
    let mut refused = false;
    until("it was refused, and taken again", || {
        let seq = client.request(Command::SUBMIT, &payload);
        let reply = client.frame();
        assert_eq!(reply.seq, seq);
        if reply.cmd == Command::SUBMIT {
            stored += 1;
            return refused;
        }
        let error = tidegate::proto::ErrorReply::parse(&reply.payload).unwrap();
        assert_eq!(error.known_code(), Some(ErrorCode::Overloaded), "{error:?}");
        assert!(error.retry_after_ms > 0);
        refused = true;
        false
    });
    client.assert_alive();
    let (_, text) = get(server.admin, "/metrics");
    assert!(text.contains(&format!("tidegate_journal_messages_total {stored}")), "what was taken, and no more");
}
