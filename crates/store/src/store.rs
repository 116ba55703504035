//! The store itself: which versions are here, and their coming and going.
//!
//! All methods may be called from any thread. An import ends with its version *unclaimed*: whole
//! and durable, but not yet named by a farm record. The caller commits the record, then claims the
//! version; at start it deletes the unclaimed versions that no record names.

use crate::adopt::Adopted;
use crate::catalog::{Catalog, Held, Versions};
use crate::draft::Drafts;
use crate::durable;
use crate::files::{Files, SystemFiles};
use crate::layer::{Layer, LayerError};
use crate::layout::{Claim, Found, Layout, StoreError, io_error};
use crate::presence::Presence;
use crate::prune::Arrivals;
use crate::quarantine::Quarantine;
use crate::receive::Receiving;
use crate::receive::recover::{GrowingLayers, growing_layers};
use crate::record::{LayerName, MAX_LAYERS, VersionRecord};
use crate::suspects::Suspects;
use crate::version::StoredVersion;
use model::{Manifest, Root};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// One directory of versions; open in one process at a time.
///
/// A clone is another handle to the same store; the directory is let go with the last one.
#[derive(Clone, Debug)]
pub struct Store {
    layout: Arc<Layout>,
    state: Arc<Mutex<State>>,
    drafts: Arc<Drafts>,
    adopted: Arc<Adopted>,
    suspects: Arc<Suspects>,
    catalog: Arc<Catalog>,
    /// Held by who opens a version, so that two do not open the same.
    opening: Arc<Mutex<()>>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) versions: Versions,
    /// Versions whose record was moved to where it lies by a rename that is not synced yet.
    unsettled: BTreeSet<Root>,
    open: HashMap<Root, Weak<StoredVersion>>,
    /// All open versions, also those whose files were exchanged or deleted since.
    alive: Vec<Weak<StoredVersion>>,
    pub(crate) quarantine: Quarantine,
    pub(crate) arrivals: Arrivals,
    pub(crate) growing: GrowingLayers,
    pub(crate) receiving: HashMap<Root, Weak<Receiving>>,
}

impl State {
    /// The open versions.
    pub(crate) fn alive(&self) -> impl Iterator<Item = Arc<StoredVersion>> {
        self.alive.iter().filter_map(Weak::upgrade)
    }

    /// The version, where it is open.
    pub(crate) fn opened(&self, root: &Root) -> Option<Arc<StoredVersion>> {
        self.open.get(root).and_then(Weak::upgrade)
    }

    /// Notes a version that was just opened, and tells it what is damaged.
    pub(crate) fn admit(&mut self, mut version: StoredVersion, store: &Store) -> Arc<StoredVersion> {
        version.suspects = Arc::clone(&store.suspects);
        let version = Arc::new(version);
        self.quarantine.all().for_each(|(layer, chunk, _)| version.quarantine(layer, chunk));
        self.open.retain(|_, version| version.strong_count() > 0);
        self.alive.retain(|version| version.strong_count() > 0);
        self.alive.push(Arc::downgrade(&version));
        self.open.insert(version.root(), Arc::downgrade(&version));
        version
    }

    /// What a layer that is being received has; none of any other layer.
    pub(crate) fn presence_of(&self, layer: &LayerName) -> Option<Presence> {
        self.growing.get(layer).map(|layer| layer.presence())
    }

    /// Has the next [`Store::version`] open the version's files anew.
    pub(crate) fn forget_open(&mut self, root: &Root) {
        self.open.remove(root);
    }
}

/// What a deletion gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freed {
    /// Bytes on the disk; sessions that still read the version keep them until they end.
    pub bytes: u64,
}

/// The room in the file system of a store, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The size of the file system.
    pub total: u64,
    /// What this process may still write.
    pub free: u64,
    /// What the store's own files take: layers, and what drafts hold above them.
    pub used: u64,
}

impl Store {
    /// Opens the store in the directory `path`; creates an empty one where there is nothing.
    ///
    /// Removes what a crash left of imports. Refuses a directory that holds something else, a
    /// format of another revision, and a store that another process has open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, Arc::new(SystemFiles))
    }

    /// Opens a store as [`Store::open`] does, and writes to it through `files`.
    pub fn open_with(path: &Path, files: Arc<dyn Files>) -> Result<Self, StoreError> {
        let layout = Layout::open(path, files)?;
        layout.remove_half_imports()?;
        let mut versions = layout.versions()?;
        let growing = growing_layers(&layout, &mut versions);
        note_damaged_layers(&layout, &mut versions, &growing);
        layout.remove_orphan_layers(&versions)?;
        let drafts = Drafts::find(&layout.drafts()).map_err(io_error("cannot list the drafts"))?;
        let quarantine = Quarantine::open(path, layout.shared_files(), |layer| layout.layer(layer).exists());
        let quarantine = quarantine.map_err(io_error("cannot read which chunks are damaged"))?;
        let (open, alive, arrivals) = (HashMap::new(), Vec::new(), Arrivals::default());
        let (receiving, versions) = (HashMap::new(), Versions::new(versions));
        let catalog = Arc::new(Catalog::of(&versions));
        let state = State {
            versions,
            unsettled: BTreeSet::new(),
            open,
            alive,
            quarantine,
            arrivals,
            growing,
            receiving,
        };
        let state = Arc::new(Mutex::new(state));
        let (layout, drafts) = (Arc::new(layout), Arc::new(drafts));
        let (adopted, suspects, opening) = (Arc::default(), Arc::default(), Arc::default());
        Ok(Self { layout, state, drafts, adopted, suspects, catalog, opening })
    }

    pub(crate) fn adopted(&self) -> &Adopted {
        &self.adopted
    }

    /// The store's directory.
    pub fn path(&self) -> &Path {
        self.layout.path()
    }

    /// Marks a version as known to the farm. Claiming twice is not an error.
    pub fn claim(&self, root: &Root) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let found = state.versions.get(root).ok_or(StoreError::Missing(*root))?;
        state.arrivals.claimed(root);
        let to = if found.claim == Claim::Unclaimed { Claim::Claimed } else { found.claim };
        self.move_record(state, root, to).map_err(io_error(format!("cannot claim version {root}")))
    }

    /// Moves the record of a version, durable when this returns. After a sync that fails the record
    /// is known where it lies now, for there a start would find it, and the next call syncs again.
    pub(crate) fn move_record(&self, state: &mut State, root: &Root, to: Claim) -> std::io::Result<()> {
        let found = state.versions.get_mut(root).expect("it was just found");
        let path = self.layout.record(to, root);
        if found.claim != to {
            self.files().rename(&self.layout.record(found.claim, root), &path)?;
            found.claim = to;
            state.unsettled.insert(*root);
        }
        if state.unsettled.contains(root) {
            durable::sync_directory(self.files(), path.parent().expect("a record lies in a directory"))?;
            state.unsettled.remove(root);
        }
        Ok(())
    }

    /// Removes the record of a version; its layers go with the next look at what is not used. After
    /// a sync that fails the version is gone all the same, for a start would not find it.
    pub(crate) fn remove_record(&self, state: &mut State, root: &Root) -> Result<(), StoreError> {
        let context = || io_error(format!("cannot delete version {root}"));
        let path = self.layout.record(state.versions[root].claim, root);
        self.files().remove_file(&path).map_err(context())?;
        state.versions.remove(root);
        state.unsettled.remove(root);
        state.forget_open(root);
        let directory = path.parent().expect("a record lies in a directory");
        durable::sync_directory(self.files(), directory).map_err(context())
    }

    /// Deletes a version and the layers that no other version uses.
    ///
    /// Who reads the version meanwhile reads on. Of a version whose record is damaged the record
    /// goes at once; its layers go when no damaged record is left, for before that nobody knows
    /// which layers those use.
    pub fn delete(&self, root: &Root) -> Result<Freed, StoreError> {
        let mut state = self.state();
        if !state.versions.contains_key(root) {
            return Err(StoreError::Missing(*root));
        }
        if let Some(draft) = self.drafts.that_needs(root) {
            return Err(StoreError::NeededByDraft { root: *root, draft });
        }
        self.remove_record(&mut state, root)?;
        let bytes = self.layout.remove_orphan_layers(&state.versions)?;
        state.growing.retain(|name, _| self.layout.layer(name).exists());
        Ok(Freed { bytes })
    }

    /// The directory's paths, for the import that writes there.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Puts a staged layer and the record of the version over it in place, in this order; a new
    /// version is unclaimed afterwards. Answers false, and leaves the staged files where they are,
    /// where the version is there already; one that is damaged is replaced.
    pub(crate) fn publish(&self, staged: &Path, record: VersionRecord) -> Result<bool, StoreError> {
        self.publish_in(&mut self.state(), staged, record)
    }

    /// Publishes as [`Store::publish`] does a version of the layers of `parent`, whatever they are
    /// by now, and the staged one above them.
    pub(crate) fn publish_over(
        &self,
        parent: &Root,
        staged: &Path,
        name: &LayerName,
        manifest: Manifest,
    ) -> Result<bool, StoreError> {
        let mut state = self.state();
        let below = state.versions.get(parent).and_then(|found| found.record.as_ref().ok());
        let mut layers = below.ok_or(StoreError::Missing(*parent))?.layers.clone();
        if layers.len() >= MAX_LAYERS {
            return Err(StoreError::TooManyLayers(*parent));
        }
        layers.push(name.clone());
        self.publish_in(&mut state, staged, VersionRecord { layers, manifest })
    }

    fn publish_in(
        &self,
        state: &mut State,
        staged: &Path,
        record: VersionRecord,
    ) -> Result<bool, StoreError> {
        let root = record.manifest.root();
        let found = state.versions.get(&root);
        let whole = found.is_some_and(|found| self.is_whole(state, root, found));
        let half = found.is_some_and(|found| found.claim == Claim::Receiving);
        let claim = found.map(|found| found.claim).filter(|claim| *claim != Claim::Receiving);
        let claim = claim.unwrap_or(Claim::Unclaimed);
        state.arrivals.arrived(&root);
        if whole {
            return Ok(false);
        }
        let context = || io_error(format!("cannot publish version {root}"));
        let name = record.layers.last().expect("a version has a layer");
        let record_path = self.layout.incoming().join(format!("{}.version", name.as_str()));
        durable::create_file(self.files(), &record_path, &record.encode()).map_err(context())?;
        durable::publish(self.files(), staged, &self.layout.layer(name)).map_err(context())?;
        durable::publish(self.files(), &record_path, &self.layout.record(claim, &root)).map_err(context())?;
        let replaced = state.versions.insert(root, Found { claim, record: Ok(record) });
        state.open.remove(&root);
        if half {
            // Left behind by a crash, it goes when the store is opened.
            let _ = self.files().remove_file(&self.layout.record(Claim::Receiving, &root));
        }
        if replaced.is_some() {
            self.layout.remove_orphan_layers(&state.versions)?;
        }
        Ok(true)
    }

    /// A name that no layer of this store has.
    pub(crate) fn new_layer_name(&self) -> LayerName {
        loop {
            let name = LayerName::random();
            if !self.layout.layer(&name).exists() {
                return name;
            }
        }
    }

    /// The file system that the store is written through.
    pub(crate) fn files(&self) -> &dyn Files {
        self.layout.files()
    }

    /// What somebody has found damaged.
    pub(crate) fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// The drafts that the store has.
    pub(crate) fn draft_table(&self) -> &Drafts {
        &self.drafts
    }

    /// Whether the version can be opened and has no damaged chunk that is known.
    fn is_whole(&self, state: &State, root: Root, found: &Found) -> bool {
        let record = found.record.as_ref().ok();
        let open = record.and_then(|record| {
            StoredVersion::open(&self.layout, root, record, |name| state.presence_of(name)).ok()
        });
        open.filter(StoredVersion::is_complete).is_some_and(|version| {
            state.quarantine.all().for_each(|(layer, chunk, _)| version.quarantine(layer, chunk));
            version.quarantined().is_empty()
        })
    }

    /// Holds the state; the catalog is exchanged when it is let go.
    pub(crate) fn state(&self) -> Held<'_> {
        let state = self.state.lock().expect("no thread panics while it holds the store's state");
        Held::new(state, &self.catalog)
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Waits until nobody else opens a version.
    pub(crate) fn opening(&self) -> MutexGuard<'_, ()> {
        // A panic of another opening leaves nothing half done.
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes the complete versions that cannot be opened because a file of a layer is lost or damaged:
/// they are not here, and may be received again. Their layers stay as long as they do.
fn note_damaged_layers(layout: &Layout, versions: &mut BTreeMap<Root, Found>, growing: &GrowingLayers) {
    let mut looked: BTreeMap<LayerName, Result<(), String>> = BTreeMap::new();
    for (root, found) in versions.iter_mut().filter(|(_, found)| found.claim != Claim::Receiving) {
        let Ok(record) = &found.record else { continue };
        let look = |name: &LayerName| {
            let (directory, size) = (layout.layer(name), record.manifest.size());
            Layer::open(&directory, name, size)?;
            match growing.contains_key(name) {
                true => Ok(()),
                false => Layer::read_presence(&directory, name, size).map(drop),
            }
        };
        let mut layers = record.layers.iter();
        let damage = layers.find_map(|name| {
            let known = looked.entry(name.clone());
            known.or_insert_with(|| look(name).map_err(|error: LayerError| error.to_string())).clone().err()
        });
        if let Some(reason) = damage {
            tracing::error!(%root, reason, "a version cannot be opened");
            found.record = Err(reason);
        }
    }
}

/// Total bytes, and bytes that an ordinary process may still write.
pub(crate) fn file_system_space(path: &Path) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}
