//! The kernel itself: version, memory habits, tables made at boot, clock.

use super::capacity::gib;
use super::{Check, Host, Plan, cgroup};

/// Without it there is no SO_REUSEPORT, by which workers share a port.
const OLDEST: (u64, u64) = (3, 9);
/// Since this one a closing listener can hand its backlog over (`tcp_migrate_req`).
const WANTED: (u64, u64) = (5, 14);
/// Clocks that are read without a system call.
const FAST_CLOCKS: &[&str] = &["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "xen"];
/// Clocks that are known to be slow.
const SLOW_CLOCKS: &[&str] = &["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"];
/// Above this, the kernel swaps out memory of connections that are idle for a while.
const MOST_SWAPPINESS: u64 = 10;

/// Everything of this file.
pub fn checks(host: &Host, plan: &Plan) -> Vec<Check> {
    vec![
        memory_available(host, plan),
        memory_high(host, plan),
        version(host),
        huge_pages(host),
        swap(host),
        hash_table(host, plan),
        ports(host, plan),
        clock(host),
        time_sync(host),
    ]
}

fn memory_available(host: &Host, plan: &Plan) -> Check {
    let need = plan.memory();
    let why = "what is free now; a server that runs already has its part of it";
    let check = Check::new("memory available", why).need(gib(need));
    let Some(have) = host.memory("MemAvailable") else { return check };
    let check = check.have(gib(have));
    if have >= need { check.ok() } else { check.warn("ps -eo rss,comm --sort=-rss | head") }
}

fn memory_high(host: &Host, plan: &Plan) -> Check {
    let need = plan.memory();
    let check = Check::new("memory.high of the cgroup", "above it, the kernel slows every thread down").need(gib(need));
    match cgroup::memory_high(host) {
        cgroup::Limit::Unknown => check,
        cgroup::Limit::None => check.have("no limit").ok(),
        cgroup::Limit::At(have) if have >= need => check.have(gib(have)).ok(),
        cgroup::Limit::At(have) => check.have(gib(have)).warn(format!("MemoryHigh={need} in the systemd unit")),
    }
}

fn version(host: &Host) -> Check {
    let why = "3.9: workers share a port (SO_REUSEPORT); 5.14: a listener that closes hands its backlog over";
    let check = Check::new("kernel", why).need(format!("{}.{}", WANTED.0, WANTED.1));
    let Some(release) = host.text("proc/sys/kernel/osrelease") else { return check };
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u64>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return check };
    let check = check.have(format!("{major}.{minor}"));
    match (major, minor) {
        version if version < OLDEST => check.fail("a kernel of 5.14 or newer"),
        version if version < WANTED => check.warn("a kernel of 5.14 or newer"),
        _ => check.ok(),
    }
}

fn huge_pages(host: &Host) -> Check {
    let why = "with always, memory of a few connections takes 2 MiB at a time: more than they need";
    let check = Check::new("transparent huge pages", why).need("madvise or never");
    let Some(text) = host.text("sys/kernel/mm/transparent_hugepage/enabled") else {
        // A kernel that was built without them has no such directory.
        return if host.has("sys/kernel/mm") { check.have("none").ok() } else { check };
    };
    let Some(chosen) = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']')) else {
        return check;
    };
    match chosen {
        "always" => check.have(chosen).warn("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
        "madvise" | "never" => check.have(chosen).ok(),
        _ => check,
    }
}

fn swap(host: &Host) -> Check {
    let why = "with swap, an idle connection may be out on disk when its heartbeat is due";
    let check = Check::new("vm.swappiness", why).need(format!("at most {MOST_SWAPPINESS}, or no swap"));
    let swappiness = host.setting("vm.swappiness").and_then(|numbers| numbers.first().copied());
    match (host.memory("SwapTotal"), swappiness) {
        (Some(0), _) => check.have("no swap").ok(),
        (Some(_), Some(have)) if have <= MOST_SWAPPINESS => check.have(have.to_string()).ok(),
        (Some(_), Some(have)) => {
            check.have(have.to_string()).warn(format!("sysctl -w vm.swappiness={MOST_SWAPPINESS}"))
        }
        _ => check,
    }
}

/// The kernel sizes its table of connections at boot, by memory: as for a quarter of a million.
fn hash_table(host: &Host, plan: &Plan) -> Check {
    let why = "each packet looks its connection up in this table, which is made at boot";
    let check = Check::new("net.ipv4.tcp_ehash_entries", why).need(plan.connections.to_string());
    // Negative where the table is another network namespace's.
    let text = host.text("proc/sys/net/ipv4/tcp_ehash_entries");
    let Some(have) = text.and_then(|text| text.trim_start_matches('-').parse::<u64>().ok()) else { return check };
    let check = check.have(have.to_string());
    if have >= plan.connections {
        check.ok()
    } else {
        check.warn(format!("thash_entries={} on the kernel's command line", plan.connections))
    }
}

/// Shown because everybody looks for it.
fn ports(host: &Host, plan: &Plan) -> Check {
    let check = |why: String| Check::new("net.ipv4.ip_local_port_range", why).need("any");
    let why = "not for accepted connections, which all have the server's port: for clients on this host, and \
               connections of handlers to databases";
    match host.setting("net.ipv4.ip_local_port_range").as_deref() {
        Some([from, to]) if from <= to => {
            let addresses = plan.connections.div_ceil((to - from).saturating_add(1));
            check(format!("{why}; {} clients here would need {addresses} addresses to connect from", plan.connections))
                .have(format!("{from} {to}"))
                .ok()
        }
        _ => check(why.to_owned()),
    }
}

fn clock(host: &Host) -> Check {
    let dir = "sys/devices/system/clocksource/clocksource0";
    let check = Check::new("clocksource", "a slow one costs a system call or more each time a worker reads the clock")
        .need("tsc, kvm-clock or alike");
    let Some(have) = host.text(&format!("{dir}/current_clocksource")) else { return check };
    let known = |clocks: &[&str]| clocks.contains(&have.as_str());
    if known(FAST_CLOCKS) {
        return check.have(have).ok();
    }
    if !known(SLOW_CLOCKS) {
        return check;
    }
    let available = host.text(&format!("{dir}/available_clocksource")).unwrap_or_default();
    let better = FAST_CLOCKS.iter().find(|clock| available.split_whitespace().any(|word| word == **clock));
    check.have(have).warn(match better {
        Some(clock) => format!("echo {clock} > /{dir}/current_clocksource"),
        None => "boot with tsc=reliable, and see dmesg why tsc is not trusted".to_owned(),
    })
}

fn time_sync(host: &Host) -> Check {
    let why = "timestamps of the audit log and the expiry of tokens go by the system's clock";
    let check = Check::new("time synchronisation", why).need("a daemon");
    let signs = [
        ("run/systemd/timesync/synchronized", "systemd-timesyncd"),
        ("run/chrony/chronyd.pid", "chronyd"),
        ("run/chronyd.pid", "chronyd"),
        ("run/ntpd.pid", "ntpd"),
    ];
    match signs.iter().find(|(path, _)| host.has(path)) {
        Some((_, who)) => check.have(*who).ok(),
        None => check,
    }
}
