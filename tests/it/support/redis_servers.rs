//! More of real Redis servers: what is asked of one, a cluster, one with a replica and a sentinel.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue, RedisResult};
use tempfile::TempDir;

use super::{Daemon, Redis, until};

/// What a test asks a server.
pub trait Asked {
    /// What it answers to a command.
    fn call<T: FromRedisValue>(&self, words: &[&str]) -> T;

    /// A number of `INFO`'s.
    fn info(&self, name: &str) -> u64 {
        let all: String = self.call(&["INFO", "all"]);
        let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {all}")).trim().parse().unwrap()
    }
}

impl Asked for Redis {
    fn call<T: FromRedisValue>(&self, words: &[&str]) -> T {
        call(&mut self.connect(), words).unwrap()
    }
}

fn call<T: FromRedisValue>(connection: &mut Connection, words: &[&str]) -> RedisResult<T> {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query(connection)
}

/// A cluster of three masters.
pub struct Cluster {
    pub nodes: Vec<Redis>,
}

impl Cluster {
    pub fn start() -> Cluster {
        let nodes: Vec<Redis> = (0..3)
            .map(|_| Redis::start_with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]))
            .collect();
        let first = nodes[0].port.to_string();
        for (at, node) in nodes.iter().enumerate() {
            let (from, to) = (at * 16_384 / 3, (at + 1) * 16_384 / 3 - 1);
            let () = node.call(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
            let () = node.call(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
        }
        for node in &nodes[1..] {
            let () = node.call(&["CLUSTER", "MEET", "127.0.0.1", &first]);
        }
        until("every node knows the cluster", || {
            nodes.iter().all(|node| {
                let info: String = node.call(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        });
        Cluster { nodes }
    }

    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(Redis::address).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The node that has a slot, and one that has not.
    pub fn of_slot(&self, slot: u64) -> (&Redis, &Redis) {
        let at = usize::try_from(slot * 3 / 16_384).unwrap();
        (&self.nodes[at], &self.nodes[(at + 1) % 3])
    }
}

/// A master, its replica, and a sentinel that makes the one the other when the first is gone.
pub struct Watched {
    pub master: Redis,
    pub replica: Redis,
    pub sentinel: Daemon,
    _dir: Arc<TempDir>,
}

impl Watched {
    pub fn start() -> Watched {
        let master = Redis::start();
        let port = master.port.to_string();
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
        until("the replica has caught up", || {
            replica.call::<String>(&["INFO", "replication"]).contains("link_status:up")
        });
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let kept = Arc::clone(&dir);
        let sentinel = Daemon::start(move |own| {
            let file = kept.path().join(format!("{own}.conf"));
            let text = format!(
                "port {own}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {port} 1\n\
                 sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
            );
            std::fs::write(&file, text).unwrap();
            let mut command = Command::new("redis-server");
            command.arg(file).arg("--sentinel");
            command
        });
        let watched = Watched { master, replica, sentinel, _dir: dir };
        until("the sentinel knows the replica", || {
            let client = Client::open(format!("redis://127.0.0.1:{}", watched.sentinel.port)).unwrap();
            let mut connection = client.get_connection_with_timeout(Duration::from_secs(5)).unwrap();
            let known: RedisResult<redis::Value> = call(&mut connection, &["SENTINEL", "REPLICAS", "main"]);
            matches!(known, Ok(redis::Value::Array(replicas)) if replicas.len() == 1)
        });
        watched
    }

    /// An absent sentinel is named first: it must not be in the way.
    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/main", self.sentinel.port)
    }
}
