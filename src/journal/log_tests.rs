use std::sync::Arc;

use super::super::testing::{Memory, draft, options};
use super::super::{CommitError, LogOptions, Message, OpenError, Progress, Reader};
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

fn read_all(memory: &Arc<Memory>, upto: u64) -> Vec<Message> {
    let mut reader = Reader::new(Arc::clone(memory), 0);
    std::iter::from_fn(|| reader.next(upto).unwrap()).collect()
}

fn ids(memory: &Arc<Memory>) -> Vec<u64> {
    read_all(memory, u64::MAX).iter().map(|message| message.id).collect()
}

fn done(upto: u64) -> Progress {
    Progress { upto, beyond: Vec::new() }
}

#[test]
fn what_was_committed_is_there_after_a_kill_and_after_a_clean_end() {
    let memory = Arc::new(Memory::default());
    let (mut log, recovery) = open(&memory, options(&["*"]));
    assert_eq!((recovery.messages, recovery.segments, log.durable_id(), log.first_id()), (0, 0, 0, 0));
    assert_eq!([put(&mut log, "a", b"one"), put(&mut log, "b", b"two")], [1, 2]);
    log.stage(&draft("c", None, b"three"), T).unwrap();
    assert_eq!(log.durable_id(), 2);

    let (mut log, recovery) = open(&memory.copy(), options(&["*"]));
    assert_eq!((recovery.messages, recovery.cut, recovery.unfinished), (2, None, vec![2]));
    assert_eq!(put(&mut log, "c", b"three"), 3);
    let storage = Arc::clone(&log.storage);
    log.close().unwrap();
    let bodies: Vec<_> = read_all(&storage, u64::MAX).into_iter().map(|m| (m.id, m.topic, m.body)).collect();
    let expected = [(1, "a", &b"one"[..]), (2, "b", b"two"), (3, "c", b"three")];
    assert!(bodies.iter().map(|(id, t, b)| (*id, t.as_str(), &b[..])).eq(expected), "{bodies:?}");
    let (log, recovery) = open(&storage, options(&["*"]));
    assert_eq!((recovery.messages, log.durable_id(), log.unfinished(0), log.first_id()), (3, 3, 3, 1));
}

#[test]
fn a_commit_is_one_write_and_one_sync() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["*"]));
    let calls = || {
        let inner = memory.lock();
        (inner.writes, inner.syncs)
    };
    let before = calls();
    for _ in 0..50 {
        log.stage(&draft("a", None, b"x"), T).unwrap();
    }
    log.stage_progress(0, &done(0));
    log.commit().unwrap();
    assert_eq!(calls(), (before.0 + 1, before.1 + 1));
    log.mark_synced();
    log.mark_synced();
    log.commit().unwrap();
    assert_eq!(calls(), (before.0 + 2, before.1 + 1));
}

#[test]
fn a_log_goes_on_over_many_segments_and_a_batch_may_span_some() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["*"]));
    for _ in 0..20 {
        for _ in 0..50 {
            log.stage(&draft("a", None, &[7; 200]), T).unwrap();
        }
        log.commit().unwrap();
    }
    assert!(log.segments() > 10, "{}", log.segments());
    assert_eq!((log.unfinished(0), log.durable_id()), (1_000, 1_000));
    assert!(ids(&memory).into_iter().eq(1..=1_000));
    let (log, recovery) = open(&memory, options(&["*"]));
    assert_eq!((recovery.messages, recovery.unfinished, recovery.cut), (1_000, vec![1_000], None));
    assert_eq!(log.next_id, 1_001);
}

#[test]
fn a_key_is_recognised_while_it_is_staged_and_stored_and_after_a_restart_and_not_for_ever() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["*"]));
    let first = log.stage(&draft("a", Some(1), b"x"), T).unwrap();
    let again = log.stage(&draft("a", Some(1), b"x"), T).unwrap();
    assert_eq!((first.id, first.duplicate, again.id, again.duplicate), (1, false, 1, true));
    log.commit().unwrap();
    assert!(log.stage(&draft("a", Some(1), b"x"), T).unwrap().duplicate);
    let (mut log, _) = open(&memory.copy(), options(&["*"]));
    let again = log.stage(&draft("other", Some(1), b"y"), T + 10_000).unwrap();
    assert_eq!((again.id, again.duplicate, log.keys()), (1, true, 1));
    assert!(!log.stage(&draft("a", Some(1), b"x"), T + 10_001).unwrap().duplicate);
}

#[test]
fn progress_rides_with_commits_and_survives_old_segments() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["a/#", "!b", "*"]));
    for topic in ["a/1", "b", "c", "a/2"] {
        put(&mut log, topic, b"x");
    }
    assert_eq!([0, 1, 2].map(|route| log.unfinished(route)), [2, 0, 1]);
    log.stage_progress(0, &done(1));
    log.stage_progress(0, &Progress { upto: 1, beyond: vec![4] });
    log.stage_progress(2, &done(3));
    log.commit().unwrap();
    let (mut log, recovery) = open(&memory.copy(), options(&["a/#", "!b", "*"]));
    assert_eq!(recovery.unfinished, [0, 0, 0]);
    assert_eq!((log.progress(0), log.progress(2)), (&Progress { upto: 1, beyond: vec![4] }, &done(3)));
    log.stage_progress(0, &done(0));
    assert_eq!(log.progress(0).upto, 1, "progress never goes back");
    log.stage_progress(0, &done(99));
    assert_eq!(log.progress(0).upto, 1, "nor to what is not there");
}

#[test]
fn a_segment_goes_when_all_routes_have_it_and_its_keys_are_forgotten() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["a", "*"]));
    for n in 0..200u8 {
        log.stage(&draft(if n % 2 == 0 { "a" } else { "b" }, (n == 3).then_some(1), &[0; 200]), T).unwrap();
    }
    log.commit().unwrap();
    let segments = log.segments();
    log.stage_progress(0, &done(200));
    log.tend(T);
    assert_eq!(log.segments(), segments);
    log.stage_progress(1, &done(200));
    log.tend(T);
    assert_eq!(log.segments(), segments, "a key is remembered");
    log.tend(T + 10_001);
    assert_eq!((log.segments(), memory.names().len()), (1, 1));
    assert!(log.first_id() > 1);
    log.commit().unwrap();
    let (log, recovery) = open(&memory, options(&["a", "*"]));
    assert_eq!((recovery.unfinished, log.next_id), (vec![0, 0], 201));
}

#[test]
fn ids_are_not_given_twice_when_all_messages_are_deleted() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["*"]));
    put(&mut log, "a", b"x");
    log.stage_progress(0, &done(1));
    for _ in 0..5 {
        log.commit().unwrap();
        log = open(&memory, options(&["*"])).0;
        log.tend(T);
    }
    assert_eq!((log.segments(), log.first_id(), log.durable_id()), (1, 0, 1));
    assert_eq!((log.progress(0).upto, put(&mut log, "a", b"x")), (1, 2));
}

#[test]
fn restarts_without_messages_leave_no_files_behind() {
    let memory = Arc::new(Memory::default());
    for _ in 0..10 {
        let (mut log, _) = open(&memory, options(&["*"]));
        log.mark_synced();
    }
    assert_eq!(memory.names().len(), 1);
    let (mut log, _) = open(&memory, options(&["*"]));
    put(&mut log, "a", b"x");
    for _ in 0..10 {
        open(&memory, options(&["*"])).0.close().unwrap();
    }
    assert_eq!((memory.names().len(), ids(&memory)), (2, vec![1]));
}

#[test]
fn the_size_that_is_set_is_kept_and_room_ends_being_full() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, LogOptions { max_bytes: 64 << 10, ..options(&["*"]) });
    let mut stored = 0;
    let why = loop {
        match log.stage(&draft("a", None, &[0; 1_000]), T) {
            Ok(_) => stored += 1,
            Err(why) => break why,
        }
        if stored % 7 == 0 {
            log.commit().unwrap();
        }
    };
    log.commit().unwrap();
    assert!(why.to_string().contains("TIDEGATE_JOURNAL_MAX_BYTES"), "{why}");
    assert!(log.bytes() <= 64 << 10 && stored > 40, "{} {stored}", log.bytes());
    assert_eq!(log.unfinished(0), stored);
    log.tend(T);
    assert!(log.full().is_some() && log.stage(&draft("a", None, b""), T).is_err());
    // Progress is heard without room for it.
    log.stage_progress(0, &done(stored / 2));
    log.commit().unwrap();
    log.tend(T);
    assert_eq!(log.full(), None);
    assert_eq!(put(&mut log, "a", b"x"), stored + 1);
    let (log, _) = open(&memory, options(&["*"]));
    assert_eq!(log.progress(0), &done(stored / 2));
}

#[test]
fn a_full_log_has_room_for_a_dead_letter_and_for_nothing_else() {
    let memory = Arc::new(Memory::default());
    memory.lock().free = Some(100_000);
    let (mut log, _) = open(&memory, LogOptions { max_bytes: 64 << 10, min_free_bytes: 50_000, ..options(&["*"]) });
    let full = |log: &mut Log<Memory>| (0..100).any(|_| log.stage(&draft("a", None, &[0; 1_000]), T).is_err());
    assert!(full(&mut log));
    log.commit().unwrap();
    let stored = log.durable_id();
    memory.lock().free = Some(40_000);
    for _ in 0..5 {
        log.tend(T);
        let id = log.stage_own(&draft("dead-letter/a", None, &[0; 1_000]), T).unwrap().id;
        log.commit().unwrap();
        assert_eq!(log.durable_id(), id);
        assert!(log.stage(&draft("a", None, b""), T).is_err(), "the reserve is not for everybody");
    }
    assert!((0..200).any(|_| log.stage_own(&draft("dead-letter/a", None, &[0; 1_000]), T).is_err()), "nor without end");
    log.commit().unwrap();
    // The dead letters let the rest go.
    memory.lock().free = Some(100_000);
    log.stage_progress(0, &done(stored));
    log.tend(T);
    assert_eq!(log.full(), None);
    put(&mut log, "a", b"x");
}

#[test]
fn what_is_to_be_left_free_is_left() {
    let memory = Arc::new(Memory::default());
    memory.lock().free = Some(100_000);
    let (mut log, _) = open(&memory, LogOptions { min_free_bytes: 80_000, ..options(&["*"]) });
    assert_eq!(put(&mut log, "a", b"x"), 1);
    memory.lock().free = Some(79_999);
    log.tend(T);
    assert!(log.full().is_some_and(|why| why.contains("TIDEGATE_JOURNAL_MIN_FREE_BYTES")));
    assert!(log.stage(&draft("a", None, b""), T).is_err());
    memory.lock().free = Some(80_000);
    log.tend(T);
    assert_eq!((log.full(), log.free()), (None, Some(80_000)));
    let filled = (0..100).find(|_| log.stage(&draft("a", None, &[0; 1_000]), T).is_err());
    assert!(filled.is_some(), "the next segment would take what is to be left");
}

#[test]
fn a_log_without_room_for_a_segment_opens_and_goes_on_when_there_is() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = open(&memory, options(&["*"]));
    put(&mut log, "a", b"x");
    memory.lock().no_create = true;
    let (mut log, recovery) = open(&memory, options(&["*"]));
    assert_eq!((recovery.unfinished, log.durable_id()), (vec![1], 1));
    assert!(log.full().is_some() && log.stage(&draft("a", None, b""), T).is_err());
    log.stage_progress(0, &done(1));
    log.commit().unwrap_or_else(|error| assert!(matches!(error, CommitError::NoRoom(_))));
    assert_eq!(read_all(&memory, log.durable_id()).len(), 1);
    memory.lock().no_create = false;
    log.tend(T);
    assert_eq!((log.full(), log.next_id), (None, 2));
    assert_eq!(put(&mut log, "a", b"y"), 2);
    assert_eq!(open(&memory, options(&["*"])).0.progress(0), &done(1));
}

#[test]
fn a_disk_that_fills_within_a_write_stores_nothing_of_it_and_forgets_its_keys_and_ids() {
    for room in [0, 1, 60, 1_000, 20_000, 30_000, 40_000] {
        let memory = Arc::new(Memory::default());
        let (mut log, _) = open(&memory, options(&["*"]));
        put(&mut log, "a", b"x");
        let names = memory.names();
        memory.lock().room = Some(room);
        for n in 0..200 {
            log.stage(&draft("a", Some(n), &[0; 200]), T).unwrap();
        }
        assert!(matches!(log.commit(), Err(CommitError::NoRoom(_))), "{room}");
        assert_eq!((log.durable_id(), log.keys(), log.unfinished(0)), (1, 0, 1));
        assert_eq!((memory.names(), ids(&memory)), (names, vec![1]), "{room}");
        assert!(log.stage(&draft("a", Some(1), b""), T).is_err());
        assert_eq!(open(&memory.copy(), options(&["*"])).1.messages, 1);
        memory.lock().room = None;
        log.tend(T);
        let staged = log.stage(&draft("a", Some(1), b""), T).unwrap();
        assert_eq!((staged.id, staged.duplicate), (202, false));
        log.commit().unwrap();
        assert_eq!(open(&memory.copy(), options(&["*"])).1.messages, 2, "{room}");
        assert_eq!(ids(&memory), [1, 202]);
    }
}

#[test]
fn after_a_failed_sync_or_write_nothing_is_stored_any_more() {
    for sync in [true, false] {
        let memory = Arc::new(Memory::default());
        let (mut log, _) = open(&memory, options(&["*"]));
        put(&mut log, "a", b"x");
        memory.lock().fail_sync = sync;
        memory.lock().fail_write = !sync;
        log.stage(&draft("a", Some(1), b"y"), T).unwrap();
        assert!(matches!(log.commit(), Err(CommitError::Failed(_))));
        memory.lock().fail_sync = false;
        memory.lock().fail_write = false;
        let writes = memory.lock().writes;
        log.tend(T);
        log.stage(&draft("a", None, b"z"), T).unwrap();
        assert!(matches!(log.commit(), Err(CommitError::Failed(_))));
        log.mark_synced();
        assert!(log.failed().is_some_and(|why| why.contains("EIO")), "{:?}", log.failed());
        assert_eq!((memory.lock().writes, log.durable_id()), (writes, 1));
        assert!(log.close().is_err());
        let (log, _) = open(&memory, options(&["*"]));
        assert_eq!((log.failed(), log.first_id()), (None, 1));
    }
}

#[test]
fn a_mark_finds_room_however_full_its_segment_is() {
    for last in 0..100 {
        let memory = Arc::new(Memory::default());
        let (mut log, _) = open(&memory, options(&["*"]));
        let room = (16 << 10) - log.active.as_ref().unwrap().segment.end as usize;
        put(&mut log, "a", &vec![1; room - 2 * 46 - last]);
        put(&mut log, "a", b"");
        let end = log.active.as_ref().unwrap().segment.end as usize;
        let name = memory.names().pop().unwrap();
        log.close().unwrap();
        memory.edit(&name, |bytes| bytes[end - 1] ^= 1);
        assert!(matches!(Log::open(Arc::clone(&memory), options(&["*"]), T), Err(OpenError::Damaged(_))), "{last}");
    }
}

#[test]
fn the_log_is_sent_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Log<Memory>>();
    is_send::<Reader<super::super::Disk>>();
}
