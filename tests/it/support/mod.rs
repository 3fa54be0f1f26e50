//! What the tests share: servers on ports of the system's choosing, raw clients, whole processes.

mod browser;
mod client;
#[cfg(any(feature = "redis", feature = "mysql", feature = "kafka"))]
mod daemon;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod latch;
mod load;
#[cfg(target_os = "linux")]
mod made_up;
#[cfg(feature = "mysql")]
mod mariadb;
mod openmetrics;
mod process;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_servers;
mod server;
mod shared_store;
pub mod store_contract;

use std::time::{Duration, Instant};

#[cfg(feature = "kafka")]
pub use self::kafka::Kafka;
#[cfg(feature = "redis")]
pub use self::redis::Redis;
pub use browser::Browser;
pub use client::{Client, Got, Reply, extension, frame, frame_v2, pour};
#[cfg(any(feature = "redis", feature = "mysql", feature = "kafka"))]
#[allow(unused_imports)]
pub use daemon::Daemon;
pub use http::{Persistent, get, post};
pub use latch::Latch;
pub use load::{Load, Peer, fake, metric};
#[cfg(target_os = "linux")]
pub use made_up::MadeUp;
#[cfg(feature = "mysql")]
pub use mariadb::MariaDb;
pub use openmetrics::Metrics;
pub use process::{Exit, Process, audit};
#[cfg(feature = "redis")]
pub use redis_servers::{Asked, Cluster, Watched};
pub use server::{config, on_worker, start, sum};
pub use shared_store::{Manner, SharedStore};

/// How long anything may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what no event tells of, a counter for instance.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
