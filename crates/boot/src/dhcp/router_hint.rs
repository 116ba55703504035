//! Spares an iPXE its wait for an IPv6 router that is not there.
//!
//! iPXE configures IPv4 and IPv6 together and gives up on IPv6 only after 13 seconds without a
//! router advertisement (RFC 4861 section 4.2): more than all the rest of a boot up to the kernel.
//! So a loader that asks for an address is sent an advertisement that says nothing - no router
//! (lifetime 0), no prefix, no DHCPv6 - to its own link-local address; no other machine sees it,
//! and to any IPv6 stack it means "not a router". Where the network has no IPv6, nothing is sent.

use model::MacAddress;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

/// Type 134, code 0; the kernel fills in the checksum of ICMPv6 sockets (RFC 3542 section 3.1).
const EMPTY_ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Receivers drop advertisements that may have passed a router.
const HOP_LIMIT: u32 = 255;

/// The way out for such advertisements; does nothing where the system has no IPv6.
#[derive(Debug)]
pub(super) struct RouterHint(Option<(Socket, u32)>);

impl RouterHint {
    pub(super) fn open(interface: &str) -> Self {
        let open = || -> io::Result<(Socket, u32)> {
            let index = nix::net::if_::if_nametoindex(interface)?;
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
            socket.bind_device(Some(interface.as_bytes()))?;
            socket.set_unicast_hops_v6(HOP_LIMIT)?;
            socket.set_nonblocking(true)?;
            // Nothing is ever read from it: what arrives is dropped after a few packets.
            socket.set_recv_buffer_size(0)?;
            Ok((socket, index))
        };
        Self(open().map_err(|error| tracing::debug!(interface, %error, "no IPv6 hints")).ok())
    }

    /// Tells the device that there is no router; a failure costs it only the wait.
    pub(super) fn send(&self, mac: MacAddress) {
        let Some((socket, index)) = &self.0 else { return };
        let to = SocketAddrV6::new(link_local(mac), 0, 0, *index);
        if let Err(error) = socket.send_to(&EMPTY_ADVERTISEMENT, &to.into()) {
            tracing::debug!(%mac, %error, "no IPv6 hint sent");
        }
    }
}

/// The address that iPXE makes from its MAC (modified EUI-64, RFC 4291 appendix A).
fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_that_ipxe_shows() {
        let mac = "52:54:00:77:00:01".parse().unwrap();
        assert_eq!(link_local(mac), "fe80::5054:ff:fe77:1".parse::<Ipv6Addr>().unwrap());
    }
}
