//! mio: the floor's loop through the reactor library that the server uses.

use std::io::{ErrorKind, Read, Result, Write};
use std::net;
use std::process::ExitCode;

use clap::Parser;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use peers::serve::Flags;
use slab::Slab;

/// As much as the floor reads in one call.
const SCRATCH: usize = 128 * 1024;
const LISTENER: Token = Token(usize::MAX);

/// An echo server to measure others beside.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    let Args { flags } = Args::parse();
    peers::serve::run("mio", &flags, serve)
}

/// One buffer is enough: what a socket does not take is kept with its connection.
fn serve(listener: net::TcpListener) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::from_std(listener);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Slab<Connection> = Slab::new();
    let mut bytes = vec![0; SCRATCH];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in events.iter() {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(event.token().0)
                && connection.handle(event, &mut bytes).is_err()
            {
                connections.remove(event.token().0);
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, connections: &mut Slab<Connection>) -> Result<()> {
    loop {
        let (mut stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let entry = connections.vacant_entry();
        poll.registry().register(&mut stream, Token(entry.key()), Interest::READABLE | Interest::WRITABLE)?;
        entry.insert(Connection { stream, unsent: Vec::new(), ends: false });
    }
}

struct Connection {
    stream: TcpStream,
    unsent: Vec<u8>,
    ends: bool,
}

impl Connection {
    /// Reads and writes back what there is. An error: it is over.
    fn handle(&mut self, event: &Event, bytes: &mut [u8]) -> Result<()> {
        self.ends |= event.is_read_closed();
        if !self.unsent.is_empty() && event.is_writable() {
            let took = would_block(self.stream.write(&self.unsent))?.unwrap_or(0);
            self.unsent.drain(..took);
        }
        while self.unsent.is_empty() {
            let n = match would_block(self.stream.read(bytes))? {
                None => return Ok(()),
                Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(n) => n,
            };
            let took = would_block(self.stream.write(&bytes[..n]))?.unwrap_or(0);
            self.unsent.extend_from_slice(&bytes[took..n]);
            // mio allows to take a short read for an empty socket.
            if n < bytes.len() && !self.ends {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// `None`: later.
fn would_block(done: Result<usize>) -> Result<Option<usize>> {
    match done {
        Ok(n) => Ok(Some(n)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
