//! Options of listening sockets, which the connections that they accept inherit: that saves a system
//! call for each option and connection.

use std::io;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};

use crate::config::Sockets;

/// Sets what the operator asks for. To be called before listen(2).
///
/// # Errors
/// The system does not take an option; the error names its setting.
pub fn set(socket: &Socket, options: &Sockets, cpu: Option<usize>) -> io::Result<()> {
    named("TIDEGATE_TCP_NODELAY", socket.set_tcp_nodelay(options.nodelay))?;
    if options.receive_buffer > 0 {
        named("TIDEGATE_SO_RCVBUF", socket.set_recv_buffer_size(options.receive_buffer))?;
    }
    if options.send_buffer > 0 {
        named("TIDEGATE_SO_SNDBUF", socket.set_send_buffer_size(options.send_buffer))?;
    }
    if options.keepalive_s > 0 {
        let seconds = |n: u32| Duration::from_secs(u64::from(n));
        let keepalive = TcpKeepalive::new()
            .with_time(seconds(options.keepalive_s))
            .with_interval(seconds(options.keepalive_interval_s))
            .with_retries(options.keepalive_count);
        named("TIDEGATE_TCP_KEEPALIVE_S", socket.set_tcp_keepalive(&keepalive))?;
    }
    system::set(socket, options, cpu)
}

/// Accepts also who has said nothing.
pub fn stop_deferring(listener: &mio::net::TcpListener) -> io::Result<()> {
    system::defer_accept(listener, 0)
}

/// What the kernel did not grant of what was asked for, in words; it lowers buffers to bounds of its own.
pub fn shortfalls(listener: &std::net::TcpListener, options: &Sockets) -> Vec<String> {
    let socket = SockRef::from(listener);
    // Linux doubles what is set, and tells of the double (socket(7)).
    let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
    let buffers = [
        ("TIDEGATE_SO_RCVBUF", options.receive_buffer, socket.recv_buffer_size(), "net.core.rmem_max"),
        ("TIDEGATE_SO_SNDBUF", options.send_buffer, socket.send_buffer_size(), "net.core.wmem_max"),
    ];
    let short = buffers.into_iter().filter_map(|(name, asked, got, bound)| {
        let got = got.ok()? / factor;
        (got < asked).then(|| format!("{name}={asked}: the kernel gives {got} bytes; raise {bound}"))
    });
    short.chain(system::shortfall(options)).collect()
}

fn named<T>(setting: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("the system does not take {setting}: {error}")))
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::libc;
    use nix::sys::socket::setsockopt;
    use nix::sys::socket::sockopt::SetStruct;
    use socket2::Socket;

    use super::named;
    use crate::config::{Sockets, Steering};

    #[derive(Clone, Copy, Debug)]
    struct DeferAccept;

    // The macro by which nix makes its own options.
    nix::setsockopt_impl!(DeferAccept, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, libc::c_int, SetStruct<libc::c_int>);

    pub fn set(socket: &Socket, options: &Sockets, cpu: Option<usize>) -> io::Result<()> {
        if options.user_timeout_ms > 0 {
            let timeout = Duration::from_millis(u64::from(options.user_timeout_ms));
            named("TIDEGATE_TCP_USER_TIMEOUT_MS", socket.set_tcp_user_timeout(Some(timeout)))?;
        }
        if options.defer_accept_s > 0 {
            named("TIDEGATE_TCP_DEFER_ACCEPT_S", defer_accept(socket, options.defer_accept_s))?;
        }
        // SO_INCOMING_CPU and not a BPF program for SO_ATTACH_REUSEPORT_CBPF: each listener names its CPU by
        // itself, whatever the order in which listeners come and go, and a CPU that nobody names is
        // left to the kernel's choice.
        if let Some(cpu) = cpu
            && let Err(error) = socket.set_cpu_affinity(cpu)
        {
            log::warn!(cpu = cpu; "connections can't be steered to CPU {cpu}: {error}; they land on any worker");
        }
        Ok(())
    }

    pub fn defer_accept(socket: &impl AsFd, seconds: u32) -> io::Result<()> {
        Ok(setsockopt(socket, DeferAccept, &(seconds as libc::c_int))?)
    }

    /// From 4.6 on the kernel looked at listeners' CPUs no more when several share a port, until 6.2
    /// (commit b261eda84ec1, "soreuseport: Fix socket selection for SO_INCOMING_CPU").
    pub fn shortfall(options: &Sockets) -> Option<String> {
        if options.steering == Steering::Kernel {
            return None;
        }
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
        (!steers(&release)?).then(|| {
            format!(
                "TIDEGATE_STEERING=cpu: Linux {} may leave it at the kernel's choice; 6.2 does steer",
                release.trim()
            )
        })
    }

    /// `None`: not a release as we know them.
    pub fn steers(release: &str) -> Option<bool> {
        let mut parts = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
        Some((parts.next()?, parts.next()?) >= (6, 2))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    use socket2::Socket;

    use crate::config::Sockets;

    pub fn set(_socket: &Socket, _options: &Sockets, _cpu: Option<usize>) -> io::Result<()> {
        Ok(())
    }

    pub fn defer_accept<T>(_socket: &T, _seconds: u32) -> io::Result<()> {
        Ok(())
    }

    pub fn shortfall(options: &Sockets) -> Option<String> {
        let asked = [
            ("TIDEGATE_TCP_USER_TIMEOUT_MS", options.user_timeout_ms),
            ("TIDEGATE_TCP_DEFER_ACCEPT_S", options.defer_accept_s),
        ];
        let (name, value) = asked.into_iter().find(|(_, value)| *value > 0)?;
        Some(format!("{name}={value}: only Linux has it; nothing is done about it here"))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{SocketAddr, TcpStream};

    use nix::libc;
    use nix::sys::socket::sockopt::GetStruct;

    use super::*;
    use crate::limits::longest_deferral;
    use crate::reactor::listener::bind;

    #[derive(Clone, Copy, Debug)]
    struct DeferAccept;

    nix::getsockopt_impl!(DeferAccept, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, libc::c_int, GetStruct<libc::c_int>);

    const ANY: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

    fn accepted(address: &str, options: &Sockets) -> Option<(Socket, TcpStream)> {
        let listener = bind(address.parse::<SocketAddr>().unwrap(), 16, options, None).ok()?;
        listener.set_nonblocking(false).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Some((listener.accept().unwrap().0.into(), client))
    }

    #[test]
    fn accepted_connections_inherit_what_the_listener_was_given() {
        let options = Sockets {
            receive_buffer: 30_000,
            send_buffer: 40_000,
            nodelay: true,
            user_timeout_ms: 7_000,
            keepalive_s: 100,
            keepalive_interval_s: 11,
            keepalive_count: 5,
            ..Sockets::default()
        };
        for address in ANY {
            let Some((socket, _client)) = accepted(address, &options) else { continue };
            assert_eq!(socket.recv_buffer_size().unwrap(), 60_000);
            assert_eq!(socket.send_buffer_size().unwrap(), 80_000);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(100));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(11));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 5);
        }
    }

    #[test]
    fn what_is_not_asked_for_is_left_to_the_kernel() {
        let (socket, client) = accepted(ANY[0], &Sockets { nodelay: false, ..Sockets::default() }).unwrap();
        assert!(!socket.tcp_nodelay().unwrap() && !socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        let plain = std::net::TcpListener::bind(ANY[0]).unwrap();
        let _other = TcpStream::connect(plain.local_addr().unwrap()).unwrap();
        let (theirs, _) = plain.accept().unwrap();
        assert_eq!(socket.recv_buffer_size().unwrap(), SockRef::from(&theirs).recv_buffer_size().unwrap());
        drop(client);
    }

    #[test]
    fn deferring_and_steering_are_set_on_the_listener_and_deferring_can_be_stopped() {
        let options = Sockets { defer_accept_s: 5, ..Sockets::default() };
        let listener = bind(ANY[0].parse().unwrap(), 16, &options, Some(0)).unwrap();
        assert_eq!(SockRef::from(&listener).cpu_affinity().unwrap(), 0);
        // Told in the seconds that its timers come to.
        assert_eq!(nix::sys::socket::getsockopt(&listener, DeferAccept).unwrap(), 7);
        let listener = mio::net::TcpListener::from_std(listener);
        stop_deferring(&listener).unwrap();
        assert_eq!(nix::sys::socket::getsockopt(&listener, DeferAccept).unwrap(), 0);
    }

    #[test]
    fn a_buffer_that_the_kernel_does_not_grant_is_named_with_what_it_gives() {
        let options = Sockets { receive_buffer: crate::limits::MAX_SOCKET_BUFFER, ..Sockets::default() };
        let listener = bind(ANY[0].parse().unwrap(), 16, &options, None).unwrap();
        let told = shortfalls(&listener, &options);
        assert!(
            matches!(&told[..], [one] if one.contains("TIDEGATE_SO_RCVBUF") && one.contains("rmem_max")),
            "{told:?}"
        );
        assert!(shortfalls(&listener, &Sockets::default()).is_empty());
    }

    #[test]
    fn the_longest_deferral_is_the_last_of_the_handshakes_timers() {
        // 1 s, 2 s, 4 s, … for as many of them as cover the seconds set.
        for (seconds, last) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8), (30, 16)] {
            assert_eq!(longest_deferral(seconds), Duration::from_secs(last), "{seconds} s");
        }
    }

    #[test]
    fn kernels_that_steer_are_told_from_those_that_do_not() {
        let steers = |release: &str| system::steers(release);
        assert_eq!((steers("6.18.44-fc"), steers("6.2.0"), steers("7.0-rc1")), (Some(true), Some(true), Some(true)));
        assert_eq!((steers("6.1.0-18-amd64"), steers("5.15.0\n"), steers("Darwin")), (Some(false), Some(false), None));
    }
}
