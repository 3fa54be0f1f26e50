//! A command that runs: its pipes, which never block, and its end.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process_group};

/// Bytes of the longest line that it may answer.
const MAX_ANSWER: usize = 64 * 1024;
/// Bytes of its standard error that are one line of the log.
const MAX_COMPLAINT: u64 = 4 * 1024;
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long it may take to end after SIGTERM, and then after SIGKILL.
const TERM: Duration = Duration::from_secs(1);

/// A command, its input and its answers. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Bytes for it that the pipe has not taken.
    output: Vec<u8>,
    written: usize,
    /// Bytes of it that are no line yet.
    input: Vec<u8>,
    reaped: bool,
}

impl Running {
    /// Starts it, in a process group of its own, so that a terminal's Ctrl-C is not its, and without our settings.
    pub fn start(words: &[String]) -> io::Result<Running> {
        let (program, arguments) = words.split_first().ok_or(ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err(ErrorKind::BrokenPipe.into()) };
        let (output, input) = (Vec::new(), Vec::new());
        let running = Running { child, stdin: Some(stdin), stdout, output, written: 0, input, reaped: false };
        if let Some(stdin) = &running.stdin {
            ioctl_fionbio(stdin, true)?;
        }
        ioctl_fionbio(&running.stdout, true)?;
        let name = program.rsplit('/').next().unwrap_or(program).to_owned();
        std::thread::Builder::new().name("sink-stderr".to_owned()).spawn(move || log_complaints(&name, stderr))?;
        Ok(running)
    }

    /// Its input, to be appended to.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Gives it input and takes lines from it, until there is a line or the time is over.
    ///
    /// # Errors
    /// It has ended, or answers without ever ending a line.
    pub fn exchange(&mut self, until: Instant, mut line: impl FnMut(&str)) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().min(3_600) as i64, tv_nsec: left.subsec_nanos().into() };
        let mut pipes = vec![PollFd::from_borrowed_fd(self.stdout.as_fd(), PollFlags::IN)];
        if let Some(stdin) = self.stdin.as_ref().filter(|_| self.written < self.output.len()) {
            pipes.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::OUT));
        }
        match poll(&mut pipes, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Read first: it may have answered before it ended.
        let read = self.read(&mut line);
        self.write().and(read)
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            match stdin.write(rest) {
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    fn read(&mut self, line: &mut impl FnMut(&str)) -> io::Result<()> {
        let mut block = [0; 16 * 1024];
        loop {
            match self.stdout.read(&mut block) {
                Ok(0) => break Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.input.extend_from_slice(block.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
            self.lines(line);
            if self.input.len() > MAX_ANSWER {
                break Err(io::Error::new(ErrorKind::InvalidData, "its line of output does not end"));
            }
        }
    }

    fn lines(&mut self, line: &mut impl FnMut(&str)) {
        let Some(end) = self.input.iter().rposition(|byte| *byte == b'\n') else { return };
        let rest = self.input.split_off(end + 1);
        let whole = std::mem::replace(&mut self.input, rest);
        whole.split(|byte| *byte == b'\n').for_each(|bytes| line(&String::from_utf8_lossy(bytes)));
    }

    /// Ends it: its input is closed, and it has so long; then SIGTERM; then SIGKILL. `None`: even that did not help.
    pub fn end(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.stdin = None;
        for (signal, patience) in [(None, patience), (Some(Signal::TERM), TERM), (Some(Signal::KILL), TERM)] {
            if let Some(signal) = signal {
                self.signal(signal);
            }
            let until = Instant::now() + patience;
            loop {
                // What it still says is of no use, but it must not wait for somebody to read it.
                let _ = self.read(&mut |_: &str| ());
                self.input.clear();
                if let Some(status) = self.ended() {
                    return Some(status);
                }
                if Instant::now() >= until {
                    break;
                }
                std::thread::sleep(LOOK);
            }
        }
        None
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        self.reaped |= status.is_some();
        status
    }

    /// To all of its group. It is not reaped, so its number is not another's.
    fn signal(&self, signal: Signal) {
        if !self.reaped
            && let Some(pid) = Pid::from_raw(self.child.id().try_into().unwrap_or(0))
        {
            // It may have ended by itself.
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped && self.end(Duration::ZERO).is_none() {
            log::warn!(pid = self.child.id(); "process {} does not end, not even by SIGKILL", self.child.id());
        }
    }
}

/// Its standard error, line by line.
fn log_complaints(name: &str, stderr: ChildStderr) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match stderr.by_ref().take(MAX_COMPLAINT).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => log::info!(command = name; "{name}: {}", String::from_utf8_lossy(&line).trim_end()),
        }
    }
}
