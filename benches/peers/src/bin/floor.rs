//! The floor: a bare epoll echo loop. It parses nothing and writes back what it read.
//!
//! The leanest loop that is still right: edges, registered once; a read shorter than was asked for
//! has emptied the socket and is not followed by another one, unless the peer has ended its side;
//! what a write does not take is kept, and nothing is read before it has gone out.

use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use clap::Parser;
use peers::net;
use peers::poller::{EDGES, Poller, Ready};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

/// As much as the server reads in one call.
const SCRATCH: usize = 128 * 1024;
const EVENTS: usize = 1024;
const LISTENER: usize = u32::MAX as usize;

/// A bare epoll read/write echo loop: the least that serving costs.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Address to listen on; port 0: the system chooses
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Threads, each with its own epoll and listener
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// CPUs to pin them to, in turn, such as 0,1
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// End when standard input ends
    #[arg(long)]
    until_stdin_ends: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// SIGTERM and SIGINT end it the way they end any process: there is nothing to tidy up.
fn run(args: &Args) -> std::io::Result<()> {
    net::raise_descriptor_limit();
    let mut address = args.listen;
    let mut threads = Vec::new();
    for index in 0..args.threads.max(1) {
        let listener = net::listen(address, 4096)?;
        address = net::local_address(&listener)?;
        let cpu = (!args.cpus.is_empty()).then(|| args.cpus[index % args.cpus.len()]);
        let serve = move || {
            if let Some(cpu) = cpu {
                net::pin(cpu)?;
            }
            Echo::new(listener)?.serve()
        };
        threads.push(std::thread::Builder::new().name(format!("floor-{index}")).spawn(serve)?);
    }
    println!("floor listens on {address}");
    if args.until_stdin_ends {
        std::io::stdin().read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    for thread in threads {
        thread.join().map_err(|_| std::io::Error::other("a thread panicked"))??;
    }
    Ok(())
}

struct Echo {
    poller: Poller,
    listener: OwnedFd,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
}

struct Connection {
    socket: OwnedFd,
    /// Read, and not yet taken back by the socket.
    unsent: Vec<u8>,
    ends: bool,
}

impl Echo {
    fn new(listener: OwnedFd) -> rustix::io::Result<Echo> {
        let poller = Poller::new(EVENTS)?;
        poller.add(&listener, LISTENER, EventFlags::IN | EventFlags::ET)?;
        Ok(Echo { poller, listener, connections: Vec::new(), free: Vec::new(), scratch: vec![0; SCRATCH] })
    }

    fn serve(&mut self) -> std::io::Result<()> {
        loop {
            let ready = self.poller.wait(None)?;
            for index in 0..ready {
                let event = self.poller.ready(index);
                if event.slot == LISTENER {
                    self.accept()?;
                } else if let Some(connection) = self.connections[event.slot].as_mut()
                    && !connection.handle(&event, &mut self.scratch)
                {
                    self.connections[event.slot] = None;
                    self.free.push(event.slot);
                }
            }
        }
    }

    fn accept(&mut self) -> rustix::io::Result<()> {
        loop {
            let socket = match net::accept(&self.listener) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.poller.add(&socket, slot, EDGES)?;
            self.connections[slot] = Some(Connection { socket, unsent: Vec::new(), ends: false });
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
            let Some(took) = write(&self.socket, &scratch[..n]) else { return false };
            self.unsent.extend_from_slice(&scratch[took..n]);
            if n < scratch.len() && !self.ends {
                return true;
            }
        }
        true
    }
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
