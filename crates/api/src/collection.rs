//! Collections and their templates.

use model::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A group of devices and the template for new ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CollectionView {
    /// The collection's name.
    pub name: Name,
    /// What its devices boot; several make a menu, the first is the default.
    pub vdisks: Vec<Name>,
    /// The versions that its devices boot whatever is promoted, by vDisk.
    pub pins: BTreeMap<Name, u32>,
    /// The most bytes of a device's write cache.
    pub cache_limit_bytes: u64,
    /// What a full write cache does.
    pub when_full: WhenFull,
    /// Kernel parameters added to the image's own.
    pub boot_args: String,
    /// What stands before the counter of generated names.
    pub prefix: String,
    /// How many digits the counter has.
    pub digits: u8,
    /// What stands behind it.
    pub suffix: String,
    /// The next generated name, if the counter has numbers left.
    pub next_name: Option<Name>,
    /// Whether unknown devices are added by themselves.
    pub auto_add: bool,
    /// Whether its devices get a host name, machine-id and SSH host key of their own at boot.
    pub identity: bool,
    /// How many devices it has.
    pub devices: u32,
}

/// The defined behaviour of a full write cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Writes to blocks that are not yet in the cache get ENOSPC.
    RefuseWrites,
    /// The device reboots, clean.
    Reboot,
}

/// A collection to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewCollection {
    /// Its name.
    pub name: Name,
    /// What shall differ from the usual template.
    #[serde(flatten)]
    pub template: PatchCollection,
}

/// What to change of a collection; fields that are left out stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PatchCollection {
    /// What its devices boot, the default first; an empty list = nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vdisks: Option<Vec<Name>>,
    /// The most bytes of a device's write cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_limit_bytes: Option<u64>,
    /// What a full write cache does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFull>,
    /// Kernel parameters added to the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_args: Option<String>,
    /// What stands before the counter of generated names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// How many digits the counter has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digits: Option<u8>,
    /// What stands behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// Whether unknown devices are added by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_add: Option<bool>,
    /// Whether its devices get a host name, machine-id and SSH host key of their own at boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<bool>,
}
