//! What these echo servers share beside [`peers::serve`].

use peers::serve::Flags;

/// Flags of each of them.
#[derive(clap::Parser, Debug)]
#[command(version, about = "An echo server to measure others beside")]
pub struct Args {
    /// Those of the floor.
    #[command(flatten)]
    pub flags: Flags,
    /// Bytes of each connection's buffer, the most that one read takes
    #[arg(long, default_value_t = 16 * 1024)]
    pub buffer: usize,
}
