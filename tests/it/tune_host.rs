//! `scripts/tune-host.sh`, on a host that is a few files.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::MadeUp;

/// What a run said, and how it ended.
pub struct Said {
    pub code: Option<i32>,
    pub text: String,
    pub errors: String,
}

/// Runs the script as root, or so it believes.
pub fn run(host: &MadeUp, args: &[&str]) -> Said {
    run_with(host, args, &[])
}

/// The same, with settings of the server: `("TIDEGATE_BACKLOG", "9")`.
pub fn run_with(host: &MadeUp, args: &[&str], settings: &[(&str, &str)]) -> Said {
    said(script(0, host, args).envs(settings.iter().copied()))
}

/// Runs the script as if by this user.
fn run_as(user: u32, host: &MadeUp, args: &[&str]) -> Said {
    said(&mut script(user, host, args))
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), text: text(output.stdout), errors: text(output.stderr) }
}

fn script(user: u32, host: &MadeUp, args: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/tune-host.sh");
    let mut command = Command::new("bash");
    command
        .arg(script)
        .args(args)
        .env("BASH_FUNC_id%%", format!("() {{ echo {user}; }}"))
        .env("PROC", host.root().join("proc"))
        .env("SYS", host.root().join("sys"))
        .env("ETC", host.root().join("etc"))
        .env_remove("TIDEGATE_BACKLOG")
        .env_remove("TIDEGATE_WORKERS")
        .env_remove("TIDEGATE_CORE_MAX_CONNECTIONS")
        .env_remove("TIDEGATE_SO_RCVBUF")
        .env_remove("TIDEGATE_SO_SNDBUF");
    command
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

    fn falls_short(&self, about: &str) -> bool {
        let line = self.line(about);
        line.contains(" fail ") || line.contains(" warn ")
    }
}

#[test]
fn a_table_of_connections_that_is_small_is_told_of_and_fails_nobody() {
    let host = MadeUp::new();
    host.set("net.ipv4.tcp_ehash_entries", "65536");
    let said = run(&host, &["100000"]);
    assert_eq!(
        said.line("net.ipv4.tcp_ehash_entries"),
        "net.ipv4.tcp_ehash_entries 65536 100000 warn boot with thash_entries=100000: less CPU for each packet"
    );
    assert_eq!(said.code, Some(0), "{}", said.text);
}

#[test]
fn a_host_with_enough_of_all_passes() {
    let said = run(&MadeUp::new(), &["100000"]);
    assert_eq!((said.code, said.errors.as_str()), (Some(0), ""), "{}", said.text);
    assert!(said.text.ends_with("ENOUGH for 100000 connections\n"), "{}", said.text);
    assert!(!said.text.contains(" warn ") && !said.text.contains(" unknown "), "{}", said.text);
}

#[test]
fn what_is_short_is_named_with_what_is_needed_and_the_fix() {
    let host = MadeUp::new();
    host.set("net.ipv4.tcp_mem", "50000\t99999\t300000");
    host.set("net.core.somaxconn", "128");
    host.set("fs.nr_open", "65536");
    let said = run(&host, &["100000"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.text.ends_with("NOT ENOUGH: 1 of these for 100000 connections (2 could be better)\n"),
        "{}",
        said.text
    );
    assert_eq!(said.line("net.core.somaxconn"), "net.core.somaxconn 128 4096 warn sysctl -w net.core.somaxconn=4096");
    assert_eq!(said.line("fs.nr_open"), "fs.nr_open 65536 101536 fail sysctl -w fs.nr_open=101536");
    assert_eq!(
        said.line("net.ipv4.tcp_mem"),
        "net.ipv4.tcp_mem 50000 99999 300000 - 100000 200000 warn sysctl -w net.ipv4.tcp_mem='50000 100000 300000'"
    );
}

#[test]
fn a_million_connections_need_more_than_a_hundred_thousand() {
    let said = run(&MadeUp::new(), &[]);
    assert_eq!(said.code, Some(1));
    let with = |verdict: &str| said.text.lines().filter(|l| l.contains(verdict)).map(first_word).collect::<Vec<_>>();
    assert_eq!(with(" fail "), ["fs.epoll.max_user_watches", "net.netfilter.nf_conntrack_max"]);
    assert_eq!(
        with(" warn "),
        [
            "net.core.netdev_max_backlog",
            "net.ipv4.tcp_mem",
            "net.ipv4.tcp_max_orphans",
            "net.ipv4.tcp_max_tw_buckets",
            "net.ipv4.tcp_ehash_entries",
        ]
    );
    assert!(said.line("net.ipv4.ip_local_port_range").ends_with("addresses to connect from: 36"));
}

#[test]
fn descriptors_memory_and_cpus_are_looked_at_too() {
    let host = MadeUp::new();
    host.limit_files("1024", "4096");
    host.write("sys/fs/cgroup/memory.max", "904000000\n");
    host.write("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n");
    let said = run(&host, &["100000"]);
    assert_eq!(said.line("open files, hard"), {
        let fix = "fail LimitNOFILE=101536 in the systemd unit; or --persist and log in anew";
        format!("open files, hard limit 4096 101536 {fix}")
    });
    let memory = said.line("memory");
    let fit = memory.split(" fail more memory, or at most ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(!run(&host, &[fit]).falls_short("memory"), "{memory}");
    assert!(said.line("CPU governor").starts_with("CPU governor performance,powersave performance warn"));
    assert!(!said.falls_short("connections of a worker"));
    host.limit_files("1024", "unlimited");
    assert!(!run(&host, &["100000"]).falls_short("open files, hard"));
    let said = run(&host, &["3000000"]);
    assert_eq!(
        said.line("connections of a worker"),
        "connections of a worker 1000000 1506124 fail TIDEGATE_CORE_MAX_CONNECTIONS=1506124, or more workers (CPUs: 2)"
    );
}

#[test]
fn what_the_kernel_has_not_is_no_shortage() {
    let host = MadeUp::new();
    for name in ["net.netfilter.nf_conntrack_max", "net.ipv4.tcp_migrate_req"] {
        fs::remove_file(host.root().join(MadeUp::file(name))).unwrap();
    }
    fs::remove_dir_all(host.root().join("sys")).unwrap();
    let said = run(&host, &["100000"]);
    assert_eq!(said.code, Some(0), "{}{}", said.text, said.errors);
    assert!(said.line("net.ipv4.tcp_migrate_req").contains(" unknown not to be seen here"));
}

#[test]
fn a_look_changes_nothing() {
    let host = MadeUp::new();
    host.set("net.core.somaxconn", "128");
    run(&host, &["1000000"]);
    assert_eq!(host.get("net.core.somaxconn"), "128");
    assert!(!host.has("etc"));
}

#[test]
fn apply_raises_what_is_short_and_lowers_nothing() {
    let host = MadeUp::new();
    host.set("net.ipv4.tcp_mem", "50000\t1500000\t1600000");
    host.write("proc/cpuinfo", "processor\t: 0\n\nprocessor\t: 1\n\nprocessor\t: 2\n");
    host.set("net.core.somaxconn", "65535");
    let said = run(&host, &["--apply", "1000000"]);
    assert_eq!(said.code, Some(0), "{}{}", said.text, said.errors);
    assert!(said.text.contains("set net.ipv4.tcp_max_orphans = 1000000 (it was 100000)\n"), "{}", said.text);
    assert_eq!(host.get("net.ipv4.tcp_max_orphans"), "1000000");
    assert_eq!(host.get("net.ipv4.tcp_mem"), "50000 1500000 2000000");
    assert_eq!(host.get("net.core.somaxconn"), "65535");
    assert_eq!(host.get("fs.file-max"), "9223372036854775807");
    assert!(!host.has("etc"), "only --persist writes files");
    run(&host, &["--apply", "1000"]);
    assert_eq!(host.get("net.ipv4.tcp_max_orphans"), "1000000");
}

#[test]
fn apply_is_refused_to_who_is_not_root() {
    let host = MadeUp::new();
    for flag in ["--apply", "--persist"] {
        let said = run_as(1000, &host, &["1000000", flag]);
        assert_eq!(said.code, Some(2));
        assert!(said.errors.contains("only root may change the kernel's settings"), "{}", said.errors);
    }
    assert_eq!(host.get("net.ipv4.tcp_max_orphans"), "100000");
    assert!(!host.has("etc"));
    assert_eq!(run_as(1000, &host, &["100000"]).code, Some(0), "anybody may look");
}

#[test]
fn persist_writes_what_was_raised_and_a_later_run_keeps_it() {
    let host = MadeUp::new();
    host.limit_files("1024", "4096");
    let said = run(&host, &["1000000", "--persist"]);
    assert!(said.text.contains("under [Service]: LimitNOFILE=1001536\n"), "{}", said.text);
    let settings = host.read("etc/sysctl.d/90-tidegate.conf");
    assert!(settings.contains("\nnet.ipv4.tcp_mem = 50000 1000000 2000000\n"), "{settings}");
    assert!(!settings.contains("somaxconn"), "{settings}");
    let limits = host.read("etc/security/limits.d/90-tidegate.conf");
    assert!(limits.contains("* hard nofile 1001536\n") && limits.contains("root soft nofile 1001536\n"), "{limits}");
    run(&host, &["1000", "--persist"]);
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&host.read("etc/sysctl.d/90-tidegate.conf")), lines(&settings));
    assert_eq!(host.read("etc/security/limits.d/90-tidegate.conf"), limits);
}

#[test]
fn no_limit_is_written_with_which_nobody_could_log_in() {
    let host = MadeUp::new();
    host.limit_files("1024", "4096");
    fs::remove_file(host.root().join(MadeUp::file("fs.nr_open"))).unwrap();
    let said = run(&host, &["100000", "--persist"]);
    assert!(said.errors.contains("fs.nr_open is still below 101536"), "{}", said.errors);
    assert!(!host.has("etc/security"));
}

#[test]
fn what_is_no_number_of_connections_is_refused() {
    let host = MadeUp::new();
    for wrong in ["0", "-5", "many", "", "1e6", "--aply", "9999999999"] {
        let said = run(&host, &[wrong]);
        assert_eq!((said.code, said.text.as_str()), (Some(2), ""), "{wrong}");
        assert!(said.errors.contains(&format!("not '{wrong}'")), "{}", said.errors);
    }
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}
