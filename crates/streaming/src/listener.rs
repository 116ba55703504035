//! Listening sockets of both kinds, and what is set on an accepted one.

use crate::directory::Peer;
use rustix::net::SocketFlags;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// A client that answers no probe for this long is gone (idle 1 s, then 3 probes of 1 s).
const KEEPALIVE: Duration = Duration::from_secs(1);
const KEEPALIVE_PROBES: u32 = 3;
/// A client that acknowledges no data for this long is gone: keepalive does not probe while data
/// are unacknowledged. Longer than a switch takes to reboot a port, by eye.
const SILENCE: Duration = Duration::from_secs(15);

/// The congestion control that is asked for: one without pacing. Where the system's own is BBR,
/// a timer is armed for every burst; measured, that was a third of the server's time under large
/// reads. Where the kernel has no cubic, the system's own stays.
const CONGESTION: &[u8] = b"cubic";

/// A socket that devices connect to.
#[derive(Debug)]
pub enum Listener {
    /// TCP, IPv4 or IPv6.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl Listener {
    /// The address, for TCP.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    /// Takes the next connection, none where there is none at present.
    pub(crate) fn accept(&self) -> io::Result<(OwnedFd, Peer)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match self {
            Self::Tcp(listener) => {
                let (socket, address) = rustix::net::acceptfrom_with(listener, flags)?;
                prepare(&socket)?;
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                Ok((socket, address.map_or(Peer::Local, Peer::Network)))
            }
            Self::Unix(listener) => Ok((rustix::net::accept_with(listener, flags)?, Peer::Local)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

fn prepare(socket: &OwnedFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let _ = socket.set_tcp_congestion(CONGESTION);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(SILENCE))
}
