//! `[[dhcp.reservation]]`: addresses that always go to the same machine.

use super::{ConfigError, DhcpConfig};
use model::{MacAddress, Name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// `[[dhcp.reservation]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReservationConfig {
    pub(crate) mac: MacAddress,
    pub(crate) address: Ipv4Addr,
    /// For people; the machine's host name comes from its device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<Name>,
}

/// Refuses reservations that cannot be honoured: twice the same, or outside of the subnet.
pub(super) fn check(dhcp: &DhcpConfig) -> Result<(), ConfigError> {
    let (mut macs, mut addresses, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for ReservationConfig { mac, address, name } in &dhcp.reservations {
        if !macs.insert(*mac) {
            return wrong(format!("{mac} has two reservations"), "keep one [[dhcp.reservation]] of it");
        }
        if !addresses.insert(*address) {
            return wrong(format!("{address} is reserved twice"), "give each machine an address of its own");
        }
        if let Some(name) = name.as_ref().filter(|name| !names.insert(*name)) {
            return wrong(format!("two reservations are called {name}"), "rename one of them");
        }
        check_subnet(dhcp, *address)?;
    }
    Ok(())
}

/// The subnet is the one of the pool.
fn check_subnet(dhcp: &DhcpConfig, address: Ipv4Addr) -> Result<(), ConfigError> {
    let (Some(first), Some(netmask)) = (dhcp.pool_start, dhcp.netmask) else { return Ok(()) };
    let (mask, bits) = (netmask.to_bits(), address.to_bits());
    if bits & mask != first.to_bits() & mask {
        let message = format!("the reserved address {address} is not in the subnet of dhcp.pool_start");
        return wrong(message, "take one of the same subnet, inside or outside of the pool");
    }
    if bits & !mask == 0 || bits | mask == u32::MAX {
        let message = format!("the reserved address {address} is the subnet's own or its broadcast address");
        return wrong(message, "take another one");
    }
    if dhcp.gateway == Some(address) {
        return wrong(format!("the reserved address {address} is dhcp.gateway's"), "take another one");
    }
    Ok(())
}

fn wrong(message: String, hint: &str) -> Result<(), ConfigError> {
    Err(ConfigError::Contradiction { message, hint: hint.to_owned() })
}
