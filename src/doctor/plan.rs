//! What is asked of a host: so many connections, with these settings.

use crate::config::{Config, Core};
use crate::limits::REFUSAL_SLOTS;

/// User memory of an idle connection, the budget that `scripts/idle.sh` and `scripts/million.sh` hold it
/// to; 92 to 93 were measured. Bytes.
pub const USER_BYTES: u64 = 96;
/// Kernel memory of the server's end of one: half of what `scripts/million.sh` finds in the kernel's
/// slabs for both ends (10,282), rounded up. Bytes.
pub const KERNEL_BYTES: u64 = 5200;
/// For the rest of the host, and for what connections have under way. Bytes.
pub const SPARE_BYTES: u64 = 512 << 20;
/// The server's own descriptors: its files, polls and listeners.
pub const SPARE_FILES: u64 = 1024;
/// Address space that a worker reserves for each connection that it may have: its slot and its deadline,
/// rounded up. Bytes.
const RESERVED_FOR_CONNECTION: u64 = 64;
/// The same for a session. Bytes.
const RESERVED_FOR_SESSION: u64 = 32;
/// The stack of a thread of Rust's standard library. Bytes.
const STACK_BYTES: u64 = 2 << 20;
/// Threads beside workers and pool: main, supervisor, admin port, and a few to spare.
const OTHER_THREADS: u64 = 8;

/// So many connections, and the settings that bear on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Connections of the whole server.
    pub connections: u64,
    /// `TIDEGATE_WORKERS`.
    pub workers: u64,
    /// `TIDEGATE_CPUS`: workers are pinned to these; empty: not pinned.
    pub cpus: Vec<usize>,
    /// `TIDEGATE_CORE_MAX_CONNECTIONS`, of the worker that may have the fewest.
    pub core_connections: u64,
    /// `TIDEGATE_CORE_MAX_SESSIONS`, of the worker that may have the fewest.
    pub core_sessions: u64,
    /// Address space that the workers' tables reserve at the start, and touch as connections come. Bytes.
    pub tables: u64,
    /// `TIDEGATE_BACKLOG`.
    pub backlog: u64,
    /// `TIDEGATE_SO_RCVBUF`; 0: the kernel's choice. Bytes.
    pub receive_buffer: u64,
    /// `TIDEGATE_SO_SNDBUF`; 0: the kernel's choice. Bytes.
    pub send_buffer: u64,
    /// `TIDEGATE_POOL_THREADS`.
    pub pool_threads: u64,
}

impl Plan {
    /// So many connections to a server with these settings.
    pub fn new(connections: u64, config: &Config) -> Plan {
        let cores = || (0..config.workers).map(|worker| config.core(worker));
        Plan {
            connections,
            workers: config.workers as u64,
            cpus: config.cpus.clone(),
            core_connections: cores().map(|core| core.max_connections).min().unwrap_or(0) as u64,
            core_sessions: cores().map(|core| core.max_sessions).min().unwrap_or(0) as u64,
            tables: cores().map(tables).fold(0, u64::saturating_add),
            backlog: u64::from(config.backlog),
            receive_buffer: config.sockets.receive_buffer as u64,
            send_buffer: config.sockets.send_buffer as u64,
            pool_threads: config.pool_threads as u64,
        }
    }

    /// Descriptors: one for each connection, those to refuse in, and the server's own.
    pub fn files(&self) -> u64 {
        let refusals = self.workers.saturating_mul(REFUSAL_SLOTS as u64);
        self.connections.saturating_add(SPARE_FILES).saturating_add(refusals)
    }

    /// Bytes of memory, user's and kernel's.
    pub fn memory(&self) -> u64 {
        self.connections.saturating_mul(USER_BYTES + KERNEL_BYTES).saturating_add(SPARE_BYTES)
    }

    /// How many connections fit this much memory.
    pub fn fit(bytes: u64) -> u64 {
        bytes.saturating_sub(SPARE_BYTES) / (USER_BYTES + KERNEL_BYTES)
    }

    /// Connections that the fullest worker has to take. The kernel shares them out by hash: some workers
    /// get more than others, by the square root (five standard deviations).
    pub fn core_share(&self) -> u64 {
        let workers = self.workers.max(1);
        let even = self.connections.div_ceil(workers);
        if workers == 1 { even } else { even.saturating_add(ceil_sqrt(even.saturating_mul(25))) }
    }

    /// Bytes of address space that are reserved at the start: tables and stacks.
    pub fn reserved(&self) -> u64 {
        self.tables.saturating_add(self.threads().saturating_mul(STACK_BYTES))
    }

    /// Threads of the server.
    pub fn threads(&self) -> u64 {
        self.workers.saturating_add(self.pool_threads).saturating_add(OTHER_THREADS)
    }
}

/// Address space of one worker's tables. Bytes.
fn tables(core: &Core) -> u64 {
    let slots = (core.max_connections as u64).saturating_add(REFUSAL_SLOTS as u64);
    let sessions = (core.max_sessions as u64).saturating_mul(RESERVED_FOR_SESSION);
    slots.saturating_mul(RESERVED_FOR_CONNECTION).saturating_add(sessions)
}

fn ceil_sqrt(n: u64) -> u64 {
    let root = n.isqrt();
    if root * root == n { root } else { root + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(connections: u64, workers: u64) -> Plan {
        Plan { workers, ..Plan::new(connections, &Config::default()) }
    }

    #[test]
    fn a_million_needs_what_was_measured_for_each_and_something_to_spare() {
        let million = plan(1_000_000, 4);
        assert_eq!(million.files(), 1_000_000 + 1024 + 4 * 256);
        assert_eq!(million.memory(), 5_296_000_000 + (512 << 20));
        assert_eq!(Plan::fit(million.memory()), 1_000_000);
        assert_eq!(Plan::fit(0), 0);
    }

    #[test]
    fn one_of_several_workers_gets_more_than_an_even_share() {
        assert_eq!(plan(1_000_000, 1).core_share(), 1_000_000);
        assert_eq!(plan(1_000_000, 4).core_share(), 250_000 + 2_500);
        assert_eq!(plan(1_000_000, 2).core_share(), 500_000 + 3_536);
    }

    #[test]
    fn the_worker_with_the_least_room_counts() {
        let mut config = Config { workers: 3, ..Config::default() };
        config.cores.insert(1, Core { max_connections: 7, max_sessions: 8, ..Core::default() });
        let plan = Plan::new(1, &config);
        assert_eq!((plan.core_connections, plan.core_sessions), (7, 8));
        let tables = 2 * (1_000_256 * 64 + 1_000_000 * 32) + (7 + 256) * 64 + 8 * 32;
        assert_eq!(plan.tables, tables);
    }

    #[test]
    fn numbers_without_measure_are_no_overflow() {
        let mut endless = plan(u64::MAX, u64::MAX);
        (endless.tables, endless.pool_threads) = (u64::MAX, u64::MAX);
        assert_eq!((endless.files(), endless.memory(), endless.reserved()), (u64::MAX, u64::MAX, u64::MAX));
        assert!(endless.core_share() > 0);
    }
}
