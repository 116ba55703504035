//! What the opening of a store finds of versions that were being received.
//!
//! The presence of a growing layer is what its file says. A block of it that a power loss has torn
//! is made again from the bytes themselves: those that are what the manifest says are here.

use super::growing::Growing;
use crate::aligned::AlignedBuffer;
use crate::files::Files;
use crate::layer::{Layer, PRESENCE_FILE};
use crate::layout::{Claim, Found, Layout};
use crate::presence::{ChunkState, Presence, chunks_of};
use crate::record::{LayerName, VersionRecord};
use crate::version::{Place, StoredVersion};
use model::{CHUNK_SIZE, ChunkHash, ChunkIndex, Root};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The layers that chunks are still to come to.
pub(crate) type GrowingLayers = BTreeMap<LayerName, Arc<Growing>>;

/// Opens the growing layers of all versions that are being received. A version of which that is
/// not possible is forgotten: it is fetched again.
pub(crate) fn growing_layers(layout: &Layout, versions: &mut BTreeMap<Root, Found>) -> GrowingLayers {
    let mut growing = GrowingLayers::new();
    let half = versions.iter().filter(|(_, found)| found.claim == Claim::Receiving);
    let half: Vec<Root> = half.map(|(root, _)| *root).collect();
    for root in half {
        let record = versions[&root].record.clone();
        if let Err(reason) = record.and_then(|record| version(layout, root, &record, &mut growing)) {
            tracing::warn!(%root, reason, "what is here of a version cannot be used, it is fetched again");
            let _ = layout.files().remove_file(&layout.record(Claim::Receiving, &root));
            versions.remove(&root);
        }
    }
    growing
}

fn version(
    layout: &Layout,
    root: Root,
    record: &VersionRecord,
    growing: &mut GrowingLayers,
) -> Result<(), String> {
    for (position, name) in record.layers.iter().enumerate() {
        if growing.contains_key(name) {
            continue;
        }
        let size = record.manifest.size();
        let bytes = fs::read(layout.layer(name).join(PRESENCE_FILE)).map_err(|error| error.to_string())?;
        let (mut presence, torn) = Presence::decode_torn(&bytes, size).map_err(|error| error.to_string())?;
        if torn.is_empty() && !presence.has_wanted() {
            continue;
        }
        let torn = torn.into_iter().flat_map(|block| chunks_of(block, size)).map(ChunkIndex);
        let torn: Vec<ChunkIndex> = torn.collect();
        torn.iter().for_each(|chunk| presence.set(*chunk, ChunkState::Wanted));
        let layer = open(layout.files(), layout, name, record, presence)?;
        growing.insert(name.clone(), Arc::new(layer));
        if !torn.is_empty() {
            tracing::warn!(%root, chunks = torn.len(), "looking again at what came before the power was lost");
            let states = look_again(layout, root, record, position, &torn, growing)?;
            growing[name].repair(&states).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn open(
    files: &dyn Files,
    layout: &Layout,
    name: &LayerName,
    record: &VersionRecord,
    presence: Presence,
) -> Result<Growing, String> {
    Growing::open(files, &layout.layer(name), name, record.manifest.size(), presence)
        .map_err(|error| error.to_string())
}

/// Finds out by their bytes which of the chunks the layer at `position` has.
fn look_again(
    layout: &Layout,
    root: Root,
    record: &VersionRecord,
    position: usize,
    chunks: &[ChunkIndex],
    growing: &GrowingLayers,
) -> Result<Vec<(ChunkIndex, ChunkState)>, String> {
    let presence = |name: &LayerName| growing.get(name).map(|layer| layer.presence());
    let open = |record: &VersionRecord| {
        StoredVersion::open(layout, root, record, presence).map_err(|error| error.to_string())
    };
    // The pages may lie in layers above this one.
    let whole = open(record)?;
    let layer = Arc::clone(&whole.layers()[position]);
    let below = match position {
        0 => None,
        _ => {
            let (layers, manifest) = (record.layers[..position].to_vec(), record.manifest.clone());
            Some(open(&VersionRecord { layers, manifest })?)
        }
    };
    let mut buffer = AlignedBuffer::new(CHUNK_SIZE as usize);
    let mut states = Vec::with_capacity(chunks.len());
    for chunk in chunks.iter().copied() {
        let hash = whole.chunk_hash(chunk).map_err(|error| error.to_string())?;
        let state = match below.as_ref() {
            _ if hash == ChunkHash::ZERO => ChunkState::Zero,
            _ if has(&layer, chunk, hash, buffer.bytes_mut()) => ChunkState::Stored,
            Some(below) if inherits(below, chunk, hash, buffer.bytes_mut()) => ChunkState::Absent,
            _ => ChunkState::Wanted,
        };
        states.push((chunk, state));
    }
    Ok(states)
}

fn has(layer: &Layer, chunk: ChunkIndex, hash: ChunkHash, buffer: &mut [u8]) -> bool {
    let len = layer.size().chunk_len(chunk) as usize;
    buffer.fill(0);
    layer.file().read_exact_at(&mut buffer[..len], chunk.offset()).is_ok() && ChunkHash::of(buffer) == hash
}

/// Whether the layers below have these bytes.
fn inherits(below: &StoredVersion, chunk: ChunkIndex, hash: ChunkHash, buffer: &mut [u8]) -> bool {
    matches!(below.place(chunk), Place::Layer(_))
        && below.read_chunk(chunk, buffer).is_ok()
        && ChunkHash::of(buffer) == hash
}
