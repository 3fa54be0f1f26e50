//! Real files: the last records, cut at every byte, and with every byte changed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate::journal::{
    DIR, Disk, Draft, Log, LogOptions, LogRoute, Message, OpenError, Progress, Reader, TopicPattern, verify,
};

const NOW: u64 = 1_700_000_000_000;

/// The messages of each commit, in their order; and one of progress between.
const BATCHES: [&[&[u8]]; 4] =
    [&[b"first", b"second"], &[b"", b"a third of one commit"], &[b"alone"], &[b"last", b"\0\0\0\0"]];

/// In memory, where syncs cost nothing: no machine stops in these tests.
fn dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn options() -> LogOptions {
    let pattern = TopicPattern::parse("orders/#").unwrap();
    LogOptions {
        segment_bytes: 1 << 20,
        max_bytes: 1 << 24,
        min_free_bytes: 0,
        retain: Duration::from_secs(3_600),
        retain_bytes: 1 << 24,
        dedup_window: Duration::from_secs(60),
        dedup_max: 100,
        routes: vec![LogRoute { pattern, keeps: false }],
    }
}

fn open(dir: &Path) -> Result<Log<Disk>, OpenError> {
    Log::open(Arc::new(Disk::create(dir).unwrap()), options(), NOW).map(|(log, _)| log)
}

fn read(dir: &Path) -> Vec<Message> {
    let mut reader = Reader::new(Arc::new(Disk::existing(dir).unwrap()), 0);
    std::iter::from_fn(|| reader.next(u64::MAX).unwrap()).collect()
}

/// A journal whose process was killed: its segment, and where in it each commit ends.
struct Made {
    file: String,
    bytes: Vec<u8>,
    len: u64,
    messages: Vec<Message>,
    ends: Vec<usize>,
    /// Where the mark ends; without one, the last commit.
    end: usize,
}

fn make(marked: bool) -> Made {
    let dir = dir();
    let mut log = open(dir.path()).unwrap();
    let mut ends = Vec::new();
    for (n, batch) in BATCHES.iter().enumerate() {
        for body in *batch {
            let key = (n == 2).then_some([7; 16]);
            let draft = Draft { topic: "orders/eu", principal: "ann", key, trace: None, session: None, body };
            log.stage(&draft, NOW).unwrap();
        }
        if n == 2 {
            log.stage_progress(0, &Progress { upto: 2, beyond: vec![4] });
        }
        log.commit().unwrap();
        ends.push(used(dir.path()).1);
    }
    if marked {
        log.mark_synced();
    }
    drop(log);
    let (file, end) = used(dir.path());
    assert_eq!(marked, end > ends[3]);
    let mut bytes = fs::read(dir.path().join(DIR).join(&file)).unwrap();
    let len = bytes.len() as u64;
    bytes.truncate(end + 64);
    let messages = read(dir.path());
    assert_eq!(messages.iter().map(|message| message.body.as_slice()).collect::<Vec<_>>(), BATCHES.concat());
    Made { file, bytes, len, messages, ends, end }
}

/// The last segment's file, and where its records end.
fn used(dir: &Path) -> (String, usize) {
    let report = verify(&Disk::existing(dir).unwrap()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    let last = report.segments.last().unwrap();
    (last.file.clone(), last.used as usize)
}

impl Made {
    /// Opens a journal of these bytes, which ends there; what is found, or what is wrong.
    fn open(&self, bytes: &[u8], len: u64) -> Result<Vec<Message>, (String, u64)> {
        let dir = dir();
        fs::create_dir(dir.path().join(DIR)).unwrap();
        let file = fs::File::create_new(dir.path().join(DIR).join(&self.file)).unwrap();
        (&file).write_all(bytes).unwrap();
        file.set_len(len).unwrap();
        let mut log = match open(dir.path()) {
            Ok(log) => log,
            Err(OpenError::Damaged(damage)) => return Err((damage.file, damage.offset)),
            Err(error) => panic!("{error}"),
        };
        let found = read(dir.path());
        // And it goes on from there.
        let draft =
            Draft { topic: "orders/eu", principal: "ann", key: None, trace: None, session: None, body: b"next" };
        let id = log.stage(&draft, NOW).unwrap().id;
        log.commit().unwrap();
        log.close().unwrap();
        let after = read(dir.path());
        assert_eq!(after[..found.len()], found);
        assert_eq!(
            after[found.len()..].iter().map(|m| (m.id, m.body.as_slice())).collect::<Vec<_>>(),
            [(id, &b"next"[..])]
        );
        Ok(found)
    }

    /// Messages of the commits that end up to there.
    fn whole(&self, at: usize) -> usize {
        self.ends.iter().zip(BATCHES).filter(|(end, _)| **end <= at).map(|(_, batch)| batch.len()).sum()
    }

    /// What is found is the beginning of what was stored, and holds all commits that end up to there.
    fn assert_prefix(&self, found: &[Message], at: usize) {
        assert!(self.messages.starts_with(found), "{at}: {found:?}");
        assert!(found.len() >= self.whole(at), "{at}: {found:?}");
    }
}

#[test]
fn a_file_that_is_cut_at_any_byte_of_its_last_records_has_all_that_is_before() {
    let made = make(false);
    for at in made.ends[0]..=made.end {
        // As a file that ends there, and as one whose rest was never written.
        for len in [at as u64, made.len] {
            let zeros = vec![0; made.bytes.len() - at];
            let bytes = if len == made.len { [&made.bytes[..at], &zeros].concat() } else { made.bytes[..at].to_vec() };
            match made.open(&bytes, len) {
                Ok(found) => made.assert_prefix(&found, at),
                Err(damage) => {
                    assert!(at < made.ends[2], "{at}: what was not synced may be torn, and is no damage: {damage:?}");
                    assert!(damage.0 == made.file && damage.1 <= at as u64, "{at}: {damage:?}");
                }
            }
        }
    }
}

/// Changes every byte from the first record on; what is found, or what is wrong.
fn flip(made: &Made, mut check: impl FnMut(usize, Result<Vec<Message>, (String, u64)>)) {
    for at in 4_096..made.bytes.len() {
        let mut bytes = made.bytes.clone();
        bytes[at] ^= if at % 2 == 0 { 0xFF } else { 1 << (at % 8) };
        check(at, made.open(&bytes, made.len));
    }
}

#[test]
fn a_torn_tail_is_cut_and_damage_elsewhere_stops_the_start() {
    let made = make(false);
    flip(&made, |at, opened| match opened {
        Ok(found) if at < made.ends[2] => {
            panic!("byte {at} was changed, and only {} are found in silence", found.len())
        }
        Ok(found) => made.assert_prefix(&found, at),
        Err((file, offset)) => {
            assert!(file == made.file && offset <= at as u64, "{at}: {file} {offset}");
            assert!(at < made.ends[2], "the last commit may be torn, and {at} is called damage");
        }
    });
}

#[test]
fn what_a_mark_says_was_synced_is_never_cut() {
    let made = make(true);
    flip(&made, |at, opened| match opened {
        Ok(found) => {
            assert_eq!(found, made.messages, "byte {at} was changed");
            assert!(at >= made.ends[3], "byte {at} was changed, and nobody says so");
        }
        Err((file, offset)) => {
            assert!(file == made.file && offset <= at as u64, "{at}: {file} {offset}");
            assert!(at < made.ends[3], "nothing was acknowledged at {at}");
        }
    });
}
