//! `tidegate load` as a process, and servers that answer it as a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tidegate::load::report::Report;
use tidegate::proto::{AuthReady, Command as Cmd, FrameDecoder, MAX_BODY};

use super::{Process, Reply, get, until};

/// A running load generator with `--control`. Killed and reaped when it is dropped.
pub struct Load {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
    dir: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    /// Behind the lines that were read before.
    pub stdout: String,
    pub stderr: String,
    /// `None`: there was nothing to report.
    pub report: Option<Report>,
}

impl Load {
    /// Starts it against a server.
    pub fn start(address: SocketAddr, args: &[&str]) -> Load {
        Load::start_by(Process::command(), address, args)
    }

    /// Starts it by this command.
    pub fn start_by(mut command: Command, address: SocketAddr, args: &[&str]) -> Load {
        let dir = tempfile::tempdir().unwrap();
        command.arg("load").args(args).args(["--control", "--json"]).arg(dir.path().join("json"));
        if !args.contains(&"--interval") {
            command.args(["--interval", "50ms"]);
        }
        command.env("TIDEGATE_CONNECT", address.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Load { child, stdout, stderr: Some(stderr), dir }
    }

    /// Runs it to its end, which must come by itself.
    pub fn run(address: SocketAddr, args: &[&str]) -> Ended {
        Load::start(address, args).wait()
    }

    /// Says a word to it.
    pub fn say(&mut self, word: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{word}").unwrap();
    }

    /// What it answers.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits for this answer, past all others.
    pub fn await_line(&mut self, wanted: &str) {
        loop {
            let line = self.line();
            if line == wanted {
                return;
            }
            assert!(!line.is_empty(), "it ended without {wanted:?}");
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).unwrap();
        let mut status = None;
        until("the load ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let stderr = self.stderr.take().unwrap().join().unwrap();
        let json = std::fs::read(self.dir.path().join("json")).unwrap_or_default();
        Ended { code: status.unwrap().code(), stdout, stderr, report: serde_json::from_slice(&json).ok() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The report of a run with this exit code.
    pub fn report(self, code: i32) -> Report {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self.report.expect("a report")
    }
}

/// A counter of a server, over all its workers.
pub fn metric(process: &Process, name: &str) -> u64 {
    let page = get(process.admin, "/metrics").1;
    let start = format!("tidegate_{name}{{");
    let values = page.lines().filter(|line| line.starts_with(&start));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Accepts connections one after the other, and gives each with its number to `serve`, which ends it.
pub fn fake(mut serve: impl FnMut(usize, &mut Peer) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (nth, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut peer = Peer { stream, decoder: FrameDecoder::new(MAX_BODY), received: Vec::new() };
            let auth = peer.frame().expect("AUTH");
            assert_eq!(auth.cmd, Cmd::AUTH);
            let ready = AuthReady {
                session: [7; 16],
                resumed: false,
                heartbeat_ms: 30_000,
                max_payload: 65_535,
                session_ttl_s: 60,
            };
            peer.send(|out| ready.encode(out, auth.seq));
            serve(nth, &mut peer);
        }
    });
    address
}

/// The other end of a connection of the generator's.
pub struct Peer {
    pub stream: TcpStream,
    decoder: FrameDecoder,
    received: Vec<Reply>,
}

impl Peer {
    /// Sends what is written.
    pub fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write(&mut bytes);
        // If it has gone, the next frame tells.
        let _ = self.stream.write_all(&bytes);
    }

    /// The next frame; `None` at the end.
    pub fn frame(&mut self) -> Option<Reply> {
        let mut buffer = [0; 4096];
        while self.received.is_empty() {
            let n = self.stream.read(&mut buffer).unwrap_or(0);
            if n == 0 {
                return None;
            }
            let mut input = &buffer[..n];
            while let Some(frame) = self.decoder.next(&mut input).unwrap() {
                let (version, seq, cmd) = (frame.version, frame.seq, frame.cmd);
                self.received.push(Reply {
                    version,
                    seq,
                    cmd,
                    extensions: frame.extensions.iter().map(|(kind, value)| (kind, value.to_vec())).collect(),
                    payload: frame.payload.to_vec(),
                });
            }
            self.decoder.keep(&mut input);
        }
        Some(self.received.remove(0))
    }
}
