//! The CPUs that this process may use, and lists of them as an operator writes them.

use crate::limits::{MAX_CPUS, MAX_WORKERS};

/// What the machine grants this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Numbers of the CPUs that the process may run on, ascending. Never empty.
    pub cpus: Vec<usize>,
    /// How many threads can run at once: the CPUs above, or fewer under a CPU quota. At least 1.
    pub parallelism: usize,
}

impl Machine {
    /// Asks the operating system. Where it gives no list of CPUs, they count from 0.
    pub fn detect() -> Machine {
        let parallelism = std::thread::available_parallelism().map_or(1, usize::from);
        let mut cpus = affinity();
        if cpus.is_empty() {
            cpus = (0..parallelism).collect();
        }
        Machine { parallelism: parallelism.clamp(1, cpus.len()), cpus }
    }

    /// Worker threads of `auto`, when no CPUs are listed.
    pub(super) fn auto_workers(&self) -> usize {
        self.parallelism.clamp(1, MAX_WORKERS)
    }

    /// CPUs of `auto`. A quota gives time on any CPU: pinning would put every process that lives
    /// under one on the machine's first CPUs, so such a process is not pinned.
    pub(super) fn auto_cpus(&self) -> Vec<usize> {
        let under_quota = self.parallelism < self.cpus.len();
        if cfg!(target_os = "linux") && !under_quota { self.cpus.clone() } else { Vec::new() }
    }
}

/// Parses `0-3,6`: numbers and ranges, each CPU once, all of them in `machine`. The order is kept.
/// The error says what is wrong, to follow after "expected …".
pub(super) fn parse_list(text: &str, machine: &Machine) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for item in text.split(',') {
        let (first, last) = parse_item(item.trim()).ok_or_else(String::new)?;
        for cpu in first..=last {
            if !machine.cpus.contains(&cpu) {
                return Err(format!("CPU {cpu} is not among those that this process may use: {}", show(&machine.cpus)));
            }
            if cpus.contains(&cpu) {
                return Err(format!("CPU {cpu} is listed twice"));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

/// One number, or a range from low to high.
fn parse_item(item: &str) -> Option<(usize, usize)> {
    let cpu = |text: &str| super::parse::digits(text).and_then(|n| usize::try_from(n).ok()).filter(|n| *n < MAX_CPUS);
    let (first, last) = match item.split_once('-') {
        Some((first, last)) => (cpu(first)?, cpu(last)?),
        None => (cpu(item)?, cpu(item)?),
    };
    (first <= last).then_some((first, last))
}

/// Writes CPU numbers in any order as an operator would; `off` for none.
pub(super) fn show_list(cpus: &[usize]) -> String {
    if cpus.is_empty() { "off".to_owned() } else { show(cpus) }
}

/// Writes ascending CPU numbers as [`parse_list`] reads them.
fn show(cpus: &[usize]) -> String {
    let runs = cpus.chunk_by(|a, b| a + 1 == *b);
    let texts: Vec<String> = runs
        .map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect();
    texts.join(",")
}

#[cfg(target_os = "linux")]
fn affinity() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU.min(MAX_CPUS)).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(not(target_os = "linux"))]
fn affinity() -> Vec<usize> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { cpus: vec![0, 1, 2, 3, 6, 9], parallelism: 6 }
    }

    #[test]
    fn lists_keep_their_order_and_ranges_include_both_ends() {
        assert_eq!(parse_list("6, 0-2", &machine()), Ok(vec![6, 0, 1, 2]));
        assert_eq!(parse_list("3-3", &machine()), Ok(vec![3]));
    }

    #[test]
    fn lists_that_are_not_lists_are_refused() {
        for text in ["", ",", "0,", "a", "-1", "1-", "3-1", "+1", "0x1", "1024", "99999999999999999999"] {
            assert!(parse_list(text, &machine()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_cpu_that_the_process_may_not_use_is_named_with_those_that_it_may() {
        let detail = parse_list("0-4", &machine()).unwrap_err();
        assert_eq!(detail, "CPU 4 is not among those that this process may use: 0-3,6,9");
    }

    #[test]
    fn a_cpu_may_be_listed_only_once() {
        assert_eq!(parse_list("1,0-3", &machine()).unwrap_err(), "CPU 1 is listed twice");
    }

    #[test]
    fn a_process_under_a_quota_is_not_pinned_by_itself() {
        let quota = Machine { cpus: (0..64).collect(), parallelism: 2 };
        assert_eq!((quota.auto_workers(), quota.auto_cpus()), (2, vec![]));
    }

    #[test]
    fn the_machine_has_a_cpu_and_no_more_parallelism_than_cpus() {
        let machine = Machine::detect();
        assert!((1..=machine.cpus.len()).contains(&machine.parallelism), "{machine:?}");
    }
}
