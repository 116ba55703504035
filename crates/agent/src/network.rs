//! The network card, its address and its routes, by routing netlink (Linux, `rtnetlink(7)`).
//!
//! There is no DHCP client here: the loader had an address and passed it on, and the image's own
//! network manager asks for one later. [`keeper`] sees to it that the disk stays reachable then;
//! [`naming`] gives the card the name that the image expects before it is in use.

pub(crate) mod keeper;
pub(crate) mod naming;

use crate::kernel_parameters::LoaderAddress;
use crate::netlink::{Answer, Message, NLM_F_CREATE, NLM_F_REPLACE, Socket, attributes};
use model::MacAddress;
use std::io;
use std::net::Ipv4Addr;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;

const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;
/// Behind every default route that the image's own network manager sets (NetworkManager's Wi-Fi
/// is the largest in use, 600), so that ours never decides while there is another.
const ROUTE_METRIC: u32 = 65_000;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The kernel's number for it.
    pub(crate) index: u32,
    /// Its name now.
    pub(crate) name: String,
    /// Whether it is switched on.
    pub(crate) is_up: bool,
    /// Whether the other end of the cable answers.
    pub(crate) has_carrier: bool,
    mac: Option<MacAddress>,
}

/// The interface with a MAC address, if it is there. Where several share it (a bridge or a bond
/// takes its card's), the one made first.
pub(crate) fn find_link(socket: &mut Socket, mac: MacAddress) -> io::Result<Option<Link>> {
    let answers = socket.dump(Message::new(RTM_GETLINK, &link_header(0, 0, 0)))?;
    let links = answers.iter().filter_map(link_of);
    Ok(links.filter(|link| link.mac == Some(mac)).min_by_key(|link| link.index))
}

/// Switches an interface on.
pub(crate) fn bring_up(socket: &mut Socket, link: &Link) -> io::Result<()> {
    socket.request(Message::new(RTM_NEWLINK, &link_header(link.index, IFF_UP, IFF_UP))).map(drop)
}

/// Renames an interface, which older kernels allow only while it is off.
pub(crate) fn rename(socket: &mut Socket, link: &Link, name: &str) -> io::Result<()> {
    let text = [name.as_bytes(), b"\0"].concat();
    let message = Message::new(RTM_NEWLINK, &link_header(link.index, 0, 0));
    socket.request(message.attribute(IFLA_IFNAME, &text)).map(drop)
}

/// Gives an interface the loader's address and, as the last resort, its default route.
pub(crate) fn configure(socket: &mut Socket, link: &Link, address: &LoaderAddress) -> io::Result<()> {
    let own = address.address.octets();
    let host_bits = u32::MAX.checked_shr(address.prefix_len.into()).unwrap_or(0);
    let broadcast = (u32::from(address.address) | host_bits).to_be_bytes();
    let message = Message::new(RTM_NEWADDR, &address_header(address.prefix_len, link.index))
        .flags(NLM_F_CREATE | NLM_F_REPLACE)
        .attribute(IFA_LOCAL, &own)
        .attribute(IFA_ADDRESS, &own)
        .attribute(IFA_BROADCAST, &broadcast);
    socket.request(message)?;
    address.gateway.map_or(Ok(()), |gateway| set_default_route(socket, link, gateway))
}

fn set_default_route(socket: &mut Socket, link: &Link, gateway: Ipv4Addr) -> io::Result<()> {
    let message = Message::new(RTM_NEWROUTE, &route_header())
        .flags(NLM_F_CREATE | NLM_F_REPLACE)
        .attribute(RTA_GATEWAY, &gateway.octets())
        .attribute(RTA_OIF, &link.index.to_ne_bytes())
        .attribute(RTA_PRIORITY, &ROUTE_METRIC.to_ne_bytes());
    socket.request(message).map(drop)
}

/// All IPv4 addresses, each with the number of its interface.
pub(crate) fn addresses(socket: &mut Socket) -> io::Result<Vec<(u32, Ipv4Addr)>> {
    let answers = socket.dump(Message::new(RTM_GETADDR, &address_header(0, 0)))?;
    Ok(answers.iter().filter_map(address_of).collect())
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// `struct ifaddrmsg`.
fn address_header(prefix_len: u8, index: u32) -> [u8; 8] {
    let mut bytes = [AF_INET, prefix_len, 0, 0, 0, 0, 0, 0];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes
}

/// `struct rtmsg`: the main table, set at boot, everywhere, unicast.
fn route_header() -> [u8; 12] {
    const MAIN_TABLE: u8 = 254;
    const SET_AT_BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    [AF_INET, 0, 0, 0, MAIN_TABLE, SET_AT_BOOT, 0, UNICAST, 0, 0, 0, 0]
}

fn link_of(answer: &Answer) -> Option<Link> {
    if answer.kind != RTM_NEWLINK {
        return None;
    }
    let header: &[u8; 16] = answer.body.first_chunk()?;
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    let find = |wanted| attributes(&answer.body[16..]).find(|(kind, _)| *kind == wanted).map(|(_, v)| v);
    let name = find(IFLA_IFNAME)?.split(|byte| *byte == 0).next()?;
    Some(Link {
        index: u32::from_ne_bytes(header[4..8].try_into().ok()?),
        name: String::from_utf8_lossy(name).into_owned(),
        is_up: flags & IFF_UP != 0,
        has_carrier: flags & IFF_LOWER_UP != 0,
        mac: find(IFLA_ADDRESS).and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()).map(MacAddress),
    })
}

fn address_of(answer: &Answer) -> Option<(u32, Ipv4Addr)> {
    let header: &[u8; 8] = answer.body.first_chunk()?;
    if answer.kind != RTM_NEWADDR {
        return None;
    }
    let index = u32::from_ne_bytes(header[4..8].try_into().ok()?);
    let (_, value) = attributes(&answer.body[8..]).find(|(kind, _)| *kind == IFA_LOCAL)?;
    Some((index, <[u8; 4]>::try_from(value).ok()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_its_address() {
        let mut socket = Socket::route().unwrap();
        let loopback = find_link(&mut socket, MacAddress([0; 6])).unwrap().unwrap();
        assert_eq!(loopback.name, "lo");
        assert!(addresses(&mut socket).unwrap().contains(&(loopback.index, Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn an_absent_card_is_not_found() {
        let mut socket = Socket::route().unwrap();
        assert_eq!(find_link(&mut socket, MacAddress([2, 0xff, 1, 2, 3, 4])).unwrap(), None);
    }
}
