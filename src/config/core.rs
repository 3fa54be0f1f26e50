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
    /// `TIDEGATE_CORE_MAIL_BATCH`: messages and answers taken in one tick.
    pub mail_batch: usize,
    /// `TIDEGATE_CORE_EVENTS`: events taken from the kernel in one poll.
    pub events: usize,
    /// `TIDEGATE_CORE_READ_SCRATCH`: bytes read from one socket in one call.
    pub read_scratch: usize,
    /// `TIDEGATE_CORE_SEND_SCRATCH`: bytes kept for the frames of one turn; more are given back.
    pub send_scratch: usize,
    /// `TIDEGATE_CORE_POOLED_BUFFERS`: free buffers kept for reuse.
    pub pooled_buffers: usize,
    /// `TIDEGATE_CORE_POOLED_BUFFER_BYTES`: a buffer that grew past this is not kept.
    pub pooled_buffer_bytes: usize,
    /// `TIDEGATE_CORE_BUSY_POLL_US`: microseconds for which the worker goes on polling after it had
    /// something to do, before it sleeps; 0: it sleeps at once.
    pub busy_poll_us: u32,
    /// `TIDEGATE_CORE_TIMER_GRANULARITY_MS`: milliseconds by which a timer may be late.
    pub timer_granularity_ms: u32,
    /// `TIDEGATE_CORE_BUFFER_BYTES`: memory for unfinished frames and unsent output; above, a
    /// connection that needs more is ended with OVERLOADED, or as a slow consumer.
    pub buffer_bytes: usize,
    /// `TIDEGATE_CORE_AUTH_HELD`: failed logins that wait for their answer at the same time.
    pub auth_held: usize,
}

impl Default for Core {
    fn default() -> Core {
        Core {
            max_connections: 1_000_000,
            max_sessions: 1_000_000,
            max_pending: 65_536,
            read_budget: 256 * 1024,
            accept_batch: 256,
            mailbox: 4_096,
            mail_batch: 4_096,
            events: 1_024,
            read_scratch: 128 * 1024,
            send_scratch: 256 * 1024,
            pooled_buffers: 1_024,
            pooled_buffer_bytes: 16 * 1024,
            busy_poll_us: 0,
            timer_granularity_ms: 10,
            buffer_bytes: 512 * 1024 * 1024,
            auth_held: 1_024,
        }
    }
}
