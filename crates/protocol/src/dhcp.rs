//! DHCP for booting: a full server, or a ProxyDHCP beside a server that is not ours.
//!
//! Pure: a datagram and the tables go in, an answer and a change to the lease table come out
//! ([`decide`]). RFC 2131 (the protocol), RFC 2132 (options), RFC 4578 (PXE options), the PXE
//! specification 2.1 (ProxyDHCP, port 4011), UEFI HTTP boot, iPXE's options 77 and 175.
//!
//! Not here: IPv6, relay chains (a relay's `giaddr` is answered, its option 82 is echoed), dynamic
//! DNS. Read next: [`mod@request`] for who asks, [`mod@decide`] for what they get, [`lease`] for
//! which address.

pub mod client;
pub mod config;
pub mod decide;
pub mod lease;
pub mod packet;
mod reply;
pub mod request;

pub use client::{Architecture, ClientKind};
pub use config::{BootOffer, DhcpConfig, Loader, Mode, Pool, PoolError};
pub use decide::{Answer, Arrival, Destination, Port, Reply, Why, decide};
pub use lease::{Lease, LeaseChange, Leases};
pub use request::{Message, ParseError, Request};

/// The port that servers and relays listen on.
pub const SERVER_PORT: u16 = 67;
/// The port that clients listen on.
pub const CLIENT_PORT: u16 = 68;
/// The port of PXE boot servers, where clients ask a ProxyDHCP again for its boot file.
pub const BOOT_PORT: u16 = 4011;
