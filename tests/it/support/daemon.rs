//! A real server of somebody else's: started on a port of its own, frozen, killed, started again.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;

/// A server on loopback. Killed and reaped when it is dropped.
pub struct Daemon {
    /// Where it listens.
    pub port: u16,
    command: Arc<dyn Fn(u16) -> Command + Send + Sync>,
    child: Mutex<Child>,
}

impl Daemon {
    /// Starts what `command` says for a port, on one that is free.
    pub fn start(command: impl Fn(u16) -> Command + Send + Sync + 'static) -> Daemon {
        let command: Arc<dyn Fn(u16) -> Command + Send + Sync> = Arc::new(command);
        for _ in 0..10 {
            // Somebody else may take the port in between: then the server ends, and another is tried.
            let port = free_port();
            let child = Mutex::new(spawn(command(port)));
            let daemon = Daemon { port, command: Arc::clone(&command), child };
            if daemon.listens() {
                return daemon;
            }
        }
        panic!("{:?} does not start", command(0));
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child.lock().unwrap())
    }

    /// It does nothing any more, and its sockets stay open.
    pub fn freeze(&self) {
        let pid = self.pid();
        kill_process(pid, Signal::STOP).unwrap();
        // A thread of it that waits for a CPU may answer once more.
        #[cfg(target_os = "linux")]
        super::until("every thread stands still", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
            tasks.flatten().all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
            })
        });
    }

    /// It goes on.
    pub fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// `kill -9`.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Starts it again, on the same port and as it was started before.
    pub fn restart(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.kill();
            *self.child.lock().unwrap() = spawn((self.command)(self.port));
            if self.listens() {
                return;
            }
            assert!(Instant::now() < end, "it does not start again");
        }
    }

    /// Waits until it listens; false: it has ended.
    fn listens(&self) -> bool {
        let end = Instant::now() + 3 * PATIENCE;
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        loop {
            if self.child.lock().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(address).is_ok() {
                return true;
            }
            assert!(Instant::now() < end, "it does not listen on {address}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Ok(child) => child,
        Err(e) => panic!("{:?}: {e}; scripts/test.sh installs what the tests need", command.get_program()),
    }
}
