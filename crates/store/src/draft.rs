//! A draft: the writable state of a disk above a version, on this server.
//!
//! A directory under `drafts/`. The bytes of blocks (4 KiB) that were written lie in a sparse file
//! in the disk's own addresses; which blocks those are, and which read as zero, is kept in memory
//! and made durable by each [`Draft::flush`] in a log (`log.rs`). What a confirmed flush covered
//! survives kill -9 and power loss; what was written since may be there or not, block by block
//! (within a block that was there before: sector by sector), and never in the wrong order.
//!
//! [`Draft::checkpoint`] makes the present state a layer and a version (`checkpoint.rs`); the
//! draft goes on above it. Fencing against older holders is not done here but above
//! (`disk::Fenced`).
//!
//! Read next: `generation.rs` for the files, `write.rs` for how a request is stored.

mod blocks;
mod checkpoint;
mod error;
pub mod exercise;
mod generation;
mod head;
mod log;
mod name;
mod open;
mod read;
mod write;

pub use checkpoint::{Checkpoint, CheckpointObserver};
pub use error::DraftError;
pub use name::{DraftName, DraftNameError};
pub use open::DraftSummary;
pub use read::DraftExtent;

pub(crate) use generation::{data_path, log_path};
pub(crate) use head::Head;
pub(crate) use log::{LogName, replay};
pub(crate) use open::{Drafts, read_head};

use crate::files::Files;
use crate::store::Store;
use crate::version::StoredVersion;
use blocks::BLOCK_BYTES;
use error::file_error;
use generation::{FlushError, Generation};
use model::{ByteRange, DiskSize, Root};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// An open draft; all methods may be called from any thread.
pub struct Draft {
    store: Store,
    name: DraftName,
    directory: PathBuf,
    size: DiskSize,
    /// Held for reading by every request, for writing by whoever exchanges what is below.
    world: RwLock<World>,
    /// One checkpoint at a time.
    checkpointing: Mutex<()>,
    closed: AtomicBool,
    failed: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// What a draft's bytes are made of, from the top: a block comes from the first that has it.
#[derive(Debug)]
struct World {
    active: Arc<Generation>,
    /// What a checkpoint is making a layer of.
    frozen: Option<Arc<Generation>>,
    parent: Arc<StoredVersion>,
}

impl Draft {
    /// The draft's name.
    pub fn name(&self) -> &DraftName {
        &self.name
    }

    /// The size of the disk.
    pub fn size(&self) -> DiskSize {
        self.size
    }

    /// The version that the draft stands on: its last checkpoint, or what it was created from.
    pub fn parent_root(&self) -> Root {
        self.world().parent.root()
    }

    /// Whether anything was changed since the last checkpoint.
    pub fn is_dirty(&self) -> bool {
        let world = self.world();
        world.active.table.len() > 0 || world.frozen.is_some()
    }

    /// Bytes written since the last checkpoint, in whole blocks.
    pub fn dirty_bytes(&self) -> u64 {
        let world = self.world();
        let generations = world.frozen.iter().chain([&world.active]);
        let blocks =
            generations.map(|generation| generation.data_blocks.load(Ordering::Relaxed).max(0) as u64);
        blocks.sum::<u64>() * u64::from(BLOCK_BYTES)
    }

    /// Makes every write that was answered before this call durable.
    ///
    /// After [`DraftError::NoSpace`] or [`DraftError::Io`] nothing is lost and another flush may
    /// succeed; after [`DraftError::Failed`] the draft takes no more writes.
    pub fn flush(&self) -> Result<(), DraftError> {
        self.check_usable()?;
        let world = self.world();
        self.check_usable()?;
        self.flush_generation(&world.active)
    }

    fn flush_generation(&self, generation: &Generation) -> Result<(), DraftError> {
        generation.flush(self.files()).map_err(|error| match error {
            FlushError::NotWritten(error) => file_error("cannot write the draft's log")(error),
            FlushError::Unknown(reason) => self.fail(reason),
        })
    }

    fn files(&self) -> &dyn Files {
        self.store.files()
    }

    fn world(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().expect(NO_PANIC)
    }

    fn world_mut(&self) -> RwLockWriteGuard<'_, World> {
        self.world.write().expect(NO_PANIC)
    }

    fn check_range(&self, range: ByteRange) -> Result<(), DraftError> {
        match self.size.contains(range) {
            true => Ok(()),
            false => Err(DraftError::OutOfRange),
        }
    }

    fn check_open(&self) -> Result<(), DraftError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(DraftError::Closed),
            false => Ok(()),
        }
    }

    /// Refuses changes to a draft that is closed or whose disk failed.
    fn check_usable(&self) -> Result<(), DraftError> {
        self.check_open()?;
        match self.failed.load(Ordering::Acquire) {
            true => Err(self.failure()),
            false => Ok(()),
        }
    }

    /// Takes no more changes from now on.
    fn fail(&self, reason: String) -> DraftError {
        tracing::error!(draft = %self.name, reason, "the disk of a draft failed; the draft takes no more writes");
        self.failure.lock().expect(NO_PANIC).get_or_insert(reason);
        self.failed.store(true, Ordering::Release);
        self.failure()
    }

    fn failure(&self) -> DraftError {
        let reason = self.failure.lock().expect(NO_PANIC).clone().unwrap_or_default();
        DraftError::Failed { name: self.name.clone(), reason }
    }

    /// Ends every use of this value; no request is under way when this returns.
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let _checkpoint = self.checkpointing.lock().expect(NO_PANIC);
        drop(self.world_mut());
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("name", &self.name).field("size", &self.size).finish_non_exhaustive()
    }
}

const NO_PANIC: &str = "no thread panics while it holds a lock of a draft";
