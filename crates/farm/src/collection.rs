//! Collections: groups of devices with a template.

use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use model::{Name, VersionNumber};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest generated name: NetBIOS and Active Directory computer names end there.
pub const MAX_GENERATED_NAME: usize = 15;

/// A group of devices and the template for new ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collection {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The collection's name.
    pub name: Name,
    /// What its devices boot; several make a menu, the first is the default.
    pub vdisks: Vec<Name>,
    /// The version that its devices boot of a vDisk, whatever is in production.
    pub pins: BTreeMap<Name, VersionNumber>,
    /// Where its devices' writes go.
    pub write_cache: WriteCache,
    /// Kernel parameters added to the image's own.
    pub boot_args: String,
    /// How devices that nobody named are named.
    pub naming: Naming,
    /// Whether an unknown MAC address becomes a device of this collection by itself.
    pub auto_add: bool,
    /// Whether its devices get a host name, machine-id and SSH host key of their own at boot.
    pub identity: bool,
    /// When it was made.
    pub created: Timestamp,
}

/// A write cache in the device's RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteCache {
    /// The most bytes it may hold.
    pub limit_bytes: u64,
    /// What happens at the limit.
    pub when_full: WhenFull,
}

/// The defined behaviour of a full write cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Writes to blocks that are not yet in the cache get ENOSPC.
    RefuseWrites,
    /// The device reboots, clean.
    Reboot,
}

/// The pattern of generated names: prefix, a counter with leading zeros, suffix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Naming {
    /// What stands before the counter.
    pub prefix: String,
    /// How many digits the counter has, 1 to 9.
    pub digits: u8,
    /// What stands behind it.
    pub suffix: String,
    /// The number that the next name is tried with.
    pub next: u32,
}

impl Naming {
    /// The name with this number; none where the counter has run out of digits or the pattern
    /// makes no name of at most 15 characters.
    pub fn name(&self, number: u32) -> Option<Name> {
        let (width, limit) = (usize::from(self.digits), 10u32.checked_pow(self.digits.into())?);
        let text = format!("{}{number:0width$}{}", self.prefix, self.suffix);
        let fits = (1..=9).contains(&self.digits) && number < limit && text.len() <= MAX_GENERATED_NAME;
        fits.then(|| Name::new(&text).ok()).flatten()
    }
}

impl Record for Collection {}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(prefix: &str, digits: u8, suffix: &str) -> Naming {
        Naming { prefix: prefix.to_owned(), digits, suffix: suffix.to_owned(), next: 1 }
    }

    #[test]
    fn names_have_leading_zeros_and_end_at_fifteen_characters() {
        assert_eq!(naming("pc-", 3, "x").name(7).unwrap().as_str(), "pc-007x");
        assert!(naming("abcdefghijkl", 3, "").name(1).is_some());
        assert!(naming("abcdefghijklm", 3, "").name(1).is_none());
        assert!(naming("pc", 0, "").name(0).is_none());
        assert!(naming("pc", 10, "").name(1).is_none());
        assert!(naming("PC", 3, "").name(1).is_none());
    }

    #[test]
    fn a_counter_ends_at_its_digits() {
        assert!(naming("pc", 2, "").name(99).is_some());
        assert!(naming("pc", 2, "").name(100).is_none());
        assert!(naming("pc", 9, "").name(u32::MAX).is_none());
    }
}
