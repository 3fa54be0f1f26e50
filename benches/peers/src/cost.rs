//! What a process has cost until now: CPU time and memory, from `/proc`.

use std::fs;
use std::io::{self, Error, ErrorKind};

use rustix::io::Errno;

/// CPU time that the live threads of a process have had. Nanoseconds.
///
/// From each thread's `schedstat`: `stat` counts in ticks of 10 ms. A running thread's own number
/// is up to one scheduler tick behind, so measure over a second or more.
///
/// # Errors
/// There is no such process, or the kernel keeps no such numbers.
pub fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => sum += first_number(&text).ok_or_else(|| strange("schedstat"))?,
            // A thread that has just ended: before its file was opened, or before it was read.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::SRCH)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// Memory of a process. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All that is resident (VmRSS).
    pub resident: u64,
    /// Resident and shared with nobody.
    pub private: u64,
}

/// A process's memory.
///
/// # Errors
/// There is no such process, or it may not be looked into.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(first_number).map(|kib| kib * 1024).ok_or_else(|| strange("smaps_rollup"))
    };
    Ok(Memory { resident: field("Rss:")?, private: field("Private_Clean:")? + field("Private_Dirty:")? })
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn strange(file: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("/proc/PID/{file} does not look as it does on Linux"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_spends_shows_in_its_account() {
        let pid = std::process::id();
        let before = cpu_ns(pid).unwrap();
        let mut x = 0u64;
        while cpu_ns(pid).unwrap() < before + 20_000_000 {
            (0..100_000u64).for_each(|i| x = std::hint::black_box(x.wrapping_add(i)));
        }
        let was = memory(pid).unwrap();
        let pages = vec![1u8; 8 << 20];
        let is = memory(pid).unwrap();
        assert!(is.private >= was.private + (7 << 20), "{was:?} {is:?} {}", std::hint::black_box(pages).len());
        assert!(is.resident >= is.private);
    }
}
