//! What lives on the simulated disk have found wrong once, each told shortly.

use std::sync::Arc;
use std::time::Duration;

use tidegate::journal::{Draft, Log, LogOptions, LogRoute, TopicPattern};

use super::disk::{End, SimDisk};
use super::faults::Weather;
use super::inode::Survival;

const NOW: u64 = 1_700_000_000_000;

fn open(disk: &SimDisk, now: u64) -> Log<SimDisk> {
    let options = LogOptions {
        segment_bytes: 16_384,
        max_bytes: 1 << 20,
        min_free_bytes: 0,
        retain: Duration::from_secs(1),
        retain_bytes: 1 << 20,
        dedup_window: Duration::from_secs(1),
        dedup_max: 10,
        routes: vec![LogRoute { pattern: TopicPattern::parse("*").unwrap(), keeps: true }],
    };
    Log::open(Arc::new(disk.clone()), options, now).unwrap_or_else(|error| panic!("{error}")).0
}

fn store(log: &mut Log<SimDisk>, bytes: usize) -> u64 {
    let body = vec![1; bytes];
    let draft = Draft { topic: "a", principal: "ann", key: None, trace: None, session: None, body: &body };
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
