//! `tidegate doctor` beside `scripts/tune-host.sh`.

use tidegate::config::Config;
use tidegate::doctor::Verdict;

use super::{bare_metal, config, find, look, look_for};
use crate::support::MadeUp;
use crate::tune_host;

#[test]
fn the_script_and_the_doctor_need_the_same_and_say_the_same() {
    // The script reads the memory of the group at the top of the tree; here that is the process's own.
    let poor = bare_metal();
    poor.write("proc/self/cgroup", "0::/\n");
    for (name, value) in [
        ("fs.nr_open", "65536"),
        ("fs.file-max", "65536"),
        ("fs.epoll.max_user_watches", "65536"),
        ("net.core.somaxconn", "128"),
        ("net.core.netdev_max_backlog", "300"),
        ("net.ipv4.tcp_max_syn_backlog", "128"),
        ("net.ipv4.tcp_syncookies", "0"),
        ("net.ipv4.tcp_mem", "1\t2\t3"),
        ("net.ipv4.tcp_rmem", "1\t2\t3"),
        ("net.ipv4.tcp_wmem", "1\t2\t3"),
        ("net.ipv4.tcp_max_orphans", "1"),
        ("net.ipv4.tcp_max_tw_buckets", "1"),
        ("net.ipv4.tcp_migrate_req", "0"),
        ("net.ipv4.tcp_ehash_entries", "1"),
        ("net.netfilter.nf_conntrack_max", "1"),
    ] {
        poor.set(name, value);
    }
    poor.write("proc/meminfo", "MemTotal: 600000 kB\n");
    poor.limit_files("1024", "4096");
    poor.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    let idle_firewall = bare_metal();
    idle_firewall.set("net.netfilter.nf_conntrack_max", "1");
    idle_firewall.set("net.netfilter.nf_conntrack_count", "0");
    let no_firewall = bare_metal();
    no_firewall.remove("proc/sys/net/netfilter");
    let old_kernel = bare_metal();
    old_kernel.remove("proc/sys/net/ipv4/tcp_migrate_req");
    for host in [bare_metal(), poor, idle_firewall, no_firewall, old_kernel] {
        for connections in [1_000, 100_000, 1_000_000, 3_000_001] {
            agree(&host, connections, &config(), &[], 20);
        }
    }
}

#[test]
fn the_script_and_the_doctor_take_the_server_s_settings_alike() {
    let host = bare_metal();
    host.set("net.core.rmem_max", "212992");
    host.set("net.core.wmem_max", "212992");
    let mut config = Config { workers: 2, cpus: vec![0, 1], backlog: 60_000, ..config() };
    config.core.max_connections = 700_000;
    (config.sockets.receive_buffer, config.sockets.send_buffer) = (400_000, 4096);
    let settings = [
        ("TIDEGATE_WORKERS", "2"),
        ("TIDEGATE_BACKLOG", "60000"),
        ("TIDEGATE_CORE_MAX_CONNECTIONS", "700000"),
        ("TIDEGATE_SO_RCVBUF", "400000"),
        ("TIDEGATE_SO_SNDBUF", "4096"),
    ];
    let report = look_for(&host, 1_000_000, &config);
    assert_eq!(find(&report, "net.core.rmem_max").fix.as_deref(), Some("sysctl -w net.core.rmem_max=400000"));
    assert_eq!(find(&report, "net.core.wmem_max").verdict, Verdict::Ok);
    for connections in [1_000, 1_000_000, 2_000_000] {
        agree(&host, connections, &config, &settings, 22);
    }
}

/// Every check that both make has one need, one verdict, and for a kernel setting one fix.
fn agree(host: &MadeUp, connections: u64, config: &Config, settings: &[(&str, &str)], checks: usize) {
    let said = tune_host::run_with(host, &[&connections.to_string()], settings);
    let report = look_for(host, connections, config);
    let mut compared = 0;
    for check in &report.checks {
        let Some(line) = said.text.lines().find(|line| line.starts_with(&format!("{:32} ", check.check))) else {
            continue;
        };
        // Name, 32 columns; have and need, 22 each; verdict and fix.
        let (need, rest) = (line[56..78].trim(), line[78..].trim());
        let (verdict, fix) = rest.split_once(' ').unwrap_or((rest, ""));
        assert_eq!(verdict, check.verdict.word(), "{connections}: {line}\n{check:?}");
        if check.check != "net.ipv4.ip_local_port_range" && check.check != "CPU governor" {
            assert_eq!(need, check.need.as_deref().unwrap_or("-"), "{connections}: {line}");
        }
        if fix.trim().starts_with("sysctl") {
            assert_eq!(Some(fix.trim()), check.fix.as_deref());
        }
        compared += 1;
    }
    assert_eq!(compared, checks, "{}", said.text);
    let rows = said.text.lines().skip(3).take_while(|line| !line.is_empty()).count();
    assert_eq!(rows, compared + 1, "only the soft limit of open files is the script's alone:\n{}", said.text);
}

#[test]
fn what_the_script_applies_the_doctor_finds_well() {
    let host = bare_metal();
    for (name, value) in [("net.ipv4.tcp_mem", "1\t2\t3"), ("fs.nr_open", "9"), ("net.core.somaxconn", "128")] {
        host.set(name, value);
    }
    assert_eq!(look(&host).verdict, Verdict::Fail);
    let said = tune_host::run(&host, &["1000000", "--apply"]);
    assert_eq!((look(&host).verdict, said.code), (Verdict::Ok, Some(0)), "{}", said.text);
}
