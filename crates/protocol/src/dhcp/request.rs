//! A client's message with the fields that a decision needs, checked.

use super::client::ClientKind;
use super::packet::{Packet, PacketError};
use model::MacAddress;
use std::net::Ipv4Addr;

const REQUESTED_ADDRESS: u8 = 50;
const MESSAGE_TYPE: u8 = 53;
const SERVER_ID: u8 = 54;
const CLIENT_ID: u8 = 61;
const RELAY_INFORMATION: u8 = 82;
const MACHINE_ID: u8 = 97;
const BROADCAST_FLAG: u16 = 0x8000;
const ETHERNET: u8 = 1;

/// What a client wants (RFC 2131 section 3.1, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Looks for servers.
    Discover,
    /// Takes an offer, or asks whether it may keep its address.
    Request,
    /// Found its address in use by another machine.
    Decline,
    /// Gives its address back.
    Release,
    /// Has an address and wants the rest.
    Inform,
}

/// A request, from the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it wants.
    pub message: Message,
    /// The Ethernet address; never a group address.
    pub mac: MacAddress,
    /// The client's transaction.
    pub xid: u32,
    /// Whether the client asks for broadcast answers.
    pub wants_broadcast: bool,
    /// The address that the client has and uses; else unspecified.
    pub ciaddr: Ipv4Addr,
    /// The relay that passed it on; else unspecified.
    pub giaddr: Ipv4Addr,
    /// Option 50: the address that it asks for.
    pub requested: Option<Ipv4Addr>,
    /// Option 54: the server that it chose.
    pub server_id: Option<Ipv4Addr>,
    /// What kind of client it is.
    pub client: ClientKind,
    /// Option 61, echoed (RFC 6842); identifies nothing here, see [`super::lease`].
    pub client_id: Option<Vec<u8>>,
    /// Option 82, echoed to the relay (RFC 3046).
    pub relay_information: Option<Vec<u8>>,
    /// Option 97, echoed to PXE clients (RFC 4578 section 2.3).
    pub machine_id: Option<Vec<u8>>,
}

/// Why a datagram is no request that a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not a DHCP message at all.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A server's message that came to a server.
    #[error("not from a client (op {0})")]
    NotFromClient(u8),
    /// A kind of hardware address other than Ethernet's six bytes, or a group address.
    #[error("hardware type {htype} with {hlen} bytes is no device's Ethernet address")]
    Hardware {
        /// The hardware type.
        htype: u8,
        /// The address's length.
        hlen: u8,
    },
    /// No message type (BOOTP), or a server's.
    #[error("message type {0:?} is not a client's")]
    MessageType(Option<u8>),
}

impl Request {
    /// Decodes and checks a datagram.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let packet = Packet::parse(bytes)?;
        if packet.op != 1 {
            return Err(ParseError::NotFromClient(packet.op));
        }
        let message = message_type(&packet)?;
        let mac = hardware_address(&packet)?;
        let address = |code: u8| packet.options.get(&code).and_then(|raw| to_address(raw));
        // What is echoed is bounded by what fits into one option.
        let echo = |code: u8| packet.options.get(&code).filter(|raw| raw.len() <= 255).cloned();
        Ok(Self {
            message,
            mac,
            xid: packet.xid,
            wants_broadcast: packet.flags & BROADCAST_FLAG != 0,
            ciaddr: packet.ciaddr,
            giaddr: packet.giaddr,
            requested: address(REQUESTED_ADDRESS),
            server_id: address(SERVER_ID),
            client: ClientKind::recognise(&packet.options),
            client_id: echo(CLIENT_ID),
            relay_information: echo(RELAY_INFORMATION),
            machine_id: echo(MACHINE_ID),
        })
    }
}

fn message_type(packet: &Packet) -> Result<Message, ParseError> {
    let number = packet.options.get(&MESSAGE_TYPE).and_then(|raw| raw.first().copied());
    match number {
        Some(1) => Ok(Message::Discover),
        Some(3) => Ok(Message::Request),
        Some(4) => Ok(Message::Decline),
        Some(7) => Ok(Message::Release),
        Some(8) => Ok(Message::Inform),
        other => Err(ParseError::MessageType(other)),
    }
}

fn hardware_address(packet: &Packet) -> Result<MacAddress, ParseError> {
    let [a, b, c, d, e, f, ..] = packet.chaddr;
    let mac = MacAddress([a, b, c, d, e, f]);
    if packet.htype == ETHERNET && packet.hlen == 6 && mac.is_unicast() {
        return Ok(mac);
    }
    Err(ParseError::Hardware { htype: packet.htype, hlen: packet.hlen })
}

fn to_address(raw: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(raw).ok().map(Ipv4Addr::from)
}
