//! What there has to be enough of, or so many connections can't be had: files, memory, room in the
//! server's own tables.

use super::{Check, Host, Plan, cgroup, knobs};
use cgroup::Limit;

/// Everything whose need grows with the number of connections, or that keeps the server from starting.
pub fn checks(host: &Host, plan: &Plan) -> Vec<Check> {
    let mut checks = vec![open_files(host, plan)];
    checks.extend(knobs::capacity(host, plan));
    checks.extend([connections(plan), sessions(plan), memory(host, plan), cgroup_memory(host, plan)]);
    checks.extend([overcommit(host, plan), threads(host, plan)]);
    checks
}

/// `tidegate serve` raises its soft limit to the hard one by itself.
fn open_files(host: &Host, plan: &Plan) -> Check {
    let need = plan.files();
    let check = Check::new(
        "open files, hard limit",
        "each connection is one; a service has a limit of its own (run doctor as its ExecStartPre=, or with --pid)",
    )
    .need(need.to_string());
    let Some((soft, hard)) = limit(host, "Max open files") else { return check };
    let check = check.have(if soft == hard { show(hard) } else { format!("{} (soft {})", show(hard), show(soft)) });
    if hard.is_none_or(|hard| hard >= need) {
        return check.ok();
    }
    check.fail(format!("LimitNOFILE={need} in the systemd unit; in a root shell: ulimit -n {need}"))
}

/// Whether the workers may take them, however unevenly the kernel shares them out.
fn connections(plan: &Plan) -> Check {
    let why = "TIDEGATE_CORE_MAX_CONNECTIONS; the kernel shares connections out by hash, and some workers get more \
               than others";
    of_each_worker(plan, "connections of a worker", plan.core_connections, why, "TIDEGATE_CORE_MAX_CONNECTIONS")
}

fn sessions(plan: &Plan) -> Check {
    let why = "TIDEGATE_CORE_MAX_SESSIONS; each connection has a session, and a session outlives it";
    of_each_worker(plan, "sessions of a worker", plan.core_sessions, why, "TIDEGATE_CORE_MAX_SESSIONS")
}

fn of_each_worker(plan: &Plan, name: &str, have: u64, why: &str, setting: &str) -> Check {
    let need = plan.core_share();
    let workers = plan.workers;
    let check = Check::new(name, why).have(format!("{have} each of {workers}")).need(need.to_string());
    if have >= need { check.ok() } else { check.fail(format!("{setting}={need}, or more workers (TIDEGATE_WORKERS)")) }
}

fn memory(host: &Host, plan: &Plan) -> Check {
    let why = format!(
        "{} bytes of the server and {} of the kernel for each idle connection, as measured, and 512 MiB to spare",
        super::plan::USER_BYTES,
        super::plan::KERNEL_BYTES
    );
    enough_memory(Check::new("memory", why), plan, host.memory("MemTotal"), "more memory")
}

fn cgroup_memory(host: &Host, plan: &Plan) -> Check {
    let check = Check::new(
        "memory of the cgroup",
        "memory.max: the kernel's memory for sockets counts, and above it the server is killed",
    );
    match cgroup::memory(host) {
        Limit::None => check.have("no limit").need(gib(plan.memory())).ok(),
        limit => {
            let fix = format!("MemoryMax={} in the systemd unit, or the container's limit", plan.memory());
            enough_memory(check, plan, limit.number(), &fix)
        }
    }
}

fn enough_memory(check: Check, plan: &Plan, have: Option<u64>, more: &str) -> Check {
    let need = plan.memory();
    let check = check.need(gib(need));
    let Some(have) = have else { return check };
    let check = check.have(gib(have));
    if have >= need { check.ok() } else { check.fail(format!("{more}; or at most {} connections", Plan::fit(have))) }
}

/// Tables are reserved once, at the size that the settings allow, and touched as connections come.
fn overcommit(host: &Host, plan: &Plan) -> Check {
    let need = plan.reserved();
    let check = Check::new(
        "vm.overcommit_memory",
        "tables are reserved once for all connections that the settings allow; with 2, what is only reserved counts",
    );
    let Some(mode) = host.setting("vm.overcommit_memory").and_then(|numbers| numbers.first().copied()) else {
        return check.need("0 or 1");
    };
    if mode != 2 {
        return check.have(mode.to_string()).need("0 or 1").ok();
    }
    let check = check.need(format!("0 or 1, or {}", gib(need)));
    let (Some(limit), Some(used)) = (host.memory("CommitLimit"), host.memory("Committed_AS")) else {
        return check.have(mode.to_string());
    };
    let left = limit.saturating_sub(used);
    let check = check.have(format!("2, {} left", gib(left)));
    if left >= need { check.ok() } else { check.fail("sysctl -w vm.overcommit_memory=0") }
}

fn threads(host: &Host, plan: &Plan) -> Check {
    let need = plan.threads();
    let check = Check::new("threads", "workers, TIDEGATE_POOL_THREADS, and a few more").need(need.to_string());
    let own = limit(host, "Max processes").map(|(soft, _)| soft);
    let group = cgroup::threads(host);
    if own.is_none() && group == Limit::Unknown {
        return check;
    }
    let least = own.flatten().into_iter().chain(group.number()).min();
    let check = check.have(show(least));
    if least.is_none_or(|least| least >= need) {
        return check.ok();
    }
    let setting = if group.number() == least { "TasksMax" } else { "LimitNPROC" };
    check.fail(format!("{setting}={} in the systemd unit", need.saturating_mul(2)))
}

/// A line of `/proc/self/limits`: the soft and the hard limit, of which `None` is unlimited.
fn limit(host: &Host, name: &str) -> Option<(Option<u64>, Option<u64>)> {
    let text = host.of_self("limits")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    });
    Some((words.next()??, words.next()??))
}

fn show(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

/// Bytes as a person reads them.
pub fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}
