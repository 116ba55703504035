//! Starts of a server, counted by itself and by the records, and which of the two is older.

use super::{member, rewrite};
use crate::change::{Change, Refusal, RefusalKind};
use crate::membership::Member;
use crate::rules::restored;
use crate::timestamp::Timestamp;
use crate::view::FarmView;
use model::Name;

/// A start of a server, as its state directory has counted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its number, this start counted.
    pub incarnation: u64,
    /// Its random mark.
    pub mark: String,
    /// The marks of the starts before of which one is in the record: the last that is known to be
    /// there, and those after it whose transaction was not answered. None before the first.
    pub before: Vec<String>,
    /// What an admin has said of a database that is older than the state directory.
    pub older_farm: OlderFarm,
    /// Where peers reach it.
    pub address: String,
    /// Where devices reach it.
    pub boot: String,
}

/// What becomes of a database that knows fewer starts of a server than the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OlderFarm {
    /// Refused: nobody has said that it was restored on purpose.
    Refused,
    /// Taken, once: an admin has restored it.
    Accepted,
}

/// How a start stands to what the records know of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is in the record: written by a transaction of this start that was not answered.
    Noted,
    /// It comes after the start in the record.
    Next,
    /// The records are older than the server's state directory, and an admin wants them so.
    OlderFarm,
}

/// Notes that a member has started, and where its peers and devices reach it now. Where the records
/// are older than the server they are held ([`restored::hold`]).
///
/// Errors: as [`turn`].
pub fn started(view: &FarmView, server: &Name, start: Start, now: Timestamp) -> Result<Change, Refusal> {
    let mut change = match turn(view, server, &start)? {
        Turn::Noted => return Ok(Change::default()),
        Turn::Next => Change::default(),
        Turn::OlderFarm => restored::hold(view, now),
    };
    let (seen, member) = member(view, server)?;
    let Start { incarnation, mark, address, boot, .. } = start;
    let rewritten = rewrite(seen, Member { incarnation, mark, address, boot, ..member.clone() });
    change.preconditions.extend(rewritten.preconditions);
    change.writes.extend(rewritten.writes);
    Ok(change)
}

/// Whether a start may be: asked before anything is deleted or written.
///
/// The number and the mark of the record must be those of the start before. A higher number, or the
/// same with another mark: the state directory was restored from an older copy, or another machine
/// runs with a copy of it. A lower one: the farm's database was restored, which an admin says by
/// `headwater farm restore` for all servers, or for each of them.
pub fn turn(view: &FarmView, server: &Name, start: &Start) -> Result<Turn, Refusal> {
    let (_, member) = member(view, server)?;
    let Start { incarnation, mark, before, older_farm, .. } = start;
    let incarnation = *incarnation;
    if *mark == member.mark {
        return Ok(Turn::Noted);
    }
    let is_next = match member.mark.as_str() {
        "" => before.is_empty(),
        recorded => before.iter().any(|mark| mark == recorded),
    };
    let is_older_farm = !is_next && member.incarnation < incarnation - 1;
    if is_older_farm && *older_farm == OlderFarm::Refused && view.restored.is_none() {
        let message = format!(
            "server {server} starts for the {incarnation}. time, and the farm's records know {} starts: the farm's database was restored to an older state",
            member.incarnation
        );
        let hint = "versions and copies that came after that state are not in the records: bring the newer database back; or, if it was restored on purpose, make an empty file `accept-restored` in the directory `identity` of the state directory of each server, once, and start it";
        return Err(Refusal::new(RefusalKind::Fenced, message, hint));
    }
    if incarnation <= member.incarnation || !is_next && !is_older_farm {
        let message = format!(
            "server {server} starts for the {incarnation}. time by its state directory, and for the {}. by the farm: the directory is an older copy, or a second machine runs with it",
            member.incarnation + 1
        );
        let hint = format!(
            "stop the other machine if there is one; else remove the server (`headwater server remove {server}`) and join it again with an empty state directory"
        );
        return Err(Refusal::new(RefusalKind::Fenced, message, hint));
    }
    Ok(if is_older_farm { Turn::OlderFarm } else { Turn::Next })
}
