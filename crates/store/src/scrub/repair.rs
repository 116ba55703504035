//! Repairs quarantined chunks from other layers that have the same bytes, and with bytes that
//! somebody fetched from elsewhere.
//!
//! The right bytes are written over the damaged ones, in place: a block that the disk cannot read
//! is replaced by the disk when it is written. They are read back from the disk before anybody
//! else may read them.

use super::{BadChunk, ScrubObserver};
use crate::aligned::AlignedBuffer;
use crate::direct_read::DirectRead;
use crate::layer::DATA_FILE;
use crate::layout::{StoreError, io_error};
use crate::record::LayerName;
use crate::store::Store;
use crate::version::{ChunkError, StoredVersion, VersionError};
use model::manifest::PAGE_CHUNKS;
use model::{CHUNK_SIZE, ChunkHash, ChunkIndex, Root};
use std::collections::{BTreeMap, HashSet};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;

/// A chunk that has to be repaired.
#[derive(Clone)]
struct Bad {
    layer: LayerName,
    chunk: ChunkIndex,
}

impl Store {
    /// The quarantined chunks, each with a version here that has it: as whom to ask others for it.
    pub fn damaged(&self) -> Vec<(Root, ChunkIndex)> {
        let bad: Vec<(LayerName, ChunkIndex, ChunkHash)> = {
            let state = self.state();
            state.quarantine.all().map(|(layer, chunk, hash)| (layer.clone(), chunk, hash)).collect()
        };
        let (mut left, mut damaged) = (bad, Vec::new());
        for root in self.all_roots() {
            let (false, Ok(version)) = (left.is_empty(), self.version(&root)) else { continue };
            left.retain(|(_, chunk, hash)| {
                let is_its = chunk.0 < version.size().chunk_count()
                    && version.chunk_hash(*chunk).is_ok_and(|expected| expected == *hash);
                if is_its {
                    damaged.push((root, *chunk));
                }
                !is_its
            });
        }
        damaged
    }

    /// Takes the bytes of a damaged chunk from elsewhere: compares them with the manifest, writes
    /// them over the damaged ones, reads them back, and lets them be read. Answers how many places
    /// this mended; 0 where the bytes are others.
    pub fn mend(&self, root: &Root, chunk: ChunkIndex, bytes: &[u8]) -> Result<u32, MendError> {
        let expected = self.version(root)?.chunk_hash(chunk)?;
        let mut whole = bytes.to_vec();
        whole.resize(CHUNK_SIZE as usize, 0);
        if bytes.len() > whole.len() || ChunkHash::of(&whole) != expected {
            return Ok(0);
        }
        let spots: Vec<Bad> = {
            let state = self.state();
            let same = state.quarantine.all().filter(|(.., hash)| *hash == expected);
            same.map(|(layer, chunk, _)| Bad { layer: layer.clone(), chunk }).collect()
        };
        let mut mended = 0;
        for bad in spots {
            write(self, &bad, expected, &whole)?;
            self.release(&bad.layer, bad.chunk)?;
            mended += 1;
        }
        Ok(mended)
    }
}

/// Why a damaged chunk is not mended.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// The version is not here any more.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// What the chunk must be cannot be read.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The disk does not take the bytes, or does not give them back.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Repairs what can be; answers how many chunks.
pub(super) fn all(store: &Store, observer: &dyn ScrubObserver) -> Result<u64, StoreError> {
    let mut wanted: BTreeMap<[u8; 32], Vec<Bad>> = BTreeMap::new();
    for (layer, chunk, hash) in store.state().quarantine.all() {
        wanted.entry(*hash.as_bytes()).or_default().push(Bad { layer: layer.clone(), chunk });
    }
    let mut repaired = 0;
    let mut seen = HashSet::new();
    for root in store.all_roots() {
        let (false, Ok(version)) = (wanted.is_empty(), store.version(&root)) else { continue };
        for (number, name) in version.manifest().pages().iter().enumerate() {
            // A page that another version has, too, may lie in another layer there: look again
            // only where nothing is shared.
            if seen.insert((*name, version.layers().last().map(|layer| layer.name().clone()))) {
                repaired += from_page(store, &version, number, &mut wanted, observer)?;
            }
        }
    }
    Ok(repaired)
}

fn from_page(
    store: &Store,
    version: &StoredVersion,
    number: usize,
    wanted: &mut BTreeMap<[u8; 32], Vec<Bad>>,
    observer: &dyn ScrubObserver,
) -> Result<u64, StoreError> {
    let first = number as u32 * PAGE_CHUNKS;
    let last = version.size().chunk_count().min(first + PAGE_CHUNKS);
    let Ok(page) = version.page(number, ChunkIndex(first)) else { return Ok(0) };
    let mut repaired = 0;
    for chunk in (first..last).map(ChunkIndex) {
        let hash = page.get((chunk.0 - first) as usize);
        let Some(spots) = wanted.get(hash.as_bytes()).cloned() else { continue };
        let mut bytes = AlignedBuffer::new(CHUNK_SIZE as usize);
        if version.verify_chunk(chunk, bytes.bytes_mut()).is_err() {
            continue;
        }
        for bad in spots {
            if write(store, &bad, hash, bytes.bytes()).is_err() {
                tracing::warn!(layer = bad.layer.as_str(), chunk = bad.chunk.0, "cannot repair a chunk");
                continue;
            }
            store.release(&bad.layer, bad.chunk)?;
            let (root, layer, chunk) = (version.root(), bad.layer.as_str().to_owned(), bad.chunk);
            let reason = format!("repaired from version {}", root.short());
            observer.repaired(&BadChunk { root, layer, chunk, hash, reason });
            repaired += 1;
        }
        wanted.remove(hash.as_bytes());
    }
    Ok(repaired)
}

/// Writes the bytes over the damaged ones, and reads them back from the disk.
fn write(store: &Store, bad: &Bad, hash: ChunkHash, bytes: &[u8]) -> Result<(), StoreError> {
    let failed = || io_error("cannot repair a chunk");
    let path = store.layout().layer(&bad.layer).join(DATA_FILE);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed())?;
    let rest = file.metadata().map_err(failed())?.len().saturating_sub(bad.chunk.offset());
    let len = rest.min(u64::from(CHUNK_SIZE)) as u32;
    file.write_all_at(&bytes[..len as usize], bad.chunk.offset()).map_err(failed())?;
    file.sync_data().map_err(failed())?;
    let mut again = AlignedBuffer::new(CHUNK_SIZE as usize);
    DirectRead::of_file(&file).read(bad.chunk, len, again.bytes_mut()).map_err(failed())?;
    match ChunkHash::of(again.bytes()) == hash {
        true => Ok(()),
        false => Err(failed()(io::Error::other("what was written does not come back"))),
    }
}
