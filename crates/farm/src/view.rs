//! The farm as of one revision: what every rule decides on.

use crate::collection::Collection;
use crate::device::{Device, PendingDevice};
use crate::event::{Event, EventId};
use crate::key::{Guard, Key};
use crate::record::{Record, RecordError};
use crate::topology::{AdminToken, Farm, Server, Site, Store};
use crate::vdisk::{Doomed, VDisk, Version};
use model::{AccessMode, MacAddress, Name, Root, VersionNumber};
use std::collections::BTreeMap;

/// A record and the revision it was last written at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<T> {
    /// The record.
    pub record: T,
    /// The database's revision of the last write.
    pub mod_revision: u64,
}

impl<T> std::ops::Deref for Stored<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.record
    }
}

/// Every record of the farm, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FarmView {
    /// The database's revision that this is the state of.
    pub revision: u64,
    /// The farm; none before the first start is through.
    pub farm: Option<Stored<Farm>>,
    /// The admin's token.
    pub admin_token: Option<Stored<AdminToken>>,
    /// The sites.
    pub sites: BTreeMap<Name, Stored<Site>>,
    /// The servers.
    pub servers: BTreeMap<Name, Stored<Server>>,
    /// The stores.
    pub stores: BTreeMap<Name, Stored<Store>>,
    /// The vDisks.
    pub vdisks: BTreeMap<Name, Stored<VDisk>>,
    /// The versions of all vDisks.
    pub versions: BTreeMap<(Name, VersionNumber), Stored<Version>>,
    /// The collections.
    pub collections: BTreeMap<Name, Stored<Collection>>,
    /// The devices.
    pub devices: BTreeMap<Name, Stored<Device>>,
    /// Which device has a MAC address.
    pub macs: BTreeMap<MacAddress, Stored<Name>>,
    /// The MAC addresses that wait for an admin.
    pub pending: BTreeMap<MacAddress, Stored<PendingDevice>>,
    /// The contents that stores are still to delete.
    pub doomed: BTreeMap<Root, Stored<Doomed>>,
    /// The newest events, oldest first.
    pub events: BTreeMap<EventId, Stored<Event>>,
    /// The revisions of the guards.
    pub guards: BTreeMap<Guard, u64>,
}

impl Record for Name {}

impl FarmView {
    /// Takes in that a record was written at `mod_revision`.
    pub fn put(&mut self, key: &str, value: &[u8], mod_revision: u64) -> Result<(), RecordError> {
        fn stored<T: Record>(key: &Key, value: &[u8], mod_revision: u64) -> Result<Stored<T>, RecordError> {
            Ok(Stored { record: T::decode(key, value)?, mod_revision })
        }
        macro_rules! table {
            ($table:ident, $key:expr, $name:expr) => {
                drop(self.$table.insert($name, stored(&$key, value, mod_revision)?))
            };
        }
        let key: Key = key.parse()?;
        match key.clone() {
            Key::Farm => self.farm = Some(stored(&key, value, mod_revision)?),
            Key::AdminToken => self.admin_token = Some(stored(&key, value, mod_revision)?),
            Key::Site(name) => table!(sites, key, name),
            Key::Server(name) => table!(servers, key, name),
            Key::Store(name) => table!(stores, key, name),
            Key::VDisk(name) => table!(vdisks, key, name),
            Key::Version(name, number) => table!(versions, key, (name, number)),
            Key::Collection(name) => table!(collections, key, name),
            Key::Device(name) => table!(devices, key, name),
            Key::Mac(mac) => table!(macs, key, mac),
            Key::Pending(mac) => table!(pending, key, mac),
            Key::Doomed(root) => table!(doomed, key, root),
            Key::Event(id) => table!(events, key, id),
            Key::Guard(guard) => drop(self.guards.insert(guard, mod_revision)),
        }
        Ok(())
    }

    /// Takes in that a record was deleted.
    pub fn delete(&mut self, key: &str) -> Result<(), RecordError> {
        match key.parse()? {
            Key::Farm => self.farm = None,
            Key::AdminToken => self.admin_token = None,
            Key::Site(name) => drop(self.sites.remove(&name)),
            Key::Server(name) => drop(self.servers.remove(&name)),
            Key::Store(name) => drop(self.stores.remove(&name)),
            Key::VDisk(name) => drop(self.vdisks.remove(&name)),
            Key::Version(name, number) => drop(self.versions.remove(&(name, number))),
            Key::Collection(name) => drop(self.collections.remove(&name)),
            Key::Device(name) => drop(self.devices.remove(&name)),
            Key::Mac(mac) => drop(self.macs.remove(&mac)),
            Key::Pending(mac) => drop(self.pending.remove(&mac)),
            Key::Doomed(root) => drop(self.doomed.remove(&root)),
            Key::Event(id) => drop(self.events.remove(&id)),
            Key::Guard(guard) => drop(self.guards.remove(&guard)),
        }
        Ok(())
    }

    /// The device with a MAC address.
    pub fn device_of(&self, mac: MacAddress) -> Option<&Stored<Device>> {
        self.devices.get(&self.macs.get(&mac)?.record)
    }

    /// The versions of a vDisk, lowest number first.
    pub fn versions_of<'a>(&'a self, vdisk: &Name) -> impl DoubleEndedIterator<Item = &'a Stored<Version>> {
        let bound = |number| (vdisk.clone(), VersionNumber(number));
        self.versions.range(bound(0)..=bound(u32::MAX)).map(|(_, version)| version)
    }

    /// What a vDisk's production devices boot: its newest version in production.
    pub fn production_of(&self, vdisk: &Name) -> Option<&Stored<Version>> {
        self.versions_of(vdisk).rev().find(|version| version.access == AccessMode::Production)
    }

    /// What a device boots: its own vDisk, else its collection's.
    pub fn vdisk_of<'a>(&'a self, device: &'a Device) -> Option<&'a Name> {
        let collection = || self.collections.get(&device.collection);
        device.vdisk.as_ref().or_else(|| collection()?.record.vdisk.as_ref())
    }

    /// Whether any version has this content: then it must stay.
    pub fn names(&self, root: Root) -> bool {
        self.versions.values().any(|version| version.root == root)
    }

    /// The revision of a guard, if it was ever written.
    pub(crate) fn guard(&self, guard: &Guard) -> Option<u64> {
        self.guards.get(guard).copied()
    }
}
