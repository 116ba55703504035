//! Which connections there are.

use super::Peer;
use super::connection::Connection;
use crate::identity::Serial;
use model::Name;
use protocol::mesh::Class;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Table {
    connections: BTreeMap<(Name, Class), Arc<Connection>>,
    /// The last incarnation that was shown with each certificate. By certificate, not by name: a
    /// server that was removed and has joined again counts from the beginning.
    incarnations: BTreeMap<Serial, u64>,
    /// Which connections a task is dialling.
    pub(super) dialled: BTreeSet<(Name, Class)>,
    next_id: u64,
}

impl Table {
    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The incarnation that a peer with this certificate must have at least.
    pub(super) fn incarnation(&self, serial: &Serial) -> u64 {
        self.incarnations.get(serial).copied().unwrap_or(0)
    }

    /// Takes a connection in; the one that was there ends, for its peer has begun a new one.
    pub(super) fn put(&mut self, connection: &Arc<Connection>, incarnation: u64) {
        self.incarnations.insert(connection.serial, incarnation);
        let key = (connection.peer.clone(), connection.class);
        if let Some(old) = self.connections.insert(key, Arc::clone(connection)) {
            old.close();
        }
    }

    /// Takes a connection out that has ended.
    pub(super) fn remove(&mut self, connection: &Connection) {
        let key = (connection.peer.clone(), connection.class);
        if self.connections.get(&key).is_some_and(|current| current.id == connection.id) {
            self.connections.remove(&key);
        }
    }

    pub(super) fn get(&self, peer: &Name, class: Class) -> Option<Arc<Connection>> {
        self.connections.get(&(peer.clone(), class)).cloned()
    }

    pub(super) fn of_class(&self, class: Class) -> Vec<Arc<Connection>> {
        self.connections.values().filter(|connection| connection.class == class).cloned().collect()
    }

    pub(super) fn connected(&self) -> Vec<Name> {
        self.of_class(Class::Control).iter().map(|connection| connection.peer.clone()).collect()
    }

    /// Cuts off who may not be connected any more, and forgets what they have shown.
    pub(super) fn close_unknown(&mut self, peers: &[Peer]) {
        self.incarnations.retain(|serial, _| peers.iter().any(|peer| peer.serials.contains(serial)));
        let known = |connection: &Connection| {
            let mut named = peers.iter().filter(|peer| peer.name == connection.peer);
            named.any(|peer| peer.serials.contains(&connection.serial))
        };
        self.connections.values().filter(|connection| !known(connection)).for_each(|c| c.close());
    }

    pub(super) fn close_all(&self) {
        self.connections.values().for_each(|connection| connection.close());
    }
}
