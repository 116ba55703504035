//! Diskless machines: those that are known and those that wait to be.

use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use model::{MacAddress, Name};
use serde::{Deserialize, Serialize};

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
    /// The vDisk that it boots instead of its collection's.
    pub vdisk: Option<Name>,
    /// Whether it is kept from booting.
    pub disabled: bool,
    /// When it was added.
    pub created: Timestamp,
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
