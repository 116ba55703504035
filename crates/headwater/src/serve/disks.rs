//! The versions that are open here: every session of a root shares one disk.

use super::replication::FetchedImage;
use disk::{BlockIo, ChunkSource, FetchError, LazyDisk, MappedCache, VersionDisk};
use image::ImageReader;
use model::{Name, Root};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, Weak};
use store::{Store, StoredVersion, VersionError};

/// Opens versions of this server's stores.
pub(crate) struct Disks {
    stores: BTreeMap<Name, Arc<Store>>,
    cache: Arc<MappedCache>,
    /// Where the chunks come from that a version here lacks.
    source: Arc<dyn ChunkSource>,
    open: Mutex<HashMap<Root, Weak<dyn BlockIo>>>,
}

/// Why a version cannot be read here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// The store is not one of this server's.
    #[error("this server has no share of store {0}\nhint: add a [[store]] section for it")]
    NoStore(Name),
    /// The store does not have it whole.
    #[error("store {store} cannot serve root {root}: {source}")]
    Version {
        /// The store.
        store: Name,
        /// The root's first digits.
        root: String,
        /// The store's reason.
        source: VersionError,
    },
    /// The store has nothing of it, and it does not come.
    #[error(
        "store {store} has nothing of root {root}: {source}\nhint: `headwater replication backlog` says why it does not come; another server may serve it"
    )]
    Absent {
        /// The store.
        store: Name,
        /// The root's first digits.
        root: String,
        /// Why it does not come.
        source: FetchError,
    },
    /// Its files cannot be mapped.
    #[error("root {root} cannot be opened: {source}")]
    Open {
        /// The root's first digits.
        root: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Disks {
    /// The disks of `stores`, all read through one window of `cache`; what they lack comes from
    /// `source`.
    pub(crate) fn new(
        stores: BTreeMap<Name, Arc<Store>>,
        cache: Arc<MappedCache>,
        source: Arc<dyn ChunkSource>,
    ) -> Self {
        Self { stores, cache, source, open: Mutex::default() }
    }

    /// The version with `root`, as the store holds it; waits for its manifest where a peer has it.
    pub(crate) fn version(&self, store: &Name, root: Root) -> Result<Arc<StoredVersion>, DiskError> {
        match self.version_here(store, root) {
            Err(DiskError::Version { source: VersionError::Missing(_), .. }) => {
                let absent = |source| DiskError::Absent { store: store.clone(), root: root.short(), source };
                self.source.open(root).map_err(absent)?;
                self.version_here(store, root)
            }
            // It is received again, where somebody has it.
            Err(DiskError::Version { source: VersionError::Corrupt { root: damaged, reason }, .. }) => {
                let source = VersionError::Corrupt { root: damaged, reason };
                let unreadable = DiskError::Version { store: store.clone(), root: root.short(), source };
                self.source.open(root).map_err(|_| unreadable)?;
                self.version_here(store, root)
            }
            found => found,
        }
    }

    /// The version as far as it is here; waits for nobody.
    pub(crate) fn version_here(&self, store: &Name, root: Root) -> Result<Arc<StoredVersion>, DiskError> {
        let share = self.stores.get(store).ok_or_else(|| DiskError::NoStore(store.clone()))?;
        let unreadable = |source| DiskError::Version { store: store.clone(), root: root.short(), source };
        share.version(&root).map_err(unreadable)
    }

    /// The content of `root` as an image; what is missing is fetched when it is read.
    pub(crate) fn image(&self, store: &Name, root: Root) -> Result<Arc<dyn ImageReader>, DiskError> {
        Ok(Arc::new(FetchedImage::new(self.version(store, root)?, Arc::clone(&self.source))))
    }

    /// A disk with the content of `root`; reads its manifest, or waits for it.
    pub(crate) fn open(&self, store: &Name, root: Root) -> Result<Arc<dyn BlockIo>, DiskError> {
        self.disk_of(self.version(store, root)?)
    }

    /// The same for a version that is here, in part at least: waits for nobody.
    pub(crate) fn open_here(&self, store: &Name, root: Root) -> Result<Arc<dyn BlockIo>, DiskError> {
        self.disk_of(self.version_here(store, root)?)
    }

    fn disk_of(&self, version: Arc<StoredVersion>) -> Result<Arc<dyn BlockIo>, DiskError> {
        let root = version.root();
        let mut open = self.open.lock().expect("no holder of this lock panics");
        if let Some(disk) = open.get(&root).and_then(Weak::upgrade) {
            return Ok(disk);
        }
        open.retain(|_, disk| disk.strong_count() > 0);
        let unopened = |source| DiskError::Open { root: root.short(), source };
        let is_complete = version.is_complete();
        let near = VersionDisk::open(version, &self.cache).map_err(unopened)?;
        let disk: Arc<dyn BlockIo> = match is_complete {
            true => Arc::new(near),
            false => Arc::new(LazyDisk::new(near, Arc::clone(&self.source))),
        };
        open.insert(root, Arc::downgrade(&disk));
        Ok(disk)
    }
}
