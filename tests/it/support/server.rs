//! Servers within the test's process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tidegate::config::{Config, Core};
use tidegate::server::{Builder, Server};
use tidegate::stats::{Counter, WorkerStats};

use super::client::Client;

/// Two workers, a port of the system's choosing, no admin port, a drain that is soon over.
pub fn config() -> Config {
    Config {
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        admin: None,
        workers: 2,
        pool_threads: 4,
        core: Core { max_connections: 1_000, ..Core::default() },
        drain_notice: Duration::from_millis(50),
        drain_timeout: Duration::from_secs(15),
        ..Config::default()
    }
}

/// Starts what `build` makes of a builder with this configuration.
pub fn start(config: Config, build: impl FnOnce(Builder) -> Builder) -> (Server, SocketAddr) {
    let server = build(Server::builder().config(config)).start().unwrap();
    let address = server.local_addrs()[0];
    (server, address)
}

/// A counter, added up over all workers.
pub fn sum(server: &Server, counter: impl Fn(&WorkerStats) -> &Counter) -> u64 {
    server.stats().iter().map(|stats| counter(stats).get()).sum()
}

/// A connection, not yet authenticated, that the kernel gave to this worker.
///
/// Nothing else may connect meanwhile.
pub fn on_worker(server: &Server, worker: usize) -> Client {
    for _ in 0..200 {
        let accepted = || -> Vec<u64> { server.stats().iter().map(|s| s.connections_accepted.get()).collect() };
        let before = accepted();
        let client = Client::connect(server.local_addrs()[0]);
        super::until("the connection is accepted", || accepted() != before);
        if accepted()[worker] > before[worker] {
            return client;
        }
    }
    panic!("200 connections, and none on worker {worker}");
}
