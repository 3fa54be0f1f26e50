//! No reply to SUBMIT precedes its fdatasync, as the kernel saw it.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::process::Signal;
use tidegate::proto::message::{parse_submitted, topic_payload};
use tidegate::proto::{Command, extension_type};

use super::trace;
use crate::support::{Client, Process, extension, until};

/// The server, traced from its beginning.
fn traced(dir: &Path) -> Process {
    let settings =
        [("DATA_DIR", dir.to_str().unwrap()), ("DRAIN_NOTICE_MS", "10"), ("JOURNAL_SEGMENT_BYTES", "1048576")];
    Process::start(Process::command_under_strace(trace::STRACE, &dir.join("trace")), &settings)
}

/// Ends it; the whole trace.
fn finish(process: Process, dir: &Path) -> String {
    let id = process.id();
    process.signal(Signal::TERM);
    let exit = process.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let mut trace = String::new();
    until("strace has written everything", || {
        trace = std::fs::read_to_string(dir.join("trace")).unwrap();
        trace.lines().any(|line| line.starts_with(&format!("{id} ")) && line.contains("+++ exited"))
    });
    trace
}

fn mark(n: usize) -> Vec<u8> {
    [trace::MARK, format!("{n:08}").as_bytes()].concat()
}

fn check(trace: &str, stored: &BTreeMap<u64, Vec<u8>>) -> usize {
    trace::check(&trace::parse(trace), stored).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn no_reply_to_submit_precedes_its_fdatasync() {
    let dir = tempfile::tempdir().unwrap();
    let process = traced(dir.path());
    let (mut client, _) = Client::ready(process.address);
    let mut stored = BTreeMap::new();
    for n in 0..30 {
        let payload = topic_payload(b"orders", &mark(n)).unwrap();
        let (id, duplicate) = parse_submitted(&client.call(Command::SUBMIT, &payload)).unwrap();
        assert!(!duplicate && stored.insert(id, mark(n)).is_none());
    }
    drop(client);
    let trace = finish(process, dir.path());
    assert_eq!(check(&trace, &stored), 30);
    let (id, mark) = stored.iter().nth(7).unwrap();
    println!("{}", trace::excerpt(&trace, &trace::parse(&trace), *id, mark));
}

#[test]
fn no_reply_precedes_its_fdatasync_at_depth_from_many_connections_nor_does_that_to_a_retry() {
    const CLIENTS: usize = 20;
    const EACH: usize = 25;
    let dir = tempfile::tempdir().unwrap();
    let process = traced(dir.path());
    let address = process.address;
    // Each message is sent by two clients at once, with one key: the reply to the retry promises as much.
    let told: Vec<(u64, Vec<u8>)> = std::thread::scope(|scope| {
        let client = |client: usize| {
            let (mut connection, _) = Client::ready(address);
            let marks: Vec<Vec<u8>> = (0..EACH).map(|n| mark(client / 2 * EACH + n)).collect();
            let send = |mark: &Vec<u8>| {
                let key: [u8; 16] = mark.as_slice().try_into().unwrap();
                let payload = topic_payload(b"orders", &[&mark[..], &[b'x'; 300]].concat()).unwrap();
                connection.request_v2(Command::SUBMIT, &extension(extension_type::IDEMPOTENCY, &key), &payload)
            };
            let seqs: Vec<u32> = marks.iter().map(send).collect();
            let replies = seqs.into_iter().map(|seq| parse_submitted(&connection.expect_reply(seq, Command::SUBMIT)));
            let ids: Vec<u64> = replies.map(|reply| reply.unwrap().0).collect();
            ids.into_iter().zip(marks).collect::<Vec<_>>()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || client(n))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let mut stored = BTreeMap::new();
    for (id, mark) in told {
        let first = stored.entry(id).or_insert_with(|| mark.clone());
        assert_eq!(*first, mark, "two messages got one id");
    }
    assert_eq!(stored.len(), CLIENTS / 2 * EACH);
    let trace = finish(process, dir.path());
    assert_eq!(check(&trace, &stored), CLIENTS * EACH);
}

/// A trace by hand: a message is written, synced and answered, its lines in this order.
fn by_hand(order: &[usize]) -> Result<usize, String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let (file, socket) = (hex(b"/data/journal/1"), hex(b"socket:[7]"));
    let reply = [b"M\x01\x00\x09\x00\x00\x00\x05\x14", &7u64.to_be_bytes()[..], b"\x00"].concat();
    let lines = [
        format!("10 01:02:03.000001 pwrite64(3<{file}>, \"{}\", 16, 0 <unfinished ...>", hex(&mark(1))),
        "10 01:02:03.000002 <... pwrite64 resumed>)           = 16".to_owned(),
        format!("10 01:02:03.000003 fdatasync(3<{file}> <unfinished ...>"),
        "10 01:02:03.000004 <... fdatasync resumed>)          = 0".to_owned(),
        format!(
            "11 01:02:03.000005 sendto(5<{socket}>, \"{}\", {}, MSG_NOSIGNAL, NULL, 0) = {}",
            hex(&reply),
            reply.len(),
            reply.len()
        ),
    ];
    let trace: Vec<&str> = order.iter().map(|n| lines[*n].as_str()).collect();
    trace::check(&trace::parse(&trace.join("\n")), &BTreeMap::from([(7, mark(1))]))
}

#[test]
fn a_trace_in_which_a_reply_does_not_wait_is_found_out() {
    assert_eq!(by_hand(&[0, 1, 2, 3, 4]), Ok(1));
    // Before the sync's end, before its beginning, before the write's end, before everything; and without a sync.
    for wrong in [&[0, 1, 2, 4, 3][..], &[0, 1, 4, 2, 3], &[0, 4, 1, 2, 3], &[4, 0, 1, 2, 3], &[0, 1, 4], &[4]] {
        assert!(by_hand(wrong).is_err(), "{wrong:?}");
    }
    // A sync that began before the write was over has not synced it.
    assert!(by_hand(&[2, 3, 0, 1, 4]).is_err());
    assert!(by_hand(&[0, 1, 2, 3]).is_err(), "a reply that is missing");
}
