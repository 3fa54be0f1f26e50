//! Limits of the control groups that a process is in: its own and all above it, version 2 or 1.

use super::Host;

/// Where groups are mounted when nothing says.
const USUAL: &str = "/sys/fs/cgroup";
/// Levels that are looked at.
const MAX_DEPTH: usize = 64;

/// What groups say of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No group can be seen.
    Unknown,
    /// None.
    None,
    /// The least of all.
    At(u64),
}

impl Limit {
    /// The number, if there is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Limit::At(number) => Some(*number),
            Limit::Unknown | Limit::None => None,
        }
    }
}

/// Bytes that the groups may have, kernel memory for sockets included (`memory.max`).
pub fn memory(host: &Host) -> Limit {
    least(host, "memory", &["memory.max", "memory.limit_in_bytes"], |host, file| host.number(file))
}

/// Bytes above which processes are slowed (`memory.high`); version 2 only.
pub fn memory_high(host: &Host) -> Limit {
    least(host, "memory", &["memory.high"], |host, file| host.number(file))
}

/// Threads (`pids.max`).
pub fn threads(host: &Host) -> Limit {
    least(host, "pids", &["pids.max"], |host, file| host.number(file))
}

/// Thousandths of a CPU (`cpu.max`).
pub fn cpu(host: &Host) -> Limit {
    least(host, "cpu", &["cpu.max", "cpu.cfs_quota_us"], |host, file| {
        let (quota, period) = match file.strip_suffix("cpu.cfs_quota_us") {
            Some(dir) => (host.number(file)?, host.number(&format!("{dir}cpu.cfs_period_us"))?),
            None => {
                let text = host.text(file)?;
                let (quota, period) = text.split_once(' ')?;
                (quota.parse().ok()?, period.trim().parse().ok()?)
            }
        };
        quota.checked_mul(1000)?.checked_div(period)
    })
}

/// The least number that one of these files has, in the process's group or in one above it.
fn least(host: &Host, controller: &str, files: &[&str], read: fn(&Host, &str) -> Option<u64>) -> Limit {
    let groups = groups(host, controller);
    let paths = groups.iter().flat_map(|dir| files.iter().map(move |file| format!("{dir}/{file}")));
    // Version 1 writes "no limit" as the largest number of whole pages.
    let numbers = paths.filter_map(|path| read(host, &path)).filter(|number| *number < 1 << 62);
    match numbers.min() {
        Some(number) => Limit::At(number),
        None if host.of_self("cgroup").is_some() || groups.iter().any(|dir| host.has(dir)) => Limit::None,
        None => Limit::Unknown,
    }
}

/// Directories of the process's groups, of the controller's own tree and of the unified one.
fn groups(host: &Host, controller: &str) -> Vec<String> {
    let of_self = host.of_self("cgroup").unwrap_or_default();
    let mut dirs = Vec::new();
    for mount in mounts(host, controller) {
        let path = of_self.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let its = if mount.unified { controllers.is_empty() } else { has(controllers, controller) };
            its.then_some(path)
        });
        // In a namespace of its own, a process may see only a part of the tree, and not by its whole path.
        let path = path.unwrap_or_default();
        let path = path.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or_default();
        let mut dir = mount.dir.trim_matches('/').to_owned();
        dirs.push(dir.clone());
        for part in path.split('/').filter(|part| !part.is_empty()).take(MAX_DEPTH) {
            if part == ".." {
                break;
            }
            dir = format!("{dir}/{part}");
            dirs.push(dir.clone());
        }
    }
    dirs
}

struct Mount {
    root: String,
    dir: String,
    unified: bool,
}

/// proc_pid_mountinfo(5): `36 35 98:0 ROOT DIR OPTIONS [FIELD]... - TYPE SOURCE OPTIONS`.
fn mounts(host: &Host, controller: &str) -> Vec<Mount> {
    let text = host.of_self("mountinfo").unwrap_or_default();
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, dir) = (left.next()?.to_owned(), left.next()?.to_owned());
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1).unwrap_or_default());
        let its = kind == "cgroup2" || (kind == "cgroup" && has(options, controller));
        its.then_some(Mount { root, dir, unified: kind == "cgroup2" })
    };
    let mut mounts: Vec<Mount> = text.lines().filter_map(mount).take(MAX_DEPTH).collect();
    if mounts.is_empty() {
        let usual = |dir: String, unified| Mount { root: "/".to_owned(), dir, unified };
        mounts = vec![usual(USUAL.to_owned(), true), usual(format!("{USUAL}/{controller}"), false)];
    }
    mounts
}

/// Whether a name is in a list such as `rw,cpu,cpuacct`.
fn has(list: &str, name: &str) -> bool {
    list.split(',').any(|item| item == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::under(dir.path());
        (dir, host)
    }

    const V2: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw";

    #[test]
    fn the_least_limit_of_a_group_and_those_above_it_counts() {
        let (_dir, host) = host(&[
            ("proc/self/mountinfo", V2),
            ("proc/self/cgroup", "0::/system.slice/tidegate.service"),
            ("sys/fs/cgroup/system.slice/memory.max", "2000\n"),
            ("sys/fs/cgroup/system.slice/tidegate.service/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/tidegate.service/memory.high", "1000\n"),
            ("sys/fs/cgroup/system.slice/tidegate.service/pids.max", "77\n"),
            ("sys/fs/cgroup/system.slice/tidegate.service/cpu.max", "250000 100000\n"),
            ("sys/fs/cgroup/other.slice/memory.max", "1\n"),
        ]);
        assert_eq!((memory(&host), memory_high(&host)), (Limit::At(2000), Limit::At(1000)));
        assert_eq!((threads(&host), cpu(&host)), (Limit::At(77), Limit::At(2500)));
    }

    #[test]
    fn a_container_sees_its_own_group_where_the_tree_begins() {
        let (_dir, host) = host(&[
            ("proc/self/mountinfo", "31 23 0:28 /kubepods/pod1 /sys/fs/cgroup ro - cgroup2 cgroup ro"),
            ("proc/self/cgroup", "0::/kubepods/pod1"),
            ("sys/fs/cgroup/memory.max", "3000"),
            ("sys/fs/cgroup/cpu.max", "max 100000"),
        ]);
        assert_eq!((memory(&host), cpu(&host), threads(&host)), (Limit::At(3000), Limit::None, Limit::None));
    }

    #[test]
    fn version_1_has_trees_and_words_of_its_own() {
        let (_dir, host) = host(&[
            (
                "proc/self/mountinfo",
                "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                 35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
            ),
            ("proc/self/cgroup", "4:memory:/app\n1:cpu,cpuacct:/app\n0::/"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"),
            ("sys/fs/cgroup/memory/app/memory.limit_in_bytes", "4000"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1"),
            ("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", "50000"),
            ("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us", "100000"),
        ]);
        assert_eq!((memory(&host), cpu(&host), threads(&host)), (Limit::At(4000), Limit::At(500), Limit::None));
    }

    #[test]
    fn what_can_not_be_seen_is_unknown_and_nonsense_is_no_limit() {
        let (_dir, nothing) = host(&[]);
        assert_eq!((memory(&nothing), cpu(&nothing)), (Limit::Unknown, Limit::Unknown));
        let (_dir, nonsense) = host(&[
            ("proc/self/mountinfo", "- - -\n31 23 - cgroup2\n\n31 23 0:28 / /sys/fs/cgroup rw - cgroup2 c rw"),
            ("proc/self/cgroup", "0::/../..\n:::\n0"),
            ("sys/fs/cgroup/cpu.max", "100000 0"),
            ("sys/fs/cgroup/memory.max", "many"),
        ]);
        assert_eq!((memory(&nonsense), cpu(&nonsense)), (Limit::None, Limit::None));
    }
}
