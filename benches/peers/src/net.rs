//! Sockets and CPUs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::{Errno, Result};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Connections from one source address: below the usual range of 28,232 ports.
const PORTS_PER_SOURCE: usize = 20_000;

/// A listener that shares its port with others (SO_REUSEPORT), non-blocking.
///
/// # Errors
/// The address can't be bound.
pub fn listen(address: SocketAddr, backlog: i32) -> Result<OwnedFd> {
    let socket = stream_socket(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    // Accepted sockets inherit it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, backlog)?;
    Ok(socket)
}

/// The address that a socket is bound to.
///
/// # Errors
/// The system does not say, or it is no IP address.
pub fn local_address(socket: &OwnedFd) -> Result<SocketAddr> {
    SocketAddr::try_from(net::getsockname(socket)?).map_err(|_| Errno::AFNOSUPPORT)
}

/// Takes a connection from the backlog, non-blocking.
///
/// # Errors
/// `AGAIN`: there is none.
pub fn accept(listener: &OwnedFd) -> Result<OwnedFd> {
    net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
}

/// Begins to connect; the socket becomes writable when it is decided. `nth` chooses the source
/// address, so that the ports of one do not limit how many connections there can be.
///
/// # Errors
/// The connection can't begin.
pub fn begin_connect(address: SocketAddr, nth: usize, receive_buffer: Option<usize>) -> Result<OwnedFd> {
    let socket = stream_socket(address)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(bytes) = receive_buffer {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    if let Some(source) = source_address(address, nth) {
        net::bind(&socket, &source)?;
    }
    match net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// How a connect ended.
///
/// # Errors
/// It failed, so.
pub fn connect_result(socket: &OwnedFd) -> Result<()> {
    sockopt::socket_error(socket)?
}

/// Pins the calling thread to one CPU.
///
/// # Errors
/// There is no such CPU for this process.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
}

/// Raises the limit of open files to what the system allows.
pub fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Whoever needs more is told so by EMFILE.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn stream_socket(address: SocketAddr) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
}

fn source_address(address: SocketAddr, nth: usize) -> Option<SocketAddr> {
    let block = nth / PORTS_PER_SOURCE;
    if block == 0 || !address.ip().is_loopback() || address.is_ipv6() {
        return None;
    }
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + block as u32);
    Some(SocketAddr::new(IpAddr::V4(source), 0))
}
