//! Which versions are here, for those who must not wait for the disk.
//!
//! Whoever changes the store holds its state while it writes and syncs files, which may take as
//! long as the disk likes. Who only asks what is here reads the [`Catalog`], a copy that is
//! exchanged whenever a change is over.

use crate::layout::{Claim, Found, StoreError, io_error, used_bytes};
use crate::record::LayerName;
use crate::store::{Space, State, Store, file_system_space};
use model::Root;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, MutexGuard, RwLock};

/// The versions by their roots; notices that somebody may have changed them.
#[derive(Debug)]
pub(crate) struct Versions {
    found: BTreeMap<Root, Found>,
    changes: u64,
}

impl Versions {
    pub(crate) fn new(found: BTreeMap<Root, Found>) -> Self {
        Self { found, changes: 0 }
    }

    /// Another number after each change.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }
}

impl Deref for Versions {
    type Target = BTreeMap<Root, Found>;

    fn deref(&self) -> &Self::Target {
        &self.found
    }
}

impl DerefMut for Versions {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.changes += 1;
        &mut self.found
    }
}

/// What the catalog says of a version.
#[derive(Debug)]
struct Entry {
    claim: Claim,
    /// None where the record is damaged.
    layers: Option<Vec<LayerName>>,
}

type Entries = BTreeMap<Root, Entry>;

/// What is here, as of the last change that is over.
#[derive(Debug)]
pub(crate) struct Catalog(RwLock<Arc<Entries>>);

impl Catalog {
    pub(crate) fn of(versions: &Versions) -> Self {
        Self(RwLock::new(Arc::new(entries(versions))))
    }

    fn now(&self) -> Arc<Entries> {
        Arc::clone(&self.0.read().expect("nobody panics while the catalog is exchanged"))
    }

    fn exchange(&self, versions: &Versions) {
        let entries = Arc::new(entries(versions));
        *self.0.write().expect("nobody panics while the catalog is exchanged") = entries;
    }
}

fn entries(versions: &Versions) -> Entries {
    let entry = |found: &Found| {
        let layers = found.record.as_ref().ok().map(|record| record.layers.clone());
        Entry { claim: found.claim, layers }
    };
    versions.iter().map(|(root, found)| (*root, entry(found))).collect()
}

/// The store's state, held; when it is let go the catalog says what has changed.
pub(crate) struct Held<'a> {
    state: MutexGuard<'a, State>,
    catalog: &'a Catalog,
    changes: u64,
}

impl<'a> Held<'a> {
    pub(crate) fn new(state: MutexGuard<'a, State>, catalog: &'a Catalog) -> Self {
        let changes = state.versions.changes();
        Self { state, catalog, changes }
    }
}

impl Deref for Held<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.state.versions.changes() != self.changes {
            self.catalog.exchange(&self.state.versions);
        }
    }
}

/// None of these waits for who changes the store.
impl Store {
    /// The versions that the farm knows, in the order of their roots.
    pub fn roots(&self) -> Vec<Root> {
        self.having(Claim::Claimed)
    }

    /// The versions that are here whole and can be opened, claimed or not, in the order of their
    /// roots: what this server may say that it has.
    pub fn whole(&self) -> BTreeSet<Root> {
        let is_whole = |entry: &Entry| entry.claim != Claim::Receiving && entry.layers.is_some();
        self.catalog().now().iter().filter(|(_, entry)| is_whole(entry)).map(|(root, _)| *root).collect()
    }

    /// The versions that were imported and never claimed, in the order of their roots.
    pub fn unclaimed(&self) -> Vec<Root> {
        self.having(Claim::Unclaimed)
    }

    /// How many layers a version has; none where the store does not have it, or its record is
    /// damaged.
    pub fn layer_count(&self, root: &Root) -> Option<usize> {
        self.catalog().now().get(root)?.layers.as_ref().map(Vec::len)
    }

    /// Bytes on the disk of the layers that `root` has and `below` has not; none where one of both
    /// is not here.
    pub fn added_bytes(&self, root: &Root, below: Option<&Root>) -> Option<u64> {
        let entries = self.catalog().now();
        let layers = |root: &Root| entries.get(root)?.layers.as_deref();
        let below = below.map_or(Some(&[][..]), layers)?;
        let added = layers(root)?.iter().filter(|layer| !below.contains(layer));
        added.map(|layer| used_bytes(&self.layout().layer(layer)).ok()).sum()
    }

    /// The room in the store's file system.
    pub fn space(&self) -> Result<Space, StoreError> {
        let context = || io_error(format!("cannot measure the store {}", self.path().display()));
        let (total, free) = file_system_space(self.path()).map_err(context())?;
        let entries = self.catalog().now();
        let layers: BTreeSet<&LayerName> =
            entries.values().filter_map(|entry| entry.layers.as_ref()).flatten().collect();
        let size = |name: &LayerName| match used_bytes(&self.layout().layer(name)) {
            // Deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            used => used,
        };
        let layers = layers.into_iter().map(size).sum::<io::Result<u64>>().map_err(context())?;
        let used = layers + self.layout().used_by_drafts().map_err(context())?;
        Ok(Space { total, free, used })
    }

    /// The versions of this claim, in the order of their roots.
    pub(crate) fn having(&self, claim: Claim) -> Vec<Root> {
        let entries = self.catalog().now();
        entries.iter().filter(|(_, entry)| entry.claim == claim).map(|(root, _)| *root).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Store;
    use model::Root;

    #[test]
    fn what_is_here_is_told_while_somebody_holds_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let held = store.state();
        assert!(store.roots().is_empty() && store.whole().is_empty() && store.unclaimed().is_empty());
        assert_eq!(store.layer_count(&Root::from_bytes([1; 32])), None);
        assert_eq!(store.space().unwrap().used, 0);
        drop(held);
    }
}
