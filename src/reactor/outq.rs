//! How much of what was sent the peer has not acknowledged.
//!
//! `ioctl(SIOCOUTQ)` would say it, but nothing safe offers that call. The same number, `write_seq -
//! snd_una`, is the `idiag_wqueue` of a socket's `sock_diag(7)` entry; one netlink request gives it.

use std::net::SocketAddr;

/// Bytes written by this end and not yet acknowledged by the other; `None` if the system does not say.
#[cfg(target_os = "linux")]
pub fn unacked(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    linux::unacked(local, peer)
}

/// Bytes written by this end and not yet acknowledged by the other; `None` if the system does not say.
#[cfg(not(target_os = "linux"))]
pub fn unacked(_local: SocketAddr, _peer: SocketAddr) -> Option<u64> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::cell::Cell;
    use std::net::{IpAddr, SocketAddr};
    use std::os::fd::OwnedFd;

    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const IPPROTO_TCP: u8 = 6;
    const NLMSG_HDR: usize = 16;
    /// `struct inet_diag_req_v2`: family, protocol, ext, pad, states, then `struct inet_diag_sockid`.
    const REQUEST: usize = NLMSG_HDR + 8 + 48;
    /// `idiag_wqueue` in `struct inet_diag_msg`: behind family, state, timer, retrans, the sockid,
    /// expires and rqueue.
    const WQUEUE: usize = NLMSG_HDR + 4 + 48 + 4 + 4;

    thread_local! {
        /// The worker's socket to the kernel: a drain under pressure asks about very many connections.
        static SOCKET: Cell<Option<OwnedFd>> = const { Cell::new(None) };
    }

    pub fn unacked(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
        let socket = SOCKET.take().or_else(open)?;
        send(&socket, &request(local, peer), SendFlags::empty()).ok()?;
        let mut answer = [0u8; 512];
        let (n, _) = recv(&socket, &mut answer[..], RecvFlags::empty()).ok()?;
        // Kept only while each question has had its answer: none is left in it for the next one.
        SOCKET.set(Some(socket));
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        if kind != SOCK_DIAG_BY_FAMILY || n < WQUEUE + 4 {
            return None; // NLMSG_ERROR: the socket is already gone
        }
        Some(u64::from(u32::from_ne_bytes(answer[WQUEUE..WQUEUE + 4].try_into().ok()?)))
    }

    fn open() -> Option<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG)).ok()
    }

    fn request(local: SocketAddr, peer: SocketAddr) -> [u8; REQUEST] {
        let mut r = [0u8; REQUEST];
        r[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
        r[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        r[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        r[16] = if local.is_ipv4() { AF_INET } else { AF_INET6 };
        r[17] = IPPROTO_TCP;
        r[20..24].copy_from_slice(&u32::MAX.to_ne_bytes()); // every state
        r[24..26].copy_from_slice(&local.port().to_be_bytes());
        r[26..28].copy_from_slice(&peer.port().to_be_bytes());
        copy_ip(&mut r[28..44], local.ip());
        copy_ip(&mut r[44..60], peer.ip());
        r[64..72].copy_from_slice(&[0xFF; 8]); // INET_DIAG_NOCOOKIE; interface 0: any
        r
    }

    fn copy_ip(to: &mut [u8], ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => to[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => to.copy_from_slice(&ip.octets()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::unacked;

    #[test]
    fn what_a_full_receiver_has_not_acknowledged_is_counted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_theirs, _) = listener.accept().unwrap();
            let (local, peer) = (ours.local_addr().unwrap(), ours.peer_addr().unwrap());
            assert_eq!(unacked(local, peer), Some(0));
            ours.set_nonblocking(true).unwrap();
            let block = vec![0u8; 1 << 20];
            while ours.write(&block).is_ok() {}
            assert!(unacked(local, peer).unwrap() > 0, "the receiver reads nothing");
        }
    }
}
