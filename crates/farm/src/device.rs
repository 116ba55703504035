//! Diskless machines: those that are known and those that wait to be.

use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use model::{MacAddress, Name, VersionNumber};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A diskless machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The device's name; its host name unless the image says otherwise.
    pub name: Name,
    /// How it is recognised at boot.
    pub mac: MacAddress,
    /// The collection it belongs to.
    pub collection: Name,
    /// Which versions it boots.
    pub kind: DeviceKind,
    /// The vDisks that it boots instead of its collection's; several make a menu, the first is the
    /// default.
    pub vdisks: Vec<Name>,
    /// The version that it boots of a vDisk, whatever is in production.
    pub pins: BTreeMap<Name, VersionNumber>,
    /// Whether it is kept from booting.
    pub disabled: bool,
    /// When it was added.
    pub created: Timestamp,
}

/// Which versions a device boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// What is in production.
    #[default]
    Production,
    /// The newest version in test, else what is in production.
    Test,
    /// A draft, to write it.
    Maintenance,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::Test => "test",
            Self::Maintenance => "maintenance",
        })
    }
}

/// A MAC address that asked to boot and that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingDevice {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The address.
    pub mac: MacAddress,
    /// When it asked first.
    pub first_seen: Timestamp,
    /// When it asked last, accurate to a minute.
    pub last_seen: Timestamp,
    /// What the admin said.
    pub state: PendingState,
}

/// What the admin said about a pending device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PendingState {
    /// Nothing yet.
    Waiting,
    /// It shall not boot.
    Rejected,
}

impl Record for Device {}
impl Record for PendingDevice {}
