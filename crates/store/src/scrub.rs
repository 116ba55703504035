//! Scrub: reads everything that is stored, at a set rate, and compares it with the manifests.
//!
//! A chunk is read once however many versions share it, past the page cache (`direct_read.rs`), so
//! that what devices boot from stays there. One that is damaged, or cannot be read, goes into the
//! quarantine before the scrub goes on: from then on no reader gets it, those who have the version
//! open included. At the end each quarantined chunk is repaired where another layer has the same
//! bytes. A scrub that is stopped goes on where it was when it is started again (`cursor.rs`).

mod cursor;
mod repair;

pub use repair::MendError;

use crate::aligned::AlignedBuffer;
use crate::bucket::Bucket;
use crate::direct_read::DirectRead;
use crate::layout::{StoreError, io_error};
use crate::record::LayerName;
use crate::store::Store;
use crate::version::{ChunkError, Place, StoredVersion};
use cursor::Cursor;
use model::manifest::{PAGE_CHUNKS, page_count};
use model::{CHUNK_SIZE, ChunkHash, ChunkIndex, Root};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most damaged chunks that a result lists one by one; all are counted.
const MOST_LISTED: usize = 1000;
/// Bytes between two notes of how far the scrub is: 256 MiB are read again at most.
const NOTE_EVERY_BYTES: u64 = 256 << 20;
/// The longest sleep, so that a scrub can be stopped.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// The settings of a scrub.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScrubOptions {
    /// How much is read in a second; none reads as fast as it can.
    pub bytes_per_s: Option<NonZeroU64>,
}

/// Hears how a scrub goes; called on the thread that scrubs.
pub trait ScrubObserver {
    /// Tells how far it is, after every chunk.
    fn progress(&self, progress: ScrubProgress);

    /// A chunk was found damaged, and nobody reads it any more.
    fn quarantined(&self, chunk: &BadChunk);

    /// A quarantined chunk is whole again.
    fn repaired(&self, chunk: &BadChunk);

    /// Whether to stop; the next scrub goes on from here.
    fn cancelled(&self) -> bool;
}

impl ScrubObserver for crate::import::Quiet {
    fn progress(&self, _: ScrubProgress) {}

    fn quarantined(&self, _: &BadChunk) {}

    fn repaired(&self, _: &BadChunk) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// How far a scrub is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubProgress {
    /// Bytes verified by this call.
    pub done_bytes: u64,
    /// Versions that are done, those of earlier calls included.
    pub done_versions: u32,
    /// All versions.
    pub total_versions: u32,
}

/// A damaged chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadChunk {
    /// A version that has it.
    pub root: Root,
    /// The layer where it lies.
    pub layer: String,
    /// The chunk.
    pub chunk: ChunkIndex,
    /// What it must hash to.
    pub hash: ChunkHash,
    /// What is wrong with it.
    pub reason: String,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Whether everything was looked at; false where the observer stopped it.
    pub complete: bool,
    /// Bytes verified.
    pub bytes: u64,
    /// Chunks that were found damaged.
    pub bad_chunks: u64,
    /// The first 1,000 of them.
    pub bad: Vec<BadChunk>,
    /// Versions of which the record, a layer's files or a page of the manifest is damaged, and how.
    pub damaged_versions: BTreeMap<Root, String>,
    /// Quarantined chunks that are whole again.
    pub repaired_chunks: u64,
    /// Chunks that are in quarantine at the end.
    pub quarantined_chunks: u64,
}

/// One chunk of one layer.
struct Spot<'a> {
    version: &'a StoredVersion,
    layer: u16,
    chunk: ChunkIndex,
}

/// A scrub under way.
struct Scrub<'a> {
    store: &'a Store,
    observer: &'a dyn ScrubObserver,
    bucket: Option<Bucket>,
    began: Instant,
    /// Chunks looked at, one bit each, by layer.
    seen: BTreeMap<LayerName, Vec<u64>>,
    buffer: AlignedBuffer,
    progress: ScrubProgress,
    noted_bytes: u64,
    found: Scrubbed,
}

/// The observer wants the scrub to stop.
struct Stopped;

impl Store {
    /// Verifies everything that is stored, from where the last scrub was stopped.
    pub fn scrub(
        &self,
        options: &ScrubOptions,
        observer: &dyn ScrubObserver,
    ) -> Result<Scrubbed, StoreError> {
        let cursor = Cursor::read(self.path());
        let roots = self.all_roots();
        let mut scrub = Scrub::new(self, options, observer, roots.len());
        for root in roots {
            if scrub.version(root, cursor)?.is_err() {
                return Ok(scrub.found);
            }
            scrub.progress.done_versions += 1;
        }
        Cursor::remove(self.path()).map_err(io_error("cannot note that the scrub is done"))?;
        scrub.found.complete = true;
        scrub.found.repaired_chunks += repair::all(self, observer)?;
        scrub.found.quarantined_chunks = self.state().quarantine.all().count() as u64;
        Ok(scrub.found)
    }

    /// Verifies these chunks of versions, and repairs as [`Store::scrub`] does.
    pub(crate) fn scrub_chunks(
        &self,
        chunks: &[(Root, ChunkIndex)],
        observer: &dyn ScrubObserver,
    ) -> Result<Scrubbed, StoreError> {
        let mut scrub = Scrub::new(self, &ScrubOptions::default(), observer, 0);
        for (root, chunk) in chunks {
            scrub.suspect(*root, *chunk)?;
        }
        if scrub.found.bad_chunks > 0 {
            scrub.found.repaired_chunks += repair::all(self, observer)?;
        }
        scrub.found.complete = true;
        Ok(scrub.found)
    }

    /// How many chunks are in quarantine.
    pub fn quarantined_chunks(&self) -> u64 {
        self.state().quarantine.all().count() as u64
    }

    fn all_roots(&self) -> Vec<Root> {
        self.state().versions.keys().copied().collect()
    }
}

impl<'a> Scrub<'a> {
    fn new(
        store: &'a Store,
        options: &ScrubOptions,
        observer: &'a dyn ScrubObserver,
        versions: usize,
    ) -> Self {
        Self {
            store,
            observer,
            bucket: options.bytes_per_s.map(Bucket::new),
            began: Instant::now(),
            seen: BTreeMap::new(),
            buffer: AlignedBuffer::new(CHUNK_SIZE as usize),
            progress: ScrubProgress { total_versions: versions as u32, ..ScrubProgress::default() },
            noted_bytes: 0,
            found: Scrubbed::default(),
        }
    }

    /// Verifies what no version before had.
    fn version(&mut self, root: Root, cursor: Option<Cursor>) -> Result<Result<(), Stopped>, StoreError> {
        let version = match self.store.version(&root) {
            Ok(version) => version,
            Err(error) => {
                // One that was deleted meanwhile is no damage.
                if self.store.all_roots().contains(&root) {
                    self.found.damaged_versions.insert(root, error.to_string());
                }
                return Ok(Ok(()));
            }
        };
        let files: Vec<DirectRead> = version.layers().iter().map(|layer| DirectRead::open(layer)).collect();
        for page in 0..page_count(version.size()) {
            let first = page * PAGE_CHUNKS;
            for chunk in first..version.size().chunk_count().min(first + PAGE_CHUNKS) {
                let chunk = ChunkIndex(chunk);
                let Some(layer) = layer_of(&version, chunk) else { continue };
                let new = self.is_new(&version, layer, chunk);
                if !new || cursor.is_some_and(|cursor| (root, chunk.0) < (cursor.root, cursor.chunk)) {
                    continue;
                }
                if self.note_and_wait(root, chunk)?.is_err() {
                    return Ok(Err(Stopped));
                }
                let spot = Spot { version: &version, layer, chunk };
                self.verify(&spot, &files[usize::from(layer)])?;
            }
        }
        Ok(Ok(()))
    }

    /// Whether the chunk of this layer was not looked at before.
    fn is_new(&mut self, version: &StoredVersion, layer: u16, chunk: ChunkIndex) -> bool {
        let name = version.layers()[usize::from(layer)].name();
        if !self.seen.contains_key(name) {
            let words = version.size().chunk_count().div_ceil(64) as usize;
            self.seen.insert(name.clone(), vec![0; words]);
        }
        let word = &mut self.seen.get_mut(name).expect("it was just put there")[chunk.0 as usize / 64];
        let bit = 1 << (chunk.0 % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn note_and_wait(&mut self, root: Root, chunk: ChunkIndex) -> Result<Result<(), Stopped>, StoreError> {
        let stopped = self.wait();
        let due = self.progress.done_bytes - self.noted_bytes >= NOTE_EVERY_BYTES;
        if due || stopped {
            let cursor = Cursor { root, chunk: chunk.0 };
            cursor.write(self.store.path()).map_err(io_error("cannot note how far the scrub is"))?;
            self.noted_bytes = self.progress.done_bytes;
        }
        Ok(if stopped { Err(Stopped) } else { Ok(()) })
    }

    /// Sleeps until the rate allows the next chunk; answers whether to stop.
    fn wait(&mut self) -> bool {
        let now = self.began.elapsed();
        let wait = self.bucket.as_mut().map(|bucket| bucket.take(now, u64::from(CHUNK_SIZE)));
        let until = now + wait.unwrap_or_default();
        loop {
            if self.observer.cancelled() {
                return true;
            }
            let rest = until.saturating_sub(self.began.elapsed());
            if rest.is_zero() {
                return false;
            }
            std::thread::sleep(rest.min(LONGEST_SLEEP));
        }
    }

    fn verify(&mut self, spot: &Spot<'_>, file: &DirectRead) -> Result<(), StoreError> {
        let expected = match spot.version.chunk_hash(spot.chunk) {
            Ok(expected) => expected,
            Err(error) => {
                self.found.damaged_versions.insert(spot.version.root(), page_error(&error));
                return Ok(());
            }
        };
        let len = spot.version.size().chunk_len(spot.chunk);
        let wrong = match file.read(spot.chunk, len, self.buffer.bytes_mut()) {
            Ok(()) => match ChunkHash::of(self.buffer.bytes()) {
                found if found == expected => None,
                found => Some(format!("its bytes hash to {found}")),
            },
            Err(error) => Some(format!("it cannot be read: {error}")),
        };
        self.progress.done_bytes += u64::from(len);
        self.found.bytes += u64::from(len);
        self.observer.progress(self.progress);
        match (wrong, spot.version.quarantined_in(spot.chunk).is_some()) {
            (Some(reason), false) => self.bad(spot, expected, reason),
            (None, true) => self.whole_again(spot, expected),
            (Some(_), true) | (None, false) => Ok(()),
        }
    }

    /// A chunk that somebody found damaged. What the page cache has counts like what the disk has:
    /// a repair writes both anew.
    fn suspect(&mut self, root: Root, chunk: ChunkIndex) -> Result<(), StoreError> {
        // One that was deleted or found meanwhile is no damage.
        let Ok(version) = self.store.version(&root) else { return Ok(()) };
        let Place::Layer(layer) = version.place(chunk) else { return Ok(()) };
        let spot = Spot { version: &version, layer, chunk };
        let cached = version.read_chunk(chunk, self.buffer.bytes_mut());
        match version.chunk_hash(chunk) {
            Ok(hash) if cached.is_ok() && ChunkHash::of(self.buffer.bytes()) != hash => {
                self.bad(&spot, hash, "a reader found other bytes".to_owned())
            }
            _ => self.verify(&spot, &DirectRead::open(&version.layers()[usize::from(layer)])),
        }
    }

    fn bad(&mut self, spot: &Spot<'_>, hash: ChunkHash, reason: String) -> Result<(), StoreError> {
        let bad = spot.bad(hash, reason);
        tracing::error!(layer = bad.layer, chunk = bad.chunk.0, reason = bad.reason, "a chunk is damaged");
        self.store.quarantine(spot.name(), spot.chunk, hash)?;
        self.observer.quarantined(&bad);
        self.found.bad_chunks += 1;
        if self.found.bad.len() < MOST_LISTED {
            self.found.bad.push(bad);
        }
        Ok(())
    }

    /// A disk that could not be read for a moment, or a layer that somebody repaired by hand.
    fn whole_again(&mut self, spot: &Spot<'_>, hash: ChunkHash) -> Result<(), StoreError> {
        self.store.release(spot.name(), spot.chunk)?;
        self.observer.repaired(&spot.bad(hash, "it is whole again".into()));
        self.found.repaired_chunks += 1;
        Ok(())
    }
}

impl Spot<'_> {
    fn name(&self) -> &LayerName {
        self.version.layers()[usize::from(self.layer)].name()
    }

    fn bad(&self, hash: ChunkHash, reason: String) -> BadChunk {
        let (root, layer) = (self.version.root(), self.name().as_str().to_owned());
        BadChunk { root, layer, chunk: self.chunk, hash, reason }
    }
}

impl Store {
    /// Has nobody read the chunk of this layer any more: first in memory, then for good.
    fn quarantine(&self, layer: &LayerName, chunk: ChunkIndex, hash: ChunkHash) -> Result<(), StoreError> {
        let mut state = self.state();
        let alive: Vec<Arc<StoredVersion>> = state.alive().collect();
        alive.iter().for_each(|version| version.quarantine(layer, chunk));
        let added = state.quarantine.add(layer, chunk, hash);
        added.map_err(io_error("cannot write down that a chunk is damaged"))
    }

    /// Lets the chunk be read again: first for good, then in memory.
    fn release(&self, layer: &LayerName, chunk: ChunkIndex) -> Result<(), StoreError> {
        let mut state = self.state();
        let removed = state.quarantine.remove(layer, chunk);
        removed.map_err(io_error("cannot write down that a chunk is repaired"))?;
        state.alive().for_each(|version| version.release(layer, chunk));
        Ok(())
    }
}

/// The layer where the bytes of a chunk lie, damaged or not.
fn layer_of(version: &StoredVersion, chunk: ChunkIndex) -> Option<u16> {
    match version.place(chunk) {
        Place::Zero | Place::Missing => None,
        Place::Layer(layer) => Some(layer),
        Place::Quarantined => version.quarantined_in(chunk),
    }
}

fn page_error(error: &ChunkError) -> String {
    match error {
        ChunkError::Corrupt { reason, .. } => reason.clone(),
        ChunkError::Missing(_) | ChunkError::Io { .. } => error.to_string(),
    }
}
