//! Letting versions go: retired ones stay, deleted ones do not.

use super::pin::{PinScope, pins_of};
use super::{find, find_vdisk};
use crate::change::{Change, Refusal, RefusalKind};
use crate::event::{EventKind, NewEvent};
use crate::key::{Guard, Key};
use crate::rules::draft::{dirty_refusal, holder_text, write_version};
use crate::rules::reading::{Here, readers};
use crate::rules::vdisk::{doom, some_of};
use crate::timestamp::Stamp;
use crate::vdisk::{VDisk, Version};
use crate::view::{FarmView, Stored};
use model::{AccessMode, Name, VersionNumber};

/// Lets a sealed version go: no device boots it any more. Its content stays until it is deleted.
pub fn retire(
    view: &FarmView,
    vdisk: &Name,
    number: VersionNumber,
    stamp: &Stamp,
) -> Result<Change, Refusal> {
    let (vdisk, version) = (find_vdisk(view, vdisk)?, find(view, vdisk, number)?);
    super::sealed(version)?;
    if version.access == AccessMode::Retired {
        let message = format!("version {number} of vDisk {} is retired already", vdisk.name);
        return Err(Refusal::new(RefusalKind::Invalid, message, "there is nothing to do"));
    }
    let mut change = Change::default();
    not_booted(view, &mut change, vdisk, version)?;
    let (access, retired) = (AccessMode::Retired, Some(stamp.clone()));
    write_version(&mut change, version, Version { access, retired, ..version.record.clone() });
    let message = format!("{} retired version {number} of vDisk {}", stamp.by, vdisk.name);
    change.event(NewEvent::new(EventKind::VersionRetired, &vdisk.name, message));
    Ok(change)
}

/// Deletes a version, or a draft that nobody holds and that is not dirty. Refused while sessions of
/// any server read it; `here` names those of the server that is asked.
///
/// Versions made from it stay: each has a root of its own, and what of its chunks they share with
/// this one the stores keep.
pub fn delete(
    view: &FarmView,
    vdisk: &Name,
    number: VersionNumber,
    here: Here<'_>,
    stamp: &Stamp,
) -> Result<Change, Refusal> {
    let (vdisk, version) = (find_vdisk(view, vdisk)?, find(view, vdisk, number)?);
    let name = &vdisk.name;
    let mut change = Change::default();
    not_booted(view, &mut change, vdisk, version)?;
    let readers = readers(view, here, name, Some(number));
    if !readers.is_empty() {
        let why = format!("open sessions read it: {}", some_of(readers.iter()));
        return Err(in_use(version, &why, "`headwater session list` shows them; shut the machines down"));
    }
    let children = view.drafts.values().filter(|draft| draft.vdisk == *name);
    let of_this = |child: VersionNumber| view.version(name, child).is_some_and(|v| v.parent == Some(number));
    if let Some(child) = children.map(|draft| draft.number).find(|child| of_this(*child)) {
        let hint = format!("`headwater version seal {name} {child}` or delete that one first");
        return Err(in_use(version, &format!("draft {child} was made from it"), &hint));
    }
    if view.versions_of(name).count() == 1 {
        let hint = format!("delete the vDisk: `headwater vdisk delete {name}`");
        return Err(in_use(version, "it is the vDisk's only version", &hint));
    }
    delete_draft(view, &mut change, version, stamp)?;
    let key = Key::Version(name.clone(), number);
    change.unchanged(key.clone(), version);
    change.delete(key);
    let of_others = view.versions_of(name).any(|other| other.root == version.root && other.number != number);
    if !of_others {
        doom(view, &mut change, vdisk, version.root);
    }
    let message = format!("{} deleted version {number} of vDisk {name}", stamp.by);
    change.event(NewEvent::new(EventKind::VersionDeleted, name, message));
    Ok(change)
}

fn delete_draft(
    view: &FarmView,
    change: &mut Change,
    version: &Version,
    stamp: &Stamp,
) -> Result<(), Refusal> {
    let Version { vdisk, number, .. } = version;
    let Some(draft) = view.draft(vdisk, *number) else { return Ok(()) };
    if let Some(dirty) = &draft.dirty {
        return Err(dirty_refusal(draft, dirty, stamp.at));
    }
    if let Some(holder) = &draft.holder {
        let why = format!("it is held by {}", holder_text(holder, stamp.at));
        return Err(in_use(version, &why, "shut that machine down first"));
    }
    let key = Key::Draft(vdisk.clone(), *number);
    change.unchanged(key.clone(), draft);
    change.delete(key);
    Ok(())
}

/// Refuses what devices boot, or would boot soon, and notices who begins to at the same time.
fn not_booted(
    view: &FarmView,
    change: &mut Change,
    vdisk: &Stored<VDisk>,
    version: &Version,
) -> Result<(), Refusal> {
    let (name, number) = (&vdisk.name, version.number);
    if vdisk.production == Some(number) {
        let hint = format!("promote another one, or `headwater version revert {name}`");
        return Err(in_use(version, "it is in production", &hint));
    }
    if version.access == AccessMode::Pending {
        let hint = format!("take its promotion back: `headwater version promote {name} {number} --to test`");
        return Err(in_use(version, "it waits for its promotion", &hint));
    }
    let pins = pins_of(view, vdisk, number);
    if let Some(first) = pins.first() {
        let why = format!("it is pinned for {}", some_of(pins.iter()));
        let of = match first {
            PinScope::VDisk => String::new(),
            PinScope::Collection(collection) => format!(" --collection {collection}"),
            PinScope::Device(device) => format!(" --device {device}"),
        };
        return Err(in_use(
            version,
            &why,
            &format!("`headwater version unpin {name}{of}` takes the pin away"),
        ));
    }
    let guard = Guard::VDisk(name.clone());
    change.unguarded(guard.clone(), view.guard(&guard));
    change.unchanged(Key::VDisk(name.clone()), vdisk);
    Ok(())
}

fn in_use(version: &Version, why: &str, hint: &str) -> Refusal {
    let Version { vdisk, number, .. } = version;
    Refusal::new(RefusalKind::InUse, format!("version {number} of vDisk {vdisk} is in use: {why}"), hint)
}
