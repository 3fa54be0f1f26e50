//! The floor of durable work: one thread that appends and syncs, over and over.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;

use super::load::Times;

/// Bytes after which a growing file begins anew, and that an allocated one has.
const MOST: u64 = 1 << 30;
/// Appends before the measurement.
const WARM_UP: u32 = 20;

/// What the file is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// It grows with every append, as a plain log does.
    Growing,
    /// It has its room already (fallocate), as a journal's segment does.
    Allocated,
}

/// What came of it.
#[derive(Debug)]
pub struct Measured {
    /// Appends that were synced.
    pub syncs: u64,
    /// Seconds that they took.
    pub seconds: f64,
    /// Each, from the write to fdatasync's return. Nanoseconds.
    pub times: Times,
}

/// Appends `bytes` bytes and calls fdatasync, for so long.
///
/// # Errors
/// The disk's.
pub fn append(folder: &Path, kind: Kind, bytes: usize, length: Duration) -> Result<Measured> {
    let path = folder.join(format!("floor-{}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    // Whatever comes, nothing stays behind; and there is no name to be synced.
    std::fs::remove_file(&path)?;
    if kind == Kind::Allocated {
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, MOST)?;
        file.sync_all()?;
    }
    let block: Vec<u8> = (0..bytes.max(1)).map(|i| (i % 251) as u8 + 1).collect();
    let mut at = 0;
    for _ in 0..WARM_UP {
        at = write_and_sync(&file, &block, at)?;
    }
    let mut times = Times::new();
    let (began, mut last, mut syncs) = (Instant::now(), Instant::now(), 0);
    while last - began < length {
        if at + block.len() as u64 > MOST {
            if kind == Kind::Allocated {
                break;
            }
            file.set_len(0)?;
            at = 0;
        }
        at = write_and_sync(&file, &block, at)?;
        let now = Instant::now();
        times.add(now - last);
        (last, syncs) = (now, syncs + 1);
    }
    if syncs == 0 {
        return Err(Error::other("not one append in that time"));
    }
    Ok(Measured { syncs, seconds: (last - began).as_secs_f64(), times })
}

fn write_and_sync(file: &File, block: &[u8], at: u64) -> Result<u64> {
    use std::os::unix::fs::FileExt;
    file.write_all_at(block, at)?;
    file.sync_data()?;
    Ok(at + block.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_file_are_synced_and_leave_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("peers-disk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for kind in [Kind::Growing, Kind::Allocated] {
            let measured = append(&folder, kind, 200, Duration::from_millis(20)).unwrap();
            assert!(measured.syncs > 0 && measured.seconds >= 0.02, "{measured:?}");
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(&folder).unwrap();
    }
}
