//! What the DHCP side of one server interface is told to do.

use model::MacAddress;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::client::{Architecture, ClientKind};

/// The most addresses of a pool; one search may look at all of them.
const POOL_LIMIT: u32 = 65_536;

/// The configuration for one interface.
#[derive(Clone, Debug)]
pub struct DhcpConfig {
    /// Whether and how to answer.
    pub mode: Mode,
    /// The server's own address on this interface.
    pub server: Ipv4Addr,
    /// What booting clients are told.
    pub boot: BootOffer,
}

/// Whether and how a server answers DHCP.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Not at all.
    Off,
    /// Boot information only, beside another server that gives addresses.
    Proxy,
    /// Addresses and boot information.
    Full(Pool),
}

/// What booting clients are told.
#[derive(Clone, Debug)]
pub struct BootOffer {
    /// `http://ADDRESS:PORT/PATH` of the device scripts; `?mac=` is appended.
    pub script_url: String,
    /// The loaders that this server has.
    pub loaders: BTreeMap<Architecture, Loader>,
}

/// The iPXE for one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loader {
    /// Its name for TFTP.
    pub file: String,
    /// Its URL for UEFI HTTP boot.
    pub url: String,
}

impl BootOffer {
    /// The boot file's name or URL for a client; none where there is nothing for it.
    pub(super) fn file_for(&self, client: ClientKind, mac: MacAddress) -> Option<String> {
        match client {
            ClientKind::Ordinary => None,
            ClientKind::Ipxe(_) => Some(format!("{}?mac={mac}", self.script_url)),
            ClientKind::PxeRom(kind) => self.loaders.get(&kind).map(|loader| loader.file.clone()),
            ClientKind::UefiHttp(kind) => self.loaders.get(&kind).map(|loader| loader.url.clone()),
        }
    }
}

/// The addresses that a full server gives, and what it says beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// First address of the dynamic range.
    pub first: Ipv4Addr,
    /// Last address of the dynamic range.
    pub last: Ipv4Addr,
    /// The subnet's mask.
    pub netmask: Ipv4Addr,
    /// The default gateway.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The domain's name.
    pub domain: Option<String>,
    /// How long a lease lasts, in seconds.
    pub lease_s: u32,
    /// Fixed addresses; inside the subnet, in or outside the range.
    pub reservations: BTreeMap<MacAddress, Ipv4Addr>,
}

/// Why a pool cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The last address is before the first.
    #[error("the range {first} to {last} is empty")]
    Empty {
        /// First address.
        first: Ipv4Addr,
        /// Last address.
        last: Ipv4Addr,
    },
    /// More addresses than one search looks at.
    #[error("the range has {0} addresses, more than 65536")]
    TooLarge(u32),
    /// Not ones followed by zeros.
    #[error("{0} is not a subnet mask")]
    Netmask(Ipv4Addr),
    /// An address that clients could not use.
    #[error("{address} ({what}) is not in the server's subnet, {server} with mask {netmask}")]
    OutsideSubnet {
        /// What the address is for.
        what: &'static str,
        /// The address.
        address: Ipv4Addr,
        /// The server's address.
        server: Ipv4Addr,
        /// The mask.
        netmask: Ipv4Addr,
    },
    /// One address for two devices.
    #[error("{address} is reserved for {first} and for {second}")]
    ReservedTwice {
        /// The address.
        address: Ipv4Addr,
        /// One device.
        first: MacAddress,
        /// The other.
        second: MacAddress,
    },
    /// A lease too short to boot with.
    #[error("a lease of {0} seconds is too short: at least 60")]
    LeaseTime(u32),
}

impl Pool {
    /// Checks the pool against the address of the server that is to serve it.
    pub fn check(&self, server: Ipv4Addr) -> Result<(), PoolError> {
        let (first, last) = (u32::from(self.first), u32::from(self.last));
        let mask = u32::from(self.netmask);
        if last < first {
            return Err(PoolError::Empty { first: self.first, last: self.last });
        }
        if last - first >= POOL_LIMIT {
            return Err(PoolError::TooLarge((last - first).saturating_add(1)));
        }
        if mask == 0 || mask.leading_ones() + mask.trailing_zeros() != 32 {
            return Err(PoolError::Netmask(self.netmask));
        }
        if self.lease_s < 60 {
            return Err(PoolError::LeaseTime(self.lease_s));
        }
        self.check_subnet(server)?;
        self.check_reservations()
    }

    fn check_subnet(&self, server: Ipv4Addr) -> Result<(), PoolError> {
        let named = [("first of the range", self.first), ("last of the range", self.last)];
        let reserved = self.reservations.values().map(|address| ("reservation", *address));
        let router = self.router.map(|address| ("router", address));
        for (what, address) in named.into_iter().chain(router).chain(reserved) {
            if !self.in_subnet(server, address) {
                let netmask = self.netmask;
                return Err(PoolError::OutsideSubnet { what, address, server, netmask });
            }
        }
        Ok(())
    }

    fn check_reservations(&self) -> Result<(), PoolError> {
        let mut owners = BTreeMap::new();
        for (mac, address) in &self.reservations {
            if let Some(first) = owners.insert(*address, *mac) {
                let (address, second) = (*address, *mac);
                return Err(PoolError::ReservedTwice { address, first, second });
            }
        }
        Ok(())
    }

    /// Whether an address is in the server's subnet.
    pub(super) fn in_subnet(&self, server: Ipv4Addr, address: Ipv4Addr) -> bool {
        let mask = u32::from(self.netmask);
        u32::from(server) & mask == u32::from(address) & mask
    }

    /// Whether an address may be given out dynamically: in the range, and neither the network's,
    /// nor the broadcast address, nor the server's or the router's.
    pub(super) fn is_dynamic(&self, server: Ipv4Addr, address: Ipv4Addr) -> bool {
        let host_bits = u32::from(address) & !u32::from(self.netmask);
        (self.first..=self.last).contains(&address)
            && host_bits != 0
            && host_bits != !u32::from(self.netmask)
            && address != server
            && Some(address) != self.router
    }

    /// Whether an address is reserved for a device other than `mac`.
    pub(super) fn is_reserved_for_other(&self, mac: MacAddress, address: Ipv4Addr) -> bool {
        self.reservations.iter().any(|(owner, reserved)| *reserved == address && *owner != mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_cannot_work_says_why() {
        let server = Ipv4Addr::new(10, 0, 0, 1);
        let good = Pool {
            first: Ipv4Addr::new(10, 0, 0, 100),
            last: Ipv4Addr::new(10, 0, 0, 200),
            netmask: Ipv4Addr::new(255, 255, 255, 0),
            router: None,
            dns: Vec::new(),
            domain: None,
            lease_s: 3600,
            reservations: BTreeMap::new(),
        };
        assert_eq!(good.check(server), Ok(()));
        let outside = Pool { last: Ipv4Addr::new(10, 0, 1, 200), ..good.clone() };
        assert!(outside.check(server).unwrap_err().to_string().contains("10.0.1.200"));
        let mask = Pool { netmask: Ipv4Addr::new(255, 0, 255, 0), ..good.clone() };
        assert_eq!(mask.check(server), Err(PoolError::Netmask(mask.netmask)));
        let address = Ipv4Addr::new(10, 0, 0, 50);
        let (one, two) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
        let reservations = BTreeMap::from([(one, address), (two, address)]);
        let twice = Pool { reservations, ..good };
        assert!(twice.check(server).unwrap_err().to_string().contains("reserved for"));
    }
}
