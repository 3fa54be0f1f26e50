use super::super::record::{Stamp, put_mark, put_message};
use super::super::storage::Storage;
use super::super::testing::{Memory, draft};
use super::*;

const HEADER_OF_7: Header = Header { identity: [9; 16], number: 7, first_id: 100, previous: 5, previous_end: 4_200 };

#[test]
fn a_file_has_one_name_and_no_other_is_taken_for_it() {
    assert_eq!(file_name(7), "0000000000000007.log");
    for number in [1, 7, 9_999_999_999_999_999, 12_345_678_901_234_567, u64::MAX] {
        assert_eq!(number_of(&file_name(number)), Some(number));
    }
    for other in ["7.log", "0000000000000007.log.damaged", "0000000000000000.log", "000000000000000a.log", ".log", "x"]
    {
        assert_eq!(number_of(other), None, "{other}");
    }
}

#[test]
fn a_header_is_read_from_either_place_and_only_under_its_own_number() {
    let memory = Memory::default();
    let file = memory.create("a", 8_192).unwrap();
    assert_eq!(Header::read(&file, 7).unwrap(), Page::None);
    file.write_at(&HEADER_OF_7.page(), 0).unwrap();
    assert_eq!(Header::read(&file, 7).unwrap(), Page::Whole(HEADER_OF_7));
    assert_eq!(Header::read(&file, 8).unwrap(), Page::None);
    for at in 0..HEADER {
        for (broken, other) in [(at, 0), (COPY + at, COPY)] {
            memory.edit("a", |bytes| bytes[broken] ^= 0x40);
            assert_eq!(Header::read(&file, 7).unwrap(), Page::Half(HEADER_OF_7, other as u64), "{broken}");
            memory.edit("a", |bytes| bytes[broken] ^= 0x40);
        }
    }
    memory.edit("a", |bytes| {
        for at in [0, COPY] {
            bytes[at + 11] = 2;
            let crc = crc32c::crc32c(&bytes[at..at + 60]);
            bytes[at + 60..at + 64].copy_from_slice(&crc.to_be_bytes());
        }
    });
    assert_eq!(Header::read(&file, 7).unwrap(), Page::Version(2));
}

/// A file with messages of many lengths from 4096 on, and where each begins.
fn file_with(memory: &Memory, len: u64, count: usize) -> (<Memory as Storage>::File, Vec<u32>) {
    let file = memory.create("a", len).unwrap();
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    let stamp = Stamp { seed: HEADER_OF_7.seed(), batch: 1, synced: DATA_START };
    for n in 0..count {
        starts.push(DATA_START + bytes.len() as u32);
        put_message(&mut bytes, stamp, n as u64 + 1, 0, &draft("a", None, &vec![0; n * 37 % 5_000]));
    }
    starts.push(DATA_START + bytes.len() as u32);
    file.write_at(&bytes, DATA_START.into()).unwrap();
    (file, starts)
}

#[test]
fn a_scanner_finds_every_record_whatever_it_reads_at_a_time() {
    let memory = Memory::default();
    let (_, starts) = file_with(&memory, 1 << 20, 300);
    for chunk in [1, 100, 4_096, 1 << 20] {
        let mut scanner = Scanner::new(memory.open("a").unwrap(), HEADER_OF_7.seed(), DATA_START, chunk);
        for start in &starts[..300] {
            assert!(matches!(scanner.next().unwrap(), Step::Record(at, view) if at == *start && view.kind as u8 == 1));
        }
        assert!(matches!(scanner.next().unwrap(), Step::Invalid(why) if why.contains("zeros")));
        scanner.back_to(starts[299]);
        assert!(matches!(scanner.next().unwrap(), Step::Record(_, view) if view.id == 300));
        assert_eq!(scanner.position(), starts[300]);
    }
    let mut other = Scanner::new(memory.open("a").unwrap(), 1, DATA_START, 4_096);
    assert!(matches!(other.next().unwrap(), Step::Invalid(why) if why.contains("checksum")));
}

#[test]
fn a_search_finds_what_is_behind_zeros_and_garbage_and_says_where_bytes_end() {
    let memory = Memory::default();
    let (file, starts) = file_with(&memory, 4 << 20, 50);
    let seed = HEADER_OF_7.seed();
    let find = |from| search(&file, seed, from, |_, _| true).unwrap();
    for window in starts[..50].windows(2) {
        assert_eq!(find(window[0] + 1).record, Some(window[1]));
        assert_eq!(find(window[1]).record, Some(window[1]));
    }
    let end = starts[50];
    // The last body is of zeros: bytes end before its record does.
    memory.edit("a", |bytes| bytes[end as usize - 1] = 1);
    assert_eq!(find(starts[49]), Found { record: None, end });
    assert_eq!(find(end), Found { record: None, end });
    // At every place relative to the borders of what is read at once, and with a checksum that begins with zeros.
    for at in [(1 << 20) - 1, (1 << 20) + DATA_START - 3, (2 << 20) + DATA_START, (4 << 20) - 41] {
        let mut mark = Vec::new();
        put_mark(&mut mark, Stamp { seed, batch: 2, synced: at }, 51, 0);
        let zeros = (0..).find(|n| {
            mark.clear();
            put_mark(&mut mark, Stamp { seed, batch: 2, synced: at }, 51, *n);
            mark[0] == 0
        });
        assert!(zeros.is_some());
        file.write_at(&mark, at.into()).unwrap();
        assert_eq!(find(end + 1).record, Some(at));
        assert_eq!(search(&file, seed, end, |offset, view| offset > at && view.batch == 2).unwrap().record, None);
        file.write_at(&[0; 41], at.into()).unwrap();
    }
}
