//! The server that is killed, and the servers that it depends on.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How often a port is asked whether it is there.
const LOOK: Duration = Duration::from_millis(1);

/// `tidegate serve`, from its exec on. Killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    first_line: Receiver<String>,
    /// Where it listens, and its admin port: known once it has said so.
    said: Option<(SocketAddr, SocketAddr)>,
}

impl Gateway {
    /// Starts it, with the environment that we have; what it logs is appended to a file.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(program: &PathBuf, log: &PathBuf, env: &[(String, String)]) -> Result<Gateway> {
        let mut child = Command::new(program)
            .arg("serve")
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(append(log)?)
            .spawn()
            .map_err(|error| Error::other(format!("{}: {error}", program.display())))?;
        let (tell, first_line) = channel();
        if let Some(stdout) = child.stdout.take() {
            // It must not meet a closed pipe later on: read until its end.
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stdout);
                let mut line = String::new();
                let _ = lines.read_line(&mut line);
                let _ = tell.send(line);
                let _ = std::io::copy(&mut lines, &mut std::io::sink());
            });
        }
        Ok(Gateway { child, first_line, said: None })
    }

    /// Waits until it has said where it is. `None`: not by then.
    ///
    /// # Errors
    /// It has ended, or says something else.
    pub fn address(&mut self, until: Instant) -> Result<Option<SocketAddr>> {
        if self.said.is_none() {
            match self.first_line.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said = Some(parse_first_line(&line)?),
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::other("the server has ended")),
            }
        }
        Ok(self.said.map(|(address, _)| address))
    }

    /// Waits until `/readyz` says 200. Returns whether it did, by then.
    ///
    /// # Errors
    /// It has ended.
    pub fn ready(&mut self, until: Instant) -> Result<bool> {
        let Some(_) = self.address(until)? else { return Ok(false) };
        let Some((_, admin)) = self.said else { return Ok(false) };
        loop {
            if get(admin, "/readyz").is_ok_and(|(status, _)| status == 200) {
                return Ok(true);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(Error::other(format!("the server has ended before it was ready: {status}")));
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What a page of the admin port says.
    ///
    /// # Errors
    /// There is no such page, or no server.
    pub fn page(&self, path: &str) -> Result<String> {
        let (_, admin) = self.said.ok_or_else(|| Error::other("no server yet"))?;
        match get(admin, path)? {
            (200, body) => Ok(body),
            (status, body) => Err(Error::other(format!("{path}: {status}: {body}"))),
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself, and how.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is not there.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(pid(&self.child)?, signal)?)
    }

    /// Kills it, without any notice; when the call returns it is gone.
    ///
    /// # Errors
    /// It can't be waited for.
    pub fn kill(mut self) -> Result<ExitStatus> {
        let _ = self.child.kill();
        self.child.wait()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end by then.
    pub fn wait(&mut self, until: Instant) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= until {
                return Err(Error::new(ErrorKind::TimedOut, "the server does not end"));
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody else's server: a sink's or a session store's.
#[derive(Debug)]
pub struct Other {
    /// What it is called.
    pub name: String,
    port: u16,
    command: String,
    log: PathBuf,
    child: Option<Child>,
}

impl Other {
    /// From `NAME=PORT=COMMAND`; the command is for a shell.
    ///
    /// # Errors
    /// It is not of this form.
    pub fn parse(text: &str, logs: &std::path::Path) -> Result<Other> {
        let mut parts = text.splitn(3, '=');
        let (Some(name), Some(port), Some(command)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::other(format!("'{text}' is not NAME=PORT=COMMAND")));
        };
        let port = port.parse().map_err(|_| Error::other(format!("'{port}' is no port")))?;
        let log = logs.join(format!("{name}.log"));
        Ok(Other { name: name.to_owned(), port, command: command.to_owned(), log, child: None })
    }

    /// Starts it if it does not run, and waits until somebody can connect.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {}", self.command)]).stdin(Stdio::null());
        let child = command.stdout(append(&self.log)?).stderr(append(&self.log)?).spawn()?;
        let child = self.child.insert(child);
        let until = Instant::now() + Duration::from_secs(30);
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            let ended = child.try_wait()?;
            if ended.is_some() || Instant::now() > until {
                return Err(Error::other(format!("{} does not start: see {}", self.name, self.log.display())));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Kills it, without any notice.
    ///
    /// # Errors
    /// It can't be waited for.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn append(path: &PathBuf) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn pid(child: &Child) -> Result<Pid> {
    Pid::from_raw(child.id() as i32).ok_or_else(|| Error::other("no process"))
}

/// `tidegate 0.1.0 listens on 127.0.0.1:7400; admin http://127.0.0.1:7401`.
fn parse_first_line(line: &str) -> Result<(SocketAddr, SocketAddr)> {
    let after = |mark: &str| {
        let rest = line.split_once(mark)?.1;
        rest.split([';', ',', ' ', '\n', '/']).next()?.parse().ok()
    };
    match (after("listens on "), after("admin http://")) {
        (Some(address), Some(admin)) => Ok((address, admin)),
        _ if line.is_empty() => Err(Error::other("the server has ended before it said where it listens")),
        _ => Err(Error::other(format!("no addresses in the server's first line: {line}"))),
    }
}

/// GET: status and body.
fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| Error::new(ErrorKind::InvalidData, format!("no answer: {head}")))?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_both_addresses() {
        let line = "tidegate 0.1.0 listens on 127.0.0.1:7400; admin http://127.0.0.1:7401\n";
        let (address, admin) = parse_first_line(line).unwrap();
        assert_eq!((address.port(), admin.port()), (7400, 7401));
        assert!(parse_first_line("tidegate 0.1.0 listens on 127.0.0.1:7400\n").is_err());
        assert!(parse_first_line("").unwrap_err().to_string().contains("ended"));
    }

    #[test]
    fn another_server_is_name_port_and_command() {
        let other = Other::parse("redis=1234=redis-server --a=b", std::path::Path::new("/tmp")).unwrap();
        assert_eq!((other.name.as_str(), other.port, other.command.as_str()), ("redis", 1234, "redis-server --a=b"));
        assert!(Other::parse("redis=x=y", std::path::Path::new("/tmp")).is_err());
    }
}
