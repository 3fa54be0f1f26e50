//! A client that keeps a number of requests in flight on each connection, or sends at a given rate; it sleeps
//! when there is nothing to do, since the disk's thread needs a CPU, too.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::io::Errno;

use super::speak::{Dialogue, Tongue};
use crate::net;
use crate::poller::{EDGES, Poller};

/// Longest time without a single reply.
const PATIENCE: Duration = Duration::from_secs(20);
/// Waits are not longer, so that a stop is seen in time.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// How long things took, to three digits.
#[derive(Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Times {
        Times::new()
    }
}

impl Times {
    /// Nothing yet.
    pub fn new() -> Times {
        Times(
            Histogram::new_with_bounds(1, 3_600_000_000_000, 3)
                .unwrap_or_else(|_| unreachable!("bounds of a histogram")),
        )
    }

    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.0.saturating_record(took.as_nanos() as u64);
    }

    /// `p50_us=… p99_us=… max_us=…`.
    pub fn line(&self) -> String {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        format!("p50_us={:.1} p99_us={:.1} p999_us={:.1} max_us={:.1}", at(0.5), at(0.99), at(0.999), at(1.0))
    }
}

/// One step: what is sent, and how.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Requests in flight on each connection; with a rate, the most.
    pub depth: usize,
    /// Bytes of a body.
    pub payload: usize,
    /// How long.
    pub length: Duration,
    /// Requests a second over all connections; none: as fast as answers come.
    pub rate: Option<f64>,
}

struct Connection {
    socket: OwnedFd,
    connected: bool,
    dialogue: Dialogue,
}

/// All connections.
pub struct Load {
    poller: Poller,
    connections: Vec<Connection>,
    scratch: Vec<u8>,
    body: Vec<u8>,
    /// Which connection sends next, where there is a rate.
    turn: usize,
    /// Requests that a connection has in flight all the time; 0: no more are sent for those answered.
    keep: usize,
    last_reply: Instant,
}

/// What came of a step.
#[derive(Debug)]
pub struct Measured {
    /// Requests answered.
    pub replies: u64,
    /// Seconds.
    pub seconds: f64,
    /// From when each was due to its answer.
    pub times: Times,
}

impl Load {
    /// Makes so many connections, and is let in on all of them.
    ///
    /// # Errors
    /// Nobody is there, or it does not let us in.
    pub fn connect(address: SocketAddr, tongue: Tongue, count: usize) -> Result<Load> {
        let poller = Poller::new(1024)?;
        let (body, scratch) = (Vec::new(), vec![0; 256 * 1024]);
        let mut load =
            Load { poller, connections: Vec::new(), scratch, body, turn: 0, keep: 0, last_reply: Instant::now() };
        for nth in 0..count {
            let socket = net::begin_connect(address, nth, None)?;
            load.poller.add(&socket, nth, EDGES)?;
            load.connections.push(Connection { socket, connected: false, dialogue: Dialogue::new(tongue, nth) });
            // One after the other: the first one may have something to prepare.
            while !load.connections[nth].connected || !load.connections[nth].dialogue.is_let_in() {
                load.turn_once(LONGEST_WAIT, |_, _| {})?;
            }
        }
        Ok(load)
    }

    /// Does one step, and ends with everything answered; what is answered within its time counts.
    ///
    /// # Errors
    /// A wrong answer, or none.
    pub fn run(&mut self, step: &Step) -> Result<Measured> {
        self.body = (0..step.payload).map(|i| (i % 251) as u8).collect();
        let mut times = Times::new();
        let mut replies = 0;
        let began = Instant::now();
        let end = began + step.length;
        self.last_reply = began;
        let mut due = began;
        if step.rate.is_none() {
            self.keep = step.depth.max(1);
            for nth in 0..self.connections.len() {
                self.connections[nth].dialogue.fill_up(self.keep, &self.body, began);
                self.write(nth)?;
            }
        }
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            if let Some(rate) = step.rate {
                while due <= now {
                    self.send_in_turn(due)?;
                    due += Duration::from_secs_f64(1.0 / rate);
                }
            }
            let wait = if step.rate.is_some() { due.min(end) - now } else { end - now };
            self.turn_once(wait.min(LONGEST_WAIT), |due, now| {
                times.add(now.saturating_duration_since(due));
                replies += 1;
            })?;
        }
        let seconds = began.elapsed().as_secs_f64();
        self.keep = 0;
        while self.connections.iter().any(|connection| connection.dialogue.in_flight() > 0) {
            self.turn_once(LONGEST_WAIT, |_, _| {})?;
        }
        Ok(Measured { replies, seconds, times })
    }

    fn send_in_turn(&mut self, due: Instant) -> Result<()> {
        self.turn = (self.turn + 1) % self.connections.len().max(1);
        let Some(connection) = self.connections.get_mut(self.turn) else { return Ok(()) };
        connection.dialogue.ask(&self.body, due);
        self.write(self.turn)
    }

    /// Waits for events, and takes what they bring.
    fn turn_once(&mut self, wait: Duration, mut answered: impl FnMut(Instant, Instant)) -> Result<()> {
        let ready = self.poller.wait(Some(wait))?;
        if self.last_reply.elapsed() > PATIENCE {
            return Err(Error::new(ErrorKind::TimedOut, format!("no reply for {} s", PATIENCE.as_secs())));
        }
        for index in 0..ready {
            let event = self.poller.ready(index);
            let nth = event.slot;
            if !self.connections[nth].connected {
                if !event.writable {
                    continue;
                }
                net::connect_result(&self.connections[nth].socket)?;
                self.connections[nth].connected = true;
            }
            if event.readable {
                self.read(nth, &mut answered)?;
            }
            self.write(nth)?;
        }
        Ok(())
    }

    fn read(&mut self, nth: usize, answered: &mut impl FnMut(Instant, Instant)) -> Result<()> {
        let connection = &mut self.connections[nth];
        loop {
            match rustix::io::read(&connection.socket, &mut self.scratch[..]) {
                Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
                Ok(n) => {
                    let now = Instant::now();
                    self.last_reply = now;
                    connection.dialogue.take(&self.scratch[..n], |due| answered(due, now))?;
                    connection.dialogue.fill_up(self.keep, &self.body, now);
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write(&mut self, nth: usize) -> Result<()> {
        let Connection { socket, connected, dialogue } = &mut self.connections[nth];
        while *connected && dialogue.sent < dialogue.out.len() {
            match rustix::io::write(&*socket, &dialogue.out[dialogue.sent..]) {
                Ok(took) => dialogue.sent += took,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if dialogue.sent == dialogue.out.len() {
            dialogue.out.clear();
            dialogue.sent = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_microseconds() {
        let mut times = Times::new();
        (1..=100).for_each(|ms| times.add(Duration::from_millis(ms)));
        let line = times.line();
        let of = |name: &str| -> f64 {
            let part = line.split(' ').find_map(|part| part.strip_prefix(name)).unwrap();
            part.parse().unwrap()
        };
        assert!((of("p50_us=") - 50_000.0).abs() < 100.0 && (of("max_us=") - 100_000.0).abs() < 200.0, "{line}");
    }
}
