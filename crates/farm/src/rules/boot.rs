//! What a machine gets that asks to boot.

use super::device::{AddDevice, admit};
use crate::change::Change;
use crate::collection::WriteCache;
use crate::device::{Device, PendingDevice, PendingState};
use crate::event::{EventKind, NewEvent};
use crate::key::Key;
use crate::record::FormatRevision;
use crate::timestamp::Timestamp;
use crate::vdisk::Bootable;
use crate::view::FarmView;
use model::{DiskSize, MacAddress, Name, Root, VersionNumber};
use std::time::Duration;

/// The most MAC addresses that wait: anybody on the segment can make them up.
pub const MAX_PENDING: usize = 1000;
/// How exact `last_seen` is: a machine in a boot loop costs one write a minute.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// What to do with a machine that asks to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootDecision {
    /// Boot it.
    Boot(Box<Boot>),
    /// Commit this, then ask again: it becomes a device of the collection that adds unknown ones.
    AutoAdd(Change),
    /// Commit this (if anything): it waits for an admin.
    Pending {
        /// Notes it in the pending list; none where it stands there already.
        change: Option<Change>,
        /// What to show on the machine.
        reason: String,
    },
    /// Do not boot it.
    Refuse {
        /// What to show on the machine and to the admin.
        reason: String,
    },
}

/// All that a booting device is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The device.
    pub device: Name,
    /// Its address.
    pub mac: MacAddress,
    /// Its collection.
    pub collection: Name,
    /// What it boots.
    pub vdisk: Name,
    /// The store that holds it.
    pub store: Name,
    /// Which version.
    pub version: VersionNumber,
    /// That version's content.
    pub root: Root,
    /// The virtual disk's size in bytes.
    pub size: DiskSize,
    /// Where its writes go.
    pub write_cache: WriteCache,
    /// Kernel parameters of the collection, separated by spaces.
    pub boot_args: String,
}

/// Decides what the machine with `mac` gets.
pub fn boot_decision(view: &FarmView, mac: MacAddress, now: Timestamp) -> BootDecision {
    match view.device_of(mac) {
        Some(device) => known(view, device),
        None => unknown(view, mac, now),
    }
}

/// Why a device would not boot now, for people; none where it would.
pub fn why_not_booting(view: &FarmView, device: &Device) -> Option<String> {
    boot(view, device).err()
}

fn known(view: &FarmView, device: &Device) -> BootDecision {
    boot(view, device)
        .map_or_else(|reason| BootDecision::Refuse { reason }, |boot| BootDecision::Boot(Box::new(boot)))
}

fn boot(view: &FarmView, device: &Device) -> Result<Boot, String> {
    let name = &device.name;
    if device.disabled {
        return Err(format!("device {name} is disabled"));
    }
    let collection = view.collections.get(&device.collection).ok_or_else(|| {
        format!("device {name} is in collection {}, which does not exist", device.collection)
    })?;
    let vdisk = view.vdisk_of(device).and_then(|vdisk| view.vdisks.get(vdisk)).ok_or_else(|| {
        format!("no vDisk is assigned to device {name} or to collection {}", collection.name)
    })?;
    let version = view
        .production_of(&vdisk.name)
        .ok_or_else(|| format!("vDisk {} has no version in production", vdisk.name))?;
    if let Bootable::No { reason } = &version.boot {
        return Err(format!("machines cannot boot from vDisk {}: {reason}", vdisk.name));
    }
    Ok(Boot {
        device: name.clone(),
        mac: device.mac,
        collection: collection.name.clone(),
        vdisk: vdisk.name.clone(),
        store: vdisk.store.clone(),
        version: version.number,
        root: version.root,
        size: version.size,
        write_cache: collection.write_cache,
        boot_args: collection.boot_args.clone(),
    })
}

fn unknown(view: &FarmView, mac: MacAddress, now: Timestamp) -> BootDecision {
    if view.pending.get(&mac).is_some_and(|pending| pending.state == PendingState::Rejected) {
        return BootDecision::Refuse { reason: format!("{mac} was rejected by an admin") };
    }
    match view.collections.values().find(|collection| collection.auto_add) {
        Some(collection) => auto_add(view, mac, &collection.name, now),
        None => wait(view, mac, now),
    }
}

fn auto_add(view: &FarmView, mac: MacAddress, collection: &Name, now: Timestamp) -> BootDecision {
    let command = AddDevice { mac, name: None, collection: collection.clone(), vdisk: None };
    let mut change = Change::default();
    match admit(view, &mut change, command, now) {
        Ok(device) => {
            let message = format!("{mac} became device {} of collection {collection}", device.name);
            change.event(NewEvent::new(EventKind::DeviceAutoAdded, &device.name, message));
            BootDecision::AutoAdd(change)
        }
        Err(refusal) => BootDecision::Refuse { reason: refusal.message },
    }
}

fn wait(view: &FarmView, mac: MacAddress, now: Timestamp) -> BootDecision {
    let reason = format!("{mac} is not known here; it waits for an admin to accept it");
    let mut change = Change::default();
    change.absent(Key::Mac(mac));
    let key = Key::Pending(mac);
    let first_seen = match view.pending.get(&mac) {
        Some(seen) if now.since(seen.last_seen) < SEEN_EVERY => {
            return BootDecision::Pending { change: None, reason };
        }
        Some(seen) => {
            change.unchanged(key.clone(), seen);
            seen.first_seen
        }
        None if view.pending.len() >= MAX_PENDING => {
            let reason = format!("{mac} is not known here, and {MAX_PENDING} others wait already");
            return BootDecision::Refuse { reason };
        }
        None => {
            change.absent(key.clone());
            let message = format!("{mac} asked to boot and is not known: `headwater pending accept {mac}`");
            change.event(NewEvent::new(EventKind::DevicePending, mac, message));
            now
        }
    };
    let (revision, last_seen, state) = (FormatRevision, now, PendingState::Waiting);
    change.put(key, &PendingDevice { revision, mac, first_seen, last_seen, state });
    BootDecision::Pending { change: Some(change), reason }
}
