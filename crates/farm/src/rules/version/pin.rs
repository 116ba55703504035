//! Overrides: one version for a vDisk, a collection or a device, whatever is in production.

use super::{find, find_vdisk, sealed, write_vdisk};
use crate::change::{Change, Refusal, RefusalKind};
use crate::device::DeviceKind;
use crate::event::{EventKind, NewEvent};
use crate::key::{Guard, Key};
use crate::rules::{collection, device};
use crate::timestamp::Stamp;
use crate::vdisk::{VDisk, Version, VersionState};
use crate::view::FarmView;
use model::{AccessMode, Name, VersionNumber};
use std::collections::BTreeMap;
use std::fmt;

/// The most pins of one device or collection.
const MAX_PINS: usize = 64;

/// For whom a version is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinScope {
    /// All production devices of the vDisk.
    VDisk,
    /// The production and test devices of a collection.
    Collection(Name),
    /// One device; for a maintenance device it chooses the draft.
    Device(Name),
}

impl fmt::Display for PinScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VDisk => f.write_str("all devices"),
            Self::Collection(name) => write!(f, "collection {name}"),
            Self::Device(name) => write!(f, "device {name}"),
        }
    }
}

/// A version to pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// For whom.
    pub scope: PinScope,
    /// The vDisk.
    pub vdisk: Name,
    /// The version.
    pub number: VersionNumber,
}

/// Pins a version, in place of another pin if there is one. Devices follow at their next boot.
pub fn pin(view: &FarmView, command: &Pin, stamp: &Stamp) -> Result<Change, Refusal> {
    let Pin { scope, vdisk, number } = command;
    let version = find(view, vdisk, *number)?;
    can_be_pinned(view, version, scope)?;
    let mut change = Change::default();
    change.unchanged(Key::Version(vdisk.clone(), *number), version);
    // Deletions and retirements look for pins; this makes one at the same time look again.
    change.guard(Guard::VDisk(vdisk.clone()));
    set(view, &mut change, scope, vdisk, Some(*number))?;
    let message = format!("{} pinned version {number} of vDisk {vdisk} for {scope}", stamp.by);
    change.event(NewEvent::new(EventKind::PinChanged, vdisk, message));
    Ok(change)
}

/// Takes a pin away.
pub fn unpin(view: &FarmView, scope: &PinScope, vdisk: &Name, stamp: &Stamp) -> Result<Change, Refusal> {
    let mut change = Change::default();
    if set(view, &mut change, scope, vdisk, None)?.is_none() {
        return Err(Refusal::new(
            RefusalKind::NotFound,
            format!("no version of vDisk {vdisk} is pinned for {scope}"),
            format!("`headwater version list {vdisk}` shows the pins"),
        ));
    }
    let message = format!("{} took away the pin of vDisk {vdisk} for {scope}", stamp.by);
    change.event(NewEvent::new(EventKind::PinChanged, vdisk, message));
    Ok(change)
}

/// Where a version is pinned, for people.
pub(super) fn pins_of(view: &FarmView, vdisk: &VDisk, number: VersionNumber) -> Vec<PinScope> {
    let of = |pins: &BTreeMap<Name, VersionNumber>| pins.get(&vdisk.name) == Some(&number);
    let whole = (vdisk.pinned == Some(number)).then_some(PinScope::VDisk);
    let collections = view.collections.values().filter(|collection| of(&collection.pins));
    let devices = view.devices.values().filter(|device| of(&device.pins));
    let collections = collections.map(|collection| PinScope::Collection(collection.name.clone()));
    let devices = devices.map(|device| PinScope::Device(device.name.clone()));
    whole.into_iter().chain(collections).chain(devices).collect()
}

fn can_be_pinned(view: &FarmView, version: &Version, scope: &PinScope) -> Result<(), Refusal> {
    let Version { vdisk, number, .. } = version;
    if version.access == AccessMode::Retired {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            format!("version {number} of vDisk {vdisk} is retired"),
            format!("bring it back: `headwater version promote {vdisk} {number} --to test`"),
        ));
    }
    let PinScope::Device(name) = scope else { return sealed(version) };
    let kind = device::find(view, name)?.kind;
    match (kind, version.state) {
        (DeviceKind::Maintenance, VersionState::Sealed) => Err(Refusal::new(
            RefusalKind::Invalid,
            format!(
                "device {name} is a maintenance device, and version {number} of vDisk {vdisk} is no draft"
            ),
            format!("pin a draft, or change the device: `headwater device set {name} --kind production`"),
        )),
        (DeviceKind::Maintenance, VersionState::Draft) => Ok(()),
        _ => sealed(version),
    }
}

/// Sets or removes a pin; answers the one that was there.
fn set(
    view: &FarmView,
    change: &mut Change,
    scope: &PinScope,
    vdisk: &Name,
    number: Option<VersionNumber>,
) -> Result<Option<VersionNumber>, Refusal> {
    match scope {
        PinScope::VDisk => {
            let seen = find_vdisk(view, vdisk)?;
            write_vdisk(change, seen, VDisk { pinned: number, ..seen.record.clone() });
            Ok(seen.pinned)
        }
        PinScope::Collection(name) => {
            let seen = collection::find(view, name)?;
            let mut next = seen.record.clone();
            let before = set_in(&mut next.pins, vdisk, number)?;
            change.unchanged(Key::Collection(name.clone()), seen);
            change.put(Key::Collection(name.clone()), &next);
            Ok(before)
        }
        PinScope::Device(name) => {
            let seen = device::find(view, name)?;
            let mut next = seen.record.clone();
            let before = set_in(&mut next.pins, vdisk, number)?;
            change.unchanged(Key::Device(name.clone()), seen);
            change.put(Key::Device(name.clone()), &next);
            Ok(before)
        }
    }
}

fn set_in(
    pins: &mut BTreeMap<Name, VersionNumber>,
    vdisk: &Name,
    number: Option<VersionNumber>,
) -> Result<Option<VersionNumber>, Refusal> {
    let Some(number) = number else { return Ok(pins.remove(vdisk)) };
    if pins.len() >= MAX_PINS && !pins.contains_key(vdisk) {
        let message = format!("there are {MAX_PINS} pins already, which is the limit");
        return Err(Refusal::new(RefusalKind::Limit, message, "take away those of vDisks that are not used"));
    }
    Ok(pins.insert(vdisk.clone(), number))
}
