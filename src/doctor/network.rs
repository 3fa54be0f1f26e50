//! Network devices: whether their packets reach one CPU or many.

use std::collections::BTreeSet;

use super::cpus::ranges;
use super::host::list;
use super::{Check, Host, Plan};

/// Devices, and interrupts of one, that are looked at.
const MOST: usize = 1024;

/// One check for each physical device; one that says so where there is none.
pub fn checks(host: &Host, plan: &Plan) -> Vec<Check> {
    let devices = host.names("sys/class/net").into_iter();
    // What is made up (lo, bridges, tunnels) has no device below it.
    let physical = |name: &String| host.has(&format!("sys/class/net/{name}/device")) && is_up(host, name);
    let checks: Vec<Check> = devices.filter(physical).take(MOST).map(|name| interrupts(host, plan, &name)).collect();
    if checks.is_empty() {
        let check = Check::new("NIC interrupts", WHY);
        return vec![if host.has("sys/class/net") { check.have("no physical device").ok() } else { check }];
    }
    checks
}

const WHY: &str = "packets are handled on the CPU that is interrupted: one for all is soon the busiest";

fn is_up(host: &Host, name: &str) -> bool {
    host.text(&format!("sys/class/net/{name}/operstate")).is_none_or(|state| state != "down")
}

fn interrupts(host: &Host, plan: &Plan, name: &str) -> Check {
    let check = Check::new(format!("NIC interrupts, {name}"), WHY);
    let Some(cpus) = host.cpus() else { return check };
    let wanted = (plan.workers as usize).clamp(1, cpus.len().max(1));
    // Half as many is a habit of drivers (a queue for each core), and enough.
    let need = wanted.div_ceil(2);
    let check = check.need(format!("CPUs: {need} or more"));
    let queues = queues(host, name);
    let steered: BTreeSet<usize> = queues.iter().flat_map(|queue| mask(host, name, queue)).collect();
    let reached: BTreeSet<usize> =
        numbers(host, name).into_iter().filter_map(|irq| affinity(host, irq)).flatten().collect();
    if reached.is_empty() && steered.is_empty() {
        return check;
    }
    let all: Vec<usize> = reached.union(&steered).copied().collect();
    let rps = if steered.is_empty() { "" } else { ", RPS" };
    let check = check.have(format!("CPUs {}{rps}, queues {}", ranges(&all), queues.len()));
    if all.len() >= need {
        return check.ok();
    }
    if queues.len() >= need {
        return check.warn("systemctl enable --now irqbalance");
    }
    // Not every device has more queues to give; the kernel can always hand packets on.
    check.warn(format!("ethtool -L {name} combined {wanted} || {}", rps_fix(name, &queues, &cpus)))
}

/// Receive queues.
fn queues(host: &Host, name: &str) -> Vec<String> {
    let names = host.names(&format!("sys/class/net/{name}/queues")).into_iter();
    names.filter(|queue| queue.starts_with("rx-")).take(MOST).collect()
}

/// CPUs that the kernel hands a queue's packets on to (RPS): 32 bits of the mask between commas.
fn mask(host: &Host, name: &str, queue: &str) -> Vec<usize> {
    let text = host.text(&format!("sys/class/net/{name}/queues/{queue}/rps_cpus")).unwrap_or_default();
    let words = text.rsplit(',').take(MOST / 32).map(|word| u32::from_str_radix(word, 16).unwrap_or(0));
    let bits =
        |(index, word): (usize, u32)| (0..32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 32 + bit);
    words.enumerate().flat_map(bits).collect()
}

/// A device's interrupts: those of the bus device below it (virtio has one more level), and those that
/// bear its name.
fn numbers(host: &Host, name: &str) -> BTreeSet<usize> {
    let below = ["device/msi_irqs", "device/../msi_irqs"];
    let msi = below.iter().flat_map(|dir| host.names(&format!("sys/class/net/{name}/{dir}")));
    let text = host.text("proc/interrupts").unwrap_or_default();
    let named = text.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let its = |word: &str| word == name || word.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
        rest.split_whitespace().any(its).then(|| number.trim().to_owned())
    });
    let all: BTreeSet<usize> = msi.chain(named).filter_map(|number| number.parse().ok()).take(MOST).collect();
    // An interrupt that has never come is for configuration, or a queue that is not used.
    let used = |number: &usize| {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{number}:")));
        line.is_none_or(|line| {
            let mut counts = line.split_whitespace().map_while(|word| word.parse::<u64>().ok());
            counts.any(|count| count > 0)
        })
    };
    all.into_iter().filter(used).collect()
}

/// CPUs that an interrupt goes to: the one that it really goes to, where the kernel says.
fn affinity(host: &Host, irq: usize) -> Option<Vec<usize>> {
    let read = |file: &str| list(&host.text(&format!("proc/irq/{irq}/{file}"))?);
    read("effective_affinity_list").or_else(|| read("smp_affinity_list"))
}

fn rps_fix(name: &str, queues: &[String], cpus: &[usize]) -> String {
    let top = cpus.iter().max().map_or(0, |cpu| cpu / 32);
    let words = (0..=top).rev().map(|word| {
        let bits = cpus.iter().filter(|cpu| *cpu / 32 == word).fold(0u32, |bits, cpu| bits | 1 << (cpu % 32));
        if word == top { format!("{bits:x}") } else { format!("{bits:08x}") }
    });
    let mask = words.collect::<Vec<_>>().join(",");
    let queue = queues.first().map_or("rx-0", String::as_str);
    format!("echo {mask} > /sys/class/net/{name}/queues/{queue}/rps_cpus")
}
