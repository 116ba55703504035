//! How often logins may fail: per address and per user, with a delay that doubles.
//!
//! The tables have a fixed size: a name or an address has its slot by a hash with a key of this
//! process, so that nobody can fill them, choose a neighbour, or push somebody out. Two that share a
//! slot share their failures, which costs a wait and nothing else. A name has its slot whether there
//! is such a user or not. An attempt counts before its password is checked, so that a thousand at
//! once are not more than one after the other.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Slots in each table: 16 bytes or so each.
const SLOTS: usize = 8192;
/// After so long without a failure it begins anew; longer than the longest delay.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// Failures without delay, then a delay that doubles up to the longest.
#[derive(Clone, Copy, Debug)]
struct Patience {
    free: u32,
    first: Duration,
    longest: Duration,
}

/// A person types wrong three times, not six.
const OF_USER: Patience =
    Patience { free: 5, first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// Several people share an address; whoever tries names from one waits longer.
const OF_ADDRESS: Patience =
    Patience { free: 10, first: Duration::from_secs(1), longest: Duration::from_secs(15 * 60) };

/// Whose failures these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Limited {
    /// Too many failed from the address.
    Address,
    /// Too many failed as the user.
    User,
}

/// A login that has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) limited: Limited,
    pub(super) wait: Duration,
}

/// The failures of the last minutes.
#[derive(Debug)]
pub(super) struct LoginLimit {
    users: Table,
    addresses: Table,
}

#[derive(Debug)]
struct Table {
    keys: RandomState,
    slots: Vec<Option<Failures>>,
    patience: Patience,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Default for LoginLimit {
    fn default() -> Self {
        Self { users: Table::new(OF_USER), addresses: Table::new(OF_ADDRESS) }
    }
}

impl LoginLimit {
    /// Lets an attempt be made, which counts as failed until [`Self::succeeded`] is told; or says
    /// how long to wait.
    pub(super) fn attempt(&mut self, from: IpAddr, user: &str, now: Instant) -> Result<(), Wait> {
        let from = network(from);
        let limited = [
            (Limited::Address, self.addresses.wait(&from, now)),
            (Limited::User, self.users.wait(user, now)),
        ];
        match limited.into_iter().find(|(_, wait)| !wait.is_zero()) {
            Some((limited, wait)) => Err(Wait { limited, wait }),
            None => {
                self.addresses.count(&from, now);
                self.users.count(user, now);
                Ok(())
            }
        }
    }

    /// The attempt had the right password: the user's failures are forgotten, and the address has
    /// not failed. What it failed at before stays, or one account would be the way to try others.
    pub(super) fn succeeded(&mut self, from: IpAddr, user: &str) {
        self.users.forget(user);
        self.addresses.take_back(&network(from));
    }
}

/// Who has one address of IPv6 has all 2^64 of its network.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(network.into())
        }
        v4 => v4,
    }
}

impl Table {
    fn new(patience: Patience) -> Self {
        Self { keys: RandomState::new(), slots: vec![None; SLOTS], patience }
    }

    fn slot<T: Hash + ?Sized>(&mut self, key: &T) -> &mut Option<Failures> {
        let place = self.keys.hash_one(key) % SLOTS as u64;
        &mut self.slots[place as usize]
    }

    fn wait<T: Hash + ?Sized>(&mut self, key: &T, now: Instant) -> Duration {
        let patience = self.patience;
        let slot = self.slot(key);
        let old = |failures: &mut Failures| now.saturating_duration_since(failures.last) >= FORGOTTEN_AFTER;
        slot.take_if(old);
        slot.map_or(Duration::ZERO, |failures| {
            let until = failures.last + patience.delay(failures.count);
            until.saturating_duration_since(now)
        })
    }

    fn count<T: Hash + ?Sized>(&mut self, key: &T, now: Instant) {
        let slot = self.slot(key);
        let count = slot.map_or(0, |failures| failures.count).saturating_add(1);
        *slot = Some(Failures { count, last: now });
    }

    fn forget<T: Hash + ?Sized>(&mut self, key: &T) {
        *self.slot(key) = None;
    }

    fn take_back<T: Hash + ?Sized>(&mut self, key: &T) {
        if let Some(failures) = self.slot(key) {
            failures.count = failures.count.saturating_sub(1);
        }
    }
}

impl Patience {
    /// How long the next attempt has to wait after so many failures.
    fn delay(self, failures: u32) -> Duration {
        match failures.checked_sub(self.free) {
            None => Duration::ZERO,
            Some(beyond) => self.first.saturating_mul(1 << beyond.min(20)).min(self.longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn a_user_who_fails_waits_twice_as_long_each_time_and_begins_anew_after_success() {
        let (mut limit, mut now) = (LoginLimit::default(), Instant::now());
        let mut from = (0..).map(address);
        let mut attempt = |limit: &mut LoginLimit, now| limit.attempt(from.next().unwrap(), "anna", now);
        (0..5).for_each(|_| attempt(&mut limit, now).unwrap());
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = attempt(&mut limit, now).unwrap_err();
            assert_eq!(wait, Wait { limited: Limited::User, wait: Duration::from_secs(seconds) });
            now += wait.wait;
            attempt(&mut limit, now).unwrap();
        }
        limit.succeeded(address(9), "anna");
        attempt(&mut limit, now).unwrap();
    }

    #[test]
    fn an_address_that_tries_names_waits_and_one_account_of_its_own_does_not_help() {
        let (mut limit, mut now) = (LoginLimit::default(), Instant::now());
        for n in 0..10 {
            limit.attempt(address(7), &format!("user-{n}"), now).unwrap();
            if limit.attempt(address(7), "own", now).is_ok() {
                limit.succeeded(address(7), "own");
            }
        }
        let mut tried = 0;
        for second in 0..3600 {
            now += Duration::from_secs(1);
            tried += usize::from(limit.attempt(address(7), &format!("other-{second}"), now).is_ok());
        }
        assert!(tried < 20, "{tried} in an hour");
        assert!(limit.attempt(address(8), "anna", now).is_ok(), "others are not held back");
    }

    #[test]
    fn a_whole_ipv6_network_is_one_address() {
        let (mut limit, now) = (LoginLimit::default(), Instant::now());
        let of = |n: u128| IpAddr::V6((0x2001_0db8_u128 << 96 | n).into());
        let admitted = (0..1000).filter(|n| limit.attempt(of(*n), &format!("u{n}"), now).is_ok()).count();
        assert_eq!(admitted, 10);
        assert!(limit.attempt(of(1 << 64), "anna", now).is_ok());
    }

    #[test]
    fn made_up_names_and_addresses_cost_no_memory() {
        let (mut limit, now) = (LoginLimit::default(), Instant::now());
        for n in 0..100_000 {
            let _ = limit.attempt(address(n), &n.to_string(), now);
        }
        assert_eq!((limit.users.slots.len(), limit.addresses.slots.len()), (SLOTS, SLOTS));
    }
}
