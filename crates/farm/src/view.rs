//! The farm as of one revision: what every rule decides on.

use crate::canary::Canary;
use crate::collection::Collection;
use crate::device::{Device, PendingDevice};
use crate::draft::{CompleteCopy, Draft, Orphan, OrphanId};
use crate::event::{Event, EventId};
use crate::identity::IdentitySecret;
use crate::key::{Guard, Key};
use crate::membership::{FarmAuthority, JoinToken};
use crate::people::{ApiToken, TokenId, User};
use crate::profile::LearnedProfile;
use crate::reading::{Live, Reading};
use crate::record::{Record, RecordError};
use crate::replication::ReplicationSettings;
use crate::restored::Restored;
use crate::topology::{AdminToken, Farm, Server, Site, Store};
use crate::vdisk::{Doomed, VDisk, Version};
use model::{MacAddress, Name, Root, VersionNumber};
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
    /// The admin's token of each server.
    pub admin_tokens: BTreeMap<Name, Stored<AdminToken>>,
    /// What devices' identities are derived from.
    pub identity_secret: Option<Stored<IdentitySecret>>,
    /// Who signs the servers' certificates; none before `headwater farm init`.
    pub authority: Option<Stored<FarmAuthority>>,
    /// How servers may pull from each other; none before somebody changed it.
    pub replication: Option<Stored<ReplicationSettings>>,
    /// That the records were turned back, until an admin has looked.
    pub restored: Option<Stored<Restored>>,
    /// What servers join with.
    pub join_tokens: BTreeMap<TokenId, Stored<JoinToken>>,
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
    /// The drafts of the versions that have one.
    pub drafts: BTreeMap<(Name, VersionNumber), Stored<Draft>>,
    /// The bytes that admins gave up.
    pub orphans: BTreeMap<OrphanId, Stored<Orphan>>,
    /// Which servers have a content completely.
    pub copies: BTreeMap<(Root, Name), Stored<CompleteCopy>>,
    /// What devices read while they boot, by content.
    pub profiles: BTreeMap<Root, Stored<LearnedProfile>>,
    /// The tests of propagation that run, by store.
    pub canaries: BTreeMap<Name, Stored<Canary>>,
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
    /// Who may use the API.
    pub users: BTreeMap<Name, Stored<User>>,
    /// What proves who they are.
    pub tokens: BTreeMap<TokenId, Stored<ApiToken>>,
    /// Which servers are alive.
    pub live: BTreeMap<Name, Stored<Live>>,
    /// What the sessions of each server read.
    pub readings: BTreeMap<Name, Stored<Reading>>,
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
            Key::AdminToken(server) => table!(admin_tokens, key, server),
            Key::IdentitySecret => self.identity_secret = Some(stored(&key, value, mod_revision)?),
            Key::Authority => self.authority = Some(stored(&key, value, mod_revision)?),
            Key::Replication => self.replication = Some(stored(&key, value, mod_revision)?),
            Key::Restored => self.restored = Some(stored(&key, value, mod_revision)?),
            Key::JoinToken(id) => table!(join_tokens, key, id),
            Key::Site(name) => table!(sites, key, name),
            Key::Server(name) => table!(servers, key, name),
            Key::Store(name) => table!(stores, key, name),
            Key::VDisk(name) => table!(vdisks, key, name),
            Key::Version(name, number) => table!(versions, key, (name, number)),
            Key::Draft(name, number) => table!(drafts, key, (name, number)),
            Key::Orphan(id) => table!(orphans, key, id),
            Key::Copy(root, server) => table!(copies, key, (root, server)),
            Key::Profile(root) => table!(profiles, key, root),
            Key::Canary(store) => table!(canaries, key, store),
            Key::Collection(name) => table!(collections, key, name),
            Key::Device(name) => table!(devices, key, name),
            Key::Mac(mac) => table!(macs, key, mac),
            Key::Pending(mac) => table!(pending, key, mac),
            Key::Doomed(root) => table!(doomed, key, root),
            Key::Event(id) => table!(events, key, id),
            // No rule decides on them, and there are many.
            Key::Audit(_) => (),
            Key::User(name) => table!(users, key, name),
            Key::Token(id) => table!(tokens, key, id),
            Key::Live(server) => table!(live, key, server),
            Key::Reading(server) => table!(readings, key, server),
            Key::Guard(guard) => drop(self.guards.insert(guard, mod_revision)),
        }
        Ok(())
    }

    /// Takes in that a record was deleted.
    pub fn delete(&mut self, key: &str) -> Result<(), RecordError> {
        match key.parse()? {
            Key::Farm => self.farm = None,
            Key::AdminToken(server) => drop(self.admin_tokens.remove(&server)),
            Key::IdentitySecret => self.identity_secret = None,
            Key::Authority => self.authority = None,
            Key::Replication => self.replication = None,
            Key::Restored => self.restored = None,
            Key::JoinToken(id) => drop(self.join_tokens.remove(&id)),
            Key::Site(name) => drop(self.sites.remove(&name)),
            Key::Server(name) => drop(self.servers.remove(&name)),
            Key::Store(name) => drop(self.stores.remove(&name)),
            Key::VDisk(name) => drop(self.vdisks.remove(&name)),
            Key::Version(name, number) => drop(self.versions.remove(&(name, number))),
            Key::Draft(name, number) => drop(self.drafts.remove(&(name, number))),
            Key::Orphan(id) => drop(self.orphans.remove(&id)),
            Key::Copy(root, server) => drop(self.copies.remove(&(root, server))),
            Key::Profile(root) => drop(self.profiles.remove(&root)),
            Key::Canary(store) => drop(self.canaries.remove(&store)),
            Key::Collection(name) => drop(self.collections.remove(&name)),
            Key::Device(name) => drop(self.devices.remove(&name)),
            Key::Mac(mac) => drop(self.macs.remove(&mac)),
            Key::Pending(mac) => drop(self.pending.remove(&mac)),
            Key::Doomed(root) => drop(self.doomed.remove(&root)),
            Key::Event(id) => drop(self.events.remove(&id)),
            Key::Audit(_) => (),
            Key::User(name) => drop(self.users.remove(&name)),
            Key::Token(id) => drop(self.tokens.remove(&id)),
            Key::Live(server) => drop(self.live.remove(&server)),
            Key::Reading(server) => drop(self.readings.remove(&server)),
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

    /// A version of a vDisk.
    pub fn version(&self, vdisk: &Name, number: VersionNumber) -> Option<&Stored<Version>> {
        self.versions.get(&(vdisk.clone(), number))
    }

    /// The draft of a version, as long as it has one.
    pub fn draft(&self, vdisk: &Name, number: VersionNumber) -> Option<&Stored<Draft>> {
        self.drafts.get(&(vdisk.clone(), number))
    }

    /// What a vDisk's pointer says is in production; pins are not asked.
    pub fn production_of(&self, vdisk: &Name) -> Option<&Stored<Version>> {
        self.version(vdisk, self.vdisks.get(vdisk)?.production?)
    }

    /// The vDisks that a device may boot, the default first: its own, else its collection's.
    pub fn vdisks_of<'a>(&'a self, device: &'a Device) -> &'a [Name] {
        match (&device.vdisks[..], self.collections.get(&device.collection)) {
            ([], Some(collection)) => &collection.record.vdisks,
            (own, _) => own,
        }
    }

    /// The vDisk that a device boots unless somebody chooses another one in its menu.
    pub fn vdisk_of<'a>(&'a self, device: &'a Device) -> Option<&'a Name> {
        self.vdisks_of(device).first()
    }

    /// Whether any record needs this content: then it must stay.
    pub fn names(&self, root: Root) -> bool {
        self.versions.values().any(|version| version.root == root)
            || self.drafts.values().any(|draft| draft.checkpoint == root)
            || self.orphans.values().any(|orphan| orphan.checkpoint == root)
            || self.canaries.values().any(|canary| canary.root == root)
    }

    /// The servers that have a content completely.
    pub fn copies_of(&self, root: Root) -> impl Iterator<Item = (&Name, &Stored<CompleteCopy>)> {
        // "0" is the first of all names.
        let first = (root, Name::new("0").expect("a name"));
        self.copies
            .range(first..)
            .take_while(move |((of, _), _)| *of == root)
            .map(|((_, server), copy)| (server, copy))
    }

    /// The tokens of a user.
    pub fn tokens_of<'a>(&'a self, user: &'a Name) -> impl Iterator<Item = &'a Stored<ApiToken>> {
        self.tokens.values().filter(move |token| token.user == *user)
    }

    /// The revision of a guard, if it was ever written.
    pub(crate) fn guard(&self, guard: &Guard) -> Option<u64> {
        self.guards.get(guard).copied()
    }
}
