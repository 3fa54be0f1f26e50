//! What lives on the simulated disk have found wrong once, each told shortly.

use std::sync::Arc;
use std::time::Duration;

use tidegate::journal::{Draft, Log, LogOptions, LogRoute, Progress, TopicPattern};

use super::disk::{End, SimDisk};
use super::faults::Weather;
use super::inode::Survival;

const NOW: u64 = 1_700_000_000_000;

fn open(disk: &SimDisk, now: u64) -> Log<SimDisk> {
    open_with(disk, now, &[("*", true)])
}

fn open_with(disk: &SimDisk, now: u64, routes: &[(&str, bool)]) -> Log<SimDisk> {
    let route = |(pattern, keeps): &(&str, bool)| {
        let pattern = TopicPattern::parse(pattern).unwrap();
        LogRoute { pattern, keeps: *keeps }
    };
    let options = LogOptions {
        segment_bytes: 16_384,
        max_bytes: 1 << 20,
        min_free_bytes: 0,
        retain: Duration::from_secs(1),
        retain_bytes: 1 << 20,
        dedup_window: Duration::from_secs(1),
        dedup_max: 10,
        routes: routes.iter().map(route).collect(),
    };
    Log::open(Arc::new(disk.clone()), options, now).unwrap_or_else(|error| panic!("{error}")).0
}

fn store(log: &mut Log<SimDisk>, bytes: usize) -> u64 {
    store_to(log, "a", bytes)
}

fn store_to(log: &mut Log<SimDisk>, topic: &str, bytes: usize) -> u64 {
    let body = vec![1; bytes];
    let draft = Draft { topic, principal: "ann", key: None, trace: None, session: None, body: &body };
    let id = log.stage(&draft, NOW).unwrap().id;
    log.commit().unwrap();
    id
}

#[test]
fn a_mark_at_a_segments_end_that_a_power_cut_takes_away_is_not_missed() {
    let disk = SimDisk::new(1, false);
    let mut log = open(&disk, NOW);
    store(&mut log, 10_000);
    log.mark_synced();
    // All of it goes to the next segment.
    let id = store(&mut log, 10_000);
    drop(log);
    let disk = disk.restart(End::PowerCut(Survival::Nothing));
    assert_eq!(open(&disk, NOW).durable_id(), id);
}

#[test]
fn ids_go_on_where_they_were_when_all_is_deleted_and_there_is_no_room_for_a_segment() {
    let disk = SimDisk::new(1, false);
    let mut log = open(&disk, NOW);
    let id = store(&mut log, 100);
    log.close().unwrap();
    // No room for a new segment, and nobody needs the old one any more.
    disk.state().weather = Weather { room: 10_000, ..Weather::default() };
    let mut log = open(&disk, NOW + 5_000);
    log.tend(NOW + 5_000);
    drop(log);
    disk.state().weather = Weather::default();
    let disk = disk.restart(End::Killed);
    assert!(store(&mut open(&disk, NOW + 6_000), 100) > id);
}

#[test]
fn what_was_deleted_is_not_taken_off_what_is_unfinished_when_its_progress_was_lost() {
    let disk = SimDisk::new(1, false);
    let mut log = open_with(&disk, NOW, &[("*", false)]);
    (0..3).for_each(|_| assert!(store(&mut log, 3_000) < 4));
    log.stage_progress(0, &Progress { upto: 1, beyond: vec![3] });
    log.commit().unwrap();
    (0..2).for_each(|_| assert!(store(&mut log, 6_000) > 3));
    // The first segment is done, and goes; that it is done was not stored yet.
    log.stage_progress(0, &Progress { upto: 4, beyond: Vec::new() });
    log.tend(NOW);
    assert_eq!((log.first_id(), log.unfinished(0)), (4, 1));
    drop(log);
    let log = open_with(&disk.restart(End::PowerCut(Survival::Nothing)), NOW, &[("*", false)]);
    assert_eq!((log.first_id(), log.unfinished(0)), (4, 2));
}

#[test]
fn what_a_route_has_done_for_another_is_not_taken_off_what_is_its_own() {
    let disk = SimDisk::new(1, false);
    let mut log = open_with(&disk, NOW, &[("*", false)]);
    ["a", "b", "a", "b"].into_iter().for_each(|topic| assert!(store_to(&mut log, topic, 10) > 0));
    log.stage_progress(0, &Progress { upto: 0, beyond: vec![2, 3] });
    log.close().unwrap();
    let log = open_with(&disk.restart(End::Killed), NOW, &[("b", false), ("*", false)]);
    // Of the rest, the first is to be delivered; of b, the last, and once more the one that was done elsewhere.
    assert_eq!((log.unfinished(1), log.progress(1)), (1, &Progress { upto: 0, beyond: vec![3] }));
    assert!((1..=2).contains(&log.unfinished(0)));
}

#[test]
fn what_begins_again_for_other_routes_is_unfinished_also_when_nothing_is_left_of_them() {
    let disk = SimDisk::new(1, false);
    let routes: &[(&str, bool)] = &[("a", false), ("*", false)];
    let mut log = open_with(&disk, NOW, routes);
    ["a", "b", "b"].into_iter().for_each(|topic| assert!(store_to(&mut log, topic, 10) > 0));
    log.stage_progress(1, &Progress { upto: 3, beyond: Vec::new() });
    log.close().unwrap();
    // It takes over what `a` has left, and so begins before what it had done.
    let disk = disk.restart(End::Killed);
    assert_eq!(open_with(&disk, NOW, &[("*", false)]).unfinished(0), 3);
    for _ in 0..3 {
        let disk = disk.restart(End::Killed);
        let log = open_with(&disk, NOW, routes);
        assert_eq!((log.unfinished(0), log.unfinished(1)), (1, 2), "{:?}", log.progress(1));
    }
}

#[test]
fn what_a_change_of_routes_has_left_to_the_journal_is_kept_for_its_time_also_after_the_next_change() {
    let disk = SimDisk::new(1, false);
    store_to(&mut open_with(&disk, NOW, &[("*", false)]), "other", 10);
    let disk = disk.restart(End::Killed);
    drop(open_with(&disk, NOW, &[("a", false)]));
    let mut disk = disk;
    for _ in 0..2 {
        disk = disk.restart(End::Killed);
        let mut log = open_with(&disk, NOW, &[("*", false)]);
        store_to(&mut log, "other", 10);
        log.tend(NOW + 900);
        assert_eq!(log.first_id(), 1);
    }
    disk = disk.restart(End::Killed);
    let mut log = open_with(&disk, NOW + 5_000, &[("*", false)]);
    log.tend(NOW + 5_000);
    assert_eq!(log.first_id(), 2, "its time is over");
}
