//! What one worker owns, and may be given in another measure than its neighbours.

/// Limits of one worker. Set for every worker by `TIDEGATE_CORE_X`, for worker 3 alone by
/// `TIDEGATE_CORE_3_X`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// `TIDEGATE_CORE_MAX_CONNECTIONS`: connections.
    pub max_connections: usize,
    /// `TIDEGATE_CORE_MAX_SESSIONS`: sessions, connected or not.
    pub max_sessions: usize,
    /// `TIDEGATE_CORE_MAX_PENDING`: requests that wait for an answer from elsewhere.
    pub max_pending: usize,
    /// `TIDEGATE_CORE_READ_BUDGET`: bytes that one connection may be read in one tick.
    pub read_budget: usize,
    /// `TIDEGATE_CORE_ACCEPT_BATCH`: connections accepted in one tick.
    pub accept_batch: usize,
    /// `TIDEGATE_CORE_MAILBOX`: messages that wait for the worker.
    pub mailbox: usize,
    /// `TIDEGATE_CORE_BUFFER_BYTES`: memory for unfinished frames and unsent output; above, a
    /// connection that needs more is ended with OVERLOADED, or as a slow consumer.
    pub buffer_bytes: usize,
}

impl Default for Core {
    fn default() -> Core {
        Core {
            max_connections: 500_000,
            max_sessions: 1_000_000,
            max_pending: 65_536,
            read_budget: 256 * 1024,
            accept_batch: 256,
            mailbox: 4_096,
            buffer_bytes: 512 * 1024 * 1024,
        }
    }
}
