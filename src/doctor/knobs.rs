//! Kernel settings of which there has to be enough: one table. `scripts/tune-host.sh` has the same one.

use super::{Check, Host, Plan, Verdict};

/// A kernel setting: numbers of which none is too large.
struct Knob {
    name: &'static str,
    /// A number for each of its own; 0: any will do.
    needs: fn(&Plan) -> Vec<u64>,
    /// What it is when there is less.
    short: Verdict,
    /// There is none where the kernel's module is not loaded, which is no shortage.
    optional: bool,
    why: &'static str,
}

/// Connections that the firewall tracks.
const TRACKED: &str = "proc/sys/net/netfilter/nf_conntrack_count";

/// Without these, so many connections can't be had.
const CAPACITY: &[Knob] = &[
    fail("fs.nr_open", |plan| vec![plan.files()], "no process may open more files, whatever its limit"),
    fail("fs.file-max", |plan| vec![plan.files().saturating_add(65_536)], "open files of the whole host"),
    // The default is by memory: few hosts have too little.
    fail(
        "fs.epoll.max_user_watches",
        |plan| vec![plan.files()],
        "each connection is registered with an epoll; counted for each user",
    ),
    Knob {
        optional: true,
        ..fail(
            "net.netfilter.nf_conntrack_max",
            |plan| vec![plan.connections.saturating_mul(2)],
            "the firewall tracks every connection, and drops what it has no room for; after a restart the old \
             ones are still remembered while the new ones come",
        )
    },
];

/// With less of these, it is slower, or harder in a bad moment.
const OTHERS: &[Knob] = &[
    warn("net.core.somaxconn", |plan| vec![plan.backlog], "it cuts TIDEGATE_BACKLOG down, silently"),
    warn(
        "net.ipv4.tcp_max_syn_backlog",
        |plan| vec![plan.backlog],
        "handshakes under way; when everybody reconnects at once, more are dropped and tried again a second later",
    ),
    warn(
        "net.core.netdev_max_backlog",
        |plan| vec![(plan.connections / 64).clamp(1000, 16_384)],
        "packets that wait for a CPU, loopback's too: one connection in 64 sends at the same moment",
    ),
    warn("net.ipv4.tcp_syncookies", |_| vec![1], "when handshakes have no room any more, they still get through"),
    warn(
        "net.ipv4.tcp_mem",
        |plan| vec![0, plan.connections, plan.connections.saturating_mul(2)],
        "pages of all sockets: a drain has a GOAWAY under way to all at once, a page each, then all of them \
         answer; above the third number the kernel drops packets and resets connections",
    ),
    // Only where the settings ask for buffers of a size.
    warn("net.core.rmem_max", |plan| vec![plan.receive_buffer], "it cuts TIDEGATE_SO_RCVBUF down, silently"),
    warn("net.core.wmem_max", |plan| vec![plan.send_buffer], "it cuts TIDEGATE_SO_SNDBUF down, silently"),
    warn("net.ipv4.tcp_rmem", |_| vec![4096, 0, 0], "what each socket may receive even when memory is short"),
    warn("net.ipv4.tcp_wmem", |_| vec![4096, 0, 0], "what each socket may send even when memory is short"),
    warn(
        "net.ipv4.tcp_max_orphans",
        |plan| vec![plan.connections],
        "a drain can leave as many behind as there were: above this they are reset",
    ),
    warn(
        "net.ipv4.tcp_max_tw_buckets",
        |plan| vec![plan.connections],
        "a drain can leave as many behind as there were: above this they are forgotten too soon",
    ),
    warn(
        "net.ipv4.tcp_migrate_req",
        |_| vec![1],
        "a listener that closes hands those that wait in its backlog over to another on its port",
    ),
];

const fn fail(name: &'static str, needs: fn(&Plan) -> Vec<u64>, why: &'static str) -> Knob {
    Knob { name, needs, short: Verdict::Fail, optional: false, why }
}

const fn warn(name: &'static str, needs: fn(&Plan) -> Vec<u64>, why: &'static str) -> Knob {
    Knob { name, needs, short: Verdict::Warn, optional: false, why }
}

/// Those without which so many connections can't be had.
pub fn capacity(host: &Host, plan: &Plan) -> Vec<Check> {
    CAPACITY.iter().map(|knob| check(host, plan, knob)).collect()
}

/// All others.
pub fn others(host: &Host, plan: &Plan) -> Vec<Check> {
    let asked = |knob: &&Knob| (knob.needs)(plan).iter().any(|need| *need > 0);
    OTHERS.iter().filter(asked).map(|knob| check(host, plan, knob)).collect()
}

fn check(host: &Host, plan: &Plan, knob: &Knob) -> Check {
    let needs = (knob.needs)(plan);
    let check = Check::new(knob.name, knob.why).need(shown(&needs));
    let Some(have) = host.setting(knob.name).filter(|have| have.len() >= needs.len()) else {
        // Where the host shows no settings at all, this one's absence says nothing.
        let absent = knob.optional && host.has("proc/sys/net") && host.text(&path(knob.name)).is_none();
        return if absent { check.have("not loaded").ok() } else { check };
    };
    let check = check.have(in_use(host, knob.name, join(&have)));
    let raised: Vec<u64> = have.iter().zip(needs.iter().chain(std::iter::repeat(&0))).map(|(h, n)| *h.max(n)).collect();
    if raised == have {
        return check.ok();
    }
    let value = join(&raised);
    let quote = if raised.len() > 1 { "'" } else { "" };
    // Loaded, but no rule has it track anything: the connection that somebody is logged in by would be.
    let idle = knob.optional && host.number(TRACKED) == Some(0);
    let short = if idle { Verdict::Warn } else { knob.short };
    check.short(short, format!("sysctl -w {}={quote}{value}{quote}", knob.name))
}

/// Adds how much of it is taken already, where the kernel says.
fn in_use(host: &Host, name: &str, have: String) -> String {
    let used = match name {
        "fs.file-max" => host.setting("fs.file-nr").and_then(|numbers| numbers.first().copied()),
        "net.netfilter.nf_conntrack_max" => host.number(TRACKED),
        _ => None,
    };
    match used {
        Some(used) => format!("{have} ({used} used)"),
        None => have,
    }
}

fn path(name: &str) -> String {
    format!("proc/sys/{}", name.replace('.', "/"))
}

fn join(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// A dash where any number will do.
fn shown(needs: &[u64]) -> String {
    let texts = needs.iter().map(|need| if *need == 0 { "-".to_owned() } else { need.to_string() });
    texts.collect::<Vec<_>>().join(" ")
}
