//! Giving up what a server acknowledged and no checkpoint has: an admin's act, and a late one can
//! still be undone.
//!
//! Rule f of DESIGN section 5. Nothing is deleted by discarding: the server puts the bytes aside under
//! another name, and may not write the draft again before it has.

use super::draft::{Content, find as find_draft, write};
use super::vdisk::{name_is_free, put_new};
use super::version::find_vdisk;
use crate::change::{Change, Refusal, RefusalKind};
use crate::draft::{Draft, Epoch, Orphan, OrphanId, OrphanState};
use crate::event::{EventKind, NewEvent};
use crate::key::Key;
use crate::record::FormatRevision;
use crate::timestamp::Stamp;
use crate::vdisk::{Origin, Version, VersionState};
use crate::view::{FarmView, Stored};
use model::{AccessMode, Name, VersionNumber};

/// What an admin gives up, spelled out: exactly this, or it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discard {
    /// The vDisk.
    pub vdisk: Name,
    /// The version.
    pub number: VersionNumber,
    /// The server that has the bytes.
    pub server: Name,
    /// The first epoch since the last checkpoint.
    pub from_epoch: Epoch,
    /// The present epoch.
    pub to_epoch: Epoch,
}

/// A kept orphan that becomes a vDisk of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// The orphan.
    pub id: OrphanId,
    /// The new vDisk's name.
    pub name: Name,
    /// Its content: a checkpoint of the kept bytes, durable in the store of the orphan's server.
    pub content: Content,
}

/// What discarding would give up, to be shown and to be confirmed.
pub fn discardable(view: &FarmView, vdisk: &Name, number: VersionNumber) -> Result<Discard, Refusal> {
    let draft = find_draft(view, vdisk, number)?;
    let dirty = draft.dirty.as_ref().ok_or_else(|| {
        Refusal::new(
            RefusalKind::Invalid,
            format!("version {number} of vDisk {vdisk} has no changes that are not in its last checkpoint"),
            format!("to get rid of the whole version: `headwater version delete {vdisk} {number}`"),
        )
    })?;
    Ok(Discard {
        vdisk: vdisk.clone(),
        number,
        server: dirty.server.clone(),
        from_epoch: dirty.from_epoch,
        to_epoch: draft.epoch,
    })
}

/// Gives up what the named server wrote in the named epochs: the draft is its last checkpoint again,
/// and any server that has that may go on.
pub fn discard(view: &FarmView, command: &Discard, stamp: &Stamp) -> Result<Change, Refusal> {
    let Discard { vdisk, number, server, from_epoch, to_epoch } = command;
    let actual = discardable(view, vdisk, *number)?;
    if actual != *command {
        return Err(Refusal::new(
            RefusalKind::Changed,
            format!(
                "the changes to give up are those of server {} in epochs {} to {}, not of {server} in {from_epoch} \
                 to {to_epoch}",
                actual.server, actual.from_epoch, actual.to_epoch
            ),
            format!("look again (`headwater version show {vdisk} {number}`), then confirm what is there"),
        ));
    }
    let (draft, store) = (find_draft(view, vdisk, *number)?, find_vdisk(view, vdisk)?.store.clone());
    let mut change = Change::default();
    let (epoch, holder, dirty) = (draft.epoch.next(), None, None);
    write(&mut change, draft, Draft { epoch, holder, dirty, ..draft.record.clone() });
    let orphan = Orphan {
        revision: FormatRevision,
        vdisk: vdisk.clone(),
        number: *number,
        server: server.clone(),
        store,
        from_epoch: *from_epoch,
        to_epoch: *to_epoch,
        draft: format!("{vdisk}.{number}.e{to_epoch}"),
        checkpoint: draft.checkpoint,
        state: OrphanState::Claimed,
        discarded: stamp.clone(),
    };
    let key = Key::Orphan(OrphanId { vdisk: vdisk.clone(), number: *number, epoch: *to_epoch });
    change.absent(key.clone());
    change.put(key, &orphan);
    let message = format!(
        "{} gave up what server {server} wrote to version {number} of vDisk {vdisk} in epochs {from_epoch} to \
         {to_epoch}; the server keeps it as {}",
        stamp.by, orphan.draft
    );
    change.event(NewEvent::new(EventKind::DraftDiscarded, vdisk, message));
    Ok(change)
}

/// The orphans that a server is still to put aside.
pub fn claimed_from<'a>(
    view: &'a FarmView,
    server: &'a Name,
) -> impl Iterator<Item = (&'a OrphanId, &'a Stored<Orphan>)> {
    let of_server = move |(_, orphan): &(&OrphanId, &Stored<Orphan>)| {
        orphan.server == *server && orphan.state == OrphanState::Claimed
    };
    view.orphans.iter().filter(of_server)
}

/// Notes what the server found when it went to put the bytes aside: [`OrphanState::Kept`] or
/// [`OrphanState::Lost`].
pub fn settle(view: &FarmView, id: &OrphanId, found: OrphanState) -> Result<Change, Refusal> {
    let orphan = find(view, id)?;
    let mut change = Change::default();
    change.unchanged(Key::Orphan(id.clone()), orphan);
    change.put(Key::Orphan(id.clone()), &Orphan { state: found, ..orphan.record.clone() });
    let what = match found {
        OrphanState::Claimed => "is still to put aside",
        OrphanState::Kept => "has put aside",
        OrphanState::Lost => "does not have any more",
    };
    let message = format!("server {} {what} the discarded changes {}", orphan.server, orphan.draft);
    change.event(NewEvent::new(EventKind::OrphanChanged, &id.vdisk, message));
    Ok(change)
}

/// Makes discarded bytes a vDisk of their own: version 1 in test, nothing in production.
pub fn restore(view: &FarmView, command: Restore, stamp: &Stamp) -> Result<Change, Refusal> {
    let Restore { id, name, content: Content { root, data_bytes, boot } } = command;
    let orphan = kept(view, &id)?;
    name_is_free(view, &name)?;
    let from = find_vdisk(view, &id.vdisk)?;
    let size = from.size;
    let mut change = Change::default();
    super::copy::hold(view, &mut change, root, &orphan.server, stamp.at);
    let message = format!("{} restored the discarded changes {} as vDisk {name}", stamp.by, orphan.draft);
    let first = Version {
        revision: FormatRevision,
        vdisk: name.clone(),
        number: VersionNumber::FIRST,
        access: AccessMode::Test,
        state: VersionState::Sealed,
        root,
        size,
        data_bytes,
        boot,
        comment: format!("restored from {}", orphan.draft),
        parent: None,
        origin: Some(Origin { vdisk: id.vdisk.clone(), number: id.number }),
        gate: None,
        created: stamp.clone(),
        sealed: Some(stamp.clone()),
        promoted: Some(stamp.clone()),
        retired: None,
        merged: None,
    };
    put_new(&mut change, orphan.store.clone(), from.hooks.clone(), &first);
    change.unchanged(Key::Orphan(id.clone()), orphan);
    change.delete(Key::Orphan(id.clone()));
    change.event(NewEvent::new(EventKind::OrphanChanged, &id.vdisk, message));
    Ok(change)
}

/// Gives discarded bytes up for good: their server deletes them.
pub fn delete(view: &FarmView, id: &OrphanId, stamp: &Stamp) -> Result<Change, Refusal> {
    let orphan = find(view, id)?;
    let mut change = Change::default();
    change.unchanged(Key::Orphan(id.clone()), orphan);
    change.delete(Key::Orphan(id.clone()));
    let message = format!("{} deleted the discarded changes {}", stamp.by, orphan.draft);
    change.event(NewEvent::new(EventKind::OrphanChanged, &id.vdisk, message));
    Ok(change)
}

/// The orphan of an id whose bytes its server has put aside, or a refusal.
pub fn kept<'a>(view: &'a FarmView, id: &OrphanId) -> Result<&'a Stored<Orphan>, Refusal> {
    let orphan = find(view, id)?;
    if orphan.state != OrphanState::Kept {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            format!("server {} does not keep the discarded changes {}", orphan.server, orphan.draft),
            "it puts them aside at its start; look into its log if it runs",
        ));
    }
    Ok(orphan)
}

/// The orphan of an id, or a refusal.
pub fn find<'a>(view: &'a FarmView, id: &OrphanId) -> Result<&'a Stored<Orphan>, Refusal> {
    let OrphanId { vdisk, number, epoch } = id;
    view.orphans.get(id).ok_or_else(|| {
        Refusal::not_found(
            "discarded change",
            format!("{vdisk}.{number}.e{epoch}"),
            &format!("version orphans {vdisk}"),
        )
    })
}
