//! A host as a tree of files, each read once and within bounds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

/// Bytes that are read of one file: `/proc/interrupts` of a machine with hundreds of CPUs is the longest.
const MAX_BYTES: u64 = 4 << 20;
/// Names that are read of one directory.
const MAX_NAMES: usize = 4096;
/// CPUs in a list such as `0-3,6`.
const MAX_LISTED: usize = 8192;

/// The files that tell of a host. What can't be read is absent; nothing here fails.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    /// Its directory in `/proc`.
    process: String,
    /// Texts by path, so that a report speaks of one moment.
    texts: RefCell<HashMap<String, Option<String>>>,
}

impl Host {
    /// This host, and this process.
    pub fn here() -> Host {
        Host::under("/")
    }

    /// The files in this directory, `proc/sys/fs/nr_open` and so on.
    pub fn under(root: impl Into<PathBuf>) -> Host {
        Host { root: root.into(), process: "self".to_owned(), texts: RefCell::default() }
    }

    /// The same, with the limits of another process.
    #[must_use]
    pub fn of_process(mut self, pid: u32) -> Host {
        self.process = pid.to_string();
        self
    }

    /// Whether the process is there to be looked at; on a host that shows none, nobody knows.
    pub fn has_process(&self) -> bool {
        self.has(&format!("proc/{}", self.process)) || !self.has("proc")
    }

    /// A file's text, spaces around it taken off; what is no UTF-8 in it is replaced.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        if let Some(text) = self.texts.borrow().get(path) {
            return text.clone();
        }
        let text = self.read(path);
        self.texts.borrow_mut().insert(path.to_owned(), text.clone());
        text
    }

    /// A file of the process: `limits`, `status`, `cgroup`, `mountinfo`.
    pub(super) fn of_self(&self, file: &str) -> Option<String> {
        self.text(&format!("proc/{}/{file}", self.process))
    }

    /// A kernel setting's numbers, by its dotted name; `None` when they are none, or not numbers.
    pub(super) fn setting(&self, name: &str) -> Option<Vec<u64>> {
        let text = self.text(&format!("proc/sys/{}", name.replace('.', "/")))?;
        let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        (!numbers.is_empty()).then_some(numbers)
    }

    /// A file that holds one number.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// `Name:  123 kB` of `/proc/meminfo`, in bytes.
    pub(super) fn memory(&self, name: &str) -> Option<u64> {
        let text = self.text("proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kilobytes.checked_mul(1024)
    }

    /// The CPUs that the process may run on, or that are online; ascending.
    pub(super) fn cpus(&self) -> Option<Vec<usize>> {
        let status = self.of_self("status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(list);
        allowed.or_else(|| list(&self.text("sys/devices/system/cpu/online")?))
    }

    /// Names in a directory, sorted; none when it can't be read.
    pub(super) fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(dir)).into_iter().flatten().take(MAX_NAMES);
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Whether there is such a file or directory.
    pub(super) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    fn read(&self, path: &str) -> Option<String> {
        let path = self.root.join(path);
        // A pipe would keep us waiting.
        if !fs::metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }
}

/// A list such as `0-3,6`, as the kernel writes it; `None` when it is none, or empty.
pub(super) fn list(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for item in text.trim().split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last < first || last - first >= MAX_LISTED - numbers.len() {
            return None;
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::under(dir.path());
        (dir, host)
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them_and_within_bounds() {
        assert_eq!(list("0-2,6\n"), Some(vec![0, 1, 2, 6]));
        assert_eq!(list("1,0,1"), Some(vec![0, 1]));
        for wrong in ["", ",", "a", "3-1", "0-", "-1", "0-18446744073709551615", "0-8191,9", "0 1"] {
            assert_eq!(list(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_absent_or_no_number_is_nothing() {
        let files: &[(&str, &[u8])] = &[
            ("proc/sys/fs/nr_open", b"1048576\n"),
            ("proc/sys/fs/file-nr", b"1\t0\tmany\n"),
            ("proc/sys/fs/file-max", b"\xff\n"),
            ("proc/meminfo", b"MemTotal:  2 kB\nMemFree:  x kB\nMemAvailable:  18446744073709551615 kB\n"),
        ];
        let (_dir, host) = host(files);
        assert_eq!(host.setting("fs.nr_open"), Some(vec![1_048_576]));
        for name in ["fs.file-nr", "fs.file-max", "fs.absent", "fs"] {
            assert_eq!(host.setting(name), None, "{name}");
        }
        assert_eq!(host.memory("MemTotal"), Some(2048));
        for name in ["MemFree", "MemAvailable", "Mem", "SwapTotal"] {
            assert_eq!(host.memory(name), None, "{name}");
        }
    }

    #[test]
    fn a_file_is_read_once_so_that_a_report_speaks_of_one_moment() {
        let (dir, host) = host(&[("proc/sys/fs/nr_open", b"1")]);
        assert_eq!(host.setting("fs.nr_open"), Some(vec![1]));
        fs::write(dir.path().join("proc/sys/fs/nr_open"), "2").unwrap();
        assert_eq!(host.setting("fs.nr_open"), Some(vec![1]));
    }

    #[test]
    fn another_process_has_limits_of_its_own() {
        let (dir, host) = host(&[("proc/self/limits", b"mine"), ("proc/77/limits", b"its")]);
        assert_eq!(host.of_self("limits").unwrap(), "mine");
        assert_eq!(Host::under(dir.path()).of_process(77).of_self("limits").unwrap(), "its");
    }
}
