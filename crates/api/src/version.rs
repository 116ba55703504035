//! Versions: their life from draft to production, and what stands in its way.

use model::{AccessMode, Name, Root};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A version of a vDisk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// The number, from 1; never used twice.
    pub number: u32,
    /// Which devices it is for.
    pub access: AccessMode,
    /// Whether it can still be written to.
    pub state: VersionState,
    /// Whether this is the version that production devices boot.
    pub in_production: bool,
    /// The content; a draft's is its last checkpoint.
    pub root: Root,
    /// The version it was made on.
    pub parent: Option<u32>,
    /// The virtual disk's size in bytes.
    pub size_bytes: u64,
    /// Bytes of chunks that are not zero.
    pub data_bytes: u64,
    /// Bytes that this version adds to its parent on the answering server; none where that is not
    /// known.
    pub delta_bytes: Option<u64>,
    /// The servers that have all of it, as they have confirmed.
    pub copies: Vec<Name>,
    /// How many sessions read it on each server, as of a few seconds ago; 0 where one may begin to.
    pub read_by: BTreeMap<Name, u32>,
    /// The kernel that machines boot; none where we cannot boot it.
    pub kernel: Option<String>,
    /// Why machines cannot boot it; none where they can.
    pub not_bootable: Option<String>,
    /// What the admin said about it.
    pub comment: String,
    /// The version of another vDisk that it was branched off.
    pub origin: Option<OriginView>,
    /// When it was made.
    pub created_ms: u64,
    /// Who made it.
    pub created_by: String,
    /// When it was sealed, and by whom.
    pub sealed: Option<StampView>,
    /// When it was promoted last, and by whom.
    pub promoted: Option<StampView>,
    /// When it was retired, and by whom.
    pub retired: Option<StampView>,
    /// When it was made a base, and by whom.
    pub merged: Option<StampView>,
    /// What devices read while they boot it; none before the first boot of it or of a version below.
    pub boot_profile: Option<BootProfileView>,
    /// What it waits for; none unless it is pending.
    pub gate: Option<GateView>,
    /// Who writes to it and what is not safe yet; none unless it is a draft.
    pub draft: Option<DraftView>,
}

/// What devices read while they boot a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BootProfileView {
    /// How many chunks of 64 KiB.
    pub chunks: u64,
    /// The same in bytes.
    pub bytes: u64,
    /// How many boots it was learned from; 0 where it was taken over from a version below.
    pub boots: u32,
    /// When it last changed.
    pub changed_ms: u64,
    /// The version below that it was learned from, as long as this one has none of its own.
    pub inherited_from: Option<u32>,
}

/// Whether a version can still be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VersionState {
    /// One writer may change it.
    Draft,
    /// It never changes again.
    Sealed,
}

/// The version that one was branched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OriginView {
    /// Its vDisk.
    pub vdisk: Name,
    /// Its number.
    pub version: u32,
}

/// When something was done, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StampView {
    /// When.
    pub at_ms: u64,
    /// By whom.
    pub by: String,
}

/// The writable side of a maintenance version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DraftView {
    /// Grows with every new holder; what an older one still sends is refused.
    pub epoch: u64,
    /// Who may write now.
    pub holder: Option<HolderView>,
    /// Who has bytes that no checkpoint has.
    pub dirty: Option<DirtyView>,
    /// When the last checkpoint was made.
    pub checkpointed_ms: u64,
    /// Since when there are bytes that only one server has, in no checkpoint or in one that no other
    /// server has yet; none where every acknowledged byte is on two servers, and where the store is
    /// on one server only.
    pub alone_since_ms: Option<u64>,
    /// How many those are at most; known on the server that has them.
    pub alone_bytes: Option<u64>,
}

/// Who may write to a draft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HolderView {
    /// The server that the writer is connected to.
    pub server: Name,
    /// The device; none for an admin's session.
    pub device: Option<Name>,
    /// Since when.
    pub since_ms: u64,
}

/// Bytes of a draft that no checkpoint has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DirtyView {
    /// The server that has them.
    pub server: Name,
    /// The first epoch they were written in.
    pub from_epoch: u64,
    /// Since when there are some.
    pub since_ms: u64,
    /// How many they are, on the server that has them.
    pub bytes: Option<u64>,
}

/// What must be so before a promotion takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Gate {
    /// A time has come.
    At {
        /// Milliseconds since 1970 UTC.
        at_ms: u64,
    },
    /// So many servers have it complete.
    Copies {
        /// How many.
        copies: u32,
    },
    /// Every server of the store has it complete.
    AllServers,
}

/// A gate, and what is missing for it to open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GateView {
    /// The condition.
    pub gate: Gate,
    /// What is missing, one line each, for people.
    pub missing: Vec<String>,
}

/// Makes a maintenance version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    /// The sealed version it is made on; the one in production where there is none.
    #[serde(default)]
    pub parent: Option<u32>,
    /// What to say about it.
    #[serde(default)]
    pub comment: String,
}

/// What to change of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchVersion {
    /// What to say about it.
    pub comment: String,
}

/// What a version is promoted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PromoteTo {
    /// Test devices boot it.
    Test,
    /// Production devices boot it from their next boot on.
    Production,
}

/// Promotes what the admin saw, and only that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteVersion {
    /// Where to.
    pub to: PromoteTo,
    /// The content that the admin saw: refused where the version's is another.
    pub root: Root,
    /// The version that the admin saw in production: refused where it is another.
    #[serde(default)]
    pub production: Option<u32>,
    /// What must be so first; at once where there is none.
    #[serde(default)]
    pub gate: Option<Gate>,
    /// Does not ask whether any server has it completely.
    #[serde(default)]
    pub force: bool,
    /// Says what it would change and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Makes production devices boot an older version again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertVersion {
    /// The version that the admin saw in production: refused where it is another.
    #[serde(default)]
    pub production: Option<u32>,
    /// Does not ask whether any server has it completely.
    #[serde(default)]
    pub force: bool,
    /// Says what it would change and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Whom a pin is for: the vDisk's every device unless one of them is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// This collection's devices.
    #[serde(default)]
    pub collection: Option<Name>,
    /// This device.
    #[serde(default)]
    pub device: Option<Name>,
    /// Says what it would change and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Makes a vDisk whose version 1 is a version of another; nothing is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BranchVersion {
    /// The new vDisk's name.
    pub name: Name,
    /// What to say about its version 1.
    #[serde(default)]
    pub comment: String,
}

/// Seals a draft.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SealVersion {
    /// What to run against the content first, by name, in order, after the vDisk's own hooks.
    #[serde(default)]
    pub hooks: Vec<Name>,
    /// Runs no hook at all, not even the vDisk's own. Refused together with `hooks`.
    #[serde(default)]
    pub no_hooks: bool,
}

/// Gives up the bytes of a draft that no checkpoint has; the server keeps them as an orphan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscardDraft {
    /// The server that has them, as the admin saw it.
    pub server: Name,
    /// The first epoch that they were written in, as the admin saw it.
    pub from_epoch: u64,
    /// The draft's epoch, as the admin saw it.
    pub epoch: u64,
}

/// The bytes that were kept when a draft was discarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrphanView {
    /// The vDisk.
    pub vdisk: Name,
    /// The version's number.
    pub version: u32,
    /// The server that keeps them.
    pub server: Name,
    /// The first epoch that they were written in.
    pub from_epoch: u64,
    /// The last one; names the orphan, with the vDisk and the version.
    pub to_epoch: u64,
    /// What the server's store calls them.
    pub stored_as: String,
    /// What has become of them.
    pub state: OrphanState,
    /// When they were discarded, and by whom.
    pub discarded: StampView,
}

/// What has become of discarded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OrphanState {
    /// The server has not put them aside yet.
    Claimed,
    /// They lie in the store.
    Kept,
    /// The server has none: it lost its disk.
    Lost,
}

/// Makes a vDisk of discarded bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreOrphan {
    /// The new vDisk's name.
    pub name: Name,
}

/// What a change would do, asked with `dry_run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryRun {
    /// What would be told of it, one line each.
    pub would: Vec<String>,
    /// The devices that would boot something else from their next boot on.
    pub devices: Vec<DeviceChange>,
}

/// What a device boots now, and what it would boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceChange {
    /// The device.
    pub name: Name,
    /// What it boots now, or why it does not.
    pub now: String,
    /// What it would boot, or why it would not.
    pub then: String,
}

/// What a change answers: the version as it is now, or what would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Changed {
    /// It was changed.
    Version(Box<VersionView>),
    /// Nothing was changed.
    DryRun(DryRun),
}
