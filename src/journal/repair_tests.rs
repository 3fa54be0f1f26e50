use std::sync::Arc;

use super::super::testing::{Memory, draft, options};
use super::super::{Log, OpenError, Progress, Reader};
use super::*;

const T: u64 = 1_000_000;

/// A log of a hundred messages in several segments; up to the thirtieth all is done.
fn filled() -> (Arc<Memory>, Vec<String>) {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = Log::open(Arc::clone(&memory), options(&["a"]), T).unwrap();
    for n in 1..=100 {
        log.stage(&draft("a", None, &[1; 500]), T + n).unwrap();
        log.commit().unwrap();
        if n == 30 {
            log.stage_progress(0, &Progress { upto: 30, beyond: vec![35] });
        }
    }
    log.mark_synced();
    let names = memory.names();
    assert!(names.len() >= 4);
    (memory, names)
}

fn flip(memory: &Memory, name: &str, at: usize) {
    memory.edit(name, |bytes| bytes[at] ^= 0x20);
}

/// A start refuses; a repair loses no more than these ids; then a start goes on. What the repair says.
fn repaired(memory: &Arc<Memory>, lost: &[u64]) -> Report {
    let opened = Log::open(Arc::clone(memory), options(&["a"]), T);
    let Err(OpenError::Damaged(damage)) = opened else { panic!("{opened:?}") };
    let verified = verify(&**memory).unwrap();
    assert!(verified.losses.iter().any(|loss| loss.damage == damage), "{damage} {verified:?}");
    let report = repair(&**memory).unwrap();
    assert_eq!(report.losses, verified.losses);
    let again = repair(&**memory).unwrap();
    assert!(again.is_sound() && again.aside.is_empty(), "{again:?}");
    let (log, recovery) = Log::open(Arc::clone(memory), options(&["a"]), T).unwrap();
    assert_eq!(recovery.messages, 100 - lost.len() as u64);
    let mut reader = Reader::new(Arc::clone(memory), 0);
    let ids = std::iter::from_fn(|| reader.next(log.durable_id()).unwrap()).map(|message| message.id);
    assert!(ids.eq((1..=100).filter(|id| !lost.contains(id))));
    let told = |id: &u64| report.losses.iter().any(|l| l.ids.is_some_and(|(a, b)| (a..=b).contains(id)));
    assert!(lost.iter().all(told), "{lost:?} {report:?}");
    report
}

fn ids_in(memory: &Arc<Memory>, index: usize) -> (u64, u64) {
    let segment = &verify(&**memory).unwrap().segments[index];
    (segment.first_id, segment.last_id)
}

#[test]
fn a_sound_log_is_told_of_and_left_alone() {
    let (memory, names) = filled();
    let report = verify(&*memory).unwrap();
    assert!(report.is_sound() && report.torn == 0);
    assert_eq!(report.segments.iter().map(|segment| segment.messages).sum::<u64>(), 100);
    let last = report.segments.last().unwrap();
    assert_eq!(
        (report.segments[0].first_id, report.segments[0].first_ms, last.last_id, last.last_ms),
        (1, T + 1, 100, T + 100)
    );
    let [route] = &report.routes[..] else { panic!("{report:?}") };
    assert_eq!((route.progress.upto, route.unfinished), (30, 69));
    let before: Vec<_> = names.iter().map(|name| memory.edit(name, |bytes| bytes.clone())).collect();
    assert_eq!(repair(&*memory).unwrap(), report);
    assert!(memory.names().iter().map(|name| memory.edit(name, |bytes| bytes.clone())).eq(before));
}

#[test]
fn a_torn_end_is_no_damage_for_who_looks_on() {
    let (memory, names) = filled();
    let end = verify(&*memory).unwrap().segments.last().unwrap().used as usize;
    memory.edit(names.last().unwrap(), |bytes| bytes[end..end + 200].fill(7));
    let report = verify(&*memory).unwrap();
    assert_eq!((report.is_sound(), report.torn), (true, 200));
}

#[test]
fn one_broken_record_costs_one_message_wherever_it_is() {
    for index in [0, 1, usize::MAX] {
        let (memory, names) = filled();
        let index = index.min(names.len() - 1);
        let (first, last) = ids_in(&memory, index);
        let report = verify(&*memory).unwrap();
        // The third message from the end of a segment; in the last one a mark follows the messages.
        let (mark, len) = (if last == 100 { 41 } else { 0 }, 41 + 1 + 4 + 500);
        let at = report.segments[index].used as usize - mark - 2 * len - 100;
        assert!(first < last - 2);
        flip(&memory, &names[index], at);
        let report = repaired(&memory, &[last - 2]);
        assert_eq!(report.aside, [format!("{}.damaged", names[index])]);
        let [loss] = &report.losses[..] else { panic!("{report:?}") };
        assert_eq!((loss.bytes, loss.ids), (len as u64, Some((last - 2, last - 2))));
        let [route] = &report.routes[..] else { panic!("{report:?}") };
        assert_eq!((route.progress.upto, route.unfinished), (30, 69 - u64::from(last > 32)));
    }
}

#[test]
fn headers_tables_and_marks_can_be_lost_without_a_message() {
    for (index, at) in [(0, 3), (1, 2_050), (usize::MAX, 30), (0, 4_100), (1, 4_100), (usize::MAX, 4_100)] {
        let (memory, names) = filled();
        let index = index.min(names.len() - 1);
        flip(&memory, &names[index], at);
        let report = repaired(&memory, &[]);
        assert!(report.losses.iter().all(|loss| loss.ids.is_none()), "{report:?}");
    }
    // Both headers of one segment: the others know what they were.
    for index in [0, 1, usize::MAX] {
        let (memory, names) = filled();
        let name = &names[index.min(names.len() - 1)];
        flip(&memory, name, 3);
        flip(&memory, name, 2_050);
        repaired(&memory, &[]);
    }
}

#[test]
fn what_was_due_is_due_when_its_table_is_lost() {
    let memory = Arc::new(Memory::default());
    let (mut log, _) = Log::open(Arc::clone(&memory), options(&["a"]), T).unwrap();
    for _ in 0..3 {
        log.stage(&draft("a", None, b"x"), T).unwrap();
        log.commit().unwrap();
    }
    log.stage_progress(0, &Progress { upto: 1, beyond: Vec::new() });
    flip(&memory, &memory.names()[0], 4_100);
    assert!(!repair(&*memory).unwrap().is_sound());
    let (_, recovery) = Log::open(Arc::clone(&memory), options(&["a"]), T).unwrap();
    assert_eq!(recovery.unfinished, [3]);
}

#[test]
fn a_missing_file_and_one_that_ends_early_cost_what_was_in_them() {
    let (memory, names) = filled();
    let (first, last) = ids_in(&memory, 1);
    memory.lock().files.remove(&names[1]);
    let report = repaired(&memory, &(first..=last).collect::<Vec<_>>());
    assert!(report.losses.iter().any(|loss| loss.ids == Some((first, last))), "{report:?}");

    let (memory, names) = filled();
    let (_, last) = ids_in(&memory, 1);
    let used = verify(&*memory).unwrap().segments[1].used as usize;
    memory.edit(&names[1], |bytes| bytes.truncate(used - 600));
    repaired(&memory, &[last - 1, last]);
}

#[test]
fn a_segment_of_another_journal_is_put_aside() {
    let (memory, names) = filled();
    let (first, last) = ids_in(&memory, 1);
    let (other, _) = filled();
    let bytes = other.edit(&names[1], |bytes| bytes.clone());
    memory.edit(&names[1], |own| *own = bytes);
    let report = repaired(&memory, &(first..=last).collect::<Vec<_>>());
    assert!(report.aside.contains(&format!("{}.damaged", names[1])));
}

#[test]
fn a_repair_that_was_interrupted_is_gone_on_with() {
    let (memory, names) = filled();
    let whole = memory.copy();
    flip(&memory, &names[1], 5_000);
    let broken = memory.copy();
    repair(&*memory).unwrap();
    // Ready, and the other one renamed: it takes its place. Not ready: it is made anew.
    let name = &names[1];
    memory.rename(name, &format!("{name}.repaired")).unwrap();
    assert!(repair(&*memory).unwrap().is_sound());
    broken.create(&format!("{name}.repaired"), 100).unwrap();
    assert!(!repair(&*broken).unwrap().is_sound());
    for memory in [memory, broken] {
        assert!(verify(&*memory).unwrap().is_sound() && memory.names().len() == whole.names().len() + 1);
    }
}

#[test]
fn a_start_refuses_while_a_repaired_newest_segment_has_not_taken_its_place() {
    let (memory, names) = filled();
    let name = names.last().unwrap();
    flip(&memory, name, 5_000);
    repair(&*memory).unwrap();
    let ids = verify(&*memory).unwrap().segments.last().unwrap().last_id;
    memory.rename(name, &format!("{name}.repaired")).unwrap();
    let opened = Log::open(Arc::clone(&memory), options(&["a"]), T);
    assert!(matches!(&opened, Err(OpenError::Damaged(damage)) if damage.file == *name), "{opened:?}");
    assert!(!verify(&*memory).unwrap().is_sound());
    assert!(repair(&*memory).unwrap().is_sound());
    assert_eq!(Log::open(Arc::clone(&memory), options(&["a"]), T).unwrap().0.durable_id(), ids);
}

#[test]
fn an_older_file_that_was_put_aside_is_not_written_over() {
    let (memory, names) = filled();
    for round in 0..3u64 {
        flip(&memory, &names[1], 5_000 + 1_500 * round as usize);
        repair(&*memory).unwrap();
    }
    let aside = |suffix: &str| memory.names().contains(&format!("{}.damaged{suffix}", names[1]));
    assert!(aside("") && aside(".2") && aside(".3"));
}
