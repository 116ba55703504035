//! Whether a request is allowed: the one decision that the API's layer asks for.

use crate::change::{Refusal, RefusalKind};
use crate::people::{ApiToken, Level, Role};
use crate::timestamp::Timestamp;
use crate::view::FarmView;
use model::Name;

/// Who asks, as it was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's name, or [`crate::people::ADMIN`].
    pub name: Name,
    /// What this caller may do, which may be less than the user may.
    pub role: Role,
}

/// What a request is about, as far as its path says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// A vDisk.
    pub vdisk: Option<Name>,
    /// A store.
    pub store: Option<Name>,
    /// A server.
    pub server: Option<Name>,
}

/// What a valid token's holder may do: what the user may, or less; none where it proves nothing.
pub fn role_of(view: &FarmView, token: &ApiToken, now: Timestamp) -> Option<Role> {
    let user = view.users.get(&token.user)?;
    // A user that was deleted and made again is another one.
    if !token.is_valid(now) || token.created < user.created {
        return None;
    }
    Some(match &token.role {
        // The user may have been demoted since.
        Some(less) if user.role.includes(less) => less.clone(),
        _ => user.role.clone(),
    })
}

/// Lets a caller do what needs `least`, or says what is missing and whom to ask.
///
/// A site admin's right holds on the servers of the site: for a vDisk or a store, all servers that
/// keep it must belong to the site; for anything else that needs a site admin, the server that is
/// asked must.
pub fn may(
    view: &FarmView,
    caller: &Caller,
    least: Level,
    about: &About,
    asked: &Name,
) -> Result<(), Refusal> {
    if caller.role.level() < least {
        return Err(refused(
            format!("this needs {}, and {} is {}", least.about(), caller.name, caller.role),
            whom_to_ask(view),
        ));
    }
    match &caller.role {
        Role::SiteAdmin(site) if least == Level::SiteAdmin => within_site(view, caller, site, about, asked),
        _ => Ok(()),
    }
}

fn within_site(
    view: &FarmView,
    caller: &Caller,
    site: &Name,
    about: &About,
    asked: &Name,
) -> Result<(), Refusal> {
    let outside = servers_of(view, about, asked)
        .into_iter()
        .find(|server| view.servers.get(*server).is_none_or(|server| server.site != *site));
    match outside {
        None => Ok(()),
        Some(server) => Err(refused(
            format!("this reaches server {server}, and {} is admin of site {site} only", caller.name),
            whom_to_ask(view),
        )),
    }
}

/// The servers that a request reaches.
fn servers_of<'a>(view: &'a FarmView, about: &'a About, asked: &'a Name) -> Vec<&'a Name> {
    let vdisks_store = about.vdisk.as_ref().and_then(|vdisk| Some(&view.vdisks.get(vdisk)?.record.store));
    let store = about.store.as_ref().or(vdisks_store).and_then(|store| view.stores.get(store));
    match (store, &about.server) {
        (Some(store), _) => store.record.paths.keys().chain([asked]).collect(),
        (None, Some(server)) => vec![server],
        (None, None) => vec![asked],
    }
}

/// The first farm admins by name, else the file that every server has.
fn whom_to_ask(view: &FarmView) -> String {
    let admins = view.users.values().filter(|user| user.role.level() == Level::FarmAdmin);
    let names: Vec<&str> = admins.take(3).map(|user| user.record.name.as_str()).collect();
    match names.is_empty() {
        true => "ask whoever runs the servers: the file STATE_DIR/admin.token there may do everything".into(),
        false => format!("ask a farm admin: {}", names.join(", ")),
    }
}

fn refused(message: String, hint: String) -> Refusal {
    Refusal::new(RefusalKind::NotAllowed, message, hint)
}
