//! `scripts/tune-host.sh`, on a host that is a few files.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A host of files: `proc`, `sys` and `etc`.
struct Host(TempDir);

/// What a run said, and how it ended.
struct Said {
    code: Option<i32>,
    text: String,
    errors: String,
}

/// Settings of a host that has enough for 100,000 connections, and not much more.
const ENOUGH: &[(&str, &str)] = &[
    ("fs.nr_open", "1048576"),
    ("fs.file-max", "9223372036854775807"),
    ("fs.epoll.max_user_watches", "200000"),
    ("net.core.somaxconn", "4096"),
    ("net.ipv4.tcp_max_syn_backlog", "8192"),
    ("net.core.netdev_max_backlog", "2000"),
    ("net.ipv4.ip_local_port_range", "32768\t60999"),
    ("net.ipv4.tcp_mem", "50000\t100000\t200000"),
    ("net.ipv4.tcp_rmem", "4096\t131072\t6291456"),
    ("net.ipv4.tcp_wmem", "4096\t16384\t4194304"),
    ("net.ipv4.tcp_max_orphans", "100000"),
    ("net.ipv4.tcp_max_tw_buckets", "131072"),
    ("net.ipv4.tcp_migrate_req", "1"),
    ("net.ipv4.tcp_ehash_entries", "131072"),
    ("net.netfilter.nf_conntrack_max", "262144"),
];

impl Host {
    fn new() -> Host {
        let host = Host(tempfile::tempdir().unwrap());
        host.write("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:        15000000 kB\n");
        host.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: a\n\nprocessor\t: 1\nmodel name\t: a\n");
        host.limit_files("1024", "1048576");
        ENOUGH.iter().for_each(|(name, value)| host.set(name, value));
        host.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join(path)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.0.path().join(path).exists()
    }

    fn set(&self, name: &str, value: &str) {
        self.write(&Host::file(name), &format!("{value}\n"));
    }

    fn get(&self, name: &str) -> String {
        self.read(&Host::file(name)).trim_end().replace('\t', " ")
    }

    fn file(name: &str) -> String {
        format!("proc/sys/{}", name.replace('.', "/"))
    }

    fn limit_files(&self, soft: &str, hard: &str) {
        let head = "Limit                     Soft Limit           Hard Limit           Units\n";
        let other = "Max processes             95870                95870                processes\n";
        self.write("proc/self/limits", &format!("{head}{other}Max open files  {soft}  {hard}  files\n"));
    }

    fn run(&self, args: &[&str]) -> Said {
        self.run_as(0, args)
    }

    /// Runs the script as if by this user.
    fn run_as(&self, user: u32, args: &[&str]) -> Said {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/tune-host.sh");
        let output = Command::new("bash")
            .arg(script)
            .args(args)
            .env("BASH_FUNC_id%%", format!("() {{ echo {user}; }}"))
            .env("PROC", self.0.path().join("proc"))
            .env("SYS", self.0.path().join("sys"))
            .env("ETC", self.0.path().join("etc"))
            .env_remove("TIDEGATE_BACKLOG")
            .env_remove("TIDEGATE_CORE_MAX_CONNECTIONS")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), text: text(output.stdout), errors: text(output.stderr) }
    }
}

impl Said {
    /// The line about something, its spaces made one.
    fn line(&self, about: &str) -> String {
        let line = self.text.lines().find(|line| line.starts_with(about));
        line.unwrap_or_else(|| panic!("no line about {about} in:\n{}", self.text))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn is_low(&self, about: &str) -> bool {
        self.line(about).contains(" LOW ")
    }
}

#[test]
fn a_table_of_connections_that_is_small_is_told_of_and_fails_nobody() {
    let host = Host::new();
    host.set("net.ipv4.tcp_ehash_entries", "65536");
    let said = host.run(&["100000"]);
    assert_eq!(
        said.line("net.ipv4.tcp_ehash_entries"),
        "net.ipv4.tcp_ehash_entries 65536 100000 note boot with thash_entries=100000: less CPU for each packet"
    );
    assert_eq!(said.code, Some(0), "{}", said.text);
}

#[test]
fn a_host_with_enough_of_all_passes() {
    let said = Host::new().run(&["100000"]);
    assert_eq!((said.code, said.errors.as_str()), (Some(0), ""), "{}", said.text);
    assert!(said.text.ends_with("ENOUGH for 100000 connections\n"), "{}", said.text);
    assert!(!said.text.contains("LOW"), "{}", said.text);
}

#[test]
fn what_is_short_is_named_with_what_is_needed_and_the_fix() {
    let host = Host::new();
    host.set("net.ipv4.tcp_mem", "50000\t99999\t300000");
    host.set("net.core.somaxconn", "128");
    let said = host.run(&["100000"]);
    assert_eq!(said.code, Some(1));
    assert!(said.text.ends_with("NOT ENOUGH: 2 of these for 100000 connections\n"), "{}", said.text);
    assert_eq!(said.line("net.core.somaxconn"), "net.core.somaxconn 128 4096 LOW sysctl -w net.core.somaxconn=4096");
    assert_eq!(
        said.line("net.ipv4.tcp_mem"),
        "net.ipv4.tcp_mem 50000 99999 300000 - 100000 200000 LOW sysctl -w net.ipv4.tcp_mem='50000 100000 300000'"
    );
}

#[test]
fn a_million_connections_need_more_than_a_hundred_thousand() {
    let said = Host::new().run(&[]);
    assert_eq!(said.code, Some(1));
    let short: Vec<&str> = said.text.lines().filter(|line| line.contains(" LOW ")).map(first_word).collect();
    assert_eq!(
        short,
        [
            "fs.epoll.max_user_watches",
            "net.core.netdev_max_backlog",
            "net.ipv4.tcp_mem",
            "net.ipv4.tcp_max_orphans",
            "net.ipv4.tcp_max_tw_buckets",
            "net.netfilter.nf_conntrack_max",
        ]
    );
    assert!(said.line("net.ipv4.ip_local_port_range").ends_with("addresses to connect from: 36"));
}

#[test]
fn descriptors_memory_and_cpus_are_looked_at_too() {
    let host = Host::new();
    host.limit_files("1024", "4096");
    host.write("sys/fs/cgroup/memory.max", "904000000\n");
    host.write("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n");
    let said = host.run(&["100000"]);
    assert_eq!(said.line("open files, hard"), {
        let fix = "LOW LimitNOFILE=101536 in the systemd unit; or --persist and log in anew";
        format!("open files, hard limit 4096 101536 {fix}")
    });
    let memory = said.line("memory");
    let fit = memory.split(" LOW more memory, or at most ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(!host.run(&[fit]).is_low("memory"), "{memory}");
    assert!(said.line("CPU governor").starts_with("CPU governor performance,powersave performance note"));
    assert!(!said.is_low("CPUs"));
    host.limit_files("1024", "unlimited");
    assert!(!host.run(&["100000"]).is_low("open files, hard"));
    let said = host.run(&["1500000"]);
    assert_eq!(said.line("CPUs"), "CPUs 2 3 LOW more CPUs, or TIDEGATE_CORE_MAX_CONNECTIONS=750000");
}

#[test]
fn what_the_kernel_has_not_is_no_shortage() {
    let host = Host::new();
    for name in ["net.netfilter.nf_conntrack_max", "net.ipv4.tcp_migrate_req"] {
        fs::remove_file(host.0.path().join(Host::file(name))).unwrap();
    }
    fs::remove_dir_all(host.0.path().join("sys")).unwrap();
    let said = host.run(&["100000"]);
    assert_eq!(said.code, Some(0), "{}{}", said.text, said.errors);
    assert!(said.line("net.ipv4.tcp_migrate_req").contains("this kernel has no such setting"));
}

#[test]
fn a_look_changes_nothing() {
    let host = Host::new();
    host.set("net.core.somaxconn", "128");
    host.run(&["1000000"]);
    assert_eq!(host.get("net.core.somaxconn"), "128");
    assert!(!host.has("etc"));
}

#[test]
fn apply_raises_what_is_short_and_lowers_nothing() {
    let host = Host::new();
    host.set("net.ipv4.tcp_mem", "50000\t1500000\t1600000");
    host.set("net.core.somaxconn", "65535");
    let said = host.run(&["--apply", "1000000"]);
    assert_eq!(said.code, Some(0), "{}{}", said.text, said.errors);
    assert!(said.text.contains("set net.ipv4.tcp_max_orphans = 1000000 (it was 100000)\n"), "{}", said.text);
    assert_eq!(host.get("net.ipv4.tcp_max_orphans"), "1000000");
    assert_eq!(host.get("net.ipv4.tcp_mem"), "50000 1500000 2000000");
    assert_eq!(host.get("net.core.somaxconn"), "65535");
    assert_eq!(host.get("fs.file-max"), "9223372036854775807");
    assert!(!host.has("etc"), "only --persist writes files");
    host.run(&["--apply", "1000"]);
    assert_eq!(host.get("net.ipv4.tcp_max_orphans"), "1000000");
}

#[test]
fn apply_is_refused_to_who_is_not_root() {
    let host = Host::new();
    for flag in ["--apply", "--persist"] {
        let said = host.run_as(1000, &["1000000", flag]);
        assert_eq!(said.code, Some(2));
        assert!(said.errors.contains("only root may change the kernel's settings"), "{}", said.errors);
    }
    assert_eq!(host.get("net.ipv4.tcp_max_orphans"), "100000");
    assert!(!host.has("etc"));
    assert_eq!(host.run_as(1000, &["100000"]).code, Some(0), "anybody may look");
}

#[test]
fn persist_writes_what_was_raised_and_a_later_run_keeps_it() {
    let host = Host::new();
    host.limit_files("1024", "4096");
    let said = host.run(&["1000000", "--persist"]);
    assert!(said.text.contains("under [Service]: LimitNOFILE=1001536\n"), "{}", said.text);
    let settings = host.read("etc/sysctl.d/90-tidegate.conf");
    assert!(settings.contains("\nnet.ipv4.tcp_mem = 50000 1000000 2000000\n"), "{settings}");
    assert!(!settings.contains("somaxconn"), "{settings}");
    let limits = host.read("etc/security/limits.d/90-tidegate.conf");
    assert!(limits.contains("* hard nofile 1001536\n") && limits.contains("root soft nofile 1001536\n"), "{limits}");
    host.run(&["1000", "--persist"]);
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&host.read("etc/sysctl.d/90-tidegate.conf")), lines(&settings));
    assert_eq!(host.read("etc/security/limits.d/90-tidegate.conf"), limits);
}

#[test]
fn no_limit_is_written_with_which_nobody_could_log_in() {
    let host = Host::new();
    host.limit_files("1024", "4096");
    fs::remove_file(host.0.path().join(Host::file("fs.nr_open"))).unwrap();
    let said = host.run(&["100000", "--persist"]);
    assert!(said.errors.contains("fs.nr_open is still below 101536"), "{}", said.errors);
    assert!(!host.has("etc/security"));
}

#[test]
fn what_is_no_number_of_connections_is_refused() {
    let host = Host::new();
    for wrong in ["0", "-5", "many", "", "1e6", "--aply", "9999999999"] {
        let said = host.run(&[wrong]);
        assert_eq!((said.code, said.text.as_str()), (Some(2), ""), "{wrong}");
        assert!(said.errors.contains(&format!("not '{wrong}'")), "{}", said.errors);
    }
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}
