//! A version that can be read: where each chunk lies, what it must hash to.
//!
//! Placement is one flat map of 2 bytes a chunk, made when the version is opened, so that a read
//! costs the same at depth 50 as at depth 1. Hashes are read from disk page by page as they are
//! asked for. Reading a version as an image verifies every chunk; who reads the layers' files
//! itself, for speed, has [`StoredVersion::verify_chunk`].
//!
//! A version may be here in part (`receive.rs`): then some chunks are [`Place::Missing`] until they
//! come, and who has the version open sees them come.

mod fresh;
mod verified;

use crate::layer::{Layer, LayerError};
use crate::layout::Layout;
use crate::page_pack::PackError;
use crate::presence::{ChunkState, Presence};
use crate::record::{LayerName, VersionRecord};
use crate::suspects::Suspects;
use fresh::Fresh;
use image::{ImageError, ImageReader, Run, RunKind};
use model::manifest::{PAGE_CHUNKS, page_of};
use model::{CHUNK_SIZE, ChunkHash, ChunkIndex, DiskSize, Manifest, Page, PageHash, Root};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Pages kept in memory for each open version: 16 of 32 KiB cover 1 GiB of disk, by eye.
const CACHED_PAGES: usize = 16;

/// Where the bytes of a chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: the chunk reads as zero.
    Zero,
    /// In the layer with this position in [`StoredVersion::layers`], at the chunk's own offset.
    Layer(u16),
    /// Not on this server.
    Missing,
    /// On this server, and damaged: not to be read until it is repaired.
    Quarantined,
}

/// Why a version cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// This store does not have it; another one may.
    #[error("this store has no version {0}")]
    Missing(Root),
    /// What the store has of it is damaged.
    #[error("version {root} is damaged: {reason}")]
    Corrupt {
        /// The version.
        root: Root,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read; trying again may help.
    #[error("version {root}: {reason}: {source}")]
    Io {
        /// The version.
        root: Root,
        /// What was being done.
        reason: String,
        /// The system's error.
        source: io::Error,
    },
}

/// Why the hash or the verified bytes of a chunk cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// This server does not have the chunk; another one may.
    #[error("chunk {0} is not on this server")]
    Missing(u32),
    /// The bytes are not what the manifest says; they must not be served.
    #[error("chunk {chunk} is damaged: {reason}")]
    Corrupt {
        /// The chunk.
        chunk: u32,
        /// What is wrong.
        reason: String,
    },
    /// The bytes could not be read.
    #[error("chunk {chunk}: {source}")]
    Io {
        /// The chunk.
        chunk: u32,
        /// The system's error.
        source: io::Error,
    },
}

/// An open version; stays readable when it is deleted from the store meanwhile.
#[derive(Debug)]
pub struct StoredVersion {
    root: Root,
    manifest: Manifest,
    layers: Vec<Arc<Layer>>,
    /// Changed by arrival, quarantine and repair; who reads sees it at the next look.
    places: Vec<AtomicU16>,
    /// How many places say that the chunk is missing.
    missing: AtomicU32,
    /// Chunks that are not to be read, and the layers where they lie.
    quarantined: Mutex<BTreeMap<u32, u16>>,
    pages: Mutex<VecDeque<(usize, Arc<Page>)>>,
    fresh: Fresh,
    /// Where damage is told of that somebody finds while he reads.
    pub(crate) suspects: Arc<Suspects>,
}

/// The encodings of [`Place`] in the flat map; a layer is its position + 1. A missing chunk has the
/// layer that it is to come to in its lower bits.
const ZERO: u16 = 0;
const WANTED: u16 = 1 << 15;
const MISSING: u16 = u16::MAX;
const QUARANTINED: u16 = u16::MAX - 1;
const NO_PANIC: &str = "no thread panics while it holds the quarantined chunks";

impl StoredVersion {
    /// Opens the layers of `record` and works out where each chunk lies. What a layer that is being
    /// received has is known to `growing`; its file is being written.
    pub(crate) fn open(
        layout: &Layout,
        root: Root,
        record: &VersionRecord,
        growing: impl Fn(&LayerName) -> Option<Presence>,
    ) -> Result<Self, VersionError> {
        let size = record.manifest.size();
        let mut layers = Vec::with_capacity(record.layers.len());
        let mut places = vec![MISSING; size.chunk_count() as usize];
        for (position, name) in record.layers.iter().enumerate() {
            let directory = layout.layer(name);
            let layer = Layer::open(&directory, name, size).map_err(|e| layer_error(root, e))?;
            let presence = match growing(name) {
                Some(presence) => presence,
                None => Layer::read_presence(&directory, name, size).map_err(|e| layer_error(root, e))?,
            };
            presence.lay_over(&mut places, |state| match state {
                ChunkState::Absent => None,
                ChunkState::Stored => Some(position as u16 + 1),
                ChunkState::Zero => Some(ZERO),
                ChunkState::Wanted => Some(WANTED | (position as u16 + 1)),
            });
            layers.push(Arc::new(layer));
        }
        let manifest = record.manifest.clone();
        let missing = AtomicU32::new(places.iter().filter(|place| is_missing(**place)).count() as u32);
        let places = places.into_iter().map(AtomicU16::new).collect();
        let quarantined = Mutex::default();
        let (pages, fresh, suspects) = (Mutex::default(), Fresh::default(), Arc::default());
        Ok(Self { root, manifest, layers, places, missing, quarantined, pages, fresh, suspects })
    }

    /// The version's name.
    pub fn root(&self) -> Root {
        self.root
    }

    /// The size of the disk.
    pub fn size(&self) -> DiskSize {
        self.manifest.size()
    }

    /// The manifest: the names of the version's pages.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The layers, base first.
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// Where `chunk` lies; the chunk is inside the disk. Costs one look into memory.
    pub fn place(&self, chunk: ChunkIndex) -> Place {
        // Acquire: who sees that a chunk came sees its bytes.
        match self.places[chunk.0 as usize].load(Ordering::Acquire) {
            ZERO => Place::Zero,
            QUARANTINED => Place::Quarantined,
            missing if is_missing(missing) => Place::Missing,
            layer => Place::Layer(layer - 1),
        }
    }

    /// Bytes of the disk that are stored here, in whole chunks.
    pub fn stored_bytes(&self) -> u64 {
        let places = self.places.iter().map(|place| place.load(Ordering::Relaxed));
        let stored = places.filter(|place| *place != ZERO && *place < WANTED).count();
        stored as u64 * u64::from(CHUNK_SIZE)
    }

    /// Whether every chunk is here, damaged ones included.
    pub fn is_complete(&self) -> bool {
        self.missing_count() == 0
    }

    /// How many chunks are not here.
    pub fn missing_count(&self) -> u32 {
        self.missing.load(Ordering::Acquire)
    }

    /// The chunks that are not here, in disk order.
    pub fn missing(&self) -> impl Iterator<Item = ChunkIndex> + '_ {
        let all = (0..).zip(&self.places).filter(|(_, place)| is_missing(place.load(Ordering::Relaxed)));
        all.map(|(chunk, _)| ChunkIndex(chunk))
    }

    /// What a peer can have from here: one bit for each chunk, lowest first; chunks of zeros are
    /// here, damaged ones are not.
    pub fn possession(&self) -> Vec<u8> {
        let here = |place: &AtomicU16| place.load(Ordering::Relaxed) < WANTED;
        let byte = |places: &[AtomicU16]| {
            (0..8).zip(places).fold(0, |byte, (bit, place)| byte | u8::from(here(place)) << bit)
        };
        self.places.chunks(8).map(byte).collect()
    }

    /// The position of the layer that a missing chunk is to come to.
    pub(crate) fn wanted_in(&self, chunk: ChunkIndex) -> Option<u16> {
        let place = self.places[chunk.0 as usize].load(Ordering::Relaxed);
        (is_missing(place) && place != MISSING).then(|| (place & !WANTED) - 1)
    }

    /// The bytes of `chunk` are in the layer `name` for good.
    pub(crate) fn arrived(&self, name: &LayerName, chunk: ChunkIndex) {
        let Some(layer) = self.position(name).map(|position| position + 1) else { return };
        let Some(place) = self.places.get(chunk.0 as usize) else { return };
        let came = place.compare_exchange(WANTED | layer, layer, Ordering::Release, Ordering::Relaxed);
        if came.is_ok() {
            self.missing.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The chunks that are damaged here and not to be read, in disk order.
    pub fn quarantined(&self) -> Vec<ChunkIndex> {
        self.quarantined.lock().expect(NO_PANIC).keys().copied().map(ChunkIndex).collect()
    }

    /// The layer of a chunk that is quarantined.
    pub(crate) fn quarantined_in(&self, chunk: ChunkIndex) -> Option<u16> {
        self.quarantined.lock().expect(NO_PANIC).get(&chunk.0).copied()
    }

    /// Has nobody read `chunk` any more, where it lies in the layer `name`.
    pub(crate) fn quarantine(&self, name: &LayerName, chunk: ChunkIndex) {
        let Some(position) = self.position(name) else { return };
        let Some(place) = self.places.get(chunk.0 as usize) else { return };
        let mut quarantined = self.quarantined.lock().expect(NO_PANIC);
        if place.load(Ordering::Relaxed) == position + 1 {
            quarantined.insert(chunk.0, position);
            place.store(QUARANTINED, Ordering::Relaxed);
        }
    }

    /// Lets `chunk` be read again, where it was quarantined in the layer `name`.
    pub(crate) fn release(&self, name: &LayerName, chunk: ChunkIndex) {
        let Some(position) = self.position(name) else { return };
        let mut quarantined = self.quarantined.lock().expect(NO_PANIC);
        if quarantined.get(&chunk.0) == Some(&position) {
            quarantined.remove(&chunk.0);
            self.places[chunk.0 as usize].store(position + 1, Ordering::Relaxed);
        }
    }

    fn position(&self, name: &LayerName) -> Option<u16> {
        self.layers.iter().position(|layer| layer.name() == name).map(|position| position as u16)
    }

    /// What `chunk` must hash to. Reads a page of the manifest from disk where it is not cached.
    pub fn chunk_hash(&self, chunk: ChunkIndex) -> Result<ChunkHash, ChunkError> {
        let (number, place) = page_of(chunk);
        Ok(self.page(number, chunk)?.get(place))
    }

    /// The manifest page of this name, for a peer; none where the version has no such page.
    pub fn page_named(&self, name: PageHash) -> Result<Option<Page>, ChunkError> {
        let number = self.manifest.pages().iter().position(|page| *page == name);
        number.map(|number| self.read_page(number, ChunkIndex(number as u32 * PAGE_CHUNKS))).transpose()
    }

    /// The manifest page `number`; an error names `chunk`.
    pub(crate) fn page(&self, number: usize, chunk: ChunkIndex) -> Result<Arc<Page>, ChunkError> {
        let mut cached = self.pages.lock().expect("no thread panics while it holds the pages");
        if let Some((_, page)) = cached.iter().find(|(cached, _)| *cached == number) {
            return Ok(Arc::clone(page));
        }
        let page = Arc::new(self.read_page(number, chunk)?);
        cached.truncate(CACHED_PAGES - 1);
        cached.push_front((number, Arc::clone(&page)));
        Ok(page)
    }

    fn read_page(&self, number: usize, chunk: ChunkIndex) -> Result<Page, ChunkError> {
        let name = self.manifest.pages()[number];
        for layer in self.layers.iter().rev() {
            match layer.pages().read(name) {
                Ok(Some(page)) => return Ok(page),
                Ok(None) => {}
                Err(PackError::Io(source)) => return Err(ChunkError::Io { chunk: chunk.0, source }),
                Err(PackError::Damaged(reason)) => {
                    return Err(ChunkError::Corrupt { chunk: chunk.0, reason });
                }
            }
        }
        let zero = Page::zero();
        if zero.hash() == name {
            return Ok(zero);
        }
        let reason = format!("no layer has manifest page {number}");
        Err(ChunkError::Corrupt { chunk: chunk.0, reason })
    }
}

impl ImageReader for StoredVersion {
    fn size_bytes(&self) -> u64 {
        self.size().bytes()
    }

    fn run_at(&self, offset: u64, limit: u64) -> Result<Run, ImageError> {
        let zero_at =
            |chunk: u32| self.places.get(chunk as usize).map(|place| place.load(Ordering::Relaxed) == ZERO);
        let first = ChunkIndex::of_offset(offset).0;
        let kind = zero_at(first);
        let mut end = first + 1;
        let end_offset = offset.saturating_add(limit).min(self.size().bytes());
        while ChunkIndex(end).offset() < end_offset && zero_at(end) == kind {
            end += 1;
        }
        let len = ChunkIndex(end).offset().min(end_offset) - offset;
        let kind = if kind == Some(true) { RunKind::Hole } else { RunKind::Data };
        Ok(Run { len, kind })
    }

    /// Every chunk that is touched is compared with the manifest before a byte of it is given out.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        self.read_verified(offset, buffer).map_err(chunk_error)
    }
}

/// Whether an entry of the flat map says that the chunk is not here.
fn is_missing(place: u16) -> bool {
    place >= WANTED && place != QUARANTINED
}

fn chunk_error(error: ChunkError) -> ImageError {
    match error {
        ChunkError::Io { chunk, source } => {
            ImageError::Io { context: format!("cannot read chunk {chunk}"), source }
        }
        ChunkError::Missing(_) | ChunkError::Corrupt { .. } => ImageError::Damaged(error.to_string()),
    }
}

fn layer_error(root: Root, error: LayerError) -> VersionError {
    match error {
        LayerError::Damaged { .. } => VersionError::Corrupt { root, reason: error.to_string() },
        LayerError::Io { name, source } => {
            VersionError::Io { root, reason: format!("cannot open layer {name}"), source }
        }
    }
}
