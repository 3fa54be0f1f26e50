//! A real MariaDB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

use mysql::prelude::{FromRow, Queryable};
use mysql::{Conn, OptsBuilder};
use tempfile::TempDir;

use super::until;
use super::{Daemon, PATIENCE};

/// The user that [`MariaDb::url`] names. The letters are such as a URL has to escape.
const USER: (&str, &str) = ("gate", "s3cr:t/@%");
const PASSWORD_IN_URL: &str = "s3cr%3At%2F%40%25";

/// A server with data of its own.
pub struct MariaDb {
    pub daemon: Daemon,
    _dir: TempDir,
}

impl MariaDb {
    /// Starts one.
    pub fn start() -> MariaDb {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        copy(&template(), &data);
        let daemon = Daemon::start(move |port| {
            let mut command = program("mariadbd");
            command.arg("--no-defaults").args(as_root()).arg(format!("--datadir={}", data.display()));
            command.args(["--bind-address=127.0.0.1", &format!("--port={port}")]);
            command.arg(format!("--socket={}/{port}.sock", data.display()));
            // As a server does that keeps its word, and otherwise small.
            command.args(["--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=16M"]);
            command.args(["--innodb-log-file-size=4M", "--skip-name-resolve", "--max-connections=100"]);
            command
        });
        let server = MariaDb { daemon, _dir: dir };
        server.wait();
        let (user, password) = USER;
        server.query::<String>(&format!("CREATE USER IF NOT EXISTS {user}@'%' IDENTIFIED BY '{password}'"));
        server
    }

    /// One that all tests use which do no harm to it, for as long as any does.
    pub fn shared() -> Arc<MariaDb> {
        static SHARED: Mutex<Weak<MariaDb>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(MariaDb::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// An empty database, and the URL of a user who may do everything there.
    pub fn database(&self, name: &str) -> String {
        self.query::<String>(&format!("CREATE DATABASE {name}"));
        self.query::<String>(&format!("GRANT ALL ON {name}.* TO {}@'%'", USER.0));
        self.url(name)
    }

    /// The URL of a database.
    pub fn url(&self, name: &str) -> String {
        format!("mysql://{}:{PASSWORD_IN_URL}@127.0.0.1:{}/{name}", USER.0, self.daemon.port)
    }

    /// What the server's own user is answered.
    pub fn query<T: FromRow>(&self, sql: &str) -> Vec<T> {
        self.root().unwrap().query(sql).unwrap()
    }

    /// A counter of the server's status.
    pub fn status(&self, name: &str) -> u64 {
        let rows: Vec<(String, u64)> = self.query(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
        rows[0].1
    }

    /// Starts it again after it was killed, and waits until it answers.
    pub fn restart(&self) {
        self.daemon.restart();
        self.wait();
    }

    fn wait(&self) {
        until("MariaDB answers", || self.root().is_ok());
    }

    fn root(&self) -> mysql::Result<Conn> {
        let opts = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(self.daemon.port).user(Some("root"));
        Conn::new(opts.prefer_socket(false).read_timeout(Some(PATIENCE)))
    }
}

/// A data directory as it is after the installation, made once and kept for later runs.
fn template() -> PathBuf {
    static MADE: Mutex<()> = Mutex::new(());
    let _alone = MADE.lock().unwrap_or_else(|e| e.into_inner());
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mariadb");
    if kept.exists() {
        return kept;
    }
    let new = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut install = program("mariadb-install-db");
    install.arg("--no-defaults").args(as_root()).arg(format!("--datadir={}", new.path().join("data").display()));
    install.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=4M"]);
    let made = install.stdin(Stdio::null()).output().expect("mariadb-install-db: scripts/test.sh installs it");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Another process may have been as fast.
    let _ = fs::rename(new.path().join("data"), &kept);
    kept
}

/// Debian has servers where only root looks for programs.
fn program(name: &str) -> Command {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin"].map(|dir| Path::new(dir).join(name));
    Command::new(places.into_iter().find(|place| place.exists()).unwrap_or_else(|| name.into()))
}

/// It refuses to run as root unless it is told to.
fn as_root() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
