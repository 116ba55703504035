//! When other servers were last connected, as far as this server has seen.

use crate::serve::farm::now;
use model::Name;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Since when each server is not connected; only those that were, since this server started.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    lost_ms: Mutex<BTreeMap<Name, u64>>,
}

impl Seen {
    /// A server is connected.
    pub(crate) fn up(&self, name: &Name) {
        self.lost_ms.lock().expect("no holder of this lock panics").remove(name);
    }

    /// A server is not connected any more.
    pub(crate) fn down(&self, name: &Name) {
        let mut lost = self.lost_ms.lock().expect("no holder of this lock panics");
        lost.entry(name.clone()).or_insert(now().0);
    }

    /// Since when it is not connected.
    pub(super) fn lost(&self, name: &Name) -> Option<u64> {
        self.lost_ms.lock().expect("no holder of this lock panics").get(name).copied()
    }
}
