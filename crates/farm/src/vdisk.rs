//! vDisks and their versions.

use crate::record::{FormatRevision, Record};
use crate::timestamp::{Stamp, Timestamp};
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
    /// What production devices boot; moved by promotions and reverts only.
    pub production: Option<VersionNumber>,
    /// The override for the whole vDisk: stands in place of `production` while it is there.
    pub pinned: Option<VersionNumber>,
    /// The number that the next version gets: no number is used twice.
    pub next: VersionNumber,
    /// What runs against a draft before it is sealed, in order; servers know hooks by these names.
    pub hooks: Vec<Name>,
    /// How often its open drafts are saved for other servers to go on from.
    pub checkpoints: Checkpoints,
    /// When it was registered.
    pub created: Timestamp,
}

/// How often open drafts of a vDisk become checkpoints; what is none is as each server's
/// configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoints {
    /// After how many seconds with changes, at least 1.
    pub every_s: Option<u64>,
    /// After how many changed bytes, if that is earlier; at least 1 MiB.
    pub bytes: Option<u64>,
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
    /// Whether its content can still change.
    pub state: VersionState,
    /// The content; a draft's is that of its last checkpoint.
    pub root: Root,
    /// The virtual disk's size in bytes.
    pub size: DiskSize,
    /// Bytes of chunks that are not zero.
    pub data_bytes: u64,
    /// Whether machines can boot from it through us.
    pub boot: Bootable,
    /// What the admin said about it.
    pub comment: String,
    /// The version it was made from, which may be gone by now.
    pub parent: Option<VersionNumber>,
    /// Where it came from, if from another vDisk.
    pub origin: Option<Origin>,
    /// What it waits for, while it is pending.
    pub gate: Option<Gate>,
    /// Who made it, and when.
    pub created: Stamp,
    /// Who sealed it; none for drafts.
    pub sealed: Option<Stamp>,
    /// Who promoted it last: to test, to production, or to wait for it.
    pub promoted: Option<Stamp>,
    /// Who retired it.
    pub retired: Option<Stamp>,
    /// Who made it a base: each store keeps it in files of its own, without its ancestors'.
    pub merged: Option<Stamp>,
}

/// Whether a version's content can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionState {
    /// It has a draft.
    Draft,
    /// Never again.
    Sealed,
}

/// The version of another vDisk that one was branched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// That vDisk.
    pub vdisk: Name,
    /// Its version.
    pub number: VersionNumber,
}

/// What a promotion waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// A point in time.
    At(Timestamp),
    /// So many servers with a complete copy.
    Copies(u32),
    /// A complete copy on every server of the vDisk's store.
    AllServers,
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
