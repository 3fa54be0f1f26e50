//! The floor: a bare epoll echo loop. It parses nothing and writes back what it read.
//!
//! The leanest loop that is still right: edges, registered once; a read shorter than was asked for
//! has emptied the socket and is not followed by another one, unless the peer has ended its side;
//! what a write does not take is kept, and nothing is read before it has gone out.

use std::collections::VecDeque;
use std::io::Result;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use peers::net;
use peers::poller::{EDGES, Poller, Ready};
use peers::serve::{self, Flags};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

/// As much as the server reads in one call.
const SCRATCH: usize = 128 * 1024;
const EVENTS: usize = 1024;
const LISTENER: usize = u32::MAX as usize;
const SIGNAL: usize = LISTENER - 1;
/// A frame without a payload, as a server sends it.
const PING: [u8; 9] = [0x4D, 1, 0, 0, 0, 0, 0, 0, 3];

/// A bare epoll read/write echo loop: the least that serving costs.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    flags: Flags,
    /// Milliseconds after which each connection is sent a PING, over and over; what comes back is
    /// read, and not echoed
    #[arg(long)]
    ping_every_ms: Option<u32>,
    /// Milliseconds between two rounds of PINGs: what has become due meanwhile is sent together
    #[arg(long, default_value_t = 1, requires = "ping_every_ms")]
    ping_batch_ms: u32,
    /// On SIGTERM: write this many bytes to each connection, close it, and end
    #[arg(long)]
    goodbye: Option<usize>,
}

/// Unless there is a goodbye, signals end it the way they end any process: nothing is to be tidied up.
fn main() -> ExitCode {
    let args = Args::parse();
    let plan = Plan {
        interval: args.ping_every_ms.map(u64::from),
        batch: args.ping_batch_ms.max(1).into(),
        goodbye: args.goodbye.map(|n| vec![0x4D; n]),
    };
    serve::run("floor", &args.flags, move |listener| Echo::new(listener, plan.clone())?.serve())
}

/// What it does beside echoing.
#[derive(Clone)]
struct Plan {
    /// Milliseconds between two PINGs to one connection.
    interval: Option<u64>,
    /// Milliseconds between two rounds of them.
    batch: u64,
    goodbye: Option<Vec<u8>>,
}

struct Echo {
    poller: Poller,
    listener: OwnedFd,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    plan: Plan,
    /// Where SIGTERM is read: open as long as the poller watches it.
    _signal: Option<UnixStream>,
    /// Whom to send a PING, and when, in whole milliseconds since `started`. All have the same
    /// interval, so it is sorted by itself.
    due: VecDeque<(u64, usize)>,
    /// No round of PINGs before.
    next_round: u64,
    started: Instant,
}

struct Connection {
    socket: OwnedFd,
    /// Read, and not yet taken back by the socket.
    unsent: Vec<u8>,
    ends: bool,
    /// A PING is out: what comes is its answer.
    pinged: bool,
}

impl Echo {
    fn new(listener: TcpListener, plan: Plan) -> Result<Echo> {
        let listener = OwnedFd::from(listener);
        let poller = Poller::new(EVENTS)?;
        poller.add(&listener, LISTENER, EventFlags::IN | EventFlags::ET)?;
        let signal = plan.goodbye.is_some().then(|| term_pipe(&poller)).transpose()?;
        let scratch = vec![0; SCRATCH];
        Ok(Echo {
            poller,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            scratch,
            plan,
            _signal: signal,
            due: VecDeque::new(),
            next_round: 0,
            started: Instant::now(),
        })
    }

    fn serve(&mut self) -> Result<()> {
        loop {
            let ready = self.poller.wait(self.patience())?;
            for index in 0..ready {
                let event = self.poller.ready(index);
                if event.slot == LISTENER {
                    self.accept()?;
                } else if event.slot == SIGNAL {
                    self.say_goodbye();
                    return Ok(());
                } else if let Some(connection) = self.connections[event.slot].as_mut()
                    && !connection.handle(&event, &mut self.scratch)
                {
                    self.connections[event.slot] = None;
                    self.free.push(event.slot);
                }
            }
            if let Some(interval) = self.plan.interval {
                self.ping(interval);
            }
        }
    }

    /// Until the next PING is due; never a little too early.
    fn patience(&self) -> Option<Duration> {
        let (at, _) = self.due.front()?;
        let wait = Duration::from_millis(self.next_round.max(*at).saturating_sub(self.now()));
        Some(if wait.is_zero() { wait } else { wait + Duration::from_micros(999) })
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn ping(&mut self, interval: u64) {
        if self.due.is_empty() {
            return;
        }
        let now = self.now();
        if now < self.next_round {
            return;
        }
        while let Some(&(at, slot)) = self.due.front()
            && at <= now
        {
            self.due.pop_front();
            // A slot that is free is left out: nobody leaves while heartbeats are measured.
            let Some(connection) = self.connections[slot].as_mut() else { continue };
            // Whoever still owes an answer gets no second one.
            connection.pinged = connection.pinged || write(&connection.socket, &PING) == Some(PING.len());
            self.due.push_back((now + interval, slot));
            self.next_round = now + self.plan.batch;
        }
    }

    fn say_goodbye(&mut self) {
        let bytes = self.plan.goodbye.take().unwrap_or_default();
        for connection in self.connections.drain(..).flatten() {
            // Whoever takes nothing is closed all the same.
            let _ = write(&connection.socket, &bytes);
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let socket = match net::accept(&self.listener) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.poller.add(&socket, slot, EDGES)?;
            self.connections[slot] = Some(Connection { socket, unsent: Vec::new(), ends: false, pinged: false });
            if let Some(interval) = self.plan.interval {
                self.due.push_back((self.now() + interval, slot));
            }
        }
    }
}

impl Connection {
    /// Reads and writes back. Returns whether the connection goes on.
    fn handle(&mut self, event: &Ready, scratch: &mut [u8]) -> bool {
        self.ends |= event.ends;
        if !self.unsent.is_empty() && event.writable {
            let Some(took) = write(&self.socket, &self.unsent) else { return false };
            self.unsent.drain(..took);
        }
        while self.unsent.is_empty() {
            let n = match rustix::io::read(&self.socket, &mut *scratch) {
                Ok(0) => return false,
                Ok(n) => n,
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => continue,
                Err(_) => return false,
            };
            if self.pinged {
                self.pinged = false;
                return true;
            }
            let Some(took) = write(&self.socket, &scratch[..n]) else { return false };
            self.unsent.extend_from_slice(&scratch[took..n]);
            if n < scratch.len() && !self.ends {
                return true;
            }
        }
        true
    }
}

/// SIGTERM as something to poll for.
fn term_pipe(poller: &Poller) -> Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, writer)?;
    poller.add(&reader, SIGNAL, EventFlags::IN)?;
    Ok(reader)
}

/// Bytes that the socket took; `None`: it is broken.
fn write(socket: &OwnedFd, bytes: &[u8]) -> Option<usize> {
    loop {
        return match rustix::io::write(socket, bytes) {
            Ok(took) => Some(took),
            Err(Errno::AGAIN) => Some(0),
            Err(Errno::INTR) => continue,
            Err(_) => None,
        };
    }
}
