//! A real redis-server. What it has answered for is on its disk: it syncs with each write.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::daemon::Daemon;
use super::until;

/// A redis-server; what else it can do: [`Daemon`].
pub struct Redis {
    daemon: Daemon,
    /// Where it keeps its data.
    _dir: TempDir,
}

impl Redis {
    /// Starts one.
    pub fn start() -> Redis {
        Redis::start_with(&[])
    }

    /// Starts one with more arguments: `&["--maxmemory", "10mb"]`.
    pub fn start_with(args: &[&str]) -> Redis {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let daemon = Daemon::start(move |port| command(&args, &path, port));
        let redis = Redis { daemon, _dir: dir };
        redis.wait();
        redis
    }

    /// Starts it again, on the same port and with the data that it had, and waits until it serves.
    pub fn restart(&self) {
        self.daemon.restart();
        self.wait();
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Not only until it listens: while it reads its data it answers LOADING.
    fn wait(&self) {
        until("redis-server serves", || is_ready(self.port));
    }

    /// A connection of the test's own, which waits five seconds for an answer.
    pub fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).unwrap();
        let connection = client.get_connection_with_timeout(Duration::from_secs(5)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        connection
    }
}

impl Deref for Redis {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

fn command(args: &[String], dir: &Path, port: u16) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--daemonize", "no"]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(dir).args(args);
    command
}

fn is_ready(port: u16) -> bool {
    let asked = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        // A server that wants a password answers that it does.
        Ok(matches!(&answer, b"+PONG" | b"-NOAU"))
    };
    asked().unwrap_or(false)
}
