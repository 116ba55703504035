//! The way in from peers: a version that is here in part, and is read meanwhile.
//!
//! [`Store::begin_receive`] takes a manifest and makes a layer for what the version below has not.
//! Chunks of zeros and chunks that the version below has at the same place are here at once;
//! every other one is [`Place::Missing`](crate::Place) until [`Receiving::put`] has compared its
//! bytes with the manifest and [`Receiving::settle`] has made them durable. What was settled
//! survives a crash; the next [`Store::open`] goes on from there. [`Receiving::copy_seeds`] takes
//! what other versions here have, wherever they have it.
//!
//! What it does not do: it asks nobody for anything and keeps no order. That is the mesh's.

mod begin;
pub(crate) mod growing;
pub(crate) mod recover;
mod seeds;

use crate::layout::{Claim, StoreError, io_error};
use crate::store::{Store, file_system_space};
use crate::version::{ChunkError, StoredVersion, VersionError};
use growing::Growing;
use model::manifest::{PAGE_CHUNKS, page_of};
use model::{CHUNK_SIZE, ChunkHash, ChunkIndex, PageHash, Root};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes after which who brings bulk makes a batch durable without being asked: 32 MiB, by eye, so
/// that a fast link causes few syncs, which slow everybody's reads, and little waits in memory.
const BATCH_BYTES: u64 = 32 << 20;
/// The same while devices wait for chunks: their reads stand in line behind what a sync writes out.
const BATCH_BESIDE_DEVICES_BYTES: u64 = 4 << 20;
/// Bulk after the last chunk that a device has waited for, until batches are large again.
const BESIDE_DEVICES_BYTES: u64 = 64 << 20;
/// The same for who brings what a device waits for; somebody else should have done it long before.
const MAX_UNSETTLED_BYTES: u64 = 2 * BATCH_BYTES;

/// Who waits for a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// A device: its chunk stays in the page cache.
    OnDemand,
    /// Nobody in particular: its chunk leaves the page cache once it is on the disk.
    Bulk,
}

/// The settings of a reception.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveOptions {
    /// Bytes of the file system that are left free; what a device waits for may use half of them.
    pub reserve_bytes: u64,
}

impl Default for ReceiveOptions {
    /// Leaves 256 MiB free, as an import does.
    fn default() -> Self {
        Self { reserve_bytes: 256 << 20 }
    }
}

/// Why a version cannot be received, or a chunk of it was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The bytes are not what the manifest says: who sent them is wrong.
    #[error("chunk {chunk}: the bytes hash to {found}, its name is {expected}")]
    WrongBytes {
        /// The chunk.
        chunk: u32,
        /// What the bytes hash to.
        found: ChunkHash,
        /// What they must hash to.
        expected: ChunkHash,
    },
    /// The version has no such chunk, or a chunk of another length.
    #[error("chunk {chunk} with {bytes} bytes is none of the version")]
    NoSuchChunk {
        /// The chunk.
        chunk: u32,
        /// How many bytes were given.
        bytes: usize,
    },
    /// A page of the manifest is neither here nor among those given.
    #[error("the manifest page {0} is missing")]
    PageMissing(PageHash),
    /// The file system is full, or at its reserve.
    #[error(
        "no room for what comes from other servers: {free} bytes are free, {reserve} stay reserved\n\
         hint: prune the store, or give it a larger file system"
    )]
    NoSpace {
        /// Bytes that are free.
        free: u64,
        /// Bytes that stay free.
        reserve: u64,
    },
    /// The version is not being received any more: it was deleted.
    #[error("version {0} is not being received")]
    Gone(Root),
    /// What is here of the version cannot be read.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A version cannot be opened.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A version on its way here. May be used from any thread.
#[derive(Debug)]
pub struct Receiving {
    store: Store,
    version: Arc<StoredVersion>,
    options: ReceiveOptions,
    /// Chunks that are to get the same bytes as an earlier one, by the beginning of their hash.
    twins: Mutex<HashMap<u64, Vec<u32>>>,
    /// Bytes of bulk until batches are large again.
    beside_devices: AtomicU64,
}

impl Receiving {
    fn new(store: &Store, version: Arc<StoredVersion>, options: ReceiveOptions) -> Self {
        let (store, twins) = (store.clone(), Mutex::default());
        Self { store, version, options, twins, beside_devices: AtomicU64::new(0) }
    }

    /// The version's name.
    pub fn root(&self) -> Root {
        self.version.root()
    }

    /// The store that it comes to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The version as far as it is here.
    pub fn version(&self) -> &Arc<StoredVersion> {
        &self.version
    }

    /// The chunks that have to be fetched, in disk order: of those with the same bytes only the
    /// first, for the others come with it. Reads the manifest; empty once everything is here.
    pub fn wanted(&self) -> Result<Vec<ChunkIndex>, ReceiveError> {
        let mut wanted = Vec::new();
        let (mut seen, mut twins) = (HashSet::new(), HashMap::<u64, Vec<u32>>::new());
        self.each_missing(|chunk, hash| {
            match seen.insert(prefix(&hash)) {
                true => wanted.push(chunk),
                false => twins.entry(prefix(&hash)).or_default().push(chunk.0),
            }
            Ok(())
        })?;
        *self.twins.lock().expect("no thread panics while it holds the twins") = twins;
        Ok(wanted)
    }

    /// Takes the bytes of a chunk, and for all chunks with the same bytes. They can be read at once,
    /// from memory, and are durable after the next [`Receiving::settle`], which this calls by itself
    /// every 32 MiB of bulk, and every 4 MiB while devices wait for other chunks; where one waits for
    /// this, only after 64 MiB. Answers how many chunks were taken; 0 where the chunk was here.
    ///
    /// After an error of the store the chunk is missing again.
    pub fn put(&self, chunk: ChunkIndex, bytes: &[u8], urgency: Urgency) -> Result<u32, ReceiveError> {
        let hash = self.verify(chunk, bytes)?;
        self.check_room(urgency)?;
        let bytes: Arc<[u8]> = bytes.into();
        let mut taken = u32::from(self.take(chunk, &bytes, urgency)?);
        let twins =
            self.twins.lock().expect("no thread panics while it holds the twins").remove(&prefix(&hash));
        for twin in twins.unwrap_or_default().into_iter().map(ChunkIndex) {
            if self.version.size().chunk_len(twin) as usize == bytes.len()
                && self.version.chunk_hash(twin)? == hash
            {
                taken += u32::from(self.take(twin, &bytes, urgency)?);
            }
        }
        let most = self.batch_bytes(urgency, bytes.len() as u64);
        if self.growing().iter().map(|layer| layer.unsettled_bytes()).sum::<u64>() >= most {
            self.settle()?;
        }
        Ok(taken)
    }

    /// How much may wait for a sync, now that `bytes` more were put.
    fn batch_bytes(&self, urgency: Urgency, bytes: u64) -> u64 {
        if urgency == Urgency::OnDemand {
            self.beside_devices.store(BESIDE_DEVICES_BYTES, Ordering::Relaxed);
            return MAX_UNSETTLED_BYTES;
        }
        // Two who count at once forget some bytes of one: it is no exact figure.
        let left = self.beside_devices.load(Ordering::Relaxed);
        self.beside_devices.store(left.saturating_sub(bytes), Ordering::Relaxed);
        if left > 0 { BATCH_BESIDE_DEVICES_BYTES } else { BATCH_BYTES }
    }

    /// Makes everything that was put durable and lets it be read; answers how many chunks this was.
    ///
    /// After an error the chunks concerned are missing again.
    pub fn settle(&self) -> Result<u32, ReceiveError> {
        let mut settled = 0;
        for layer in self.growing() {
            let _alone = layer.settling.lock().expect("no thread panics while it settles");
            let chunks = layer.settle().map_err(|error| {
                self.version.drop_fresh();
                self.write_error(error)
            })?;
            self.store.arrived(&layer, &chunks);
            settled += chunks.len() as u32;
        }
        self.version.drop_stored_fresh();
        Ok(settled)
    }

    /// Where everything is here: makes the version one like any other, unclaimed until a farm
    /// record names it, and answers true.
    pub fn finish(&self) -> Result<bool, ReceiveError> {
        self.settle()?;
        if !self.version.is_complete() {
            return Ok(false);
        }
        for layer in self.growing() {
            layer.sync_presence().map_err(|error| self.write_error(error))?;
        }
        self.store.finish_receive(self.root())?;
        Ok(true)
    }

    /// Calls `each` for every chunk that is still to come and was not written, with its hash.
    fn each_missing(
        &self,
        mut each: impl FnMut(ChunkIndex, ChunkHash) -> Result<(), ReceiveError>,
    ) -> Result<(), ReceiveError> {
        let growing = self.growing();
        let layers = self.version.layers();
        let is_wanted = |chunk: ChunkIndex| {
            let layer = self.version.wanted_in(chunk).map(|position| layers[usize::from(position)].name());
            layer.is_some_and(|name| growing.iter().any(|layer| layer.name() == name && layer.wants(chunk)))
        };
        let mut page = None;
        for chunk in self.version.missing().filter(|chunk| is_wanted(*chunk)) {
            let (number, place) = page_of(chunk);
            if page.as_ref().is_none_or(|(known, _)| *known != number) {
                page = Some((number, self.version.page(number, ChunkIndex(number as u32 * PAGE_CHUNKS))?));
            }
            let (_, page) = page.as_ref().expect("it was just read");
            each(chunk, page.get(place))?;
        }
        Ok(())
    }

    /// Compares the bytes with the manifest.
    fn verify(&self, chunk: ChunkIndex, bytes: &[u8]) -> Result<ChunkHash, ReceiveError> {
        let size = self.version.size();
        if chunk.0 >= size.chunk_count() || size.chunk_len(chunk) as usize != bytes.len() {
            return Err(ReceiveError::NoSuchChunk { chunk: chunk.0, bytes: bytes.len() });
        }
        let expected = self.version.chunk_hash(chunk)?;
        let found = match bytes.len() == CHUNK_SIZE as usize {
            true => ChunkHash::of(bytes),
            false => {
                let mut whole = bytes.to_vec();
                whole.resize(CHUNK_SIZE as usize, 0);
                ChunkHash::of(&whole)
            }
        };
        match found == expected {
            true => Ok(expected),
            false => Err(ReceiveError::WrongBytes { chunk: chunk.0, found, expected }),
        }
    }

    fn take(&self, chunk: ChunkIndex, bytes: &Arc<[u8]>, urgency: Urgency) -> Result<bool, ReceiveError> {
        let Some(position) = self.version.wanted_in(chunk) else { return Ok(false) };
        let name = self.version.layers()[usize::from(position)].name();
        let Some(layer) = self.store.state().growing.get(name).cloned() else {
            return Err(ReceiveError::Gone(self.root()));
        };
        // First, so that whoever waits for it need not wait for the file system as well.
        self.version.put_fresh(chunk, bytes);
        layer.take(chunk, bytes, urgency).map_err(|error| {
            self.version.drop_fresh_chunk(chunk);
            self.write_error(error)
        })
    }

    /// The layers of the version that chunks are still to come to.
    fn growing(&self) -> Vec<Arc<Growing>> {
        let state = self.store.state();
        let layers = self.version.layers().iter();
        layers.filter_map(|layer| state.growing.get(layer.name()).cloned()).collect()
    }

    /// Pulls stop before drafts do (DESIGN section 9, invariant 12).
    fn check_room(&self, urgency: Urgency) -> Result<(), ReceiveError> {
        let (_, free) = file_system_space(self.store.path()).map_err(io_error("cannot measure the store"))?;
        let reserve = match urgency {
            Urgency::OnDemand => self.options.reserve_bytes / 2,
            Urgency::Bulk => self.options.reserve_bytes,
        };
        match free < reserve {
            true => Err(ReceiveError::NoSpace { free, reserve }),
            false => Ok(()),
        }
    }

    fn write_error(&self, error: io::Error) -> ReceiveError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ReceiveError::NoSpace { free: 0, reserve: self.options.reserve_bytes }
            }
            _ => io_error(format!("cannot write what came of version {}", self.root().short()))(error).into(),
        }
    }
}

impl Store {
    /// Lets everybody who has a version open that uses the layer read the chunks.
    fn arrived(&self, layer: &Growing, chunks: &[ChunkIndex]) {
        let state = self.state();
        for version in state.alive() {
            chunks.iter().for_each(|chunk| version.arrived(layer.name(), *chunk));
        }
    }

    /// Moves the record of a version that is complete.
    fn finish_receive(&self, root: Root) -> Result<(), ReceiveError> {
        let mut state = self.state();
        let found = state.versions.get(&root).ok_or(ReceiveError::Gone(root))?;
        let was_half = found.claim == Claim::Receiving;
        let to = if was_half { Claim::Unclaimed } else { found.claim };
        self.move_record(&mut state, &root, to)
            .map_err(io_error(format!("cannot finish receiving version {root}")))?;
        if was_half {
            state.arrivals.arrived(&root);
        }
        state.growing.retain(|_, layer| layer.is_unfinished());
        Ok(())
    }
}

/// Enough of a hash to find it again; who finds it compares the whole.
pub(crate) fn prefix(hash: &ChunkHash) -> u64 {
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 bytes"))
}
