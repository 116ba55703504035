//! Adding, changing and removing devices.

use super::collection::find as find_collection;
use super::vdisk::refer_all;
use crate::change::{Change, Refusal, RefusalKind};
use crate::collection::Collection;
use crate::device::{Device, DeviceKind};
use crate::event::{EventKind, NewEvent};
use crate::key::{Guard, Key};
use crate::record::FormatRevision;
use crate::timestamp::Timestamp;
use crate::view::{FarmView, Stored};
use model::{MacAddress, Name};
use std::collections::BTreeMap;

/// The most devices in a farm: four times PVS's limit for a server.
pub const MAX_DEVICES: usize = 16_384;

/// A device to add.
#[derive(Clone, Debug)]
pub struct AddDevice {
    /// Its address.
    pub mac: MacAddress,
    /// Its name; the collection's pattern makes one where there is none.
    pub name: Option<Name>,
    /// Its collection.
    pub collection: Name,
    /// Which versions it boots.
    pub kind: DeviceKind,
    /// The vDisks that it boots instead of its collection's.
    pub vdisks: Vec<Name>,
}

/// What to change of a device; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct DevicePatch {
    /// Its new name.
    pub name: Option<Name>,
    /// The collection it moves to.
    pub collection: Option<Name>,
    /// Which versions it boots.
    pub kind: Option<DeviceKind>,
    /// The vDisks that it boots, the default first; none = its collection's.
    pub vdisks: Option<Vec<Name>>,
    /// Whether it is kept from booting.
    pub disabled: Option<bool>,
}

/// Adds a device.
pub fn add(view: &FarmView, command: AddDevice, now: Timestamp) -> Result<Change, Refusal> {
    let mut change = Change::default();
    let device = admit(view, &mut change, command, now)?;
    change.event(NewEvent::new(
        EventKind::DeviceAdded,
        &device.name,
        format!("device {} ({}) was added to collection {}", device.name, device.mac, device.collection),
    ));
    Ok(change)
}

/// Renames, moves, assigns, disables: all that changes a device. It follows at its next boot.
pub fn update(view: &FarmView, name: &Name, patch: DevicePatch) -> Result<Change, Refusal> {
    let seen = find(view, name)?;
    let mut change = Change::default();
    change.unchanged(Key::Device(name.clone()), seen);
    let mut device = seen.record.clone();
    if let Some(collection) = patch.collection {
        join(view, &mut change, &collection)?;
        device.collection = collection;
    }
    if let Some(vdisks) = patch.vdisks {
        refer_all(view, &mut change, &vdisks)?;
        device.vdisks = vdisks;
    }
    device.kind = patch.kind.unwrap_or(device.kind);
    device.disabled = patch.disabled.unwrap_or(device.disabled);
    if let Some(new) = patch.name.filter(|new| new != name) {
        name_is_free(view, &new)?;
        change.absent(Key::Device(new.clone()));
        change.delete(Key::Device(name.clone()));
        change.put(Key::Mac(device.mac), &new);
        device.name = new;
    }
    change.put(Key::Device(device.name.clone()), &device);
    let message = if device.name == *name {
        format!("device {name} was changed")
    } else {
        format!("device {name} is called {} now", device.name)
    };
    change.event(NewEvent::new(EventKind::DeviceChanged, &device.name, message));
    Ok(change)
}

/// Removes a device. If it boots again, it is unknown again.
pub fn remove(view: &FarmView, name: &Name) -> Result<Change, Refusal> {
    let seen = find(view, name)?;
    let mut change = Change::default();
    change.unchanged(Key::Device(name.clone()), seen);
    change.delete(Key::Device(name.clone()));
    change.delete(Key::Mac(seen.mac));
    change.event(NewEvent::new(
        EventKind::DeviceRemoved,
        name,
        format!("device {name} ({}) was removed", seen.mac),
    ));
    Ok(change)
}

/// The device of a name, or a refusal.
pub fn find<'a>(view: &'a FarmView, name: &Name) -> Result<&'a Stored<Device>, Refusal> {
    view.devices.get(name).ok_or_else(|| Refusal::not_found("device", name, "device list"))
}

/// Puts a new device into `change`: by hand, from the pending list or by itself.
pub(super) fn admit(
    view: &FarmView,
    change: &mut Change,
    command: AddDevice,
    now: Timestamp,
) -> Result<Device, Refusal> {
    if let Some(owner) = view.macs.get(&command.mac) {
        return Err(Refusal::new(
            RefusalKind::Exists,
            format!("{} is device {} already", command.mac, owner.record),
            format!("`headwater device show {}` shows it", owner.record),
        ));
    }
    if view.devices.len() >= MAX_DEVICES {
        return Err(Refusal::new(
            RefusalKind::Limit,
            format!("a farm has at most {MAX_DEVICES} devices"),
            "remove those that are gone with `headwater device remove`",
        ));
    }
    let collection = find_collection(view, &command.collection)?;
    let name = match command.name {
        Some(name) => {
            name_is_free(view, &name)?;
            join(view, change, &collection.name)?;
            name
        }
        None => generate_name(view, change, collection)?,
    };
    refer_all(view, change, &command.vdisks)?;
    let AddDevice { mac, collection, kind, vdisks, .. } = command;
    let device = Device {
        revision: FormatRevision,
        name: name.clone(),
        mac,
        collection,
        kind,
        vdisks,
        pins: BTreeMap::new(),
        disabled: false,
        created: now,
    };
    change.absent(Key::Device(name.clone()));
    change.absent(Key::Mac(mac));
    change.put(Key::Mac(mac), &name);
    change.put(Key::Device(name), &device);
    match view.pending.get(&mac) {
        Some(pending) => {
            change.unchanged(Key::Pending(mac), pending);
            change.delete(Key::Pending(mac));
        }
        // Else it could begin to wait at the same time, and wait for ever.
        None => change.absent(Key::Pending(mac)),
    }
    Ok(device)
}

fn name_is_free(view: &FarmView, name: &Name) -> Result<(), Refusal> {
    match view.devices.get(name) {
        None => Ok(()),
        Some(device) => Err(Refusal::new(
            RefusalKind::Exists,
            format!("there is a device {name} ({}) already", device.mac),
            "choose another name",
        )),
    }
}

/// Makes `change` refer to a collection that must exist when it commits.
fn join(view: &FarmView, change: &mut Change, collection: &Name) -> Result<(), Refusal> {
    let seen = find_collection(view, collection)?;
    change.unchanged(Key::Collection(collection.clone()), seen);
    change.guard(Guard::Collection(collection.clone()));
    Ok(())
}

/// Takes the next free name of the collection's pattern and moves its counter on.
///
/// Writing the collection is also what makes its deletion at the same time conflict.
fn generate_name(
    view: &FarmView,
    change: &mut Change,
    collection: &Stored<Collection>,
) -> Result<Name, Refusal> {
    let naming = &collection.naming;
    let candidates = (naming.next..).map_while(|number| Some((number, naming.name(number)?)));
    let free = candidates.into_iter().find(|(_, name)| !view.devices.contains_key(name));
    let Some((number, name)) = free else {
        return Err(Refusal::new(
            RefusalKind::Limit,
            format!(
                "collection {} has no names left: its counter has {} digits",
                collection.name, naming.digits
            ),
            format!(
                "`headwater collection set {} --digits {}`, or another --prefix",
                collection.name,
                naming.digits + 1
            ),
        ));
    };
    let mut moved = collection.record.clone();
    moved.naming.next = number + 1;
    change.unchanged(Key::Collection(collection.name.clone()), collection);
    change.put(Key::Collection(collection.name.clone()), &moved);
    Ok(name)
}
