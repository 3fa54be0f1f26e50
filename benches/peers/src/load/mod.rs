//! A client that never sleeps: closed loops, storms of connections, and connections that are held.
//!
//! It looks for events and never waits for them: whether a client sleeps between two bursts changes
//! what its server measures by a factor of two. One thread; every reply is checked.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tidegate::proto::Command;

use crate::exchange::{Client, Mode};
use crate::net;
use crate::poller::{EDGES, Poller, Ready};

mod held;

/// Connects begun and not yet decided: below any backlog.
const CONNECTING: usize = 256;
/// Longest time without a single event.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every connection does.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What the server speaks.
    pub mode: Mode,
    /// Where it is.
    pub address: SocketAddr,
    /// Frames in a burst; the next burst leaves when the last reply of this one is there, so that
    /// every server is given the same batches.
    pub depth: usize,
    /// Payload bytes of a frame.
    pub payload: usize,
    /// Sent in AUTH.
    pub token: Vec<u8>,
    /// Connections made before by others: chooses the source addresses of these.
    pub nth: usize,
    /// Time over which [`Load::connect`] spreads its connects; zero: as fast as they go.
    pub spread: Duration,
}

/// All connections of one client.
#[derive(Debug)]
pub struct Load {
    shape: Shape,
    poller: Poller,
    clients: Vec<Option<Client>>,
    /// Connections that echo, the first ones; the others are idle.
    active: usize,
    scratch: Vec<u8>,
    quiet_since: Instant,
    /// Frames answered until now.
    pub frames: u64,
}

impl Load {
    /// A client without connections.
    ///
    /// # Errors
    /// No epoll.
    pub fn new(shape: Shape) -> Result<Load> {
        let poller = Poller::new(1024)?;
        let scratch = vec![0; 128 * 1024];
        Ok(Load {
            shape,
            poller,
            clients: Vec::new(),
            active: usize::MAX,
            scratch,
            quiet_since: Instant::now(),
            frames: 0,
        })
    }

    /// Has `count` connections, each let in and with one echo done.
    ///
    /// # Errors
    /// The server refuses, or answers something else.
    pub fn connect(&mut self, count: usize) -> Result<()> {
        let first = self.clients.len();
        let mut begun = first;
        let mut ready = first;
        let start = Instant::now();
        let each = self.shape.spread.div_f64(count.saturating_sub(first).max(1) as f64);
        while ready < count {
            while begun < count && begun - ready < CONNECTING && start.elapsed() >= each * (begun - first) as u32 {
                self.begin(begun)?;
                begun += 1;
            }
            self.each_event(|load, slot| {
                let shape = load.shape.clone();
                let Some(client) = load.clients[slot].as_mut() else { return Ok(()) };
                if client.greeted {
                    ready += 1;
                    return Ok(());
                }
                client.greeted = true;
                client.send_frames(Command::ECHO, 1, shape.payload);
                client.write()
            })?;
        }
        Ok(())
    }

    /// What the next bursts are like, and how many of the connections send them.
    pub fn reshape(&mut self, depth: usize, payload: usize, active: usize) {
        self.shape.depth = depth;
        self.shape.payload = payload;
        self.active = active;
    }

    /// Frames that all connections that echo send in one burst each.
    pub fn frames_in_a_cycle(&self) -> u64 {
        (self.active.min(self.clients.len()) * self.shape.depth) as u64
    }

    /// Echoes on all active connections until `until` says stop; it is asked after each look for events.
    ///
    /// # Errors
    /// A wrong reply, or none.
    pub fn echo(&mut self, mut until: impl FnMut(u64) -> Result<bool>) -> Result<()> {
        for slot in 0..self.clients.len().min(self.active) {
            self.burst(slot)?;
        }
        while !until(self.frames)? {
            self.each_event(|load, slot| {
                load.frames += load.shape.depth as u64;
                load.burst(slot)
            })?;
        }
        Ok(())
    }

    /// Answers what is on its way, after [`Load::echo`].
    ///
    /// # Errors
    /// A wrong reply, or none.
    pub fn settle(&mut self) -> Result<()> {
        while self.clients.iter().flatten().any(|client| !client.is_done()) {
            self.each_event(|load, _| {
                load.frames += load.shape.depth as u64;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Makes `total` connections, `at_once` at a time: connect, AUTH (or its bytes, echoed), close.
    /// `after` is called with the number closed, after each one.
    ///
    /// # Errors
    /// The server refuses, or answers something else.
    pub fn storm(&mut self, total: usize, at_once: usize, mut after: impl FnMut(usize) -> Result<()>) -> Result<()> {
        let at_once = at_once.min(total);
        let (mut begun, mut closed) = (at_once, 0);
        for slot in 0..at_once {
            self.begin(slot)?;
        }
        while closed < total {
            self.each_event(|load, slot| {
                load.clients[slot] = None;
                closed += 1;
                after(closed)?;
                if begun < total {
                    load.begin(slot)?;
                    begun += 1;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn begin(&mut self, slot: usize) -> Result<()> {
        let socket = net::begin_connect(self.shape.address, self.shape.nth, None)?;
        self.shape.nth += 1;
        self.poller.add(&socket, slot, EDGES)?;
        let client = Client::greeting(socket, self.shape.mode, &self.shape.token);
        if slot == self.clients.len() {
            self.clients.push(Some(client));
        } else {
            self.clients[slot] = Some(client);
        }
        Ok(())
    }

    fn burst(&mut self, slot: usize) -> Result<()> {
        let Some(client) = self.clients[slot].as_mut() else { return Ok(()) };
        client.send_frames(Command::ECHO, self.shape.depth, self.shape.payload);
        client.write()
    }

    /// Looks for events once; calls `done` for each connection that has its whole answer.
    fn each_event(&mut self, mut done: impl FnMut(&mut Load, usize) -> Result<()>) -> Result<()> {
        let ready = self.poller.wait(Some(Duration::ZERO))?;
        if ready == 0 {
            std::hint::spin_loop();
            return self.check_patience();
        }
        self.quiet_since = Instant::now();
        for index in 0..ready {
            let event = self.poller.ready(index);
            if self.handle(&event).map_err(|error| self.explain(error, event.slot))? {
                done(self, event.slot)?;
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: &Ready) -> Result<bool> {
        let Some(client) = self.clients[event.slot].as_mut() else { return Ok(false) };
        if client.is_done() && !event.ends {
            return Ok(false);
        }
        if !client.connected {
            if !event.writable {
                return Ok(false);
            }
            net::connect_result(&client.socket)?;
            client.connected = true;
        }
        if event.writable {
            client.write()?;
        }
        if !event.readable {
            return Ok(false);
        }
        loop {
            match rustix::io::read(&client.socket, &mut self.scratch[..]) {
                Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
                Ok(n) => {
                    let done = client.take(&self.scratch[..n])?;
                    if done || n < self.scratch.len() {
                        return Ok(done);
                    }
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn check_patience(&self) -> Result<()> {
        if self.quiet_since.elapsed() < PATIENCE {
            return Ok(());
        }
        let text = format!("no event for {} s: the server has stopped answering", PATIENCE.as_secs());
        Err(Error::new(ErrorKind::TimedOut, text))
    }

    fn explain(&self, error: Error, slot: usize) -> Error {
        Error::new(error.kind(), format!("connection {slot} to {}: {error}", self.shape.address))
    }
}
