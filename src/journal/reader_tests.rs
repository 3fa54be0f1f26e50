use super::super::testing::{Memory, draft, options};
use super::super::{Log, Progress};
use super::*;

const T: u64 = 1_000_000;

fn open(memory: &Arc<Memory>) -> Log<Memory> {
    Log::open(Arc::clone(memory), options(&["*"]), T).unwrap().0
}

fn put(log: &mut Log<Memory>, count: usize) {
    for n in 0..count {
        log.stage(&draft(if n % 2 == 0 { "a" } else { "b" }, None, &[1; 300]), T).unwrap();
        log.commit().unwrap();
    }
}

fn ids(reader: &mut Reader<Memory>, upto: u64) -> Vec<u64> {
    std::iter::from_fn(|| reader.next(upto).unwrap()).map(|message| message.id).collect()
}

#[test]
fn a_reader_follows_the_writer_over_segments_and_stops_where_it_is_told_to() {
    let memory = Arc::new(Memory::default());
    let mut log = open(&memory);
    let mut reader = Reader::new(Arc::clone(&memory), 0);
    assert!(ids(&mut reader, u64::MAX).is_empty());
    let mut next = 1;
    for count in [1, 1, 30, 2, 100, 1] {
        put(&mut log, count);
        let newest = log.durable_id();
        assert!(ids(&mut reader, newest - 1).into_iter().eq(next..newest), "{count}");
        assert!(ids(&mut reader, newest).into_iter().eq([newest]));
        assert!(ids(&mut reader, newest).is_empty() && ids(&mut reader, u64::MAX).is_empty());
        next = newest + 1;
    }
    assert!(log.segments() > 2);
    // Across a restart, too.
    log.mark_synced();
    let mut log = open(&memory);
    put(&mut log, 1);
    assert_eq!(ids(&mut reader, u64::MAX), [next]);
}

#[test]
fn a_reader_begins_anywhere_and_passes_over_what_is_not_wanted() {
    let memory = Arc::new(Memory::default());
    let mut log = open(&memory);
    put(&mut log, 200);
    for after in [0, 1, 50, 51, 100, 199, 200, 500] {
        let mut reader = Reader::new(Arc::clone(&memory), after);
        assert!(ids(&mut reader, 200).into_iter().eq(after + 1..=200), "{after}");
    }
    let mut reader = Reader::new(Arc::clone(&memory), 0);
    let wanted = |topic: &str| topic == "b";
    let of_b: Vec<_> = std::iter::from_fn(|| reader.next_of(200, wanted).unwrap()).collect();
    assert!(of_b.iter().map(|m| m.id).eq((1..=100).map(|n| 2 * n)) && of_b.iter().all(|m| m.topic == "b"));
    assert_eq!(reader.position(), 200);
}

#[test]
fn a_reader_goes_on_behind_segments_that_were_deleted() {
    let memory = Arc::new(Memory::default());
    let mut log = open(&memory);
    put(&mut log, 200);
    let (mut late, mut within) = (Reader::new(Arc::clone(&memory), 0), Reader::new(Arc::clone(&memory), 0));
    assert_eq!(within.next(200).unwrap().unwrap().id, 1);
    log.stage_progress(0, &Progress { upto: 200, beyond: Vec::new() });
    log.tend(T);
    let first = log.first_id();
    assert!(first > 100);
    assert!(ids(&mut late, 200).into_iter().eq(first..=200));
    let read = ids(&mut within, 200);
    assert!(read[..10] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11], "what it has open it reads to the end");
    assert!(read.ends_with(&(first..=200).collect::<Vec<_>>()));
}

#[test]
fn a_record_that_should_be_there_is_damaged_and_one_that_may_not_be_is_waited_for() {
    let memory = Arc::new(Memory::default());
    let mut log = open(&memory);
    put(&mut log, 3);
    let name = memory.names().pop().unwrap();
    let last = memory.edit(&name, |bytes| bytes.iter().rposition(|b| *b == 1).unwrap());
    memory.edit(&name, |bytes| bytes[last] = 2);
    let mut knows = Reader::new(Arc::clone(&memory), 0);
    assert_eq!((knows.next(3).unwrap().unwrap().id, knows.next(3).unwrap().unwrap().id), (1, 2));
    for _ in 0..2 {
        let Err(ReadError::Damaged(damage)) = knows.next(3) else { panic!("it is damaged") };
        assert_eq!((damage.file.as_str(), damage.what.contains("checksum")), (name.as_str(), true), "{damage}");
    }
    let mut asks = Reader::new(Arc::clone(&memory), 0);
    assert_eq!(ids(&mut asks, u64::MAX), [1, 2]);
    // It was still being written.
    memory.edit(&name, |bytes| bytes[last] = 1);
    assert_eq!((ids(&mut asks, u64::MAX), ids(&mut knows, 3)), (vec![3], vec![3]));
}

#[test]
fn a_segment_that_is_made_before_the_last_write_to_the_one_before_is_not_gone_to_too_early() {
    let memory = Arc::new(Memory::default());
    let mut log = open(&memory);
    put(&mut log, 200);
    let names = memory.names();
    let [.., before, last] = &names[..] else { panic!("{names:?}") };
    // As it was when the last segment had been made, and the last records of the other not yet been written.
    let records = memory.edit(last, |bytes| bytes.split_off(4096));
    memory.edit(last, |bytes| bytes.resize(16 << 10, 0));
    let end = memory.edit(before, |bytes| bytes.iter().rposition(|b| *b == 1).unwrap() + 1);
    let written = memory.edit(before, |bytes| {
        let written = bytes[end - 400..].to_vec();
        bytes[end - 400..].fill(0);
        written
    });
    let mut reader = Reader::new(Arc::clone(&memory), 0);
    let read = ids(&mut reader, u64::MAX);
    memory.edit(before, |bytes| bytes[end - 400..].copy_from_slice(&written));
    memory.edit(last, |bytes| bytes[4096..].copy_from_slice(&records));
    let rest = ids(&mut reader, u64::MAX);
    assert!(!rest.is_empty() && read.into_iter().chain(rest).eq(1..=200));
}
