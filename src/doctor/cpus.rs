//! CPUs: how many, whose, how fast, and how far from each other.

use super::host::list;
use super::{Check, Host, Plan, cgroup};

/// CPUs and nodes that are looked at.
const MOST: usize = 1024;

/// Everything of this file.
pub fn checks(host: &Host, plan: &Plan) -> Vec<Check> {
    vec![workers(host, plan), quota(host, plan), governor(host), numa(host, plan)]
}

fn workers(host: &Host, plan: &Plan) -> Check {
    let check = Check::new("workers", "TIDEGATE_WORKERS: more than there are CPUs for wait for each other");
    let Some(cpus) = host.cpus() else { return check.have(plan.workers.to_string()) };
    let check = check.have(plan.workers.to_string()).need(format!("at most {}", cpus.len()));
    let elsewhere = plan.cpus.iter().find(|cpu| !cpus.contains(cpu));
    match elsewhere {
        Some(cpu) => check.fail(format!("TIDEGATE_CPUS={}: CPU {cpu} may not be used", ranges(&cpus))),
        None if plan.workers as usize > cpus.len() => check.warn("TIDEGATE_WORKERS=auto"),
        None => check.ok(),
    }
}

fn quota(host: &Host, plan: &Plan) -> Check {
    let why = "cpu.max: who has used it up stands still until the next period, which every connection sees as latency";
    let check = Check::new("CPU quota of the cgroup", why).need("no limit");
    match cgroup::cpu(host) {
        cgroup::Limit::Unknown => check,
        cgroup::Limit::None => check.have("no limit").ok(),
        cgroup::Limit::At(thousandths) => {
            let whole = (thousandths / 1000).max(1);
            let check = check.have(format!("{:.1} CPUs", thousandths as f64 / 1000.0));
            if plan.workers > whole {
                check.warn(format!("TIDEGATE_WORKERS={whole}; or whole CPUs: AllowedCPUs= in the unit, no CPUQuota="))
            } else {
                check.warn("whole CPUs: AllowedCPUs= in the systemd unit, and no CPUQuota=")
            }
        }
    }
}

fn governor(host: &Host) -> Check {
    let why = "a CPU that was slowed down while there was little to do answers the next request late";
    let check = Check::new("CPU governor", why).need("performance");
    let dir = "sys/devices/system/cpu";
    let numbered = |name: &String| name.strip_prefix("cpu").is_some_and(|rest| rest.parse::<usize>().is_ok());
    let cpus: Vec<String> = host.names(dir).into_iter().filter(numbered).take(MOST).collect();
    let mut found: Vec<String> =
        cpus.iter().filter_map(|cpu| host.text(&format!("{dir}/{cpu}/cpufreq/scaling_governor"))).collect();
    found.sort();
    found.dedup();
    match found.as_slice() {
        // A virtual machine: the host below it decides.
        [] if !cpus.is_empty() => check.have("none").ok(),
        [] => check,
        [only] if only == "performance" => check.have(only).ok(),
        several => check.have(several.join(",")).warn("cpupower frequency-set -g performance"),
    }
}

fn numa(host: &Host, plan: &Plan) -> Check {
    let why = "memory of another node is slower: a pinned worker has its connections' memory on its own";
    let check = Check::new("NUMA nodes", why).need("1, or pinned workers");
    let dir = "sys/devices/system/node";
    let names = host.names(dir).into_iter().filter(|name| name.starts_with("node")).take(MOST);
    let nodes: Vec<Vec<usize>> = names.filter_map(|name| list(&host.text(&format!("{dir}/{name}/cpulist"))?)).collect();
    if nodes.is_empty() {
        // A kernel that was built without it has no such directory.
        return if host.has("sys/devices/system/cpu") { check.have("1").ok() } else { check };
    }
    let texts: Vec<String> = nodes.iter().map(|cpus| ranges(cpus)).collect();
    let check =
        check.have(if texts.len() == 1 { "1".to_owned() } else { format!("{}: {}", texts.len(), texts.join(" | ")) });
    if nodes.len() == 1 || !plan.cpus.is_empty() {
        return check.ok();
    }
    let usable = host.cpus().unwrap_or_default();
    if nodes.iter().filter(|node| node.iter().any(|cpu| usable.contains(cpu))).count() <= 1 {
        return check.ok();
    }
    check.warn(format!("TIDEGATE_CPUS={}", ranges(&usable)))
}

/// Ascending numbers as `0-3,6`.
pub fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let texts = runs.map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    texts.collect::<Vec<_>>().join(",")
}
