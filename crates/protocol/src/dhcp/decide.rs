//! What a client gets: one pure function over the request, the configuration and the leases.

use super::client::ClientKind;
use super::config::{DhcpConfig, Mode, Pool};
use super::lease::{DECLINE_S, Lease, LeaseChange, Leases, OFFER_S, Wish};
use super::reply::{Builder, Kind};
use super::request::{Message, Request};
use super::{BOOT_PORT, CLIENT_PORT, SERVER_PORT};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The port it came to.
    pub port: Port,
    /// Who sent it; unspecified while a client has no address.
    pub source: SocketAddrV4,
}

/// A port that the server listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 67.
    Server,
    /// 4011, where PXE clients ask for the boot file once they have an address.
    Boot,
}

impl Port {
    /// The port's number.
    pub fn number(self) -> u16 {
        match self {
            Self::Server => SERVER_PORT,
            Self::Boot => BOOT_PORT,
        }
    }
}

/// What to do about a request: first make `change` durable and apply it, then send `reply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The change to the lease table.
    pub change: LeaseChange,
    /// What to send; none where silence is right.
    pub reply: Option<Reply>,
    /// Why, for the log and for `why`.
    pub why: Why,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where to.
    pub to: Destination,
}

/// Where an answer goes (RFC 2131 section 4.1).
///
/// A client without an address is always answered by broadcast, also where it did not ask for
/// that: section 4.1 allows it, every client must accept it, and the alternatives (a raw frame,
/// an entry forced into the ARP table) need more rights for the same result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address that answers ARP.
    Unicast(SocketAddrV4),
    /// 255.255.255.255, port 68, on the interface that the request came in by.
    Broadcast,
}

/// Why a client got what it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// An address was offered.
    Offered(Ipv4Addr),
    /// An address was given or prolonged.
    Given(Ipv4Addr),
    /// Only boot information was sent.
    BootInformation,
    /// The address that it asks for is not its own any more.
    Refused(Option<Ipv4Addr>),
    /// It gave its address back.
    Released,
    /// It found the address in use; the address rests.
    Declined(Ipv4Addr),
    /// The configuration says off.
    Off,
    /// A proxy has nothing for clients that do not boot.
    NotBooting,
    /// It chose another server.
    OtherServer(Ipv4Addr),
    /// A message that needs no answer in this mode.
    NotForUs,
    /// There is no loader for its architecture.
    NoLoader(ClientKind),
    /// Every address is taken.
    PoolExhausted,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offered(address) => write!(f, "offered {address}"),
            Self::Given(address) => write!(f, "gave {address}"),
            Self::BootInformation => f.write_str("sent boot information"),
            Self::Refused(Some(address)) => write!(f, "refused {address}: not this device's"),
            Self::Refused(None) => f.write_str("refused: the device has no lease"),
            Self::Released => f.write_str("the device gave its address back"),
            Self::Declined(address) => write!(f, "{address} is in use by another machine; it rests"),
            Self::Off => f.write_str("DHCP is off on this interface"),
            Self::NotBooting => f.write_str("not a booting client, and this server only boots"),
            Self::OtherServer(server) => write!(f, "the client chose server {server}"),
            Self::NotForUs => f.write_str("no answer is due"),
            Self::NoLoader(client) => write!(
                f,
                "no loader for this {client}; hint: install the package ipxe, which has them for BIOS and UEFI x86-64"
            ),
            Self::PoolExhausted => f.write_str(
                "every address of the pool is taken; hint: enlarge the range or shorten the lease time",
            ),
        }
    }
}

/// Decides about one request.
pub fn decide(
    request: &Request,
    arrival: Arrival,
    config: &DhcpConfig,
    leases: &Leases,
    now_s: u64,
) -> Answer {
    match (&config.mode, arrival.port) {
        (Mode::Off, _) => silence(Why::Off),
        (_, Port::Boot) => boot_server(request, arrival, config),
        (Mode::Proxy, Port::Server) => proxy(request, config),
        (Mode::Full(pool), Port::Server) => Full { request, config, pool, leases, now_s }.decide(),
    }
}

fn silence(why: Why) -> Answer {
    Answer { change: LeaseChange::None, reply: None, why }
}

fn sends(kind: Kind, request: &Request, builder: Builder<'_>) -> Option<Reply> {
    Some(Reply { bytes: builder.finish(), to: destination(kind, request) })
}

fn destination(kind: Kind, request: &Request) -> Destination {
    if !request.giaddr.is_unspecified() {
        return Destination::Unicast(SocketAddrV4::new(request.giaddr, SERVER_PORT));
    }
    if kind == Kind::Nak || request.ciaddr.is_unspecified() {
        return Destination::Broadcast;
    }
    Destination::Unicast(SocketAddrV4::new(request.ciaddr, CLIENT_PORT))
}

/// A client that has its address from elsewhere and asks this server for the boot file.
fn boot_server(request: &Request, arrival: Arrival, config: &DhcpConfig) -> Answer {
    if !matches!(request.message, Message::Request | Message::Inform) {
        return silence(Why::NotForUs);
    }
    if !request.client.boots() {
        return silence(Why::NotBooting);
    }
    let Some(file) = config.boot.file_for(request.client, request.mac) else {
        return silence(Why::NoLoader(request.client));
    };
    let bytes = Builder::new(Kind::Ack, request, config).boot(Some(file)).finish();
    let to = if arrival.source.ip().is_unspecified() {
        Destination::Broadcast
    } else {
        Destination::Unicast(arrival.source)
    };
    Answer { change: LeaseChange::None, reply: Some(Reply { bytes, to }), why: Why::BootInformation }
}

/// Beside another server: an offer without an address.
fn proxy(request: &Request, config: &DhcpConfig) -> Answer {
    let kind = match request.message {
        Message::Discover => Kind::Offer,
        Message::Request if request.server_id == Some(config.server) => Kind::Ack,
        Message::Request | Message::Decline | Message::Release | Message::Inform => {
            return silence(Why::NotForUs);
        }
    };
    if !request.client.boots() {
        return silence(Why::NotBooting);
    }
    let Some(file) = config.boot.file_for(request.client, request.mac) else {
        return silence(Why::NoLoader(request.client));
    };
    let builder = Builder::new(kind, request, config).boot(Some(file));
    Answer { change: LeaseChange::None, reply: sends(kind, request, builder), why: Why::BootInformation }
}

/// A decision of the full server.
struct Full<'a> {
    request: &'a Request,
    config: &'a DhcpConfig,
    pool: &'a Pool,
    leases: &'a Leases,
    now_s: u64,
}

impl Full<'_> {
    fn decide(&self) -> Answer {
        match self.request.message {
            Message::Discover => self.discover(),
            Message::Request => self.request(),
            Message::Inform => self.inform(),
            Message::Release => self.release(),
            Message::Decline => self.decline(),
        }
    }

    fn discover(&self) -> Answer {
        let Some(address) = self.leases.choose(&self.wish(self.request.requested)) else {
            return silence(Why::PoolExhausted);
        };
        // A running lease is not cut short by its device asking again.
        let running = self.leases.get(self.request.mac).filter(|lease| lease.address == address);
        let until_s = running.map_or(0, |lease| lease.until_s).max(self.now_s + OFFER_S);
        Answer {
            change: LeaseChange::Offer(self.request.mac, Lease { address, until_s }),
            reply: self.gives(Kind::Offer, address),
            why: Why::Offered(address),
        }
    }

    /// The four situations of RFC 2131 section 4.3.2: they differ in where the address stands.
    fn request(&self) -> Answer {
        match self.request.server_id {
            // What was offered here stays held until the offer ends: nothing to do.
            Some(server) if server != self.config.server => {
                return silence(Why::OtherServer(server));
            }
            _ => {}
        }
        let ciaddr = Some(self.request.ciaddr).filter(|address| !address.is_unspecified());
        match self.request.requested.or(ciaddr) {
            Some(address) if self.may_have(address) => self.bind(address),
            other => self.refuse(other),
        }
    }

    fn may_have(&self, address: Ipv4Addr) -> bool {
        match self.pool.reservations.get(&self.request.mac) {
            Some(reserved) => *reserved == address,
            None => self.leases.may_have(&self.wish(None), address),
        }
    }

    fn bind(&self, address: Ipv4Addr) -> Answer {
        let until_s = self.now_s + u64::from(self.pool.lease_s);
        Answer {
            change: LeaseChange::Bind(self.request.mac, Lease { address, until_s }),
            reply: self.gives(Kind::Ack, address),
            why: Why::Given(address),
        }
    }

    fn refuse(&self, address: Option<Ipv4Addr>) -> Answer {
        let builder = Builder::new(Kind::Nak, self.request, self.config);
        Answer {
            change: LeaseChange::None,
            reply: sends(Kind::Nak, self.request, builder),
            why: Why::Refused(address),
        }
    }

    fn inform(&self) -> Answer {
        let file = self.config.boot.file_for(self.request.client, self.request.mac);
        let builder = Builder::new(Kind::Ack, self.request, self.config).network(self.pool).boot(file);
        Answer {
            change: LeaseChange::None,
            reply: sends(Kind::Ack, self.request, builder),
            why: Why::BootInformation,
        }
    }

    fn release(&self) -> Answer {
        match self.leases.get(self.request.mac) {
            Some(lease) if lease.address == self.request.ciaddr => {
                Answer { change: LeaseChange::Release(self.request.mac), reply: None, why: Why::Released }
            }
            _ => silence(Why::NotForUs),
        }
    }

    /// Only what the device itself was given can be declined, or one client could empty the pool.
    fn decline(&self) -> Answer {
        let lease = self.leases.get(self.request.mac);
        match (lease, self.request.requested) {
            (Some(lease), Some(address)) if lease.address == address => Answer {
                change: LeaseChange::Decline(
                    self.request.mac,
                    Lease { address, until_s: self.now_s + DECLINE_S },
                ),
                reply: None,
                why: Why::Declined(address),
            },
            _ => silence(Why::NotForUs),
        }
    }

    fn wish(&self, requested: Option<Ipv4Addr>) -> Wish<'_> {
        Wish {
            mac: self.request.mac,
            requested,
            pool: self.pool,
            server: self.config.server,
            now_s: self.now_s,
        }
    }

    fn gives(&self, kind: Kind, address: Ipv4Addr) -> Option<Reply> {
        let file = self.config.boot.file_for(self.request.client, self.request.mac);
        let builder = Builder::new(kind, self.request, self.config)
            .address(address, self.pool.lease_s)
            .network(self.pool)
            .boot(file);
        sends(kind, self.request, builder)
    }
}

#[cfg(test)]
mod tests;
