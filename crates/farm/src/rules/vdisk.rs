//! Registering and deleting vDisks.

use super::copy::hold;
use super::reading::{Here, readers};
use super::version::write_vdisk;
use crate::change::{Change, Refusal, RefusalKind, Write};
use crate::event::{EventKind, NewEvent};
use crate::key::{Guard, Key};
use crate::record::FormatRevision;
use crate::timestamp::{Stamp, Timestamp};
use crate::vdisk::{Bootable, Checkpoints, Doomed, VDisk, Version, VersionState};
use crate::view::FarmView;
use model::{AccessMode, DiskSize, Name, Root, VersionNumber};

/// The most vDisks in one boot menu: what fits on a screen of 25 lines.
pub const MAX_ASSIGNED: usize = 16;
/// The most hooks of a vDisk: each takes its time at every seal, and a longer list is a mistake.
pub const MAX_HOOKS: usize = 16;
/// The longest time between checkpoints: a week, beyond which somebody meant something else.
pub const MAX_CHECKPOINT_S: u64 = 7 * 86_400;
/// The fewest changed bytes that make a checkpoint by themselves: each is a layer until the seal.
pub const MIN_CHECKPOINT_BYTES: u64 = 1 << 20;
/// How many writes a change of ours may have (the database takes 128, with the events).
const MAX_WRITES: usize = 120;
/// How many users of a vDisk or collection a refusal names.
const NAMED_USERS: usize = 5;

/// An image that a store has imported completely.
pub struct RegisterVDisk {
    /// The new vDisk's name.
    pub name: Name,
    /// The store that holds it.
    pub store: Name,
    /// The server that has it there.
    pub server: Name,
    /// Its content.
    pub root: Root,
    /// The virtual disk's size in bytes.
    pub size: DiskSize,
    /// Bytes of chunks that are not zero.
    pub data_bytes: u64,
    /// Whether we can boot it.
    pub boot: Bootable,
    /// What the admin said about it.
    pub comment: String,
    /// Who imported it.
    pub by: String,
}

/// Whether a vDisk could be registered under this name now; asked before an image is read.
pub fn name_is_free(view: &FarmView, name: &Name) -> Result<(), Refusal> {
    match view.vdisks.get(name) {
        None => Ok(()),
        Some(_) => Err(Refusal::new(
            RefusalKind::Exists,
            format!("there is a vDisk {name} already"),
            format!("choose another name, or run `headwater vdisk delete {name}` first"),
        )),
    }
}

/// Makes the vDisk and its version 1, in production.
pub fn register(view: &FarmView, command: RegisterVDisk, now: Timestamp) -> Result<Change, Refusal> {
    name_is_free(view, &command.name)?;
    if !view.stores.contains_key(&command.store) {
        return Err(Refusal::not_found("store", &command.store, "store list"));
    }
    let RegisterVDisk { name, store, server, root, size, data_bytes, boot, comment, by } = command;
    let mut change = Change::default();
    change.event(NewEvent::new(
        EventKind::VDiskImported,
        &name,
        format!("vDisk {name} was imported as version 1"),
    ));
    if let Bootable::No { reason } = &boot {
        let message = format!("vDisk {name} can be streamed, but machines cannot boot from it: {reason}");
        change.event(NewEvent::new(EventKind::VDiskNotBootable, &name, message));
    }
    hold(view, &mut change, root, &server, now);
    let stamp = Stamp::new(by, now);
    let version = Version {
        revision: FormatRevision,
        vdisk: name,
        number: VersionNumber::FIRST,
        access: AccessMode::Production,
        state: VersionState::Sealed,
        root,
        size,
        data_bytes,
        boot,
        comment,
        parent: None,
        origin: None,
        gate: None,
        created: stamp.clone(),
        sealed: Some(stamp.clone()),
        promoted: Some(stamp),
        retired: None,
        merged: None,
    };
    put_new(&mut change, store, Vec::new(), &version);
    Ok(change)
}

/// Makes a vDisk with its first version, which is in production where its access mode says so.
pub(super) fn put_new(change: &mut Change, store: Name, hooks: Vec<Name>, first: &Version) {
    let (name, number) = (&first.vdisk, first.number);
    let vdisk = VDisk {
        revision: FormatRevision,
        name: name.clone(),
        store,
        size: first.size,
        production: (first.access == AccessMode::Production).then_some(number),
        pinned: None,
        next: VersionNumber(number.0 + 1),
        hooks,
        checkpoints: Checkpoints::default(),
        created: first.created.at,
    };
    change.absent(Key::VDisk(name.clone()));
    change.put(Key::VDisk(name.clone()), &vdisk);
    change.put(Key::Version(name.clone(), number), first);
}

/// Sets what runs against the vDisk's drafts before they are sealed. Whether a server has hooks of
/// these names is asked when one is sealed: it may be another server than this.
pub fn set_hooks(view: &FarmView, name: &Name, hooks: Vec<Name>) -> Result<Change, Refusal> {
    let vdisk = view.vdisks.get(name).ok_or_else(|| Refusal::not_found("vDisk", name, "vdisk list"))?;
    if hooks.len() > MAX_HOOKS {
        return Err(Refusal::new(
            RefusalKind::Limit,
            format!("{} hooks are more than the {MAX_HOOKS} that a vDisk may have", hooks.len()),
            "put some of them into one program",
        ));
    }
    let mut change = Change::default();
    if vdisk.hooks != hooks {
        write_vdisk(&mut change, vdisk, VDisk { hooks, ..vdisk.record.clone() });
    }
    Ok(change)
}

/// Changes how often open drafts of a vDisk are saved.
pub fn set_checkpoints(view: &FarmView, name: &Name, checkpoints: Checkpoints) -> Result<Change, Refusal> {
    let vdisk = view.vdisks.get(name).ok_or_else(|| Refusal::not_found("vDisk", name, "vdisk list"))?;
    let (seconds, bytes) = (1..=MAX_CHECKPOINT_S, MIN_CHECKPOINT_BYTES..=u64::MAX);
    if !checkpoints.every_s.is_none_or(|every| seconds.contains(&every)) {
        let message = format!("a checkpoint is made every 1 to {MAX_CHECKPOINT_S} seconds");
        return Err(Refusal::new(RefusalKind::Limit, message, "give a time between 1s and 7d"));
    }
    if !checkpoints.bytes.is_none_or(|after| bytes.contains(&after)) {
        let message = "a checkpoint is made after 1 MiB of changes at the earliest";
        return Err(Refusal::new(RefusalKind::Limit, message, "each of them is a layer until the seal"));
    }
    let mut change = Change::default();
    if vdisk.checkpoints != checkpoints {
        write_vdisk(&mut change, vdisk, VDisk { checkpoints, ..vdisk.record.clone() });
    }
    Ok(change)
}

/// Deletes a vDisk and all its versions. Refused while sessions of any server read one; `here` names
/// those of the server that is asked.
pub fn delete(view: &FarmView, name: &Name, here: Here<'_>) -> Result<Change, Refusal> {
    let vdisk = view.vdisks.get(name).ok_or_else(|| Refusal::not_found("vDisk", name, "vdisk list"))?;
    let readers = readers(view, here, name, None);
    if !readers.is_empty() {
        let users = some_of(readers.iter());
        return Err(in_use(
            name,
            format!("open sessions read it: {users}"),
            "`headwater session list` shows them; shut the machines down",
        ));
    }
    let collections = view
        .collections
        .values()
        .filter(|c| c.vdisks.contains(name) || c.pins.contains_key(name))
        .map(|c| &c.name);
    let mut collections = collections.peekable();
    if let Some(first) = collections.peek().copied() {
        let hint = format!("`headwater collection set {first} --vdisk OTHER` (or `--no-vdisk`)");
        return Err(in_use(name, format!("collections boot or pin it: {}", some_of(collections)), &hint));
    }
    let devices = view
        .devices
        .values()
        .filter(|d| d.vdisks.contains(name) || d.pins.contains_key(name))
        .map(|d| &d.name);
    let mut devices = devices.peekable();
    if let Some(first) = devices.peek().copied() {
        let hint = format!("`headwater device assign {first} OTHER` (or `--collection-default`)");
        return Err(in_use(name, format!("devices boot or pin it: {}", some_of(devices)), &hint));
    }
    let mut change = Change::default();
    delete_drafts(view, &mut change, vdisk)?;
    change.unchanged(Key::VDisk(name.clone()), vdisk);
    change.unguarded(Guard::VDisk(name.clone()), view.guard(&Guard::VDisk(name.clone())));
    change.delete(Key::VDisk(name.clone()));
    change.delete(Key::Guard(Guard::VDisk(name.clone())));
    for version in view.versions_of(name) {
        change.delete(Key::Version(name.clone(), version.number));
    }
    for version in view.versions_of(name) {
        doom(view, &mut change, vdisk, version.root);
    }
    change.event(NewEvent::new(EventKind::VDiskDeleted, name, format!("vDisk {name} was deleted")));
    Ok(change)
}

/// Marks the content of a deleted version, unless another vDisk has the same.
///
/// A transaction has a limit: what is not marked is found by the next prune.
pub(super) fn doom(view: &FarmView, change: &mut Change, vdisk: &VDisk, root: Root) {
    let kept = view.versions.values().any(|version| version.root == root && version.vdisk != vdisk.name);
    let key = Key::Doomed(root);
    let marked = change.writes.iter().any(|write| matches!(write, Write::Put(marked, _) if *marked == key));
    if !kept && !marked && change.writes.len() < MAX_WRITES {
        change.put(key, &Doomed { revision: FormatRevision, store: vdisk.store.clone() });
    }
}

/// Notes that the bytes of contents are gone from their store, or must stay after all.
pub fn swept(view: &FarmView, roots: &[Root]) -> Change {
    let mut change = Change::default();
    for root in roots {
        if let Some(seen) = view.doomed.get(root) {
            change.unchanged(Key::Doomed(*root), seen);
            change.delete(Key::Doomed(*root));
        }
    }
    change
}

/// Drafts that nobody holds go with their vDisk; changes that no checkpoint has, and discarded
/// ones, an admin gives up one by one.
fn delete_drafts(view: &FarmView, change: &mut Change, vdisk: &VDisk) -> Result<(), Refusal> {
    let name = &vdisk.name;
    if let Some(orphan) = view.orphans.values().find(|orphan| orphan.vdisk == *name) {
        let why = format!("server {} keeps discarded changes of it, {}", orphan.server, orphan.draft);
        return Err(in_use(
            name,
            why,
            &format!(
                "`headwater version orphans {name}` shows them; `version restore-orphan` or `delete-orphan` them first"
            ),
        ));
    }
    for draft in view.drafts.values().filter(|draft| draft.vdisk == *name) {
        if draft.holder.is_some() || draft.dirty.is_some() {
            let number = draft.number;
            let why = format!("version {number} is being written, or has changes that no checkpoint has");
            let hint = format!("`headwater version show {name} {number}` says where");
            return Err(in_use(name, why, &hint));
        }
        change.unchanged(Key::Draft(name.clone(), draft.number), draft);
        change.delete(Key::Draft(name.clone(), draft.number));
    }
    Ok(())
}

fn in_use(name: &Name, why: String, hint: &str) -> Refusal {
    Refusal::new(RefusalKind::InUse, format!("vDisk {name} is in use: {why}"), hint)
}

/// The first few of a list, and how many more there are.
pub(super) fn some_of(users: impl Iterator<Item = impl std::fmt::Display>) -> String {
    let users: Vec<String> = users.map(|user| user.to_string()).collect();
    let shown = users.iter().take(NAMED_USERS).cloned().collect::<Vec<_>>().join(", ");
    match users.len().saturating_sub(NAMED_USERS) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Makes `change` refer to the vDisks of a boot menu.
pub(super) fn refer_all(view: &FarmView, change: &mut Change, names: &[Name]) -> Result<(), Refusal> {
    if names.len() > MAX_ASSIGNED {
        let message = format!("{} vDisks are too many for a boot menu", names.len());
        return Err(Refusal::new(RefusalKind::Limit, message, format!("assign at most {MAX_ASSIGNED}")));
    }
    if let Some((at, twice)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        let message = format!("vDisk {twice} is assigned twice, the second time as number {}", at + 1);
        return Err(Refusal::new(RefusalKind::Invalid, message, "name each vDisk once"));
    }
    names.iter().try_for_each(|name| refer(view, change, name))
}

/// Makes `change` refer to a vDisk: it must exist when the change commits, and a deletion at the
/// same time must notice.
pub(super) fn refer(view: &FarmView, change: &mut Change, name: &Name) -> Result<(), Refusal> {
    let vdisk = view.vdisks.get(name).ok_or_else(|| Refusal::not_found("vDisk", name, "vdisk list"))?;
    change.unchanged(Key::VDisk(name.clone()), vdisk);
    change.guard(Guard::VDisk(name.clone()));
    Ok(())
}
