//! The simulated disk does what a real one may, and nothing that one may not.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use tidegate::journal::storage::{File, Storage};

use super::disk::{End, SimDisk};
use super::faults::{Call, Weather, When};
use super::inode::{SECTOR, Survival};

fn read(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// A disk with a file of four sectors, with all of it on the platter.
fn synced(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed, false);
    let file = disk.create("a", 4 * SECTOR as u64).unwrap();
    file.write_at(&[1; 4 * SECTOR], 0).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    drop(file);
    disk
}

#[test]
fn what_was_synced_survives_and_of_the_rest_any_sectors_do() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let disk = synced(seed);
        disk.open("a").unwrap().write_at(&[2; 3 * SECTOR], SECTOR as u64).unwrap();
        let disk = disk.restart(End::PowerCut(Survival::Some(50)));
        let bytes = read(&disk, "a");
        let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "a sector is whole");
        assert_eq!(sectors[0], 1);
        seen.insert(sectors);
    }
    assert_eq!(seen.len(), 8, "every subset of three sectors: {seen:?}");
}

#[test]
fn a_sector_that_was_written_twice_is_as_it_was_at_any_time() {
    let seen: BTreeSet<u8> = (0..200)
        .map(|seed| {
            let disk = synced(seed);
            let file = disk.open("a").unwrap();
            [2, 3].iter().for_each(|byte| file.write_at(&[*byte; SECTOR], 0).unwrap());
            read(&disk.restart(End::PowerCut(Survival::Some(80))), "a")[0]
        })
        .collect();
    assert_eq!(seen, BTreeSet::from([1, 2, 3]));
}

#[test]
fn who_is_killed_leaves_all_that_was_written() {
    let disk = synced(1);
    disk.open("a").unwrap().write_at(b"hello", 7).unwrap();
    disk.create("b", 10).unwrap();
    let after = disk.restart(End::Killed);
    assert_eq!(&read(&after, "a")[7..12], b"hello");
    assert_eq!(read(&after, "b"), [0; 10]);
    assert!(disk.open("a").is_err(), "and nothing is done by one that is dead");
}

#[test]
fn names_come_and_go_each_by_itself_until_the_directory_is_synced() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk = synced(seed);
        disk.create("b", 0).unwrap();
        disk.rename("a", "c").unwrap();
        let disk = disk.restart(End::PowerCut(Survival::Some(50)));
        seen.insert(disk.files().into_iter().map(|(name, _)| name).collect::<String>());
    }
    assert_eq!(seen, ["a", "ab", "bc", "c"].map(str::to_owned).into());
    let disk = synced(1);
    disk.remove("a").unwrap();
    disk.sync_names().unwrap();
    assert!(disk.restart(End::PowerCut(Survival::Nothing)).files().is_empty());
}

#[test]
fn a_second_sync_that_succeeds_says_nothing_of_what_the_first_has_failed_to_write() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = synced(seed);
        let file = disk.open("a").unwrap();
        file.write_at(&[2; SECTOR], 0).unwrap();
        disk.state().weather = Weather { sync: 10_000, ..Weather::default() };
        assert!(file.sync().is_err());
        disk.state().weather = Weather::default();
        file.sync().unwrap();
        lost += u32::from(read(&disk.restart(End::PowerCut(Survival::Everything)), "a")[0] == 1);
    }
    assert!((10..90).contains(&lost), "{lost} of 100");
}

#[test]
fn a_call_at_which_the_machine_stops_is_its_last() {
    for when in [When::Before, When::During, When::After] {
        let disk = synced(1);
        let file = disk.open("a").unwrap();
        let calls = disk.state().calls;
        disk.state().stop_at = Some((calls, when));
        assert!(file.write_at(&[2; 4 * SECTOR], 0).is_err());
        assert!(disk.stopped() && file.len().is_err() && disk.list().is_err());
        let written = read(&disk.restart(End::Killed), "a").iter().filter(|byte| **byte == 2).count();
        match when {
            When::Before => assert_eq!(written, 0),
            When::During => assert_eq!(written % SECTOR, 0),
            When::After => assert_eq!(written, 4 * SECTOR),
        }
    }
}

#[test]
fn a_full_disk_makes_no_file_and_has_room_again_when_one_is_removed_and_closed() {
    let disk = synced(1);
    disk.state().capacity = 5 * SECTOR as u64;
    let full = |disk: &SimDisk| disk.create("b", 2 * SECTOR as u64).map_err(|error| error.kind());
    assert_eq!(full(&disk).unwrap_err(), ErrorKind::StorageFull);
    assert_eq!((disk.files().len(), disk.free().unwrap()), (1, Some(SECTOR as u64)));
    let open = disk.open("a").unwrap();
    disk.remove("a").unwrap();
    assert!(full(&disk).is_err(), "who has it open still reads it");
    drop(open);
    drop(full(&disk).unwrap());
    // A write that finds the disk full has done what there was room for.
    let file = disk.open("b").unwrap();
    assert_eq!(file.write_at(&[9; 8 * SECTOR], 0).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(read(&disk, "b"), [9; 5 * SECTOR]);
}

#[test]
fn every_fault_is_counted() {
    let disk = synced(1);
    disk.state().weather = Weather { read: 10_000, ..Weather::default() };
    assert!(disk.open("a").unwrap().read_at(&mut [0; 8], 0).is_err());
    assert_eq!(disk.state().counts.of("EIO on read"), 1);
    assert_eq!(super::faults::kind(Call::Read, super::faults::Fate::Error), "EIO on read");
}
