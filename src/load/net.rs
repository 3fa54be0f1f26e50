//! Sockets, limits and clocks of the system.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use mio::net::TcpStream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections from one source address where we choose it: below the usual range of 28,232 ports.
pub const PER_SOURCE: u64 = 20_000;
/// Connections to a loopback address from which on we choose source addresses.
const SPREAD_FROM: usize = 25_000;
/// Descriptors that a generator needs besides its connections.
const RESERVE: u64 = 64;

/// Begins to connect; the socket becomes writable when it is decided.
///
/// # Errors
/// It can't begin.
pub fn begin_connect(server: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(error) if is_in_progress(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

fn is_in_progress(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    error.kind() == io::ErrorKind::WouldBlock || code == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

/// How a connect ended: `Ok(false)` not yet.
///
/// # Errors
/// It failed, so.
pub fn connect_result(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Addresses to connect from, where the operator names none: a server on this machine can have more
/// connections than one address has ports.
pub fn own_sources(server: SocketAddr, connections: usize) -> Vec<IpAddr> {
    if connections <= SPREAD_FROM || !server.ip().is_loopback() || server.is_ipv6() {
        return Vec::new();
    }
    let blocks = (connections as u64).div_ceil(PER_SOURCE);
    let first = u32::from(Ipv4Addr::LOCALHOST);
    (0..blocks)
        .filter_map(|block| u32::try_from(block).ok())
        .map(|block| Ipv4Addr::from(first + block).into())
        .collect()
}

/// The address that connection `number` of a run comes from.
pub fn source_of(sources: &[IpAddr], number: u64) -> Option<IpAddr> {
    let block = (number / PER_SOURCE) as usize;
    // By blocks, so that one address is used up before the next is needed; then around.
    (!sources.is_empty()).then(|| sources[block % sources.len()])
}

/// The address of a server, looked up if it is a name.
///
/// # Errors
/// There is none.
pub fn resolve(address: &str) -> io::Result<SocketAddr> {
    let mut found = address.to_socket_addrs()?;
    found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

/// Raises the limit of open files as far as the system allows, and tells how many connections it leaves.
pub fn connection_limit() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it can't be raised, what there is counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(current.saturating_sub(RESERVE)).unwrap_or(usize::MAX).max(1)
}

/// CPU time of this process until now, user and system.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

#[cfg(target_os = "linux")]
pub use alarm::Alarm;

/// Wakes a poll at an instant, where its own timeout is too coarse by up to a millisecond.
#[cfg(target_os = "linux")]
mod alarm {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, OwnedFd};
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };

    /// A timer among the poll's sources.
    #[derive(Debug)]
    pub struct Alarm(OwnedFd);

    impl Alarm {
        /// A timer that is not set.
        ///
        /// # Errors
        /// The system has none to give.
        pub fn new(registry: &Registry, token: Token) -> io::Result<Alarm> {
            let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Alarm(fd))
        }

        /// Goes off once, so long from now. Returns whether it will: if not, the poll's timeout has to do.
        pub fn set(&self, after: Duration) -> bool {
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let Ok(mut it_value) = Timespec::try_from(after) else { return false };
            it_value.tv_nsec += i64::from(it_value == zero); // zero would mean never
            let once = Itimerspec { it_interval: zero, it_value };
            timerfd_settime(self.0.as_fd(), TimerfdTimerFlags::empty(), &once).is_ok()
        }
    }
}

/// Elsewhere the poll's own timeout has to do.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub struct Alarm;

#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// Nothing.
    ///
    /// # Errors
    /// None.
    pub fn new(_: &mio::Registry, _: mio::Token) -> io::Result<Alarm> {
        Ok(Alarm)
    }

    /// Never goes off.
    pub fn set(&self, _: Duration) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_connections_to_loopback_come_from_as_many_addresses_as_they_need() {
        let server = "127.0.0.1:7400".parse().unwrap();
        assert!(own_sources(server, 25_000).is_empty());
        assert!(own_sources("192.0.2.1:7400".parse().unwrap(), 1_000_000).is_empty());
        let sources = own_sources(server, 1_000_000);
        assert_eq!(sources.len(), 50);
        let mut used = std::collections::HashMap::new();
        for number in 0..1_000_000 {
            *used.entry(source_of(&sources, number)).or_insert(0) += 1;
        }
        assert!(used.len() == 50 && used.values().all(|n| *n == PER_SOURCE));
        assert_eq!(source_of(&[], 5), None);
    }
}
