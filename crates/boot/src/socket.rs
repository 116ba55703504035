//! The UDP sockets of the boot servers.

use nix::libc::{in_addr, in_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has it.
    #[error(
        "UDP port {port} on {place} is in use by another program\nhint: `ss -ulpn sport = :{port}` shows which one"
    )]
    InUse {
        /// The port.
        port: u16,
        /// The interface or address.
        place: String,
    },
    /// Ports below 1024 and devices need rights.
    #[error(
        "no permission to open UDP port {port} on {place}\nhint: run as root, or give the service CAP_NET_BIND_SERVICE and CAP_NET_RAW"
    )]
    NoPermission {
        /// The port.
        port: u16,
        /// The interface or address.
        place: String,
    },
    /// There is no such interface.
    #[error("there is no network interface {0}\nhint: `ip -br link` lists them")]
    NoInterface(String),
    /// The address is not this machine's.
    #[error("{0} is not an address of this machine\nhint: `ip -br addr` lists them")]
    NoAddress(Ipv4Addr),
    /// Anything else.
    #[error("cannot open UDP port {port} on {place}: {source}")]
    Io {
        /// The port.
        port: u16,
        /// The interface or address.
        place: String,
        /// The system's error.
        source: io::Error,
    },
}

/// A socket on one interface that can broadcast from a chosen address.
#[derive(Debug)]
pub(crate) struct InterfaceSocket {
    socket: UdpSocket,
    local: Ipv4Addr,
}

impl InterfaceSocket {
    /// Opens `port` on `interface`; what is sent comes from `local`.
    ///
    /// Bound to the device and to no address: requests are broadcast, and with several interfaces
    /// each needs its own answers. Without SO_REUSEADDR, so that a second server is an error.
    pub(crate) fn open(interface: &str, local: Ipv4Addr, port: u16) -> Result<Self, BindError> {
        let open = || -> io::Result<UdpSocket> {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.bind_device(Some(interface.as_bytes()))?;
            socket.set_broadcast(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
            UdpSocket::from_std(socket.into())
        };
        let socket = open().map_err(|error| bind_error(error, interface, port))?;
        Ok(Self { socket, local })
    }

    /// Waits for a datagram.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddrV4)> {
        loop {
            match self.socket.recv_from(buffer).await? {
                (len, std::net::SocketAddr::V4(from)) => return Ok((len, from)),
                (_, std::net::SocketAddr::V6(_)) => {}
            }
        }
    }

    /// Sends a datagram from the socket's own address.
    pub(crate) async fn send(&self, bytes: &[u8], to: SocketAddrV4) -> io::Result<()> {
        let source = in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr { s_addr: u32::from(self.local).to_be() },
            ipi_addr: in_addr { s_addr: 0 },
        };
        let target = SockaddrIn::from(to);
        self.socket
            .async_io(Interest::WRITABLE, || {
                let message = [IoSlice::new(bytes)];
                let control = [ControlMessage::Ipv4PacketInfo(&source)];
                let fd = self.socket.as_raw_fd();
                sendmsg(fd, &message, &control, MsgFlags::empty(), Some(&target))
                    .map(drop)
                    .map_err(io::Error::from)
            })
            .await
    }
}

/// Opens a port on one of this machine's addresses.
pub(crate) async fn open_on_address(address: SocketAddrV4) -> Result<UdpSocket, BindError> {
    UdpSocket::bind(address).await.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrNotAvailable {
            return BindError::NoAddress(*address.ip());
        }
        bind_error(error, &address.ip().to_string(), address.port())
    })
}

fn bind_error(source: io::Error, place: &str, port: u16) -> BindError {
    let place = place.to_owned();
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { port, place },
        io::ErrorKind::PermissionDenied => BindError::NoPermission { port, place },
        _ if source.raw_os_error() == Some(nix::libc::ENODEV) => BindError::NoInterface(place),
        _ => BindError::Io { port, place, source },
    }
}
