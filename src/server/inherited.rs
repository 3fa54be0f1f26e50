//! Listening sockets that somebody else has opened and keeps: systemd's socket activation, for one.
//!
//! Whoever connects while no process serves waits in such a socket's backlog for the next one. They
//! are therefore not closed as our own are: nothing that would outlive this process is set on them, and
//! a drain takes nobody more out of them.

use std::net::{SocketAddr, TcpListener};

use socket2::{SockRef, Type};

use super::StartError;
use crate::config;
use crate::reactor::MAX_LISTENERS;

/// What the workers listen on.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Where, each address once.
    pub addresses: Vec<SocketAddr>,
    /// Each worker's own.
    pub listeners: Vec<Vec<TcpListener>>,
    /// Somebody else has opened them, and keeps them.
    pub kept: bool,
}

/// Sockets that listen already.
#[derive(Debug)]
pub(super) struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// Takes them as they are: TCP sockets, listening. `None`: there are none.
    ///
    /// # Errors
    /// One is something else; it is told which.
    pub fn take(sockets: Vec<TcpListener>, options: &config::Sockets) -> Result<Option<Inherited>, StartError> {
        let mut taken = Vec::with_capacity(sockets.len());
        for (index, socket) in sockets.into_iter().enumerate() {
            let address = prepare(&socket, options.nodelay).map_err(|error| {
                StartError::Config(format!(
                    "socket {index} of those passed to this process: {error}; expected a TCP socket that listens, \
                     as ListenStream=7400 of a .socket unit (with Accept=no) makes one"
                ))
            })?;
            taken.push((address, socket));
        }
        if taken.is_empty() {
            return Ok(None);
        }
        if (config::Sockets { nodelay: options.nodelay, ..config::Sockets::default() }) != *options {
            log::warn!(
                "the sockets that were passed to this process stay as they were opened (ReceiveBuffer=, SendBuffer=, \
                 KeepAlive=, DeferAcceptSec= of the .socket unit): TIDEGATE_SO_…, TIDEGATE_TCP_… and \
                 TIDEGATE_STEERING are not for them"
            );
        }
        Ok(Some(Inherited(taken)))
    }

    /// Where they listen, each address once.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for (address, _) in &self.0 {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        addresses
    }

    /// Deals the sockets of each address (there are several with `ReusePort=yes`) out to the workers.
    /// With as many as workers each has its own, and the kernel spreads the connections. Where there
    /// are fewer, workers share them: all are woken for a connection, the first one gets it.
    ///
    /// # Errors
    /// There are more than a worker can listen on, or the system gives no descriptors.
    pub fn deal(self, workers: usize) -> Result<Sockets, StartError> {
        let addresses = self.addresses();
        let mut listeners: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        for address in addresses.iter().copied() {
            let sockets: Vec<&TcpListener> = self.0.iter().filter(|(at, _)| *at == address).map(|(_, s)| s).collect();
            log::info!("{address}: {} sockets were passed to {workers} workers", sockets.len());
            for turn in 0..workers.max(sockets.len()) {
                let socket = sockets[turn % sockets.len()].try_clone();
                let socket = socket.map_err(|error| StartError::System(format!("share {address}: {error}")))?;
                listeners[turn % workers].push(socket);
            }
        }
        match listeners.iter().map(Vec::len).max() {
            Some(most) if most > MAX_LISTENERS => Err(StartError::Config(format!(
                "{most} sockets were passed for each worker; expected at most {MAX_LISTENERS}: pass fewer, or set \
                 TIDEGATE_WORKERS to more"
            ))),
            _ => Ok(Sockets { addresses, listeners, kept: true }),
        }
    }
}

/// Checks what it is, and sets what the workers rely on: no call on it blocks, and what is accepted
/// from it sends at once.
fn prepare(socket: &TcpListener, nodelay: bool) -> Result<SocketAddr, String> {
    let words = |error: std::io::Error| error.to_string();
    let inner = SockRef::from(socket);
    let address = inner.local_addr().map_err(words)?.as_socket().ok_or("it is not of the Internet")?;
    if inner.r#type().map_err(words)? != Type::STREAM {
        return Err(format!("{address} is not of TCP"));
    }
    // macOS has no word for it; there, the first accept tells.
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    if !inner.is_listener().map_err(words)? {
        return Err(format!("{address} does not listen"));
    }
    inner.set_nonblocking(true).map_err(words)?;
    inner.set_tcp_nodelay(nodelay).map_err(words)?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::os::fd::OwnedFd;

    use super::*;

    fn bind(address: SocketAddr) -> TcpListener {
        crate::reactor::bind(address, 8, &config::Sockets::default(), None).unwrap()
    }

    fn dealt(sockets: usize, workers: usize) -> Vec<usize> {
        let first = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = first.local_addr().unwrap();
        let mut all = vec![first];
        all.resize_with(sockets, || bind(address));
        let inherited = Inherited::take(all, &config::Sockets::default()).unwrap().unwrap();
        assert_eq!(inherited.addresses(), [address]);
        inherited.deal(workers).unwrap().listeners.iter().map(Vec::len).collect()
    }

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        assert_eq!(dealt(1, 3), [1, 1, 1]);
        assert_eq!(dealt(2, 3), [1, 1, 1]);
        assert_eq!(dealt(3, 3), [1, 1, 1]);
        assert_eq!(dealt(5, 3), [2, 2, 1]);
    }

    #[test]
    fn what_does_not_listen_for_tcp_is_refused_with_its_place() {
        assert!(Inherited::take(Vec::new(), &config::Sockets::default()).unwrap().is_none());
        let listening = || TcpListener::bind("127.0.0.1:0").unwrap();
        let wrong: [OwnedFd; 3] = [
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            std::os::unix::net::UnixDatagram::unbound().unwrap().into(),
            socket2::Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap().into(),
        ];
        for fd in wrong {
            let error =
                Inherited::take(vec![listening(), TcpListener::from(fd)], &config::Sockets::default()).unwrap_err();
            let StartError::Config(text) = error else { panic!("{error}") };
            assert!(text.starts_with("socket 1 of those passed to this process: "), "{text}");
        }
    }

    #[test]
    fn more_sockets_than_a_worker_can_listen_on_are_refused() {
        let sockets = (0..=MAX_LISTENERS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let error = Inherited::take(sockets, &config::Sockets::default()).unwrap().unwrap().deal(2).unwrap_err();
        assert!(matches!(&error, StartError::Config(text) if text.contains("TIDEGATE_WORKERS")), "{error}");
    }
}
