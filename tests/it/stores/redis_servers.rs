//! Real Redis servers: one, a cluster, one with a replica and a sentinel.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue};
use tempfile::TempDir;

use crate::support::{Daemon, PATIENCE, until};

/// A server with data of its own, which are on the disk before anything is answered.
pub struct RedisServer {
    pub daemon: Daemon,
    _dir: TempDir,
}

impl RedisServer {
    pub fn start() -> RedisServer {
        RedisServer::with(&[])
    }

    /// With more on its command line.
    pub fn with(more: &[&str]) -> RedisServer {
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_owned();
        let daemon = Daemon::start(move |port| {
            let mut command = Command::new("redis-server");
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(&data);
            command.args(["--appendonly", "yes", "--appendfsync", "always"]).args(&more);
            command
        });
        let server = RedisServer { daemon, _dir: dir };
        server.wait();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.daemon.port)
    }

    /// What the server answers to a command.
    pub fn call<T: FromRedisValue>(&self, words: &[&str]) -> T {
        call(&mut self.connection().unwrap(), words).unwrap()
    }

    /// A number of `INFO`'s.
    pub fn info(&self, name: &str) -> u64 {
        let all: String = self.call(&["INFO", "all"]);
        let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {all}")).trim().parse().unwrap()
    }

    /// Starts it again after it was killed, and waits until it has read its data.
    pub fn restart(&self) {
        self.daemon.restart();
        self.wait();
    }

    fn wait(&self) {
        until("Redis answers", || self.connection().is_ok_and(|mut c| call::<String>(&mut c, &["PING"]).is_ok()));
    }

    fn connection(&self) -> redis::RedisResult<Connection> {
        let connection = Client::open(self.url())?.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok(connection)
    }
}

fn call<T: FromRedisValue>(connection: &mut Connection, words: &[&str]) -> redis::RedisResult<T> {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query(connection)
}

/// A cluster of three masters.
pub struct Cluster {
    pub nodes: Vec<RedisServer>,
}

impl Cluster {
    pub fn start() -> Cluster {
        let nodes: Vec<RedisServer> = (0..3)
            .map(|_| RedisServer::with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]))
            .collect();
        let first = nodes[0].daemon.port.to_string();
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
        let hosts: Vec<String> = self.nodes.iter().map(RedisServer::address).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The node that has a slot, and one that has not.
    pub fn of_slot(&self, slot: u64) -> (&RedisServer, &RedisServer) {
        let at = usize::try_from(slot * 3 / 16_384).unwrap();
        (&self.nodes[at], &self.nodes[(at + 1) % 3])
    }
}

/// A master, its replica, and a sentinel that makes the one the other when the first is gone.
pub struct Watched {
    pub master: RedisServer,
    pub replica: RedisServer,
    pub sentinel: Daemon,
    _dir: Arc<TempDir>,
}

impl Watched {
    pub fn start() -> Watched {
        let master = RedisServer::start();
        let port = master.daemon.port.to_string();
        let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
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
            let known: redis::RedisResult<redis::Value> = call(&mut connection, &["SENTINEL", "REPLICAS", "main"]);
            matches!(known, Ok(redis::Value::Array(replicas)) if replicas.len() == 1)
        });
        watched
    }

    /// An absent sentinel is named first: it must not be in the way.
    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/main", self.sentinel.port)
    }
}
