//! Devices, and MAC addresses that wait to become some.

use model::{MacAddress, Name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A diskless machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceView {
    /// The device's name.
    pub name: Name,
    /// Its address.
    pub mac: MacAddress,
    /// Its collection.
    pub collection: Name,
    /// Which versions it boots.
    pub kind: DeviceKind,
    /// The vDisks assigned to itself; none = its collection's.
    pub assigned_vdisks: Vec<Name>,
    /// What it boots; several make a menu, the first is the default.
    pub vdisks: Vec<Name>,
    /// The versions that it boots whatever is promoted, by vDisk.
    pub pins: BTreeMap<Name, u32>,
    /// Whether it is kept from booting.
    pub disabled: bool,
    /// Why it would not boot now; none where it would.
    pub not_booting: Option<String>,
    /// How many sessions it has on this server.
    pub sessions: u32,
    /// When it was added.
    pub created_ms: u64,
}

/// Which versions a device boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// A device to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// Its address.
    pub mac: MacAddress,
    /// Its name; the collection's pattern makes one where there is none.
    #[serde(default)]
    pub name: Option<Name>,
    /// Its collection; "default" where there is none.
    #[serde(default)]
    pub collection: Option<Name>,
    /// vDisks of its own; several make a menu, the first is the default.
    #[serde(default)]
    pub vdisks: Vec<Name>,
    /// Which versions it boots.
    #[serde(default)]
    pub kind: DeviceKind,
}

/// What to change of a device; fields that are left out stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchDevice {
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The collection to move to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<Name>,
    /// vDisks of its own; an empty list = its collection's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vdisks: Option<Vec<Name>>,
    /// Which versions it boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<DeviceKind>,
    /// Whether it is kept from booting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// A MAC address that asked to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingView {
    /// The address.
    pub mac: MacAddress,
    /// When it asked first.
    pub first_seen_ms: u64,
    /// When it asked last, accurate to a minute.
    pub last_seen_ms: u64,
    /// Whether an admin rejected it.
    pub rejected: bool,
}

/// Makes a device of a pending one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptPending {
    /// Its name; the collection's pattern makes one where there is none.
    #[serde(default)]
    pub name: Option<Name>,
    /// Its collection; "default" where there is none.
    #[serde(default)]
    pub collection: Option<Name>,
}
