//! Which server has which content completely.
//!
//! A server writes its record when it has all of a content, in the same transaction that begins to
//! use it where there is one, and removes it before it deletes a byte. What makes the records
//! trustworthy: whoever begins to use a content that nothing used before also rewrites the records
//! of all copies it sees, so that a server that was about to let its copy go must look again.

use crate::change::{Change, Refusal, RefusalKind};
use crate::draft::CompleteCopy;
use crate::key::Key;
use crate::record::FormatRevision;
use crate::rules::reading::is_read;
use crate::timestamp::Timestamp;
use crate::view::FarmView;
use model::{Name, Root};
use std::collections::BTreeSet;

/// The most copies that one report changes; the next one goes on. A transaction has a limit.
const REPORT_BATCH: usize = 100;

/// Notes that `server` has `root`, which `change` begins to use.
///
/// Only as long as the server's own record is what it was: after [`fence`] the transaction is void,
/// however long it was on its way.
pub(super) fn hold(view: &FarmView, change: &mut Change, root: Root, server: &Name, now: Timestamp) {
    let revision = FormatRevision;
    if !view.names(root) {
        for (other, copy) in view.copies_of(root).filter(|(other, _)| *other != server) {
            change.put(Key::Copy(root, other.clone()), &copy.record);
            change.unchanged(Key::Copy(root, other.clone()), copy);
        }
    }
    if let Some(own) = view.servers.get(server) {
        change.unchanged(Key::Server(server.clone()), own);
    }
    let since = has(view, root, server).unwrap_or(now);
    change.put(Key::Copy(root, server.clone()), &CompleteCopy { revision, since });
}

/// Rewrites a server's own record, and so makes void what it has sent before and does not know the
/// outcome of: a process that was killed, a database that did not answer in time.
///
/// To be committed by a server before it looks for what no record names, to delete it: else a
/// transaction that comes late begins to use what is gone (the model check finds that way).
pub fn fence(view: &FarmView, server: &Name) -> Change {
    let mut change = Change::default();
    if let Some(own) = view.servers.get(server) {
        change.unchanged(Key::Server(server.clone()), own);
        change.put(Key::Server(server.clone()), &own.record);
    }
    change
}

/// Since when a server has a content completely; none where it has not.
pub fn has(view: &FarmView, root: Root, server: &Name) -> Option<Timestamp> {
    view.copies.get(&(root, server.clone())).map(|copy| copy.since)
}

/// Brings the records in step with what a server has: at its start, after it fetched something.
///
/// Changes at most 100 records; none are left when it answers an empty change. What a server has
/// lost it must say, also the last copy: that nobody has a content any more is news, not a secret.
pub fn report(view: &FarmView, server: &Name, complete: &BTreeSet<Root>, now: Timestamp) -> Change {
    let mut change = Change::default();
    let known: BTreeSet<Root> =
        view.copies.keys().filter(|(_, of)| of == server).map(|(root, _)| *root).collect();
    let revision = FormatRevision;
    for root in complete.difference(&known).take(REPORT_BATCH) {
        change.absent(Key::Copy(*root, server.clone()));
        change.put(Key::Copy(*root, server.clone()), &CompleteCopy { revision, since: now });
    }
    for root in known.difference(complete).take(REPORT_BATCH - change.writes.len()) {
        change.unchanged(Key::Copy(*root, server.clone()), &view.copies[&(*root, server.clone())]);
        change.delete(Key::Copy(*root, server.clone()));
    }
    change
}

/// Lets a copy of what nothing needs go, before its bytes are deleted.
pub fn forget(view: &FarmView, root: Root, server: &Name) -> Result<Change, Refusal> {
    if view.names(root) {
        return Err(Refusal::new(
            RefusalKind::InUse,
            format!("content {} is needed by a version, a draft or discarded changes", root.short()),
            "delete those first; `headwater version list` shows them",
        ));
    }
    if is_read(view, root) {
        return Err(Refusal::new(
            RefusalKind::InUse,
            format!("content {} is read by devices", root.short()),
            "`headwater session list` shows them; it goes when they have been shut down",
        ));
    }
    let mut change = Change::default();
    let_go(view, &mut change, root, server);
    Ok(change)
}

/// Lets a copy of what is needed go, because `confirmed` has it too.
///
/// The other server must have confirmed so itself, just now: its record alone may be of a disk that
/// is lost and has not been reported (the model check deletes a last copy that way). Of two servers
/// that let their copies go at once, each relies on the other's.
pub fn forget_one_of_several(
    view: &FarmView,
    root: Root,
    server: &Name,
    confirmed: &Name,
) -> Result<Change, Refusal> {
    let other = view.copies.get(&(root, confirmed.clone())).filter(|_| confirmed != server);
    let Some(other) = other else {
        return Err(Refusal::new(
            RefusalKind::InUse,
            format!("server {server} may have the last complete copy of {}", root.short()),
            "copy it to another server first",
        ));
    };
    let mut change = Change::default();
    change.unchanged(Key::Copy(root, confirmed.clone()), other);
    let_go(view, &mut change, root, server);
    Ok(change)
}

fn let_go(view: &FarmView, change: &mut Change, root: Root, server: &Name) {
    let key = Key::Copy(root, server.clone());
    match view.copies.get(&(root, server.clone())) {
        Some(copy) => {
            change.unchanged(key.clone(), copy);
            change.delete(key);
        }
        // The view may be older than this server's own seal or checkpoint, which wrote the record.
        None => change.absent(key),
    }
}
