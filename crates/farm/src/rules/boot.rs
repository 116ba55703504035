//! What a machine gets that asks to boot.

use super::device::{AddDevice, admit};
use super::draft;
use crate::change::Change;
use crate::collection::{Collection, WriteCache};
use crate::device::{Device, DeviceKind, PendingDevice, PendingState};
use crate::event::{EventKind, NewEvent};
use crate::key::Key;
use crate::record::FormatRevision;
use crate::timestamp::Timestamp;
use crate::vdisk::{Bootable, VDisk, Version, VersionState};
use crate::view::{FarmView, Stored};
use model::{AccessMode, DiskSize, MacAddress, Name, Root, VersionNumber};
use std::time::Duration;

/// The most MAC addresses that wait: anybody on the segment can make them up.
pub const MAX_PENDING: usize = 1000;
/// After how long without asking a waiting machine makes room on a full list.
const AWAY_AFTER: Duration = Duration::from_secs(10 * 60);
/// How long a boot menu waits before it takes its default: long enough to read it, by eye.
pub const MENU_TIMEOUT: Duration = Duration::from_secs(10);
/// How exact `last_seen` is: a machine in a boot loop costs one write a minute.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// A machine that asks to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootRequest {
    /// Its address.
    pub mac: MacAddress,
    /// The server that it asks, which will execute its writes if it has any.
    pub server: Name,
    /// What was chosen in its menu; none where no menu was shown yet.
    pub chosen: Option<Name>,
}

/// What to do with a machine that asks to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootDecision {
    /// Boot it.
    Boot(Box<Boot>),
    /// Let it choose, and ask again with the choice.
    Menu(BootMenu),
    /// Commit this, then ask again: it becomes a device of the collection that adds unknown ones.
    AutoAdd(Change),
    /// Commit this (if anything): it waits for an admin.
    Pending {
        /// Notes it in the pending list; none where it stands there already.
        change: Option<Change>,
        /// What to show on the machine.
        reason: String,
    },
    /// Another server can boot it and this one cannot: what the device wrote is not here.
    Elsewhere {
        /// The servers that can, by the records.
        servers: Vec<Name>,
        /// Why this one does not.
        reason: String,
    },
    /// Do not boot it.
    Refuse {
        /// What to show on the machine and to the admin.
        reason: String,
    },
}

/// What a machine may choose from; there are at least two entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootMenu {
    /// The device.
    pub device: Name,
    /// Its vDisks, in the order of the assignment; the first is the default.
    pub vdisks: Vec<Name>,
    /// How long to wait for a choice before the default boots.
    pub timeout: Duration,
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
    /// That version's content; a draft's at its last checkpoint.
    pub root: Root,
    /// The virtual disk's size in bytes.
    pub size: DiskSize,
    /// How it may use the disk.
    pub access: BootAccess,
    /// Kernel parameters of the collection, separated by spaces.
    pub boot_args: String,
}

/// How a booting device may use its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootAccess {
    /// It shares the version with others and keeps its writes to itself.
    ReadOnly {
        /// Where its writes go.
        write_cache: WriteCache,
    },
    /// It writes the version's draft: attach it with [`draft::attach`] before anything else.
    Draft,
}

/// Decides what a machine gets.
pub fn boot_decision(view: &FarmView, request: &BootRequest, now: Timestamp) -> BootDecision {
    match view.device_of(request.mac) {
        Some(device) => known(view, device, request, now),
        None => unknown(view, request.mac, now),
    }
}

/// Why a device would not boot its default vDisk from `server` now, for people; none where it would.
pub fn why_not_booting(view: &FarmView, device: &Device, server: &Name, now: Timestamp) -> Option<String> {
    boot(view, device, view.vdisk_of(device), server, now).err().map(|no| match no {
        No::Refused(reason) | No::Elsewhere { reason, .. } => reason,
    })
}

fn known(view: &FarmView, device: &Device, request: &BootRequest, now: Timestamp) -> BootDecision {
    let vdisks = view.vdisks_of(device);
    let chosen = match &request.chosen {
        Some(chosen) if vdisks.contains(chosen) => Some(chosen),
        Some(chosen) => {
            let reason = format!("vDisk {chosen} is not assigned to device {} any more", device.name);
            return BootDecision::Refuse { reason };
        }
        None if vdisks.len() > 1 && !device.disabled => {
            let (device, vdisks, timeout) = (device.name.clone(), vdisks.to_vec(), MENU_TIMEOUT);
            return BootDecision::Menu(BootMenu { device, vdisks, timeout });
        }
        None => vdisks.first(),
    };
    match boot(view, device, chosen, &request.server, now) {
        Ok(boot) => BootDecision::Boot(Box::new(boot)),
        Err(No::Refused(reason)) => BootDecision::Refuse { reason },
        Err(No::Elsewhere { servers, reason }) => BootDecision::Elsewhere { servers, reason },
    }
}

/// Why a device does not boot from the server that it asks.
enum No {
    Refused(String),
    Elsewhere { servers: Vec<Name>, reason: String },
}

impl From<String> for No {
    fn from(reason: String) -> Self {
        Self::Refused(reason)
    }
}

fn boot(
    view: &FarmView,
    device: &Device,
    vdisk: Option<&Name>,
    server: &Name,
    now: Timestamp,
) -> Result<Boot, No> {
    let name = &device.name;
    if device.disabled {
        return Err(format!("device {name} is disabled").into());
    }
    let collection = view.collections.get(&device.collection).ok_or_else(|| {
        format!("device {name} is in collection {}, which does not exist", device.collection)
    })?;
    let vdisk = vdisk.and_then(|vdisk| view.vdisks.get(vdisk)).ok_or_else(|| {
        format!("no vDisk is assigned to device {name} or to collection {}", collection.name)
    })?;
    let version = version_for(view, device, collection, vdisk)?;
    if let Bootable::No { reason } = &version.boot {
        return Err(format!("machines cannot boot from vDisk {}: {reason}", vdisk.name).into());
    }
    let access = access(view, device, collection, version, server, now)?;
    Ok(Boot {
        device: name.clone(),
        mac: device.mac,
        collection: collection.name.clone(),
        vdisk: vdisk.name.clone(),
        store: vdisk.store.clone(),
        version: version.number,
        root: version.root,
        size: version.size,
        access,
        boot_args: collection.boot_args.clone(),
    })
}

/// Which version of `vdisk` a device boots.
///
/// A maintenance device: the draft that is pinned for it, else the newest. The others: what is
/// pinned for the device, else for its collection; then a test device the newest version in test;
/// then what is pinned for the vDisk, else what is in production. So a pin of the vDisk stands for
/// production, and does not keep test devices from testing.
fn version_for<'a>(
    view: &'a FarmView,
    device: &Device,
    collection: &Collection,
    vdisk: &VDisk,
) -> Result<&'a Stored<Version>, String> {
    let name = &vdisk.name;
    if device.kind == DeviceKind::Maintenance {
        return draft_for(view, device, vdisk);
    }
    let pinned = device.pins.get(name).or_else(|| collection.pins.get(name)).copied();
    let in_test = |version: &&Stored<Version>| version.access == AccessMode::Test;
    let tested = || match device.kind {
        DeviceKind::Test => view.versions_of(name).rev().find(in_test).map(|version| version.number),
        _ => None,
    };
    let number = pinned.or_else(tested).or(vdisk.pinned).or(vdisk.production);
    let number = number.ok_or_else(|| format!("vDisk {name} has no version in production"))?;
    match view.version(name, number) {
        Some(version) if version.state == VersionState::Sealed => Ok(version),
        Some(_) => Err(format!(
            "version {number} of vDisk {name} is a draft, which only maintenance devices boot, and device {} \
             is pinned to it",
            device.name
        )),
        None => Err(format!("vDisk {name} has no version {number} any more")),
    }
}

fn draft_for<'a>(view: &'a FarmView, device: &Device, vdisk: &VDisk) -> Result<&'a Stored<Version>, String> {
    let name = &vdisk.name;
    let is_draft = |version: &&Stored<Version>| version.state == VersionState::Draft;
    match device.pins.get(name) {
        Some(number) => view.version(name, *number).filter(is_draft).ok_or_else(|| {
            format!("device {} is pinned to version {number} of vDisk {name}, which is no draft", device.name)
        }),
        None => view.versions_of(name).rev().find(is_draft).ok_or_else(|| {
            format!("vDisk {name} has no version in maintenance: `headwater version create {name}`")
        }),
    }
}

fn access(
    view: &FarmView,
    device: &Device,
    collection: &Collection,
    version: &Version,
    server: &Name,
    now: Timestamp,
) -> Result<BootAccess, No> {
    if version.state == VersionState::Sealed {
        return Ok(BootAccess::ReadOnly { write_cache: collection.write_cache });
    }
    let attach = draft::Attach {
        vdisk: version.vdisk.clone(),
        number: version.number,
        server: server.clone(),
        device: Some(device.name.clone()),
    };
    match draft::attach(view, &attach, now) {
        Ok(_) => Ok(BootAccess::Draft),
        Err(refusal) => Err(not_here(view, &attach, refusal.message, now)),
    }
}

/// Whether another server could attach a draft that this one cannot.
fn not_here(view: &FarmView, attach: &draft::Attach, reason: String, now: Timestamp) -> No {
    let Some(draft) = view.draft(&attach.vdisk, attach.number) else { return reason.into() };
    let held = draft::not_held_by_others(draft, attach.device.as_ref(), now).is_err();
    let servers = draft::able_servers(view, draft);
    match held || servers.is_empty() || servers.contains(&attach.server) {
        true => reason.into(),
        false => No::Elsewhere { servers, reason },
    }
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
    let command = AddDevice {
        mac,
        name: None,
        collection: collection.clone(),
        kind: DeviceKind::Production,
        vdisks: vec![],
    };
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

/// The machine on a full list that has not asked for longest, where that is long enough: one that
/// was made up does not come back, one that waits does every few seconds.
fn longest_away(view: &FarmView, now: Timestamp) -> Option<&Stored<PendingDevice>> {
    let away = view.pending.values().filter(|pending| {
        pending.state == PendingState::Waiting && now.since(pending.last_seen) >= AWAY_AFTER
    });
    away.min_by_key(|pending| pending.last_seen)
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
        None => {
            if view.pending.len() >= MAX_PENDING {
                let Some(gone) = longest_away(view, now) else {
                    let reason = format!("{mac} is not known here, and {MAX_PENDING} others wait already");
                    return BootDecision::Refuse { reason };
                };
                change.unchanged(Key::Pending(gone.mac), gone);
                change.delete(Key::Pending(gone.mac));
            }
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
