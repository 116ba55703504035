//! Drafts: the write lease, the epoch that fences, the dirty record, checkpoints and the seal.
//!
//! Rules a to d of DESIGN section 5, as changes that commit only if the draft is still as it was
//! seen. A server holds a [`Lease`] from [`attach`] on and shows it with each later step; one whose
//! epoch has passed is refused as [`RefusalKind::Fenced`], and must not execute a write any more.
//! Giving bytes up is in [`super::orphan`].

use super::copy::{has, hold};
use crate::change::{Change, Refusal, RefusalKind};
use crate::draft::{Dirty, Draft, Epoch, Holder, OrphanState};
use crate::event::{EventKind, NewEvent};
use crate::key::Key;
use crate::timestamp::{Stamp, Timestamp};
use crate::vdisk::{Bootable, Version, VersionState};
use crate::view::{FarmView, Stored};
use model::{Name, Root, VersionNumber};

/// Asks for the write lease of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The vDisk.
    pub vdisk: Name,
    /// The version.
    pub number: VersionNumber,
    /// The server that will execute the writes.
    pub server: Name,
    /// The device that writes; none where the server itself does (an admin's session, a hook, a seal).
    pub device: Option<Name>,
}

/// What a server that attached a draft holds until its epoch passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The vDisk.
    pub vdisk: Name,
    /// The version.
    pub number: VersionNumber,
    /// The server.
    pub server: Name,
    /// The epoch that [`attach`] answered.
    pub epoch: Epoch,
}

/// The draft's content as of a checkpoint, durable in the server's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its root.
    pub root: Root,
    /// Bytes of its chunks that are not zero.
    pub data_bytes: u64,
    /// Whether machines can boot from it.
    pub boot: Bootable,
}

/// Whether bytes were acknowledged that a checkpoint does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinceCheckpoint {
    /// None, and none can be: no write is admitted from before the checkpoint is cut until the
    /// answer to this commit is known, and after it the next write calls [`mark_dirty`] first.
    Clean,
    /// Some, or there may be: the dirty record stays, from the lease's epoch on.
    Written,
}

/// Takes the write lease, under a new epoch that ends all older ones.
///
/// The device that holds the draft may attach again, also from another server: it has rebooted.
/// Refused while another one holds it; on a server that does not have the last checkpoint
/// completely; and where another server has bytes that no checkpoint has.
pub fn attach(view: &FarmView, attach: &Attach, now: Timestamp) -> Result<(Change, Epoch), Refusal> {
    let Attach { vdisk, number, server, device } = attach;
    let draft = find(view, vdisk, *number)?;
    not_held_by_others(draft, device.as_ref(), now)?;
    not_dirty_elsewhere(draft, server, now)?;
    let mut change = Change::default();
    relies_on_checkpoint(view, &mut change, draft, server)?;
    put_aside(view, draft, server)?;
    let epoch = draft.epoch.next();
    let holder = Some(Holder { server: server.clone(), device: device.clone(), since: now });
    write(&mut change, draft, Draft { epoch, holder, ..draft.record.clone() });
    let who = device.as_ref().map_or_else(|| format!("server {server}"), |device| format!("device {device}"));
    let message =
        format!("{who} writes version {number} of vDisk {vdisk} on server {server} (epoch {epoch})");
    change.event(NewEvent::new(EventKind::DraftAttached, vdisk, message));
    Ok((change, epoch))
}

/// Whether `server` goes on with the files that it has of this draft, judged by the record as it was
/// before [`attach`]. If not, it begins above the checkpoint with fresh ones: what lies in its store
/// under the draft's name was acknowledged to nobody, or is in the checkpoint, or was discarded.
pub fn resumes(before: &Draft, server: &Name) -> bool {
    before.dirty.as_ref().is_some_and(|dirty| dirty.server == *server)
}

/// Notes durably that the server is about to acknowledge bytes; once it is committed, it may.
///
/// Rewrites the record also where it says so already: a clean checkpoint or a seal that this server
/// has sent and knows no outcome of could else come after what is now written, and say that nothing
/// was (the model check finds that way).
pub fn mark_dirty(view: &FarmView, lease: &Lease, now: Timestamp) -> Result<Change, Refusal> {
    let draft = held(view, lease)?;
    let noted = Dirty { from_epoch: lease.epoch, server: lease.server.clone(), since: now };
    let dirty = draft.dirty.clone().unwrap_or(noted);
    let mut change = Change::default();
    write(&mut change, draft, Draft { dirty: Some(dirty), ..draft.record.clone() });
    Ok(change)
}

/// Makes the draft's content as of now the one that others may go on from.
pub fn checkpoint(
    view: &FarmView,
    lease: &Lease,
    content: Content,
    since: SinceCheckpoint,
    now: Timestamp,
) -> Result<Change, Refusal> {
    let draft = held(view, lease)?;
    let version = version_of(view, draft)?;
    let mut change = Change::default();
    let dirty = match since {
        SinceCheckpoint::Clean => None,
        SinceCheckpoint::Written => {
            Some(Dirty { from_epoch: lease.epoch, server: lease.server.clone(), since: now })
        }
    };
    let Content { root, data_bytes, boot } = content;
    hold(view, &mut change, root, &lease.server, now);
    let alone_since = alone_since(view, draft);
    let next = Draft { dirty, checkpoint: root, checkpointed: now, alone_since, ..draft.record.clone() };
    write(&mut change, draft, next);
    write_version(&mut change, version, Version { root, data_bytes, boot, ..version.record.clone() });
    Ok(change)
}

/// Since when there are acknowledged bytes of a draft that would go with one server: they are in no
/// checkpoint, or in one that no other server has yet. None where every byte is on two servers.
pub fn alone_since(view: &FarmView, draft: &Draft) -> Option<Timestamp> {
    let dirty = draft.dirty.as_ref().map(|dirty| dirty.since);
    match view.copies_of(draft.checkpoint).nth(1) {
        Some(_) => dirty,
        None => draft.alone_since.or(dirty),
    }
}

/// The servers that could go on with a draft if they were asked: the one that has bytes which no
/// checkpoint has, else all that have the checkpoint completely.
pub fn able_servers(view: &FarmView, draft: &Draft) -> Vec<Name> {
    match &draft.dirty {
        Some(dirty) => vec![dirty.server.clone()],
        None => view.copies_of(draft.checkpoint).map(|(server, _)| server.clone()).collect(),
    }
}

/// Gives the lease back. Bytes that no checkpoint has stay noted: only this server may go on then.
pub fn detach(view: &FarmView, lease: &Lease) -> Result<Change, Refusal> {
    let draft = held(view, lease)?;
    let mut change = Change::default();
    write(&mut change, draft, Draft { holder: None, ..draft.record.clone() });
    let Lease { vdisk, number, server, .. } = lease;
    let message = format!("version {number} of vDisk {vdisk} is not written any more on server {server}");
    change.event(NewEvent::new(EventKind::DraftDetached, vdisk, message));
    Ok(change)
}

/// Takes the lease away from whoever holds it: a device that is gone, a server that restarted.
///
/// The holder's epoch ends, so it must not execute another write. Nothing is given up: bytes that no
/// checkpoint has stay noted as their server's.
pub fn release(
    view: &FarmView,
    vdisk: &Name,
    number: VersionNumber,
    stamp: &Stamp,
) -> Result<Change, Refusal> {
    let draft = find(view, vdisk, number)?;
    let Some(holder) = &draft.holder else {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            format!("nobody holds version {number} of vDisk {vdisk}"),
            "there is nothing to release",
        ));
    };
    let mut change = Change::default();
    write(&mut change, draft, Draft { epoch: draft.epoch.next(), holder: None, ..draft.record.clone() });
    let message =
        format!("{} took version {number} of vDisk {vdisk} from {}", stamp.by, holder_text(holder, stamp.at));
    change.event(NewEvent::new(EventKind::DraftReleased, vdisk, message));
    Ok(change)
}

/// Ends the draft: its content is the version's from now on, for ever.
///
/// The sealing server holds the lease itself, without a device, and admits no write from before
/// `content` is cut: what a device wrote is all in it. Everything that is promoted was sealed, so
/// everything that is promoted holds every byte that was acknowledged before.
pub fn seal(view: &FarmView, lease: &Lease, content: Content, stamp: &Stamp) -> Result<Change, Refusal> {
    let draft = held(view, lease)?;
    let version = version_of(view, draft)?;
    let Lease { vdisk, number, .. } = lease;
    if let Some(device) = draft.holder.as_ref().and_then(|holder| holder.device.as_ref()) {
        return Err(Refusal::new(
            RefusalKind::InUse,
            format!("version {number} of vDisk {vdisk} is being written by device {device}"),
            format!("shut {device} down, then seal"),
        ));
    }
    let mut change = Change::default();
    let Content { root, data_bytes, boot } = content;
    hold(view, &mut change, root, &lease.server, stamp.at);
    change.unchanged(key(draft), draft);
    change.delete(key(draft));
    if let Bootable::No { reason } = &boot {
        let message = format!("machines cannot boot version {number} of vDisk {vdisk}: {reason}");
        change.event(NewEvent::new(EventKind::VDiskNotBootable, vdisk, message));
    }
    let (state, sealed) = (VersionState::Sealed, Some(stamp.clone()));
    let next = Version { root, data_bytes, boot, state, sealed, ..version.record.clone() };
    write_version(&mut change, version, next);
    let message = format!("{} sealed version {number} of vDisk {vdisk} (root {})", stamp.by, root.short());
    change.event(NewEvent::new(EventKind::VersionSealed, vdisk, message));
    Ok(change)
}

/// The draft of a version, or why there is none.
pub fn find<'a>(
    view: &'a FarmView,
    vdisk: &Name,
    number: VersionNumber,
) -> Result<&'a Stored<Draft>, Refusal> {
    if let Some(draft) = view.draft(vdisk, number) {
        return Ok(draft);
    }
    let version = super::version::find(view, vdisk, number)?;
    let what = match version.state {
        VersionState::Sealed => "is sealed and cannot be written",
        VersionState::Draft => "is a draft whose record is missing",
    };
    Err(Refusal::new(
        RefusalKind::Invalid,
        format!("version {number} of vDisk {vdisk} {what}"),
        format!("make a new version of it: `headwater version create {vdisk} --from {number}`"),
    ))
}

/// Who holds a draft, for people who read it at `now`.
pub fn holder_text(holder: &Holder, now: Timestamp) -> String {
    let since = holder.since.seen_at(now);
    match &holder.device {
        Some(device) => format!("device {device} on server {} since {since}", holder.server),
        None => {
            format!("server {} itself (an admin's session, a hook or a seal) since {since}", holder.server)
        }
    }
}

/// The draft, if the lease is still good.
pub(super) fn held<'a>(view: &'a FarmView, lease: &Lease) -> Result<&'a Stored<Draft>, Refusal> {
    let Lease { vdisk, number, server, epoch } = lease;
    let fenced = |what: String| {
        Refusal::new(
            RefusalKind::Fenced,
            format!("server {server} does not hold version {number} of vDisk {vdisk} any more: {what}"),
            "boot the device again",
        )
    };
    let draft = view.draft(vdisk, *number).ok_or_else(|| fenced("it has no draft now".to_owned()))?;
    let holds = draft.holder.as_ref().is_some_and(|holder| holder.server == *server);
    if draft.epoch != *epoch || !holds {
        return Err(fenced(format!("its epoch was {epoch}, now it is {}", draft.epoch)));
    }
    Ok(draft)
}

pub(super) fn not_held_by_others(
    draft: &Draft,
    device: Option<&Name>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let Some(holder) = &draft.holder else { return Ok(()) };
    if device.is_some() && holder.device.as_ref() == device {
        return Ok(());
    }
    let Draft { vdisk, number, .. } = draft;
    Err(Refusal::new(
        RefusalKind::InUse,
        format!("version {number} of vDisk {vdisk} is held by {}", holder_text(holder, now)),
        format!(
            "shut that machine down or close its session; if it is gone: \
             `headwater version release {vdisk} {number}`"
        ),
    ))
}

/// Rule c: what is acknowledged and in no checkpoint is on one server, and only that one goes on.
fn not_dirty_elsewhere(draft: &Draft, server: &Name, now: Timestamp) -> Result<(), Refusal> {
    match &draft.dirty {
        Some(dirty) if dirty.server != *server => Err(dirty_refusal(draft, dirty, now)),
        _ => Ok(()),
    }
}

/// That a draft cannot be touched because a server has bytes of it that no checkpoint has.
pub(super) fn dirty_refusal(draft: &Draft, dirty: &Dirty, now: Timestamp) -> Refusal {
    let Draft { vdisk, number, .. } = draft;
    let (holder, since) = (&dirty.server, dirty.since.seen_at(now));
    Refusal::new(
        RefusalKind::InUse,
        format!(
            "server {holder} has had changes of version {number} of vDisk {vdisk} since {since} that no \
             checkpoint has; only it may go on"
        ),
        format!(
            "boot the machine from {holder}, or `headwater version checkpoint {vdisk} {number}` there; only if \
             the changes are not wanted: `headwater version discard {vdisk} {number} --server ... --epochs ...`"
        ),
    )
}

fn relies_on_checkpoint(
    view: &FarmView,
    change: &mut Change,
    draft: &Draft,
    server: &Name,
) -> Result<(), Refusal> {
    let Draft { vdisk, number, checkpoint, .. } = draft;
    if has(view, *checkpoint, server).is_some() {
        let copy = (*checkpoint, server.clone());
        change.unchanged(Key::Copy(*checkpoint, server.clone()), &view.copies[&copy]);
        return Ok(());
    }
    let others = super::vdisk::some_of(view.copies_of(*checkpoint).map(|(server, _)| server));
    let hint = match others.is_empty() {
        true => "no server has it: bring back the one that had it".to_owned(),
        false => format!("boot from one that has it: {others}"),
    };
    let message = format!(
        "server {server} does not have the last checkpoint of version {number} of vDisk {vdisk} completely"
    );
    Err(Refusal::new(RefusalKind::InUse, message, hint))
}

/// Bytes that were discarded lie where the draft's would; they are put aside first.
fn put_aside(view: &FarmView, draft: &Draft, server: &Name) -> Result<(), Refusal> {
    let Draft { vdisk, number, .. } = draft;
    let claimed = view.orphans.values().any(|orphan| {
        orphan.state == OrphanState::Claimed
            && orphan.server == *server
            && orphan.vdisk == *vdisk
            && orphan.number == *number
    });
    match claimed {
        false => Ok(()),
        true => Err(Refusal::new(
            RefusalKind::InUse,
            format!(
                "server {server} has not yet put aside discarded changes of version {number} of vDisk {vdisk}"
            ),
            "it does so at its start; look into its log if it runs",
        )),
    }
}

fn version_of<'a>(view: &'a FarmView, draft: &Draft) -> Result<&'a Stored<Version>, Refusal> {
    super::version::find(view, &draft.vdisk, draft.number)
}

fn key(draft: &Draft) -> Key {
    Key::Draft(draft.vdisk.clone(), draft.number)
}

/// Replaces the draft that was seen.
pub(super) fn write(change: &mut Change, seen: &Stored<Draft>, draft: Draft) {
    change.unchanged(key(seen), seen);
    change.put(key(seen), &draft);
}

/// Replaces the version that was seen.
pub(super) fn write_version(change: &mut Change, seen: &Stored<Version>, version: Version) {
    let key = Key::Version(seen.vdisk.clone(), seen.number);
    change.unchanged(key.clone(), seen);
    change.put(key, &version);
}
