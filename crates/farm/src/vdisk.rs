//! vDisks and their versions.

use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use model::{AccessMode, DiskSize, Name, Root, VersionNumber};
use serde::{Deserialize, Serialize};

/// A disk's identity; its content is in its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VDisk {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The vDisk's name.
    pub name: Name,
    /// The store that keeps it.
    pub store: Name,
    /// The virtual disk's size in bytes.
    pub size: DiskSize,
    /// When it was registered.
    pub created: Timestamp,
}

/// A numbered state of a vDisk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The vDisk.
    pub vdisk: Name,
    /// The number, from 1.
    pub number: VersionNumber,
    /// Which devices it is for.
    pub access: AccessMode,
    /// The content.
    pub root: Root,
    /// The virtual disk's size in bytes.
    pub size: DiskSize,
    /// Bytes of chunks that are not zero.
    pub data_bytes: u64,
    /// Whether machines can boot from it through us.
    pub boot: Bootable,
    /// What the admin said about it.
    pub comment: String,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it: "admin", "import".
    pub created_by: String,
}

/// Whether a version holds what our own boot path needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Bootable {
    /// It has a kernel, an initrd and the nbd module.
    Linux {
        /// The kernel's version, for people.
        kernel_version: String,
        /// The kernel's `root=` value.
        root_spec: String,
    },
    /// It can be streamed, but not booted by us.
    No {
        /// What it lacks, for people.
        reason: String,
    },
}

/// The content of a deleted version, which the store is still to delete.
///
/// Written with the deletion, removed when the bytes are gone: a server that dies in between goes
/// on at its next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doomed {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The store that has it.
    pub store: Name,
}

impl Record for Doomed {}
impl Record for VDisk {}
impl Record for Version {}
