//! Chunks that have come and are not durable yet: read from memory.
//!
//! A chunk counts as here only once its bytes are durable (DESIGN section 9, invariant 3), and a
//! sync takes as long as everything else that is being written to the disk. The bytes that came
//! were compared with the manifest, so a device that waits for them may have them at once. They are
//! kept until the sync that covers them is over, whatever became of it.

use super::{Place, StoredVersion};
use model::ChunkIndex;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// The chunks, by index; as long as what they have inside the disk. Bounded by the batch after
/// which a reception syncs.
#[derive(Debug, Default)]
pub(super) struct Fresh(Mutex<HashMap<u32, Arc<[u8]>>>);

impl StoredVersion {
    /// Whether the chunk can be read: it is stored here, or its bytes have just come.
    pub fn is_readable(&self, chunk: ChunkIndex) -> bool {
        self.place(chunk) != Place::Missing || self.fresh_chunks().contains_key(&chunk.0)
    }

    /// Lets verified bytes be read that are not durable yet.
    pub(crate) fn put_fresh(&self, chunk: ChunkIndex, bytes: &Arc<[u8]>) {
        let mut fresh = self.fresh_chunks();
        if self.place(chunk) == Place::Missing {
            fresh.insert(chunk.0, Arc::clone(bytes));
        }
    }

    /// Lets go of one that could not be written.
    pub(crate) fn drop_fresh_chunk(&self, chunk: ChunkIndex) {
        self.fresh_chunks().remove(&chunk.0);
    }

    /// Lets go of what is stored now.
    pub(crate) fn drop_stored_fresh(&self) {
        self.fresh_chunks().retain(|chunk, _| self.place(ChunkIndex(*chunk)) == Place::Missing);
    }

    /// Lets go of all: a sync failed, and what it covered must come again.
    pub(crate) fn drop_fresh(&self) {
        self.fresh_chunks().clear();
    }

    /// The bytes of a chunk that has just come, where it is not stored yet. To be asked before the
    /// place is looked at: what is fresh no more is stored then, or lost.
    pub(super) fn fresh_if_missing(&self, chunk: ChunkIndex) -> Option<Arc<[u8]>> {
        match self.place(chunk) {
            Place::Missing => self.fresh_chunks().get(&chunk.0).cloned(),
            _ => None,
        }
    }

    fn fresh_chunks(&self) -> MutexGuard<'_, HashMap<u32, Arc<[u8]>>> {
        self.fresh.0.lock().expect("no thread panics while it holds the fresh chunks")
    }
}
