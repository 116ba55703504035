//! Chunks that somebody has read and found damaged, until the store has looked into them.
//!
//! A scrub comes once in weeks; a device that reads damage now is refused, and the chunk goes into
//! quarantine and is repaired at once. Finding is cheap and may happen on any thread: it notes the
//! chunk and rings a bell. Looking into it ([`Store::examine`]) is for who hears the bell.

use crate::layout::StoreError;
use crate::scrub::{ScrubObserver, Scrubbed};
use crate::store::Store;
use model::{ChunkIndex, Root};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock};

/// The most chunks that wait to be looked into: who reads 256 MiB of damage has a bad disk, and the
/// rest is found when it is read again.
const MOST: usize = 4096;

/// The chunks of one store that wait, and the bell.
#[derive(Default)]
pub(crate) struct Suspects {
    chunks: Mutex<BTreeSet<(Root, u32)>>,
    bell: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Suspects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suspects").field("chunks", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Suspects {
    /// Notes a chunk of a version, and rings where it was not noted before.
    pub(crate) fn add(&self, root: Root, chunk: ChunkIndex) {
        let mut chunks = self.lock();
        let is_new = chunks.len() < MOST && chunks.insert((root, chunk.0));
        drop(chunks);
        if let (true, Some(bell)) = (is_new, self.bell.get()) {
            bell();
        }
    }

    fn take(&self) -> BTreeSet<(Root, u32)> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Root, u32)>> {
        self.chunks.lock().expect("no thread panics while it holds the suspects")
    }
}

impl Store {
    /// Has `bell` called whenever somebody has read a damaged chunk; it must not block. The first
    /// one stays.
    pub fn on_suspect(&self, bell: impl Fn() + Send + Sync + 'static) {
        // A second one is a mistake of the wiring that costs nothing: the scrub finds the same.
        let _ = self.suspects().bell.set(Box::new(bell));
    }

    /// Verifies the chunks that somebody has found damaged: what is damaged goes into quarantine,
    /// and is repaired where another layer here has the same bytes. Costs nothing where nothing was
    /// found.
    pub fn examine(&self, observer: &dyn ScrubObserver) -> Result<Scrubbed, StoreError> {
        let suspects = self.suspects().take();
        let chunks: Vec<(Root, ChunkIndex)> =
            suspects.into_iter().map(|(root, chunk)| (root, ChunkIndex(chunk))).collect();
        match chunks.is_empty() {
            true => Ok(Scrubbed::default()),
            false => self.scrub_chunks(&chunks, observer),
        }
    }
}
