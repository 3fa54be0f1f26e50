//! Listening sockets: one for each worker and address, all on the same port.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener as StdListener};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::options;
use crate::config::Sockets;

/// What accepting gave.
#[derive(Debug)]
pub enum Accepted {
    /// A connection.
    Stream(TcpStream),
    /// None now.
    Empty,
    /// One that was over before we looked; there may be more.
    Aborted,
    /// The process or the system has run out of something; pause, and keep serving.
    Exhausted(io::Error),
}

/// Opens a listening socket that shares its port with the other workers' ones. `cpu`: of the worker, where
/// connections are steered by it.
pub fn bind(address: SocketAddr, backlog: u32, options: &Sockets, cpu: Option<usize>) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Before listen(2): a window is scaled by the size that its buffer has then, and steering counts
    // the listeners that ask for it.
    options::set(&socket, options, cpu)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// A worker's listener.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Takes over a socket from [`bind`].
    pub fn new(listener: StdListener) -> Listener {
        Listener(TcpListener::from_std(listener))
    }

    /// Registers for edges.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.0, token, Interest::READABLE)
    }

    /// Takes it out of the poll.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.0)
    }

    /// Accepts once.
    pub fn accept(&self) -> Accepted {
        match self.0.accept() {
            Ok((stream, _)) => Accepted::Stream(stream),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Accepted::Empty,
            Err(e) => classify(e),
        }
    }

    /// Keeps no client waiting for having said nothing: whoever does is accepted within
    /// [`crate::limits::longest_deferral`].
    pub fn stop_deferring(&self) {
        if let Err(error) = options::stop_deferring(&self.0) {
            log::debug!("clients that have said nothing are still deferred: {error}; the close may reset them");
        }
    }

    /// Lets no new connection begin, while handshakes that have begun come to their end and into
    /// the backlog: whoever is in it is accepted before the close, and nobody is reset.
    ///
    /// A new SYN is dropped; its sender tries again after a second, finds another process on this
    /// port, or nobody, and is refused.
    pub fn stop_handshakes(&self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = SockRef::from(&self.0).attach_filter(&drop_syns()) {
            log::debug!(
                "no filter for the closing listener: {error}; a handshake that races with the close may be reset"
            );
        }
        #[cfg(not(target_os = "linux"))]
        let _ = SockRef::from(&self.0);
    }
}

/// accept(2): errors of the connection are not errors of the listener.
fn classify(error: io::Error) -> Accepted {
    use rustix::io::Errno;
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Accepted::Exhausted(error),
        Some(
            Errno::CONNABORTED
            | Errno::INTR
            | Errno::PROTO
            | Errno::PERM
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP,
        ) => Accepted::Aborted,
        _ => Accepted::Exhausted(error),
    }
}

/// Classic BPF over the TCP header (byte 13 holds the flags): drop what has SYN and not ACK.
#[cfg(target_os = "linux")]
fn drop_syns() -> [socket2::SockFilter; 5] {
    const LD_B_ABS: u16 = 0x30;
    const ALU_AND_K: u16 = 0x54;
    const JMP_JEQ_K: u16 = 0x15;
    const RET_K: u16 = 0x06;
    const SYN: u32 = 0x02;
    const SYN_ACK: u32 = 0x12;
    [
        socket2::SockFilter::new(LD_B_ABS, 0, 0, 13),
        socket2::SockFilter::new(ALU_AND_K, 0, 0, SYN_ACK),
        socket2::SockFilter::new(JMP_JEQ_K, 0, 1, SYN),
        socket2::SockFilter::new(RET_K, 0, 0, 0),
        socket2::SockFilter::new(RET_K, 0, 0, u32::MAX),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_pauses_and_a_broken_newcomer_does_not() {
        for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOBUFS] {
            assert!(matches!(classify(errno.into()), Accepted::Exhausted(_)), "{errno}");
        }
        for errno in [rustix::io::Errno::CONNABORTED, rustix::io::Errno::INTR, rustix::io::Errno::PROTO] {
            assert!(matches!(classify(errno.into()), Accepted::Aborted), "{errno}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_closing_listener_keeps_its_backlog_and_takes_no_new_handshake() {
        use std::time::Duration;
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 16, &Sockets::default(), None).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::new(socket);
        let _early = std::net::TcpStream::connect(address).unwrap();
        listener.stop_handshakes();
        let late = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(matches!(listener.accept(), Accepted::Stream(_)));
        assert!(matches!(listener.accept(), Accepted::Empty));
    }
}
