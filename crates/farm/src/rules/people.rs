//! Who may use the API: users, their tokens, and what they may do.
//!
//! Hashes are made by the caller, who has randomness and time to spend; here are only the rules.
//! Read next: [`may`], which decides on each request.

mod may;
mod token;

pub use may::{About, Caller, may, role_of};
pub use token::{MAX_TOKENS, NewToken, make_token, note_used, revoke_token};

use crate::change::{Change, Refusal, RefusalKind};
use crate::event::{EventKind, NewEvent};
use crate::key::{Guard, Key};
use crate::people::{ADMIN, Level, Role, TokenKind, User};
use crate::record::FormatRevision;
use crate::timestamp::Timestamp;
use crate::view::{FarmView, Stored};
use model::Name;

/// The most users of a farm: every server holds them in memory.
pub const MAX_USERS: usize = 1000;

/// A user to make.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The user's name.
    pub name: Name,
    /// What the user may do.
    pub role: Role,
    /// The hash of the password; none = the user logs in with tokens only.
    pub password: Option<String>,
}

/// Makes a user.
pub fn create(view: &FarmView, new: NewUser, now: Timestamp) -> Result<Change, Refusal> {
    let NewUser { name, role, password } = new;
    if name.as_str() == ADMIN {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            format!("no user can be called {ADMIN}: the audit calls so whoever has a server's token file"),
            "choose the name of a person or of a program",
        ));
    }
    if view.users.contains_key(&name) {
        let message = format!("there is a user {name} already");
        return Err(Refusal::new(RefusalKind::Exists, message, "choose another name"));
    }
    if view.users.len() >= MAX_USERS {
        let message = format!("a farm has at most {MAX_USERS} users");
        return Err(Refusal::new(RefusalKind::Limit, message, "delete those that are gone"));
    }
    check_site(view, &role)?;
    let mut change = Change::default();
    let message = format!("user {name} was made, as {role}");
    change.absent(Key::User(name.clone()));
    let user = User { revision: FormatRevision, name: name.clone(), role, password, created: now };
    change.put(Key::User(name.clone()), &user);
    change.event(NewEvent::new(EventKind::UserChanged, name, message));
    Ok(change)
}

/// Gives a user another role. The last farm admin stays one.
pub fn set_role(view: &FarmView, name: &Name, role: Role) -> Result<Change, Refusal> {
    let seen = find(view, name)?;
    check_site(view, &role)?;
    let mut change = Change::default();
    if seen.role.level() == Level::FarmAdmin && role.level() != Level::FarmAdmin {
        another_admin_stays(view, &mut change, name, "demoted")?;
    }
    let message = format!("user {name} is {role} now, was {}", seen.role);
    change.unchanged(Key::User(name.clone()), seen);
    change.put(Key::User(name.clone()), &User { role, ..seen.record.clone() });
    change.event(NewEvent::new(EventKind::UserChanged, name, message));
    Ok(change)
}

/// Sets or takes away a password; all logins of the user end, tokens of programs stay.
pub fn set_password(view: &FarmView, name: &Name, password: Option<String>) -> Result<Change, Refusal> {
    let seen = find(view, name)?;
    let mut change = Change::default();
    let what = if password.is_some() { "has a new" } else { "has no" };
    change.unchanged(Key::User(name.clone()), seen);
    change.put(Key::User(name.clone()), &User { password, ..seen.record.clone() });
    let logins = view.tokens_of(name).filter(|token| token.kind == TokenKind::Login);
    logins.for_each(|token| change.delete(Key::Token(token.id.clone())));
    let message = format!("user {name} {what} password; logins with the old one are over");
    change.event(NewEvent::new(EventKind::UserChanged, name, message));
    Ok(change)
}

/// Deletes a user and all tokens of the user. The last farm admin stays.
pub fn delete(view: &FarmView, name: &Name) -> Result<Change, Refusal> {
    let seen = find(view, name)?;
    let mut change = Change::default();
    if seen.role.level() == Level::FarmAdmin {
        another_admin_stays(view, &mut change, name, "deleted")?;
    }
    // A token that is made at the same time writes the user's record too, so one of both conflicts.
    change.unchanged(Key::User(name.clone()), seen);
    change.delete(Key::User(name.clone()));
    view.tokens_of(name).for_each(|token| change.delete(Key::Token(token.id.clone())));
    change.event(NewEvent::new(EventKind::UserChanged, name, format!("user {name} was deleted")));
    Ok(change)
}

/// The user of a name, or a refusal.
pub fn find<'a>(view: &'a FarmView, name: &Name) -> Result<&'a Stored<User>, Refusal> {
    view.users.get(name).ok_or_else(|| Refusal::not_found("user", name, "user list"))
}

/// Refuses where no other farm admin is left; of two admins who demote each other one conflicts.
fn another_admin_stays(view: &FarmView, change: &mut Change, name: &Name, what: &str) -> Result<(), Refusal> {
    let is_other = |user: &&Stored<User>| user.role.level() == Level::FarmAdmin && user.name != *name;
    if !view.users.values().any(|user| is_other(&user)) {
        return Err(Refusal::new(
            RefusalKind::InUse,
            format!("user {name} is the last farm admin, who cannot be {what}"),
            "make another one first: `headwater user set-role USER farm-admin`",
        ));
    }
    change.unguarded(Guard::FarmAdmins, view.guard(&Guard::FarmAdmins));
    change.guard(Guard::FarmAdmins);
    Ok(())
}

fn check_site(view: &FarmView, role: &Role) -> Result<(), Refusal> {
    match role {
        Role::SiteAdmin(site) if !view.sites.contains_key(site) => {
            let sites: Vec<&str> = view.sites.keys().map(Name::as_str).collect();
            let message = format!("there is no site {site}");
            Err(Refusal::new(RefusalKind::NotFound, message, format!("the sites are: {}", sites.join(", "))))
        }
        _ => Ok(()),
    }
}
