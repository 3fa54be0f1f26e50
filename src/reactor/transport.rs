//! The stream under a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::outq;
use crate::conn::{Sink, Written};

/// A non-blocking stream. TCP today; what else comes (TLS, Unix, WebSocket) becomes a variant here
/// and nothing above changes.
#[derive(Debug)]
pub struct Transport(TcpStream);

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// This many bytes.
    Bytes(usize),
    /// Nothing now; an event will come.
    Blocked,
    /// Nothing any more.
    Eof,
    /// The stream is broken.
    Gone,
}

impl Transport {
    /// A stream that was just accepted.
    pub fn new(stream: TcpStream) -> Transport {
        Transport(stream)
    }

    /// Registers for edges in both directions; never to be registered again.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.0, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Reads once.
    pub fn read(&mut self, scratch: &mut [u8]) -> ReadOutcome {
        loop {
            return match self.0.read(scratch) {
                Ok(0) => ReadOutcome::Eof,
                Ok(n) => ReadOutcome::Bytes(n),
                Err(e) if e.kind() == ErrorKind::WouldBlock => ReadOutcome::Blocked,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => ReadOutcome::Gone,
            };
        }
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&mut self) {
        // ENOTCONN: the peer has reset it; the next read says so.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Closes so that the peer sees a reset and not an end.
    pub fn reset(self) {
        // A zero linger time makes close(2) send RST (socket(7)). If it fails the close is orderly.
        let _ = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }

    /// Bytes that the peer has not acknowledged; `None` if the system does not say.
    pub fn unacked(&self) -> Option<u64> {
        outq::unacked(self.0.local_addr().ok()?, self.0.peer_addr().ok()?)
    }

    /// The other end.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer_addr().ok()
    }
}

impl Sink for Transport {
    fn write(&mut self, bytes: &[u8]) -> Written {
        written(|| self.0.write(bytes))
    }

    /// The last bytes and the FIN behind them leave as one segment (`MSG_MORE`, send(2)): half the
    /// packets of a drain, and one wake-up of the peer instead of two.
    #[cfg(target_os = "linux")]
    fn write_last(&mut self, bytes: &[u8]) -> Written {
        use rustix::net::{SendFlags, send};
        written(|| Ok(send(&self.0, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?))
    }
}

fn written(mut write: impl FnMut() -> io::Result<usize>) -> Written {
    loop {
        return match write() {
            Ok(n) => Written::Took(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Written::Took(0),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(_) => Written::Gone,
        };
    }
}
