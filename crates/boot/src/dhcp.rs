//! The DHCP server's sockets, clock and lease file; what to answer is `protocol::dhcp`'s.
//!
//! One [`DhcpServer`] for each interface: one task that owns the lease table, so nothing is
//! locked while a decision is made.

mod lease_file;
mod router_hint;
mod server;

pub use lease_file::{LeaseFile, LeaseFileError};
pub use server::{DhcpCounters, DhcpServer, DhcpSettings, StartError};
