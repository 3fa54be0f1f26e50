//! Verdicts: a good host passes, and each fault is found with its fix.

use tidegate::config::Config;
use tidegate::doctor::{Check, Host, Plan, Style, Verdict, examine};

use super::bare_metal::LIMITS;
use super::{bare_metal, config, find, look, look_for};

#[test]
fn a_bare_metal_host_that_is_ready_for_a_million_passes_every_check() {
    let report = look(&bare_metal());
    let bad: Vec<&Check> = report.checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!((report.verdict, report.allows, report.limited_by.as_deref()), (Verdict::Ok, None, None));
    assert!(report.checks.iter().all(|check| check.fix.is_none()));
}

/// Each fault by itself: what is written where, the check that finds it, the verdict, and the fix.
const FAULTS: &[(&str, &str, &str, Verdict, &str)] = &[
    ("fs.nr_open", "1000000", "fs.nr_open", Verdict::Fail, "sysctl -w fs.nr_open=1002048"),
    ("fs.file-max", "1048576", "fs.file-max", Verdict::Fail, "sysctl -w fs.file-max=1067584"),
    (
        "fs.epoll.max_user_watches",
        "99",
        "fs.epoll.max_user_watches",
        Verdict::Fail,
        "sysctl -w fs.epoll.max_user_watches=1002048",
    ),
    (
        "net.netfilter.nf_conntrack_max",
        "262144",
        "net.netfilter.nf_conntrack_max",
        Verdict::Fail,
        "sysctl -w net.netfilter.nf_conntrack_max=2000000",
    ),
    ("net.core.somaxconn", "128", "net.core.somaxconn", Verdict::Warn, "sysctl -w net.core.somaxconn=4096"),
    (
        "net.ipv4.tcp_max_syn_backlog",
        "512",
        "net.ipv4.tcp_max_syn_backlog",
        Verdict::Warn,
        "sysctl -w net.ipv4.tcp_max_syn_backlog=4096",
    ),
    (
        "net.core.netdev_max_backlog",
        "1000",
        "net.core.netdev_max_backlog",
        Verdict::Warn,
        "sysctl -w net.core.netdev_max_backlog=15625",
    ),
    ("net.ipv4.tcp_syncookies", "0", "net.ipv4.tcp_syncookies", Verdict::Warn, "sysctl -w net.ipv4.tcp_syncookies=1"),
    (
        "net.ipv4.tcp_mem",
        "1 2 3000000",
        "net.ipv4.tcp_mem",
        Verdict::Warn,
        "sysctl -w net.ipv4.tcp_mem='1 1000000 3000000'",
    ),
    ("net.ipv4.tcp_rmem", "1024 2 3", "net.ipv4.tcp_rmem", Verdict::Warn, "sysctl -w net.ipv4.tcp_rmem='4096 2 3'"),
    ("net.ipv4.tcp_wmem", "1024 2 3", "net.ipv4.tcp_wmem", Verdict::Warn, "sysctl -w net.ipv4.tcp_wmem='4096 2 3'"),
    (
        "net.ipv4.tcp_max_orphans",
        "9",
        "net.ipv4.tcp_max_orphans",
        Verdict::Warn,
        "sysctl -w net.ipv4.tcp_max_orphans=1000000",
    ),
    (
        "net.ipv4.tcp_max_tw_buckets",
        "9",
        "net.ipv4.tcp_max_tw_buckets",
        Verdict::Warn,
        "sysctl -w net.ipv4.tcp_max_tw_buckets=1000000",
    ),
    (
        "net.ipv4.tcp_migrate_req",
        "0",
        "net.ipv4.tcp_migrate_req",
        Verdict::Warn,
        "sysctl -w net.ipv4.tcp_migrate_req=1",
    ),
    (
        "net.ipv4.tcp_ehash_entries",
        "-262144",
        "net.ipv4.tcp_ehash_entries",
        Verdict::Warn,
        "thash_entries=1000000 on the kernel's command line",
    ),
    ("kernel.osrelease", "5.10.0-9-amd64", "kernel", Verdict::Warn, "a kernel of 5.14 or newer"),
    ("kernel.osrelease", "3.8.0", "kernel", Verdict::Fail, "a kernel of 5.14 or newer"),
    (
        "/proc/meminfo",
        "MemTotal: 4000000 kB\nMemAvailable: 60000000 kB\nSwapTotal: 0 kB\n",
        "memory",
        Verdict::Fail,
        "more memory; or at most 672040 connections",
    ),
    (
        "/proc/meminfo",
        "MemTotal: 64000000 kB\nMemAvailable: 4000000 kB\nSwapTotal: 0 kB\n",
        "memory available",
        Verdict::Warn,
        "ps -eo rss,comm --sort=-rss | head",
    ),
    (
        "/proc/meminfo",
        "MemTotal: 64000000 kB\nMemAvailable: 60000000 kB\nSwapTotal: 1 kB\n",
        "vm.swappiness",
        Verdict::Warn,
        "sysctl -w vm.swappiness=10",
    ),
    (
        "/sys/fs/cgroup/system.slice/memory.max",
        "2000000000",
        "memory of the cgroup",
        Verdict::Fail,
        "MemoryMax=5832870912 in the systemd unit, or the container's limit; or at most 276270 connections",
    ),
    (
        "/sys/fs/cgroup/system.slice/memory.high",
        "2000000000",
        "memory.high of the cgroup",
        Verdict::Warn,
        "MemoryHigh=5832870912 in the systemd unit",
    ),
    ("/sys/fs/cgroup/system.slice/pids.max", "20", "threads", Verdict::Fail, "TasksMax=56 in the systemd unit"),
    (
        "/sys/fs/cgroup/system.slice/cpu.max",
        "150000 100000",
        "CPU quota of the cgroup",
        Verdict::Warn,
        "TIDEGATE_WORKERS=1; or whole CPUs: AllowedCPUs= in the unit, no CPUQuota=",
    ),
    (
        "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
        "powersave",
        "CPU governor",
        Verdict::Warn,
        "cpupower frequency-set -g performance",
    ),
    (
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "[always] madvise never",
        "transparent huge pages",
        Verdict::Warn,
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    ),
    (
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        "hpet",
        "clocksource",
        Verdict::Warn,
        "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
    ),
    (
        "/proc/self/status",
        "Cpus_allowed_list:\t0-2\n",
        "workers",
        Verdict::Fail,
        "TIDEGATE_CPUS=0-2: CPU 3 may not be used",
    ),
    (
        "/proc/irq/32/effective_affinity_list",
        "0",
        "NIC interrupts, eth0",
        Verdict::Warn,
        "systemctl enable --now irqbalance",
    ),
];

#[test]
fn each_fault_is_found_by_its_own_check_with_its_fix_and_by_no_other() {
    for (place, text, name, verdict, fix) in FAULTS {
        let host = bare_metal();
        match place.strip_prefix('/') {
            Some(path) => host.write(path, text),
            None => host.set(place, text),
        }
        let report = look(&host);
        let bad: Vec<_> = report.checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
        let found: Vec<_> =
            bad.iter().map(|check| (check.check.as_str(), check.verdict, check.fix.as_deref())).collect();
        assert_eq!(found, [(*name, *verdict, Some(*fix))], "{place} = {text}");
        assert_eq!(report.verdict, *verdict);
    }
}

#[test]
fn open_files_name_the_unit_s_line_and_the_number_that_they_allow() {
    let host = bare_metal();
    host.write("proc/self/limits", &format!("{LIMITS}Max open files  1024  20000  files\n"));
    let report = look(&host);
    let files = find(&report, "open files, hard limit");
    assert_eq!((files.have.as_deref(), files.need.as_deref()), (Some("20000 (soft 1024)"), Some("1002048")));
    assert!(files.fix.as_ref().unwrap().starts_with("LimitNOFILE=1002048 in the systemd unit"), "{files:?}");
    assert_eq!(report.allows, Some(20_000 - 1024 - 4 * 256));
    assert_eq!(report.limited_by.as_deref(), Some("open files, hard limit"));
    assert_eq!(look_for(&host, report.allows.unwrap(), &config()).verdict, Verdict::Ok);
    host.write("proc/self/limits", "Max open files  unlimited  unlimited  files\n");
    assert_eq!(find(&look(&host), "open files, hard limit").verdict, Verdict::Ok);
}

#[test]
fn the_settings_have_to_let_them_in_at_the_worker_that_gets_the_most() {
    let host = bare_metal();
    let mut config = config();
    config.core.max_connections = 250_000;
    config.core.max_sessions = 200_000;
    let report = look_for(&host, 1_000_000, &config);
    for (name, setting) in [("connections", "CONNECTIONS"), ("sessions", "SESSIONS")] {
        let check = find(&report, &format!("{name} of a worker"));
        let fix = format!("TIDEGATE_CORE_MAX_{setting}=252500, or more workers (TIDEGATE_WORKERS)");
        assert_eq!((check.verdict, check.fix.as_deref()), (Verdict::Fail, Some(fix.as_str())));
    }
    config.core.max_connections = 252_500;
    config.core.max_sessions = 252_500;
    assert_eq!(look_for(&host, 1_000_000, &config).verdict, Verdict::Ok);
}

#[test]
fn strict_overcommit_has_to_have_room_for_what_is_reserved() {
    let host = bare_metal();
    host.set("vm.overcommit_memory", "2");
    let room = look(&host);
    assert_eq!(find(&room, "vm.overcommit_memory").verdict, Verdict::Ok, "{room:?}");
    host.write("proc/meminfo", &host.read("proc/meminfo").replace("Committed_AS: 1000000", "Committed_AS: 31900000"));
    let none = look(&host);
    assert_eq!(find(&none, "vm.overcommit_memory").fix.as_deref(), Some("sysctl -w vm.overcommit_memory=0"));
}

#[test]
fn workers_that_are_not_pinned_or_too_many_are_told_of() {
    let host = bare_metal();
    let free = Config { cpus: Vec::new(), ..config() };
    let report = look_for(&host, 1_000_000, &free);
    assert_eq!(find(&report, "NUMA nodes").fix.as_deref(), Some("TIDEGATE_CPUS=0-3"));
    let many = look_for(&host, 1_000_000, &Config { workers: 8, ..config() });
    assert_eq!(find(&many, "workers").fix.as_deref(), Some("TIDEGATE_WORKERS=auto"));
}

#[test]
fn one_queue_for_many_cpus_is_spread_by_the_device_or_by_the_kernel() {
    let host = bare_metal();
    host.write("proc/interrupts", " 31: 9 0 0 0 IR-PCI eth0-rx-0\n");
    host.remove("sys/class/net/eth0/queues/rx-1");
    let wide = "Cpus_allowed_list:\t0-3,33\n";
    host.write("proc/self/status", wide);
    let report = look(&host);
    assert_eq!(
        find(&report, "NIC interrupts, eth0").fix.as_deref(),
        Some("ethtool -L eth0 combined 4 || echo 2,0000000f > /sys/class/net/eth0/queues/rx-0/rps_cpus")
    );
    host.write("sys/class/net/eth0/queues/rx-0/rps_cpus", "2,0000000f\n");
    let report = look(&host);
    let spread = find(&report, "NIC interrupts, eth0");
    assert_eq!((spread.verdict, spread.have.as_deref()), (Verdict::Ok, Some("CPUs 0-3,33, RPS, queues 1")));
}

#[test]
fn a_firewall_that_is_not_loaded_or_tracks_nothing_is_no_failure() {
    let host = bare_metal();
    host.set("net.netfilter.nf_conntrack_max", "262144");
    host.set("net.netfilter.nf_conntrack_count", "0");
    assert_eq!(find(&look(&host), "net.netfilter.nf_conntrack_max").verdict, Verdict::Warn);
    host.remove("proc/sys/net/netfilter");
    let report = look(&host);
    let absent = find(&report, "net.netfilter.nf_conntrack_max");
    assert_eq!((absent.verdict, absent.have.as_deref()), (Verdict::Ok, Some("not loaded")));
}

#[test]
fn the_range_of_ports_is_said_to_be_for_clients_and_not_for_accepted_connections() {
    let report = look(&bare_metal());
    let ports = find(&report, "net.ipv4.ip_local_port_range");
    assert!(ports.why.starts_with("not for accepted connections"), "{ports:?}");
    assert!(ports.why.contains("would need 36 addresses"), "{ports:?}");
}

#[test]
fn where_nothing_can_be_seen_all_but_the_settings_is_unknown_and_nothing_fails() {
    let empty = tempfile::tempdir().unwrap();
    let report = examine(&Host::under(empty.path()), &Plan::new(1_000_000, &config()), Vec::new());
    let seen: Vec<_> = report.checks.iter().filter(|c| c.verdict != Verdict::Unknown).map(|c| &c.check).collect();
    assert_eq!(seen, ["connections of a worker", "sessions of a worker"]);
    assert_eq!(report.verdict, Verdict::Unknown, "nobody may call such a host ready");
    assert!(report.table(Style::Plain).contains("\nUnknown is what can't be seen from here"));
    assert!(report.table(Style::Plain).contains("\nUNKNOWN for 1000000 connections: "));
}
