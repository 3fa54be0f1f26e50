//! What listening sockets ask of the kernel. Accepted connections inherit it (tcp(7), socket(7)).

/// Options of sockets. 0 leaves a number to the kernel, or a mechanism off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// `TIDEGATE_SO_RCVBUF`: bytes of a connection's receive buffer; the kernel takes twice that for its
    /// own books as well, and no more than `net.core.rmem_max`. 0: it adapts (`net.ipv4.tcp_rmem`).
    pub receive_buffer: usize,
    /// `TIDEGATE_SO_SNDBUF`: bytes of a connection's send buffer, likewise (`net.core.wmem_max`).
    pub send_buffer: usize,
    /// `TIDEGATE_TCP_NODELAY`: small frames leave at once.
    pub nodelay: bool,
    /// `TIDEGATE_TCP_USER_TIMEOUT_MS`: how long what was sent may be unacknowledged. Linux only.
    pub user_timeout_ms: u32,
    /// `TIDEGATE_TCP_KEEPALIVE_S`: seconds of silence until the kernel asks whether the peer is there.
    pub keepalive_s: u32,
    /// `TIDEGATE_TCP_KEEPALIVE_INTERVAL_S`: seconds between such questions.
    pub keepalive_interval_s: u32,
    /// `TIDEGATE_TCP_KEEPALIVE_COUNT`: questions without an answer until the connection is gone.
    pub keepalive_count: u32,
    /// `TIDEGATE_TCP_DEFER_ACCEPT_S`: seconds for which a client that has said nothing is not accepted.
    /// Linux only.
    pub defer_accept_s: u32,
    /// `TIDEGATE_STEERING`: which worker a connection lands on.
    pub steering: Steering,
}

/// Which worker a connection lands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// By a hash of the addresses.
    Kernel,
    /// The one that is pinned to the CPU which took the packet. Linux only.
    Cpu,
}

impl Steering {
    /// As `TIDEGATE_STEERING` has it.
    pub fn name(self) -> &'static str {
        match self {
            Steering::Kernel => "kernel",
            Steering::Cpu => "cpu",
        }
    }
}

impl Default for Sockets {
    fn default() -> Sockets {
        Sockets {
            receive_buffer: 0,
            send_buffer: 0,
            nodelay: true,
            user_timeout_ms: 0,
            keepalive_s: 0,
            keepalive_interval_s: 30,
            keepalive_count: 4,
            defer_accept_s: 0,
            steering: Steering::Kernel,
        }
    }
}
