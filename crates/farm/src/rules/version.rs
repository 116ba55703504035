//! The life of versions: made, promoted, reverted, pinned, merged, branched, retired, deleted.
//!
//! [`super::draft`] has what is before the seal, [`super::gate`] what a pending version waits for.

mod branch;
mod pin;
mod promote;
mod remove;

pub use branch::{Branch, branch};
pub use pin::{Pin, PinScope, pin, unpin};
pub use promote::{CopyRule, Promote, PromoteTo, Revert, Seen, When, promote, revert};
pub use remove::{delete, retire};

pub(super) use promote::put_in_production;

use super::draft::write_version;
use crate::change::{Change, Refusal, RefusalKind};
use crate::draft::{Draft, Epoch};
use crate::event::{EventKind, NewEvent};
use crate::key::Key;
use crate::record::FormatRevision;
use crate::timestamp::Stamp;
use crate::vdisk::{VDisk, Version, VersionState};
use crate::view::{FarmView, Stored};
use model::{AccessMode, Name, VersionNumber};

/// The most versions of a vDisk: all of them go in one transaction, which has a limit.
pub const MAX_VERSIONS: usize = 100;
/// The most drafts of a vDisk: one for each person who works on it, by eye.
pub const MAX_DRAFTS: usize = 16;
/// The longest comment in bytes.
pub const MAX_COMMENT: usize = 1000;

/// A new version, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateVersion {
    /// The vDisk.
    pub vdisk: Name,
    /// The version it begins as; the one in production where there is none.
    pub from: Option<VersionNumber>,
    /// What to say about it.
    pub comment: String,
}

/// Makes a maintenance version with a draft that reads like its parent. No data moves.
pub fn create(view: &FarmView, command: CreateVersion, stamp: &Stamp) -> Result<Change, Refusal> {
    let CreateVersion { vdisk: name, from, comment } = command;
    let vdisk = find_vdisk(view, &name)?;
    check_comment(&comment)?;
    let parent = parent(view, vdisk, from)?;
    if view.versions_of(&name).count() >= MAX_VERSIONS {
        return Err(Refusal::new(
            RefusalKind::Limit,
            format!("vDisk {name} has {MAX_VERSIONS} versions, which is the limit"),
            format!("delete old ones: `headwater version list {name}`, `headwater version delete {name} N`"),
        ));
    }
    if view.drafts.values().filter(|draft| draft.vdisk == name).count() >= MAX_DRAFTS {
        return Err(Refusal::new(
            RefusalKind::Limit,
            format!("vDisk {name} has {MAX_DRAFTS} drafts, which is the limit"),
            format!("seal or delete some: `headwater version list {name}` shows them"),
        ));
    }
    let mut change = Change::default();
    let number = take_number(&mut change, vdisk);
    let (revision, key) = (FormatRevision, Key::Version(name.clone(), number));
    change.absent(key.clone());
    change.unchanged(Key::Version(name.clone(), parent.number), parent);
    let version = Version {
        number,
        access: AccessMode::Maintenance,
        state: VersionState::Draft,
        comment,
        parent: Some(parent.number),
        origin: None,
        gate: None,
        created: stamp.clone(),
        sealed: None,
        promoted: None,
        retired: None,
        merged: None,
        ..parent.record.clone()
    };
    change.put(key, &version);
    let key = Key::Draft(name.clone(), number);
    change.absent(key.clone());
    let draft = Draft {
        revision,
        vdisk: name.clone(),
        number,
        epoch: Epoch(0),
        holder: None,
        dirty: None,
        checkpoint: parent.root,
        checkpointed: stamp.at,
        alone_since: None,
    };
    change.put(key, &draft);
    let message =
        format!("{} made version {number} of vDisk {name} from version {}", stamp.by, parent.number);
    change.event(NewEvent::new(EventKind::VersionCreated, &name, message));
    Ok(change)
}

/// Changes what is said about a version.
pub fn comment(
    view: &FarmView,
    vdisk: &Name,
    number: VersionNumber,
    comment: String,
    stamp: &Stamp,
) -> Result<Change, Refusal> {
    let version = find(view, vdisk, number)?;
    check_comment(&comment)?;
    let mut change = Change::default();
    let message = format!("{} commented version {number} of vDisk {vdisk}: {comment}", stamp.by);
    change.event(NewEvent::new(EventKind::VersionCommented, vdisk, message));
    write_version(&mut change, version, Version { comment, ..version.record.clone() });
    Ok(change)
}

/// Makes a version a base: every store rebuilds its files so that they need no ancestor's.
///
/// A mark on the version, not a new version: a root names a content, and merging does not change
/// the content, so a new number would be a second name of the same root, to be tested and promoted
/// again for nothing. Machines run on: their sessions are bound to the root. What a store does about
/// the mark (`Store::flatten`) is its own affair, at its own time; nothing travels.
pub fn merge(view: &FarmView, vdisk: &Name, number: VersionNumber, stamp: &Stamp) -> Result<Change, Refusal> {
    let version = find(view, vdisk, number)?;
    sealed(version)?;
    if let Some(merged) = &version.merged {
        return Err(Refusal::new(
            RefusalKind::Exists,
            format!("version {number} of vDisk {vdisk} is a base already, since {}", merged.at),
            "there is nothing to do; each store rebuilds its files in the background",
        ));
    }
    let mut change = Change::default();
    let message = format!("{} made version {number} of vDisk {vdisk} a base", stamp.by);
    change.event(NewEvent::new(EventKind::VersionMerged, vdisk, message));
    write_version(&mut change, version, Version { merged: Some(stamp.clone()), ..version.record.clone() });
    Ok(change)
}

/// Refuses a draft.
pub(super) fn sealed(version: &Version) -> Result<(), Refusal> {
    let Version { vdisk, number, .. } = version;
    match version.state {
        VersionState::Sealed => Ok(()),
        VersionState::Draft => Err(Refusal::new(
            RefusalKind::Invalid,
            format!("version {number} of vDisk {vdisk} is not sealed"),
            format!("shut its machine down, then `headwater version seal {vdisk} {number}`"),
        )),
    }
}

/// The version of a number, or a refusal.
pub fn find<'a>(
    view: &'a FarmView,
    vdisk: &Name,
    number: VersionNumber,
) -> Result<&'a Stored<Version>, Refusal> {
    find_vdisk(view, vdisk)?;
    view.version(vdisk, number).ok_or_else(|| {
        Refusal::new(
            RefusalKind::NotFound,
            format!("vDisk {vdisk} has no version {number}"),
            format!("`headwater version list {vdisk}` shows what there is"),
        )
    })
}

/// The vDisk of a name, or a refusal.
pub fn find_vdisk<'a>(view: &'a FarmView, vdisk: &Name) -> Result<&'a Stored<VDisk>, Refusal> {
    view.vdisks.get(vdisk).ok_or_else(|| Refusal::not_found("vDisk", vdisk, "vdisk list"))
}

/// Takes the vDisk's next number; of two that do so at once one conflicts.
fn take_number(change: &mut Change, vdisk: &Stored<VDisk>) -> VersionNumber {
    let number = vdisk.next;
    let next = VersionNumber(number.0 + 1);
    write_vdisk(change, vdisk, VDisk { next, ..vdisk.record.clone() });
    number
}

/// Replaces the vDisk that was seen.
pub(super) fn write_vdisk(change: &mut Change, seen: &Stored<VDisk>, vdisk: VDisk) {
    change.unchanged(Key::VDisk(seen.name.clone()), seen);
    change.put(Key::VDisk(seen.name.clone()), &vdisk);
}

fn parent<'a>(
    view: &'a FarmView,
    vdisk: &VDisk,
    from: Option<VersionNumber>,
) -> Result<&'a Stored<Version>, Refusal> {
    let name = &vdisk.name;
    let Some(number) = from.or(vdisk.production) else {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            format!("vDisk {name} has no version in production to begin with"),
            format!("name one: `headwater version create {name} --from N`"),
        ));
    };
    let parent = find(view, name, number)?;
    let hint = match (parent.state, parent.access) {
        (VersionState::Sealed, AccessMode::Test | AccessMode::Pending | AccessMode::Production) => {
            return Ok(parent);
        }
        (VersionState::Draft, _) => format!("seal it first: `headwater version seal {name} {number}`"),
        _ => format!("bring it to test first: `headwater version promote {name} {number} --to test`"),
    };
    let what = match parent.state {
        VersionState::Draft => "is not sealed".to_owned(),
        VersionState::Sealed => format!("is neither in test nor in production but in {}", parent.access),
    };
    Err(Refusal::new(RefusalKind::Invalid, format!("version {number} of vDisk {name} {what}"), hint))
}

pub(super) fn check_comment(comment: &str) -> Result<(), Refusal> {
    match comment.len() {
        0..=MAX_COMMENT => Ok(()),
        long => Err(Refusal::new(
            RefusalKind::Limit,
            format!("a comment of {long} bytes is too long"),
            format!("{MAX_COMMENT} is the limit"),
        )),
    }
}
