//! The real program, as a process of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::until;

/// What a process of a test is set to, where the test does not say otherwise.
const BASICS: [(&str, &str); 4] =
    [("LISTEN", "127.0.0.1:0"), ("ADMIN", "127.0.0.1:0"), ("WORKERS", "2"), ("CPUS", "off")];

/// A running `tidegate serve`. Killed and reaped when it is dropped.
pub struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
    seen: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its admin port.
    pub admin: SocketAddr,
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    /// The program, without any setting of the surroundings.
    pub fn command() -> Command {
        Process::clean(Command::new(env!("CARGO_BIN_EXE_tidegate")))
    }

    /// The program under a shell's limit of open files.
    pub fn command_with_open_files(limit: usize) -> Command {
        Process::command_under_shell(&format!("ulimit -n {limit}"))
    }

    /// The program in the place of a shell that has run `first`.
    pub fn command_under_shell(first: &str) -> Command {
        let mut command = Process::clean(Command::new("sh"));
        command.args(["-c", &format!("{first}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tidegate")]);
        command
    }

    /// The program, once somebody connects to this socket, which the system's own tool passes to it.
    #[cfg(target_os = "linux")]
    pub fn command_activated_by(socket: impl Into<std::os::fd::OwnedFd>, settings: &[(&str, &str)]) -> Command {
        let mut command = Process::clean(Command::new("sh"));
        // The socket comes as standard input, the only place in which a child can be given one without unsafe code.
        let activate = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec systemd-socket-activate \"$@\"";
        command.args(["-c", activate, "sh"]).stdin(socket.into());
        for (name, _) in BASICS.iter().chain(settings) {
            command.args(["-E", &format!("TIDEGATE_{name}")]);
        }
        command.arg(env!("CARGO_BIN_EXE_tidegate"));
        command
    }

    /// The program with strace(1) beside it, which writes to a file.
    #[cfg(target_os = "linux")]
    pub fn command_under_strace(args: &[&str], to: &Path) -> Command {
        let mut command = Process::clean(Command::new("strace"));
        command.args(args).arg("-o").arg(to).arg(env!("CARGO_BIN_EXE_tidegate"));
        command
    }

    /// Serves with these settings, short of prefixes: `("WORKERS", "1")`.
    pub fn serve(settings: &[(&str, &str)]) -> Process {
        Process::start(Process::command(), settings)
    }

    /// Serves by this command.
    pub fn start(command: Command, settings: &[(&str, &str)]) -> Process {
        Process::start_with(command, &[], settings)
    }

    /// Serves by this command with these arguments.
    pub fn start_with(mut command: Command, args: &[&str], settings: &[(&str, &str)]) -> Process {
        command.arg("serve").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in BASICS.iter().chain(settings) {
            command.env(format!("TIDEGATE_{name}"), value);
        }
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some((address, admin)) = addresses(&line) else {
            drop(stdout);
            let _ = child.wait();
            panic!("it did not start: {line}{}", stderr.join().unwrap());
        };
        Process { child, stdout, stderr: Some(stderr), seen: line, address, admin }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Exit {
        let mut status = None;
        // Reading first: a full pipe would keep it from ending. It ends when the process does.
        self.stdout.read_to_string(&mut self.seen).unwrap();
        until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let stderr = self.stderr.take().unwrap().join().unwrap();
        Exit { code: status.unwrap().code(), stdout: std::mem::take(&mut self.seen), stderr }
    }

    fn clean(mut command: Command) -> Command {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEGATE_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a data directory's audit log.
pub fn audit(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// From the first line: `tidegate 0.1.0 listens on 127.0.0.1:PORT; admin http://127.0.0.1:PORT`.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let rest = line.trim().strip_prefix(concat!("tidegate ", env!("CARGO_PKG_VERSION"), " listens on "))?;
    let (listen, admin) = rest.split_once("; admin http://")?;
    Some((listen.parse().ok()?, admin.parse().ok()?))
}
