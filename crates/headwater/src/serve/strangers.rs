//! How many unknown machines are noted down: whoever is on the network can make MAC addresses up.
//!
//! Bounded for each address that asks, and for all together. The table of addresses has a fixed
//! size; two that share a slot by its hash share what they may.

use super::flood::Flood;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Unknown machines from one address in [`WINDOW`]: each real one has its own, but for a relay.
const FROM_ONE: u32 = 30;
const WINDOW: Duration = Duration::from_secs(600);
/// From all addresses in a minute: a room full of new machines, and a write each.
const IN_A_MINUTE: u32 = 300;
const SLOTS: usize = 4096;

/// Decides whether an unknown machine is noted down.
pub(crate) struct Strangers {
    keys: RandomState,
    slots: Mutex<Vec<Option<(Instant, u32)>>>,
    all: Flood,
}

impl Default for Strangers {
    fn default() -> Self {
        Self {
            keys: RandomState::new(),
            slots: Mutex::new(vec![None; SLOTS]),
            all: Flood::new(IN_A_MINUTE, Duration::from_secs(60)),
        }
    }
}

impl Strangers {
    /// Whether the database is written for one more unknown machine that asks from this address.
    pub(crate) fn admits(&self, from: IpAddr, now: Instant) -> bool {
        self.one_admits(from, now) && self.all.admits(now)
    }

    fn one_admits(&self, from: IpAddr, now: Instant) -> bool {
        let place = (self.keys.hash_one(from.to_canonical()) % SLOTS as u64) as usize;
        let slot = &mut self.slots.lock().expect("no holder of this lock panics")[place];
        let (begun, count) = match *slot {
            Some((begun, count)) if now.saturating_duration_since(begun) < WINDOW => (begun, count),
            _ => (now, 0),
        };
        *slot = Some((begun, count.saturating_add(1)));
        count < FROM_ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn one_address_makes_up_only_so_many_machines_and_leaves_room_for_others() {
        let (strangers, now) = (Strangers::default(), Instant::now());
        let noted = (0..10_000).filter(|_| strangers.admits(address(1), now)).count();
        assert_eq!(noted, FROM_ONE as usize);
        assert!(strangers.admits(address(2), now));
        assert!(strangers.admits(address(1), now + WINDOW));
    }

    #[test]
    fn a_thousand_addresses_are_bounded_together() {
        let (strangers, now) = (Strangers::default(), Instant::now());
        let noted = (0..1000).filter(|n| strangers.admits(address(*n), now)).count();
        assert!(noted <= IN_A_MINUTE as usize, "{noted}");
    }
}
