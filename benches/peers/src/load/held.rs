//! Connections that only listen: they answer heartbeats, or read until the server goes away.

use std::io::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tidegate::proto::{Command, HEADER_LEN};

use super::Load;
use crate::exchange::{Client, Mode};

/// Offset of `cmd` in a frame's header.
const CMD: usize = 8;

impl Load {
    /// Answers each PING without a payload by its PONG (a raw server's by the same bytes) until
    /// `until`, which is asked after each look for events and given the number answered, says stop.
    ///
    /// # Errors
    /// Something else comes, or the server goes away.
    pub fn answer_heartbeats(&mut self, mut until: impl FnMut(u64) -> Result<bool>) -> Result<()> {
        let mut answered = 0;
        // Those that came while others still connected: no edge tells of them again.
        for slot in 0..self.clients.len() {
            answered += self.answer(slot)?;
        }
        while !until(answered)? {
            let ready = self.poller.wait(Some(Duration::ZERO))?;
            if ready == 0 {
                std::hint::spin_loop();
            }
            for index in 0..ready {
                let event = self.poller.ready(index);
                if event.readable {
                    answered += self.answer(event.slot)?;
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, slot: usize) -> Result<u64> {
        let Some(client) = self.clients[slot].as_mut() else { return Ok(0) };
        answer(client, self.shape.mode, &mut self.scratch).map_err(|error| self.explain(error, slot))
    }

    /// Reads all connections to their end, and closes each then. Returns how many had ended in a
    /// reset, and when the last one was closed.
    ///
    /// # Errors
    /// Somebody is not closed within `patience`.
    pub fn read_to_end(&mut self, patience: Duration) -> Result<(usize, Instant)> {
        let mut left = self.clients.iter().flatten().count();
        let start = Instant::now();
        let mut resets = 0;
        while left > 0 {
            let ready = self.poller.wait(Some(Duration::ZERO))?;
            if ready == 0 {
                std::hint::spin_loop();
            }
            if start.elapsed() > patience {
                let text = format!("{left} connections are still open after {} s", patience.as_secs());
                return Err(Error::new(ErrorKind::TimedOut, text));
            }
            for index in 0..ready {
                let event = self.poller.ready(index);
                let Some(client) = self.clients[event.slot].as_mut().filter(|_| event.readable) else { continue };
                if let Some(reset) = has_ended(client, &mut self.scratch) {
                    resets += usize::from(reset);
                    left -= 1;
                    self.clients[event.slot] = None;
                }
            }
        }
        Ok((resets, Instant::now()))
    }
}

/// Answers what has come; returns how many PINGs it was.
fn answer(client: &mut Client, mode: Mode, scratch: &mut [u8]) -> Result<u64> {
    let n = match rustix::io::read(&client.socket, &mut *scratch) {
        Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
        Ok(n) => n,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let frames = scratch[..n].chunks_exact_mut(HEADER_LEN);
    let count = frames.len();
    if n % HEADER_LEN != 0 {
        return Err(Error::new(ErrorKind::InvalidData, format!("{n} bytes are no PINGs")));
    }
    for frame in frames {
        if frame[CMD] != Command::PING.0 {
            return Err(Error::new(ErrorKind::InvalidData, format!("command {:#04x} instead of a PING", frame[CMD])));
        }
        if mode == Mode::Mcp {
            frame[CMD] = Command::PONG.0;
        }
    }
    if rustix::io::write(&client.socket, &scratch[..n])? < n {
        return Err(Error::other("the socket has no room for a PONG"));
    }
    Ok(count as u64)
}

/// Reads what there is; `None`: there is no end yet. Whether the end is a reset.
fn has_ended(client: &mut Client, scratch: &mut [u8]) -> Option<bool> {
    loop {
        match rustix::io::read(&client.socket, &mut *scratch) {
            Ok(0) => return Some(false),
            // The EOF may be there already, and no edge tells of it again.
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return None,
            Err(_) => return Some(true),
        }
    }
}
