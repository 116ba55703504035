//! Nothing that a session reads is deleted while it is needed (DESIGN section 9), on whichever
//! server the session is.
//!
//! A server that begins to read a content relies on the record that names it and writes the guard of
//! its vDisk; a deletion removes that record and relies on the guard. So of "boot" and "delete" at
//! the same time one conflicts and looks again. A store that lets a content go which no record names
//! sees every server that began to read it while one still did.

use crate::change::{Change, Refusal, RefusalKind};
use crate::key::{Guard, Key};
use crate::reading::{Reading, Reads};
use crate::record::FormatRevision;
use crate::view::FarmView;
use model::{Name, Root, VersionNumber};

/// The most versions that one server's sessions read: the record stays below 256 KiB.
pub const MAX_READS: usize = 1000;
/// When a transaction takes no further additions: one of them has 65 conditions and writes at most.
const FULL: usize = 50;

/// The sessions of the server that is asked to delete something, for people.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// The server.
    pub server: &'a Name,
    /// Who reads what is to be deleted.
    pub sessions: &'a [String],
}

/// Whether an earlier transaction of the same server may still be on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// All were answered.
    Answered,
    /// One was not, or the server has just started. If it takes something out of the record, it
    /// must not be carried out after this one: so this one is written even if it changes nothing.
    MayCome,
}

/// Brings a server's record in step with what it reads; to be asked again until it answers an empty
/// change, because a transaction has a limit. What is left out goes in the first of them.
///
/// Errors: the server was removed; it reads too much.
pub fn publish(view: &FarmView, server: &Name, reads: &[Reads], earlier: Earlier) -> Result<Change, Refusal> {
    let mut change = Change::default();
    let Some(seen) = view.servers.get(server) else {
        let message = format!("server {server} is no member of the farm, or was removed from it");
        return Err(Refusal::new(RefusalKind::NotAllowed, message, "join it again: `headwater farm join`"));
    };
    if reads.len() > MAX_READS {
        let message = format!("the devices of server {server} read {} versions", reads.len());
        let hint = format!("at most {MAX_READS}: shut some down, or boot them from another server");
        return Err(Refusal::new(RefusalKind::Limit, message, hint));
    }
    let before = view.readings.get(server);
    let known = before.map(|stored| &stored.reads[..]).unwrap_or_default();
    let mut next = Vec::with_capacity(reads.len());
    for wanted in reads {
        if !known.iter().any(|known| known.is_of(wanted)) {
            if change.preconditions.len() + change.writes.len() >= FULL {
                continue;
            }
            begin(view, &mut change, wanted);
        }
        next.push(wanted.clone());
    }
    next.sort();
    if next == known && (earlier == Earlier::Answered || before.is_none()) {
        return Ok(Change::default());
    }
    change.unchanged(Key::Server(server.clone()), seen);
    let key = Key::Reading(server.clone());
    match before {
        Some(before) => change.unchanged(key.clone(), before),
        None => change.absent(key.clone()),
    }
    change.put(key, &Reading { revision: FormatRevision, reads: next });
    Ok(change)
}

/// Whether a record names what a session is about to read, so that it may begin.
pub fn may_begin(view: &FarmView, reads: &Reads) -> Result<(), Refusal> {
    if view.names(reads.root) {
        return Ok(());
    }
    let Reads { vdisk, version, .. } = reads;
    let message = format!("version {version} of vDisk {vdisk} was deleted or changed just now");
    Err(Refusal::new(RefusalKind::Changed, message, "boot again"))
}

fn begin(view: &FarmView, change: &mut Change, reads: &Reads) {
    let Reads { vdisk, version: number, root, .. } = reads;
    let version = view.version(vdisk, *number);
    let draft = view.draft(vdisk, *number).filter(|draft| draft.checkpoint == *root);
    match version {
        Some(version) if version.root == *root || draft.is_some() => {
            change.unchanged(Key::Version(vdisk.clone(), *number), version);
            if let Some(draft) = draft {
                change.unchanged(Key::Draft(vdisk.clone(), *number), draft);
            }
            change.guard(Guard::VDisk(vdisk.clone()));
        }
        // As whoever begins to use what nothing names: who was about to let it go looks again.
        _ => {
            for (server, copy) in view.copies_of(*root) {
                let key = Key::Copy(*root, server.clone());
                if !change.preconditions.iter().any(|relied| relied.key == key) {
                    change.unchanged(key.clone(), copy);
                    change.put(key, &copy.record);
                }
            }
        }
    }
}

/// Takes away the record of a server that has not been alive for the whole time of grace: what it
/// read may be deleted again. The caller has measured that time; an empty change where the server is
/// alive or has no record.
pub fn let_go(view: &FarmView, server: &Name) -> Change {
    let mut change = Change::default();
    let (Some(seen), false) = (view.readings.get(server), view.live.contains_key(server)) else {
        return change;
    };
    change.absent(Key::Live(server.clone()));
    change.unchanged(Key::Reading(server.clone()), seen);
    change.delete(Key::Reading(server.clone()));
    change
}

/// Who reads a version, or any version of a vDisk: the sessions here by name, those of the other
/// servers by their number.
pub fn readers(view: &FarmView, here: Here<'_>, vdisk: &Name, number: Option<VersionNumber>) -> Vec<String> {
    let of_it = |reads: &&Reads| reads.vdisk == *vdisk && number.is_none_or(|of| reads.version == of);
    let mut readers = here.sessions.to_vec();
    for (server, reading) in &view.readings {
        // Ours counts where no session has a name yet: it is about to begin.
        if server == here.server && !here.sessions.is_empty() {
            continue;
        }
        let mut found = reading.reads.iter().filter(of_it).peekable();
        if found.peek().is_some() {
            readers.push(match found.map(|reads| reads.sessions).sum::<u32>() {
                0 => format!("server {server}, which may begin to"),
                1 => format!("1 session on server {server}"),
                sessions => format!("{sessions} sessions on server {server}"),
            });
        }
    }
    readers
}

/// Whether a server reads a content for its devices: then nobody deletes a byte of it.
pub fn is_read(view: &FarmView, root: Root) -> bool {
    view.readings.values().flat_map(|reading| &reading.reads).any(|reads| reads.root == root)
}
