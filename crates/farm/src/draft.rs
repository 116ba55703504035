//! Drafts: who may write one, what is not yet safe, and what was given up (DESIGN section 5).

use crate::record::{FormatRevision, Record};
use crate::timestamp::{Stamp, Timestamp};
use model::{Name, Root, VersionNumber};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number that fences older holders of a draft; each attachment has its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of the next attachment.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The writable state of a maintenance version: there is one as long as the version is a draft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The vDisk.
    pub vdisk: Name,
    /// The version.
    pub number: VersionNumber,
    /// The epoch of the last attachment; 0 where nobody ever attached.
    pub epoch: Epoch,
    /// Who holds the write lease.
    pub holder: Option<Holder>,
    /// Which server has acknowledged bytes that no checkpoint has.
    pub dirty: Option<Dirty>,
    /// The content at the last checkpoint; the parent's until there is one.
    pub checkpoint: Root,
    /// When that was.
    pub checkpointed: Timestamp,
    /// Since when there are bytes in the checkpoint that only the server which made it had when it
    /// was made; none where another server had the checkpoint before. What counts now is
    /// `rules::draft::alone_since`.
    pub alone_since: Option<Timestamp>,
}

/// Who holds a draft's write lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The server that executes the writes.
    pub server: Name,
    /// The device that writes; none where the server itself does (an admin's session, a hook, a seal).
    pub device: Option<Name>,
    /// Since when.
    pub since: Timestamp,
}

/// The durable note that a server has acknowledged bytes which no checkpoint has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dirty {
    /// The first epoch that wrote since the last checkpoint; all epochs from it to the draft's
    /// present one are of this server.
    pub from_epoch: Epoch,
    /// The server that has the bytes, and that alone may go on.
    pub server: Name,
    /// Since when.
    pub since: Timestamp,
}

/// Bytes that an admin gave up: their server keeps them until somebody deletes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orphan {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The vDisk.
    pub vdisk: Name,
    /// The version whose draft it was.
    pub number: VersionNumber,
    /// The server that has the bytes.
    pub server: Name,
    /// The store that they are in.
    pub store: Name,
    /// The first discarded epoch.
    pub from_epoch: Epoch,
    /// The last discarded epoch.
    pub to_epoch: Epoch,
    /// The name of the kept bytes in the server's store: `VDISK.NUMBER.eEPOCH`.
    pub draft: String,
    /// The checkpoint that the bytes lie above; it is kept as long as this record.
    pub checkpoint: Root,
    /// What has become of the bytes.
    pub state: OrphanState,
    /// Who discarded them, and when.
    pub discarded: Stamp,
}

/// What has become of discarded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrphanState {
    /// The server has not put them aside yet; until it has, it may not attach the draft.
    Claimed,
    /// They lie in the store under the orphan's name.
    Kept,
    /// The server looked, and has none: it lost its disk.
    Lost,
}

/// What identifies an orphan: the draft and the last epoch that was discarded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrphanId {
    /// The vDisk.
    pub vdisk: Name,
    /// The version whose draft it was.
    pub number: VersionNumber,
    /// The last discarded epoch.
    pub epoch: Epoch,
}

/// That a server has the whole content of a root: written when it has, removed before it deletes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompleteCopy {
    /// The format of this record.
    pub revision: FormatRevision,
    /// Since when.
    pub since: Timestamp,
}

impl Record for Draft {}
impl Record for Orphan {}
impl Record for CompleteCopy {}
