//! Which device has which address.
//!
//! **Leases belong to the MAC address**, not to the client identifier (option 61) that RFC 2131
//! section 4.2 prefers: one boot is three clients in a row - the ROM (identified by the machine's
//! UUID), iPXE (by the MAC) and the operating system (systemd-networkd by a DUID) - and all three
//! must get one address, because the streamed disk's connections were made from it. The price: a
//! machine with several addresses on one MAC is not served; diskless devices are none.

use super::config::Pool;
use model::MacAddress;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// How long an offer holds an address, in seconds: a slow ROM answers within ten.
pub const OFFER_S: u64 = 60;
/// How long an address rests that a client found in use, in seconds; as in ISC dhcpd.
pub const DECLINE_S: u64 = 600;

/// One device's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// When it ends, in seconds since 1970.
    pub until_s: u64,
}

/// A change to the table; nothing else changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// Leaves it as it is.
    None,
    /// Holds an address until its offer is taken; not worth keeping across a restart.
    Offer(MacAddress, Lease),
    /// Gives an address; must be durable before the client hears of it.
    Bind(MacAddress, Lease),
    /// The device gave its address back.
    Release(MacAddress),
    /// An address is in use by someone unknown until the given second.
    Decline(MacAddress, Lease),
}

/// The lease table. Bounded: every entry holds an address of the pool or a reservation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    by_mac: BTreeMap<MacAddress, Lease>,
    by_address: BTreeMap<Ipv4Addr, MacAddress>,
    declined: BTreeMap<Ipv4Addr, u64>,
}

impl Leases {
    /// Every device's lease, ended ones included.
    pub fn iter(&self) -> impl Iterator<Item = (MacAddress, Lease)> + '_ {
        self.by_mac.iter().map(|(mac, lease)| (*mac, *lease))
    }

    /// A device's lease, ended or not.
    pub fn get(&self, mac: MacAddress) -> Option<Lease> {
        self.by_mac.get(&mac).copied()
    }

    /// Applies what [`super::decide()`] returned.
    pub fn apply(&mut self, change: LeaseChange) {
        match change {
            LeaseChange::None => {}
            LeaseChange::Offer(mac, lease) | LeaseChange::Bind(mac, lease) => self.put(mac, lease),
            LeaseChange::Release(mac) => self.remove(mac),
            LeaseChange::Decline(mac, lease) => {
                self.remove(mac);
                self.declined.insert(lease.address, lease.until_s);
            }
        }
    }

    fn put(&mut self, mac: MacAddress, lease: Lease) {
        self.remove(mac);
        if let Some(other) = self.by_address.insert(lease.address, mac) {
            self.by_mac.remove(&other);
        }
        self.declined.remove(&lease.address);
        self.by_mac.insert(mac, lease);
    }

    fn remove(&mut self, mac: MacAddress) {
        if let Some(lease) = self.by_mac.remove(&mac) {
            self.by_address.remove(&lease.address);
        }
    }

    /// Whether `mac` may have `address` now.
    pub(super) fn is_free(&self, mac: MacAddress, address: Ipv4Addr, now_s: u64) -> bool {
        let declined = self.declined.get(&address).is_some_and(|until_s| *until_s > now_s);
        let taken = self.by_address.get(&address).is_some_and(|holder| {
            *holder != mac && self.get(*holder).is_some_and(|lease| lease.until_s > now_s)
        });
        !declined && !taken
    }

    /// The address for a device: its reservation, its present or last lease, the one it asks
    /// for, else the first free one from a place in the range that its MAC decides; addresses
    /// that nobody ever had go first. None where the pool is exhausted.
    pub(super) fn choose(&self, wish: &Wish<'_>) -> Option<Ipv4Addr> {
        if let Some(reserved) = wish.pool.reservations.get(&wish.mac) {
            return Some(*reserved);
        }
        let last = self.get(wish.mac).map(|lease| lease.address);
        let preferred = [last, wish.requested].into_iter().flatten();
        if let Some(address) = preferred.into_iter().find(|address| self.may_have(wish, *address)) {
            return Some(address);
        }
        let unused = |address: &Ipv4Addr| !self.by_address.contains_key(address);
        let free = || candidates(wish).filter(|address| self.may_have(wish, *address));
        free().find(unused).or_else(|| free().next())
    }

    /// Whether a device without a reservation may have an address of the pool.
    pub(super) fn may_have(&self, wish: &Wish<'_>, address: Ipv4Addr) -> bool {
        wish.pool.is_dynamic(wish.server, address)
            && !wish.pool.is_reserved_for_other(wish.mac, address)
            && self.is_free(wish.mac, address, wish.now_s)
    }
}

/// Who wants an address, from which pool, when.
pub(super) struct Wish<'a> {
    pub(super) mac: MacAddress,
    pub(super) requested: Option<Ipv4Addr>,
    pub(super) pool: &'a Pool,
    pub(super) server: Ipv4Addr,
    pub(super) now_s: u64,
}

/// All addresses of the range, from where the MAC's hash points.
fn candidates(wish: &Wish<'_>) -> impl Iterator<Item = Ipv4Addr> {
    let first = u32::from(wish.pool.first);
    let count = u32::from(wish.pool.last) - first + 1;
    let start = hash(wish.mac) % count;
    (0..count).map(move |step| Ipv4Addr::from(first + (start + step) % count))
}

/// FNV-1a: any spread will do, it only has to be the same on every server and in every release.
fn hash(mac: MacAddress) -> u32 {
    mac.octets().iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
