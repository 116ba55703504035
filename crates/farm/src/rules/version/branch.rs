//! Branches: a new vDisk that begins as a version of another one. No data moves.

use super::{check_comment, find, find_vdisk, sealed};
use crate::change::{Change, Refusal};
use crate::event::{EventKind, NewEvent};
use crate::key::Key;
use crate::rules::vdisk::{name_is_free, put_new};
use crate::timestamp::Stamp;
use crate::vdisk::{Origin, Version};
use crate::view::FarmView;
use model::{AccessMode, Name, VersionNumber};

/// A vDisk to branch off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The vDisk that has the version.
    pub vdisk: Name,
    /// The version.
    pub number: VersionNumber,
    /// The new vDisk's name.
    pub name: Name,
    /// What to say about its version 1.
    pub comment: String,
}

/// Makes a vDisk whose version 1, in production, has the content of a sealed version. It has the
/// hooks of the vDisk that it was branched off: what must not be sealed there must not be here.
pub fn branch(view: &FarmView, command: Branch, stamp: &Stamp) -> Result<Change, Refusal> {
    let Branch { vdisk, number, name, comment } = command;
    let (from, version) = (find_vdisk(view, &vdisk)?, find(view, &vdisk, number)?);
    sealed(version)?;
    name_is_free(view, &name)?;
    check_comment(&comment)?;
    let mut change = Change::default();
    // The content is in use as long as this record is there, and stays in use by the new one.
    change.unchanged(Key::Version(vdisk.clone(), number), version);
    let message = format!("{} branched vDisk {name} off version {number} of vDisk {vdisk}", stamp.by);
    let first = Version {
        vdisk: name.clone(),
        number: VersionNumber::FIRST,
        access: AccessMode::Production,
        comment,
        parent: None,
        origin: Some(Origin { vdisk, number }),
        gate: None,
        created: stamp.clone(),
        promoted: Some(stamp.clone()),
        retired: None,
        ..version.record.clone()
    };
    put_new(&mut change, from.store.clone(), from.hooks.clone(), &first);
    change.event(NewEvent::new(EventKind::VersionBranched, &name, message));
    Ok(change)
}
