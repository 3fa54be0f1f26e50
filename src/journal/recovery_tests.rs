use std::sync::Arc;

use super::super::testing::{Memory, draft, options};
use super::super::{Log, LogOptions, OpenError, Progress, Recovery};
use super::*;

const T: u64 = 1_000_000;

fn open(memory: &Arc<Memory>, options: LogOptions) -> (Log<Memory>, Recovery) {
    Log::open(Arc::clone(memory), options, T).unwrap()
}

fn put(log: &mut Log<Memory>, topic: &str, body: &[u8]) -> u64 {
    let staged = log.stage(&draft(topic, None, body), T).unwrap();
    log.commit().unwrap();
    staged.id
}

fn done(upto: u64) -> Progress {
    Progress { upto, beyond: Vec::new() }
}

#[test]
fn a_torn_tail_is_cut_and_damage_elsewhere_stops_the_start() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["*"]));
    put(&mut log, "a", b"one");
    let name = memory.names().pop().unwrap();
    let first = log.active.as_ref().unwrap().segment.end as usize;
    log.stage(&draft("a", None, b"two"), T).unwrap();
    log.stage(&draft("a", None, b"three"), T).unwrap();
    log.commit().unwrap();
    let end = log.active.as_ref().unwrap().segment.end as usize;
    for at in first..end {
        let copy = memory.copy();
        copy.edit(&name, |bytes| bytes[at] ^= 1);
        let (_, recovery) = open(&copy, options(&["*"]));
        let cut = recovery.cut.unwrap();
        assert!((first as u64..=at as u64).contains(&cut.offset) && recovery.messages <= 2, "{at} {cut:?}");
        assert_eq!(cut.offset + cut.bytes, end as u64);
    }
    log.mark_synced();
    for at in 0..end {
        let copy = memory.copy();
        copy.edit(&name, |bytes| bytes[at] = !bytes[at]);
        if (64..2048).contains(&at) || (2048 + 64..4096).contains(&at) {
            continue; // Nothing is there.
        }
        match Log::open(Arc::clone(&copy), options(&["*"]), T) {
            Err(OpenError::Damaged(damage)) => {
                assert_eq!(damage.file, name);
                assert!(damage.offset <= at as u64, "{at} {damage}");
            }
            other => panic!("{at}: {other:?}"),
        }
        assert!(copy.names().eq(&memory.names()), "a refused start changes nothing");
    }
    for cut in first..end {
        let copy = memory.copy();
        copy.edit(&name, |bytes| bytes.truncate(cut));
        let (_, recovery) = open(&copy, options(&["*"]));
        assert!(recovery.messages <= 2, "{cut}");
    }
}

#[test]
fn damage_before_the_last_segment_stops_the_start_and_so_does_a_missing_file() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["*"]));
    for _ in 0..100 {
        put(&mut log, "a", &[1; 500]);
    }
    let names = memory.names();
    assert!(names.len() > 3);
    let refused = |copy: &Arc<Memory>| match Log::open(Arc::clone(copy), options(&["*"]), T) {
        Err(OpenError::Damaged(damage)) => damage,
        other => panic!("{other:?}"),
    };
    let end = |n: usize| log.older[n].end as usize;
    for (n, at) in [(0, 5_000), (1, end(1) - 1), (1, 4_100), (2, 20)] {
        let copy = memory.copy();
        copy.edit(&names[n], |bytes| bytes[at] ^= 0x10);
        assert_eq!(refused(&copy).file, names[n]);
    }
    let copy = memory.copy();
    copy.edit(&names[1], |bytes| bytes.truncate(end(1) - 600));
    assert_eq!(refused(&copy).file, names[1]);
    let copy = memory.copy();
    copy.lock().files.remove(&names[1]);
    assert_eq!((refused(&copy).file, refused(&copy).offset), (names[1].clone(), 0));
    let copy = memory.copy();
    copy.lock().files.remove(&names[0]);
    assert!(open(&copy, options(&["*"])).0.first_id() > 1, "the oldest may be gone");
}

#[test]
fn a_segment_that_was_made_and_not_written_to_is_removed() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["*"]));
    put(&mut log, "a", b"x");
    for header in [false, true] {
        let copy = memory.copy();
        let active = log.active.as_ref().unwrap().segment.header;
        let next = super::super::segment::Header { number: 2, previous: 1, previous_end: 9_999, ..active };
        let file = copy.create(&file_name(2), 16 << 10).unwrap();
        if header {
            file.write_at(&next.page(), 0).unwrap();
        } else {
            file.write_at(&next.page()[..40], 0).unwrap();
        }
        let (_, recovery) = open(&copy, options(&["*"]));
        assert_eq!((recovery.messages, recovery.segments), (1, 1));
        assert_eq!(copy.names(), [file_name(1), file_name(3)]);
    }
}

#[test]
fn a_new_route_begins_at_the_end_and_takes_over_what_an_old_one_left() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["a/#", "b/#", "!*"]));
    for topic in ["a/1", "b/1", "c", "a/2", "b/2"] {
        put(&mut log, topic, b"x");
    }
    log.stage_progress(0, &done(1));
    log.stage_progress(1, &done(2));
    log.commit().unwrap();

    // What was kept is not delivered late; what was due at a route that is gone is.
    let (log, recovery) = open(&memory.copy(), options(&["b/#", "*"]));
    assert_eq!(recovery.unfinished, [1, 1]);
    assert_eq!((log.progress(0), log.progress(1)), (&done(2), &done(3)));
    // Nothing was due there.
    let (log, _) = open(&memory.copy(), options(&["a/#", "b/#", "c", "!*"]));
    assert_eq!((log.progress(2), log.unfinished(2)), (&done(5), 0));
    let (log, _) = open(&memory.copy(), options(&["+/2", "b/#"]));
    assert_eq!((log.progress(0), log.progress(1)), (&done(3), &done(2)));
    // And it stays so.
    let copy = memory.copy();
    drop(open(&copy, options(&["*"])));
    let (mut log, recovery) = open(&copy, options(&["*"]));
    assert_eq!((log.progress(0), recovery.unfinished), (&done(3), vec![2]));
    log.stage_progress(0, &done(5));
    log.commit().unwrap();
    assert_eq!(open(&copy, options(&["*"])).1.unfinished, [0]);
}

#[test]
fn a_route_that_is_further_goes_back_for_what_it_takes_over() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["a/1", "a/#"]));
    for topic in ["a/2", "a/1", "a/2", "a/1", "a/2"] {
        put(&mut log, topic, b"x");
    }
    log.stage_progress(0, &done(2));
    log.stage_progress(1, &done(5));
    log.commit().unwrap();
    let (log, recovery) = open(&memory, options(&["a/#"]));
    assert_eq!((log.progress(0), recovery.unfinished), (&done(3), vec![2]));
}

#[test]
fn what_was_stored_to_be_kept_is_kept_for_its_time_when_a_sink_takes_its_topic() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["!*"]));
    put(&mut log, "a", b"x");
    let (mut log, recovery) = open(&memory, options(&["*"]));
    assert_eq!((recovery.unfinished, log.progress(0)), (vec![0], &done(1)));
    log.tend(T + 100_000);
    assert_eq!(log.first_id(), 1);
    log.tend(T + 100_001);
    assert_eq!(log.first_id(), 0);
}
