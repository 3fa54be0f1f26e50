//! A bare-metal host that is ready for a million connections, as files.

use crate::support::MadeUp;

/// Files of a bare-metal host that is ready for a million, its settings aside: four CPUs, two nodes.
const BARE_METAL: &[(&str, &str)] = &[
    ("proc/cpuinfo", "processor\t: 0\n\nprocessor\t: 1\n\nprocessor\t: 2\n\nprocessor\t: 3\n"),
    (
        "proc/meminfo",
        "MemTotal: 64000000 kB\nMemAvailable: 60000000 kB\nSwapTotal: 0 kB\nCommitLimit: 32000000 kB\nCommitted_AS: 1000000 kB\n",
    ),
    ("proc/self/status", "Name:\ttidegate\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\n"),
    ("proc/self/cgroup", "0::/system.slice/tidegate.service\n"),
    (
        "proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n22 1 254:0 / / rw - ext4 /dev/vda rw\n",
    ),
    ("sys/fs/cgroup/system.slice/tidegate.service/memory.max", "max\n"),
    ("sys/fs/cgroup/system.slice/tidegate.service/memory.high", "max\n"),
    ("sys/fs/cgroup/system.slice/tidegate.service/pids.max", "max\n"),
    ("sys/fs/cgroup/system.slice/tidegate.service/cpu.max", "max 100000\n"),
    (
        "proc/interrupts",
        "      CPU0 CPU1 CPU2 CPU3\n 30: 0 0 0 0 IR-PCI eth0-config\n 31: 9 0 0 0 IR-PCI eth0-TxRx-0\n 32: 0 9 0 0 IR-PCI eth0-TxRx-1\n",
    ),
    ("proc/irq/31/effective_affinity_list", "0\n"),
    ("proc/irq/32/effective_affinity_list", "1\n"),
    ("sys/class/net/eth0/device/vendor", "0x8086\n"),
    ("sys/class/net/eth0/operstate", "up\n"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
    ("sys/class/net/lo/operstate", "unknown\n"),
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/node/node0/cpulist", "0-1\n"),
    ("sys/devices/system/node/node1/cpulist", "2-3\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("run/chrony/chronyd.pid", "1\n"),
];

/// Its settings, where they are others than those of a host for 100,000.
const BARE_METAL_SETTINGS: &[(&str, &str)] = &[
    ("kernel.osrelease", "6.12.9-amd64"),
    ("fs.nr_open", "1100000"),
    ("fs.file-nr", "3000\t0\t9223372036854775807"),
    ("fs.epoll.max_user_watches", "14000000"),
    ("net.core.netdev_max_backlog", "16384"),
    ("net.ipv4.tcp_mem", "500000\t1000000\t2000000"),
    ("net.ipv4.tcp_max_orphans", "1000000"),
    ("net.ipv4.tcp_max_tw_buckets", "1000000"),
    ("net.ipv4.tcp_ehash_entries", "1048576"),
    ("net.netfilter.nf_conntrack_max", "2000000"),
    ("net.netfilter.nf_conntrack_count", "17"),
    ("vm.overcommit_memory", "0"),
    ("vm.swappiness", "60"),
];

/// The head of `/proc/self/limits`, the line of open files to follow.
pub const LIMITS: &str = "Limit  Soft Limit  Hard Limit  Units\nMax processes  200000  200000  processes\n";

/// The host.
pub fn bare_metal() -> MadeUp {
    let host = MadeUp::new();
    BARE_METAL.iter().for_each(|(path, text)| host.write(path, text));
    BARE_METAL_SETTINGS.iter().for_each(|(name, value)| host.set(name, value));
    host.write("proc/self/limits", &format!("{LIMITS}Max open files  1024  1100000  files\n"));
    host
}
