//! What the kernel says of this process. Every number is optional: not every system tells all.

use std::fs;
use std::sync::OnceLock;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Open files that are counted one by one at most, where the kernel does not tell their number.
#[cfg(target_os = "linux")]
const COUNTED_FILES: usize = 65_536;

/// This process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Memory that is in RAM. Bytes.
    pub rss_bytes: Option<u64>,
    /// Address space. Bytes.
    pub virtual_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Files open. Linux before 6.2: no more than 65,536 are counted.
    pub open_fds: Option<u64>,
    /// Files that may be open: the soft limit; nothing if there is none.
    pub max_fds: Option<u64>,
    /// CPU time of all threads, user's and system's. Seconds.
    pub cpu_seconds: f64,
    /// When it started: seconds since 1970.
    pub start_time_s: Option<f64>,
}

impl Process {
    /// As it is now. Takes a few system calls, however many files are open.
    pub fn now() -> Process {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Process {
            rss_bytes: kilobytes(&status, "VmRSS:"),
            virtual_bytes: kilobytes(&status, "VmSize:"),
            threads: first_number(&status, "Threads:"),
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            start_time_s: start_time(),
        }
    }
}

/// The number behind a name in `/proc/self/status` (proc_pid_status(5)).
fn first_number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    first_number(status, name).map(|kb| kb * 1024)
}

/// Since Linux 6.2 the directory's size is their number. To read a directory of a million entries
/// instead would take longer than a scrape may.
#[cfg(target_os = "linux")]
fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // The one that it takes to look is among them.
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.take(COUNTED_FILES).count().saturating_sub(1) as u64),
        told => Some(told),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_fds() -> Option<u64> {
    None
}

/// Does not change, so that nobody takes a rounding for a restart.
fn start_time() -> Option<f64> {
    static STARTED: OnceLock<Option<f64>> = OnceLock::new();
    *STARTED.get_or_init(read_start_time)
}

/// Ticks after the boot, in `/proc/self/stat`'s field 22, and when that was (proc_pid_stat(5), proc_stat(5)).
#[cfg(target_os = "linux")]
fn read_start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the program's name in parentheses, may hold anything.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let boot = first_number(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    Some(boot as f64 + ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(not(target_os = "linux"))]
fn read_start_time() -> Option<f64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_kernel_tells_everything_about_this_process() {
        let process = Process::now();
        let (rss, size) = (process.rss_bytes.unwrap(), process.virtual_bytes.unwrap());
        assert!(rss > 1 << 20 && size >= rss, "{process:?}");
        assert!(process.threads.unwrap() >= 2 && process.max_fds.is_none_or(|max| max > 0), "{process:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - process.start_time_s.unwrap();
        assert!((-2.0..3600.0).contains(&age), "started {age} s ago");
        let later = Process::now();
        assert!(process.cpu_seconds > 0.0 && later.cpu_seconds >= process.cpu_seconds);
        assert_eq!(later.start_time_s, process.start_time_s);
    }

    #[test]
    fn files_that_are_opened_are_counted() {
        let files: Vec<_> = (0..300).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let told = open_fds().unwrap();
        assert!((300..100_000).contains(&told), "{told}"); // other tests open files as well
        drop(files);
    }

    #[test]
    fn what_the_system_does_not_tell_is_nothing_and_not_zero() {
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t    12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kilobytes("Name:\tx\n", "VmRSS:"), None);
        assert_eq!(first_number("Threads:\tmany\n", "Threads:"), None);
    }
}
