//! Servers that become members of the farm, start, renew their certificates, and leave.

mod starting;
#[cfg(test)]
mod tests;

use crate::change::{Change, Refusal, RefusalKind};
use crate::draft::{Draft, Orphan, OrphanState};
use crate::key::Key;
use crate::membership::{FarmAuthority, JoinToken, Member};
use crate::record::FormatRevision;
use crate::rules::reach::roots_in_use;
use crate::timestamp::Timestamp;
use crate::topology::Server;
use crate::view::{FarmView, Stored};
use model::{Name, Root};

pub use starting::{OlderFarm, Start, Turn, started, turn};

/// Tokens that wait to be used. By eye: a rack.
const MAX_TOKENS: usize = 100;
/// Servers of one farm (DESIGN section 1).
const MAX_MEMBERS: usize = 32;
/// What a transaction deletes at most; what is left of a server goes with the next.
const REMOVE_BATCH: usize = 50;
/// And of discarded changes.
const ORPHAN_BATCH: usize = 16;
/// The digits of what confirms a list of things: too many to be right by chance.
const DIGEST_LENGTH: usize = 8;

/// A server as it becomes a member.
#[derive(Clone, Debug)]
pub struct Joining {
    /// Its name.
    pub server: Name,
    /// Where it listens for its peers, `HOST:PORT`.
    pub address: String,
    /// The serial of its certificate.
    pub serial: String,
}

/// Makes the farm's authority; its first member is the server that made it.
pub fn init(
    view: &FarmView,
    authority: FarmAuthority,
    first: Joining,
    now: Timestamp,
) -> Result<Change, Refusal> {
    if view.authority.is_some() {
        let hint = "`headwater farm token` makes a token with which another server joins";
        return Err(Refusal::new(
            RefusalKind::Exists,
            "the farm has its certificate authority already",
            hint,
        ));
    }
    let mut change = Change::default();
    change.absent(Key::Authority);
    change.put(Key::Authority, &authority);
    admit(view, &mut change, first, now)?;
    Ok(change)
}

/// Makes a token for one server to join with.
pub fn new_token(
    view: &FarmView,
    hash: String,
    expires: Timestamp,
    now: Timestamp,
) -> Result<Change, Refusal> {
    initialised(view)?;
    let id = JoinToken::id_of(&hash)
        .ok_or_else(|| Refusal::new(RefusalKind::Invalid, "that is no hash of a secret", "make a new one"))?;
    let mut change = Change::default();
    let gone = view.join_tokens.values().filter(|token| token.used.is_some() || token.expires <= now);
    gone.clone().for_each(|token| change.delete(Key::JoinToken(token.id.clone())));
    if view.join_tokens.len() - gone.count() >= MAX_TOKENS {
        let message = format!("{MAX_TOKENS} tokens wait for servers to join");
        return Err(Refusal::new(RefusalKind::Limit, message, "use one of them, or wait until they expire"));
    }
    change.absent(Key::JoinToken(id.clone()));
    let revision = FormatRevision;
    let token = JoinToken { revision, id: id.clone(), hash, created: now, expires, used: None };
    change.put(Key::JoinToken(id), &token);
    Ok(change)
}

/// Lets a server in that shows a secret with this hash.
pub fn join(view: &FarmView, hash: &str, joining: Joining, now: Timestamp) -> Result<Change, Refusal> {
    initialised(view)?;
    let token = valid_token(view, hash, now)?;
    let mut change = Change::default();
    change.unchanged(Key::JoinToken(token.id.clone()), token);
    let used = JoinToken { used: Some(joining.server.clone()), ..token.record.clone() };
    change.put(Key::JoinToken(token.id.clone()), &used);
    admit(view, &mut change, joining, now)?;
    Ok(change)
}

/// Notes that a member has a new certificate; the one before is good for as long as it is
/// valid or until the next.
pub fn renewed(view: &FarmView, server: &Name, serial: String) -> Result<Change, Refusal> {
    let (seen, member) = member(view, server)?;
    let serials = std::iter::once(serial).chain(member.serials.first().cloned()).collect();
    Ok(rewrite(seen, Member { serials, ..member.clone() }))
}

/// Takes a server out of the farm: its peers refuse it from then on, and what it had is not counted
/// on any more. To be asked again until it answers an empty change.
///
/// Refused where nobody else has some of what it has ([`only_on`]), unless `give_up` is the
/// [`digest`] of those things: for a machine that is lost, and its bytes with it.
pub fn remove(
    view: &FarmView,
    server: &Name,
    asked: &Name,
    give_up: Option<&str>,
) -> Result<Change, Refusal> {
    if server == asked {
        let hint = format!("run it on another server: `headwater --server ADDRESS server remove {server}`");
        return Err(Refusal::new(RefusalKind::InUse, format!("{server} is the server that you ask"), hint));
    }
    let draft = view.drafts.values().find(|draft| draft.holder.as_ref().is_some_and(|h| h.server == *server));
    if let Some(draft) = draft {
        let message = format!("a device writes to {} {} through {server}", draft.vdisk, draft.number.0);
        let hint = "shut the device down; or take the draft over on another server first";
        return Err(Refusal::new(RefusalKind::InUse, message, hint));
    }
    let dirty = |draft: &&Stored<Draft>| draft.dirty.as_ref().is_some_and(|dirty| dirty.server == *server);
    if let Some(draft) = view.drafts.values().find(dirty) {
        let message = format!("only {server} has the last writes of {} {}", draft.vdisk, draft.number.0);
        let hint =
            "start it so that it saves them; or discard the version's draft: `headwater version discard`";
        return Err(Refusal::new(RefusalKind::InUse, message, hint));
    }
    // Once its record is gone the rest of a removal only tidies up.
    if view.servers.contains_key(server) {
        confirmed(server, &only_on(view, server), give_up)?;
    }
    let mut change = Change::default();
    for (id, orphan) in view.orphans.iter().filter(|(_, of)| of.server == *server).take(ORPHAN_BATCH) {
        change.unchanged(Key::Orphan(id.clone()), orphan);
        change.delete(Key::Orphan(id.clone()));
    }
    for (root, of) in view.copies.keys().filter(|(_, of)| of == server).take(REMOVE_BATCH) {
        let key = Key::Copy(*root, of.clone());
        change.unchanged(key.clone(), &view.copies[&(*root, of.clone())]);
        change.delete(key);
    }
    for store in view.stores.values().filter(|store| store.paths.contains_key(server)) {
        let mut left = store.record.clone();
        left.paths.remove(server);
        change.unchanged(Key::Store(store.name.clone()), store);
        change.put(Key::Store(store.name.clone()), &left);
    }
    if view.admin_tokens.contains_key(server) {
        change.delete(Key::AdminToken(server.clone()));
    }
    if let Some(seen) = view.readings.get(server) {
        change.unchanged(Key::Reading(server.clone()), seen);
        change.delete(Key::Reading(server.clone()));
    }
    if let Some(seen) = view.servers.get(server) {
        change.unchanged(Key::Server(server.clone()), seen);
        change.delete(Key::Server(server.clone()));
    }
    Ok(change)
}

/// Whether the records know a server: also one whose removal was interrupted, which has no record of
/// its own any more but others that tell of it.
pub fn is_known(view: &FarmView, server: &Name) -> bool {
    view.servers.contains_key(server)
        || view.readings.contains_key(server)
        || view.copies.keys().any(|(_, of)| of == server)
        || view.orphans.values().any(|orphan| orphan.server == *server)
        || view.stores.values().any(|store| store.paths.contains_key(server))
}

/// Something that only one server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Only {
    /// What it is, in words.
    pub what: String,
    /// Its content, or the last checkpoint of it.
    pub root: Root,
}

/// What an admin types to give these things up, and no others: eight hexadecimal digits.
pub fn digest(only: &[Only]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("headwater 2026-11 things given up v1");
    for Only { what, root } in only {
        hasher.update(format!("{root} {what}\n").as_bytes());
    }
    hasher.finalize().to_hex()[..DIGEST_LENGTH].to_owned()
}

/// What would be gone with a server: contents that records need and discarded changes, of
/// which no other server is known to have a complete copy.
pub fn only_on(view: &FarmView, server: &Name) -> Vec<Only> {
    let needed = roots_in_use(view);
    let alone = |root: &Root| {
        let mut servers = view.copies_of(*root).map(|(of, _)| of);
        servers.next() == Some(server) && servers.next().is_none()
    };
    let contents = needed.into_iter().filter(alone).map(|root| {
        let version = view.versions.values().find(|version| version.root == root);
        let draft = || view.drafts.values().find(|draft| draft.checkpoint == root);
        let what = match (version, draft()) {
            (Some(version), _) => format!("version {} of vDisk {}", version.number, version.vdisk),
            (None, Some(draft)) => {
                format!("the checkpoint of version {} of vDisk {}", draft.number, draft.vdisk)
            }
            (None, None) => format!("content {} below discarded changes", root.short()),
        };
        Only { what, root }
    });
    let orphans = view.orphans.values();
    let kept = orphans.filter(|orphan| orphan.server == *server && orphan.state != OrphanState::Lost);
    let orphan = |orphan: &Stored<Orphan>| Only {
        what: format!("discarded changes {}", orphan.draft),
        root: orphan.checkpoint,
    };
    contents.chain(kept.map(orphan)).collect()
}

fn confirmed(server: &Name, only: &[Only], give_up: Option<&str>) -> Result<(), Refusal> {
    let digest = digest(only);
    if give_up == Some(digest.as_str()) || only.is_empty() && give_up.is_none() {
        return Ok(());
    }
    if only.is_empty() {
        let message = format!("other servers have all that {server} has: there is nothing to give up");
        let hint = format!("`headwater server remove {server}`");
        return Err(Refusal::new(RefusalKind::Changed, message, hint));
    }
    let kind = if give_up.is_some() { RefusalKind::Changed } else { RefusalKind::InUse };
    let message = format!("only {server} has {}", super::vdisk::some_of(only.iter().map(|only| &only.what)));
    let hint = format!(
        "let the others catch up (`headwater replication backlog`), restore or delete discarded changes; only if \
         the machine is gone for good: `headwater server remove {server} --give-up {digest}`"
    );
    Err(Refusal::new(kind, message, hint))
}

fn initialised(view: &FarmView) -> Result<&Stored<FarmAuthority>, Refusal> {
    view.authority.as_ref().ok_or_else(|| {
        let hint = "`headwater farm init` makes one, once, on the first server";
        Refusal::new(RefusalKind::NotFound, "the farm has no certificate authority yet", hint)
    })
}

fn valid_token<'a>(view: &'a FarmView, hash: &str, now: Timestamp) -> Result<&'a Stored<JoinToken>, Refusal> {
    let hint = "`headwater farm token` on a server of the farm makes a new one";
    let refused = |why: &str| Refusal::new(RefusalKind::NotAllowed, why, hint);
    let token = JoinToken::id_of(hash).and_then(|id| view.join_tokens.get(&id));
    let token = token
        .filter(|token| token.hash == hash)
        .ok_or_else(|| refused("the farm does not know this token"))?;
    match &token.used {
        Some(by) => Err(refused(&format!("the token was used by server {by}"))),
        None if token.expires <= now => Err(refused("the token has expired")),
        None => Ok(token),
    }
}

/// Makes a server a member; one that started before with this database becomes one as it is.
fn admit(view: &FarmView, change: &mut Change, joining: Joining, now: Timestamp) -> Result<(), Refusal> {
    let Joining { server, address, serial } = joining;
    let members = view.servers.values().filter(|server| server.member.is_some()).count();
    if members >= MAX_MEMBERS {
        let message = format!("the farm has {members} servers, which is the most it can have");
        return Err(Refusal::new(RefusalKind::Limit, message, "remove one: `headwater server remove NAME`"));
    }
    let member = Some(Member {
        address,
        boot: String::new(),
        serials: vec![serial],
        incarnation: 0,
        mark: String::new(),
        joined: now,
    });
    let key = Key::Server(server.clone());
    let record = match view.servers.get(&server) {
        Some(seen) if seen.member.is_some() => {
            let message = format!("the farm has a server {server} already");
            let hint = format!(
                "give this one another name (server.name), or remove the other one: `headwater server remove {server}`"
            );
            return Err(Refusal::new(RefusalKind::Exists, message, hint));
        }
        Some(seen) => {
            change.unchanged(key.clone(), seen);
            Server { member, ..seen.record.clone() }
        }
        None => {
            change.absent(key.clone());
            let site = Name::new("default").expect("a name");
            Server { revision: FormatRevision, name: server, site, created: now, member }
        }
    };
    change.put(key, &record);
    Ok(())
}

fn member<'a>(view: &'a FarmView, server: &Name) -> Result<(&'a Stored<Server>, &'a Member), Refusal> {
    let seen = view.servers.get(server);
    seen.and_then(|seen| seen.member.as_ref().map(|member| (seen, member))).ok_or_else(|| {
        let message = format!("server {server} is no member of the farm, or was removed from it");
        let hint = "join it again with an empty identity: `headwater farm join TOKEN`";
        Refusal::new(RefusalKind::NotFound, message, hint)
    })
}

fn rewrite(seen: &Stored<Server>, member: Member) -> Change {
    let key = Key::Server(seen.name.clone());
    let mut change = Change::default();
    change.unchanged(key.clone(), seen);
    change.put(key, &Server { member: Some(member), ..seen.record.clone() });
    change
}
