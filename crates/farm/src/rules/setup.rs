//! The records that a server makes when it starts.

use crate::change::Change;
use crate::collection::{Collection, Naming, WhenFull, WriteCache};
use crate::key::Key;
use crate::record::FormatRevision;
use crate::timestamp::Timestamp;
use crate::topology::{AdminToken, Farm, Server, Site, Store};
use crate::view::FarmView;
use model::Name;
use std::collections::BTreeMap;

/// The write cache of the first collection: enough for a day of light work, a quarter of a small
/// machine's RAM.
const DEFAULT_CACHE_BYTES: u64 = 1 << 30;

/// What a starting server knows of itself.
#[derive(Clone, Debug)]
pub struct ServerStarts {
    /// Its name.
    pub server: Name,
    /// The stores it has a share of, with their local paths.
    pub stores: BTreeMap<Name, String>,
    /// The hash of a new admin token in this server's file; it replaces the one before.
    pub new_token_hash: Option<String>,
}

/// Makes what is missing: farm, site, collection "default", this server, its stores, the token.
pub fn server_starts(view: &FarmView, starts: ServerStarts, now: Timestamp) -> Change {
    let revision = FormatRevision;
    let default = Name::new("default").expect("a name");
    let mut change = Change::default();
    if view.farm.is_none() {
        change.absent(Key::Farm);
        change.put(Key::Farm, &Farm { revision, name: default.clone(), created: now });
        change.put(Key::Site(default.clone()), &Site { revision, name: default.clone() });
        change.put(Key::Collection(default.clone()), &default_collection(default.clone(), now));
    }
    if !view.servers.contains_key(&starts.server) {
        let (name, site) = (starts.server.clone(), default);
        change.absent(Key::Server(name.clone()));
        change.put(Key::Server(name.clone()), &Server { revision, name, site, created: now, member: None });
    }
    for (name, path) in starts.stores {
        place_store(view, &mut change, name, &starts.server, path);
    }
    if let Some(hash) = starts.new_token_hash {
        let key = Key::AdminToken(starts.server.clone());
        change.put(key, &AdminToken { revision, hash, created: now });
    }
    change
}

fn place_store(view: &FarmView, change: &mut Change, name: Name, server: &Name, path: String) {
    let key = Key::Store(name.clone());
    let seen = view.stores.get(&name);
    let mut paths = seen.map(|store| store.paths.clone()).unwrap_or_default();
    if paths.insert(server.clone(), path.clone()) == Some(path) {
        return;
    }
    match seen {
        Some(seen) => change.unchanged(key.clone(), seen),
        None => change.absent(key.clone()),
    }
    change.put(key, &Store { revision: FormatRevision, name, paths });
}

fn default_collection(name: Name, now: Timestamp) -> Collection {
    Collection {
        revision: FormatRevision,
        name,
        vdisks: Vec::new(),
        pins: BTreeMap::new(),
        write_cache: WriteCache { limit_bytes: DEFAULT_CACHE_BYTES, when_full: WhenFull::RefuseWrites },
        boot_args: String::new(),
        naming: Naming { prefix: "pc-".to_owned(), digits: 3, suffix: String::new(), next: 1 },
        auto_add: false,
        identity: true,
        created: now,
    }
}

/// The template that a new collection begins with.
pub(super) fn template(name: Name, now: Timestamp) -> Collection {
    let naming = Naming { prefix: prefix_of(&name), ..default_collection(name.clone(), now).naming };
    Collection { naming, ..default_collection(name, now) }
}

/// A prefix of the collection's name that leaves room for a dash and three digits.
fn prefix_of(name: &Name) -> String {
    let short: String = name.as_str().chars().take(11).collect();
    format!("{}-", short.trim_end_matches(['-', '.', '_']))
}
