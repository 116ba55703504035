//! Merging: the layers of a version become fewer while it is read.
//!
//! The root stays, for the content does; nothing travels. [`Store::flatten`] makes one layer of
//! all (a new base), [`Store::fold`] leaves the lowest ones and makes one of those above them
//! (consolidated differences). Every other version above the same layers takes the new one too.
//!
//! Where the file system can share blocks between files (reflink), nothing is copied. Else each
//! chunk is compared with the manifest on its way, so that damage is not spread, and what was
//! written is given back to the disk and dropped from memory every few MiB, so that what devices
//! boot from stays in the page cache. The new layer is staged and published like an import's; then
//! each version's record is exchanged by one rename. A crash leaves each version with its old
//! layers or with the new one. Who has a version open reads its old files, which are unlinked,
//! until it is closed.

use crate::aligned::AlignedBuffer;
use crate::durable;
use crate::files::OpenFile;
use crate::layer::{DATA_FILE, Layer, PAGES_FILE, PRESENCE_FILE};
use crate::layout::{StoreError, io_error};
use crate::page_pack::PagePackWriter;
use crate::presence::{ChunkState, Presence};
use crate::record::{LayerName, VersionRecord};
use crate::store::{State, Store, file_system_space};
use crate::version::{ChunkError, Place, StoredVersion, VersionError};
use model::{CHUNK_SIZE, ChunkIndex, Page, PageHash, Root};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// What a copy leaves free in the file system, in bytes: as an import does.
const RESERVE_BYTES: u64 = 256 << 20;
/// How many chunks are written at once: 1 MiB.
const BATCH_CHUNKS: usize = 16;
/// How many bytes may be in memory only before they are written out and dropped.
const WINDOW_BYTES: u64 = 32 << 20;

/// Hears how a merge goes.
pub trait FlattenObserver {
    /// Tells how far it is.
    fn progress(&self, progress: FlattenProgress);

    /// Whether to stop and undo it.
    fn cancelled(&self) -> bool;
}

impl FlattenObserver for crate::import::Quiet {
    fn progress(&self, _: FlattenProgress) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// How far a merge is, in bytes of stored chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlattenProgress {
    /// What is in the new layer.
    pub done_bytes: u64,
    /// What will be.
    pub total_bytes: u64,
}

/// What a merge did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flattened {
    /// Layers of the version before.
    pub layers_before: u32,
    /// Layers of the version now.
    pub layers_after: u32,
    /// Bytes that were read and written; 0 where the file system shared them.
    pub copied_bytes: u64,
    /// Bytes that the new layer shares with the old ones' files.
    pub shared_bytes: u64,
    /// Versions that use the new layer, this one included.
    pub versions: u32,
}

/// Why a version was not merged. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FlattenError {
    /// It cannot be opened.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Some of it is still to come.
    #[error("version {0} is here in part only\nhint: merge it when it is complete")]
    Incomplete(Root),
    /// One of its chunks is damaged or not here.
    #[error("{0}\nhint: scrub the store, or import the version again, and merge it then")]
    Chunk(#[from] ChunkError),
    /// The copy does not fit.
    #[error(
        "merging needs {needed} bytes in the store for a while, {free} can be used\n\
         hint: prune the store, or give it a larger file system"
    )]
    NoSpace {
        /// Bytes that the new layer takes.
        needed: u64,
        /// Bytes that may be used.
        free: u64,
    },
    /// The observer said so.
    #[error("the merge was cancelled")]
    Cancelled,
    /// The version was deleted or merged by someone else meanwhile.
    #[error("version {0} was deleted or merged meanwhile\nhint: look at it again")]
    Changed(Root),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Rebuilds the files of a version into one layer.
    pub fn flatten(&self, root: &Root) -> Result<Flattened, FlattenError> {
        self.fold(root, 0, &crate::import::Quiet)
    }

    /// Rebuilds the files of a version: its lowest `kept` layers stay, those above become one.
    pub fn fold(
        &self,
        root: &Root,
        kept: usize,
        observer: &dyn FlattenObserver,
    ) -> Result<Flattened, FlattenError> {
        let version = self.version(root)?;
        if !version.is_complete() {
            return Err(FlattenError::Incomplete(*root));
        }
        let before = version.layers().len();
        if before <= kept + 1 {
            let layers = before as u32;
            let (copied_bytes, shared_bytes, versions) = (0, 0, 0);
            return Ok(Flattened {
                layers_before: layers,
                layers_after: layers,
                copied_bytes,
                shared_bytes,
                versions,
            });
        }
        let fold = Fold::new(self, &version, kept)?;
        let (copied_bytes, shared_bytes) = fold.fill(observer)?;
        let versions = fold.publish()?;
        let (layers_before, layers_after) = (before as u32, kept as u32 + 1);
        Ok(Flattened { layers_before, layers_after, copied_bytes, shared_bytes, versions })
    }
}

/// A merge under way; its directory goes away unless it is published.
struct Fold<'a> {
    store: &'a Store,
    version: &'a Arc<StoredVersion>,
    kept: usize,
    name: LayerName,
    presence: Presence,
}

impl Drop for Fold<'_> {
    fn drop(&mut self) {
        // Nothing is there any more where it was published; what a dead disk keeps goes at the
        // next start.
        for file in [DATA_FILE, PAGES_FILE, PRESENCE_FILE] {
            let _ = self.store.files().remove_file(&self.path(file));
        }
        let _ = self.store.files().remove_directory(&self.directory());
    }
}

impl<'a> Fold<'a> {
    fn new(store: &'a Store, version: &'a Arc<StoredVersion>, kept: usize) -> Result<Self, FlattenError> {
        let presence = overlay(store, version, kept)?;
        let fold = Self { store, version, kept, name: store.new_layer_name(), presence };
        store.files().create_directory(&fold.directory()).map_err(io_error("cannot begin to merge"))?;
        Ok(fold)
    }

    fn directory(&self) -> PathBuf {
        self.store.layout().incoming().join(self.name.as_str())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory().join(file)
    }

    /// Makes the files of the layer, all durable; answers the bytes copied and shared.
    fn fill(&self, observer: &dyn FlattenObserver) -> Result<(u64, u64), FlattenError> {
        let failed = || io_error("cannot write the merged layer");
        let size = self.version.size();
        let chunks: Vec<ChunkIndex> =
            (0..size.chunk_count()).map(ChunkIndex).filter(|c| self.has(*c)).collect();
        let data = self.store.files().create_file(&self.path(DATA_FILE)).map_err(failed())?;
        data.set_len(size.bytes()).map_err(failed())?;
        let bytes = match self.can_share() {
            true => (0, self.share(&chunks, observer)?),
            false => (self.copy(&chunks, &*data, observer)?, 0),
        };
        data.sync().map_err(failed())?;
        data.forget_cached();
        self.write_pages()?;
        durable::create_file(self.store.files(), &self.path(PRESENCE_FILE), &self.presence.encode())
            .map_err(failed())?;
        durable::sync_directory(self.store.files(), &self.directory()).map_err(failed())?;
        Ok(bytes)
    }

    fn has(&self, chunk: ChunkIndex) -> bool {
        self.presence.get(chunk) == ChunkState::Stored
    }

    /// Whether the file system shares blocks between files: tried on a small file.
    fn can_share(&self) -> bool {
        let probe = self.path("probe");
        let shared = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).create_new(true).open(&probe)?;
            let layer = self.version.layers().last().expect("a version has a layer");
            let directory = layer.path().parent().expect("a layer's file lies in a directory");
            Ok(rustix::fs::ioctl_ficlone(&file, File::open(directory.join(PRESENCE_FILE))?)?)
        };
        let shares = shared().is_ok();
        let _ = std::fs::remove_file(&probe);
        shares
    }

    /// Has the file system share the blocks: `copy_file_range` does where `FICLONE` worked.
    fn share(&self, chunks: &[ChunkIndex], observer: &dyn FlattenObserver) -> Result<u64, FlattenError> {
        let data = OpenOptions::new().write(true).open(self.path(DATA_FILE));
        let data = data.map_err(io_error("cannot write the merged layer"))?;
        let (mut done, total) = (0, self.bytes_of(chunks));
        let follows = |a: &ChunkIndex, b: &ChunkIndex| {
            a.0 + 1 == b.0 && self.version.place(*a) == self.version.place(*b)
        };
        for run in chunks.chunk_by(follows) {
            self.goes_on(observer, done, total)?;
            let len = self.bytes_of(run);
            copy_range(self.layer_of(run[0])?.file(), &data, run[0].offset(), len)
                .map_err(io_error("cannot share blocks with the merged layer"))?;
            done += len;
        }
        Ok(done)
    }

    /// Reads, verifies and writes every chunk.
    fn copy(
        &self,
        chunks: &[ChunkIndex],
        data: &dyn OpenFile,
        observer: &dyn FlattenObserver,
    ) -> Result<u64, FlattenError> {
        let total = self.bytes_of(chunks);
        self.check_space(total)?;
        let mut buffer = AlignedBuffer::new(BATCH_CHUNKS * CHUNK_SIZE as usize);
        let (mut done, mut window) = (0, 0);
        for run in chunks.chunk_by(|a, b| a.0 + 1 == b.0).flat_map(|run| run.chunks(BATCH_CHUNKS)) {
            self.goes_on(observer, done, total)?;
            for (chunk, bytes) in run.iter().zip(buffer.bytes_mut().chunks_exact_mut(CHUNK_SIZE as usize)) {
                self.version.verify_chunk(*chunk, bytes)?;
            }
            let len = self.bytes_of(run);
            data.write_all_at(&buffer.bytes()[..len as usize], run[0].offset())
                .map_err(|error| self.write_error(error, total))?;
            data.start_writeout(run[0].offset(), len);
            done += len;
            if done - window >= WINDOW_BYTES {
                data.sync().map_err(|error| self.write_error(error, total))?;
                data.forget_cached();
                window = done;
            }
        }
        Ok(done)
    }

    fn goes_on(&self, observer: &dyn FlattenObserver, done: u64, total: u64) -> Result<(), FlattenError> {
        observer.progress(FlattenProgress { done_bytes: done, total_bytes: total });
        match observer.cancelled() {
            true => Err(FlattenError::Cancelled),
            false => Ok(()),
        }
    }

    fn bytes_of(&self, chunks: &[ChunkIndex]) -> u64 {
        chunks.iter().map(|chunk| u64::from(self.version.size().chunk_len(*chunk))).sum()
    }

    /// The layer that a stored chunk lies in; an error where it may not be read.
    fn layer_of(&self, chunk: ChunkIndex) -> Result<&Arc<Layer>, FlattenError> {
        match self.version.place(chunk) {
            Place::Layer(layer) => Ok(&self.version.layers()[usize::from(layer)]),
            _ => {
                let reason = "it was found damaged and is not repaired yet".into();
                Err(ChunkError::Corrupt { chunk: chunk.0, reason }.into())
            }
        }
    }

    fn check_space(&self, needed: u64) -> Result<(), FlattenError> {
        let space = file_system_space(self.store.path()).map_err(io_error("cannot measure the store"))?;
        let free = space.1.saturating_sub(RESERVE_BYTES);
        if needed > free {
            return Err(FlattenError::NoSpace { needed, free });
        }
        Ok(())
    }

    fn write_error(&self, error: io::Error, needed: u64) -> FlattenError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                FlattenError::NoSpace { needed, free: 0 }
            }
            _ => io_error("cannot write the merged layer")(error).into(),
        }
    }

    /// Packs the pages of the version that the layers that stay do not have.
    fn write_pages(&self) -> Result<(), FlattenError> {
        let failed = || io_error("cannot write the merged layer's pages");
        let file = self.store.files().create_file(&self.path(PAGES_FILE)).map_err(failed())?;
        let mut pack = PagePackWriter::new(BufWriter::new(Appending { file: &*file, at: 0 }));
        let mut known: HashSet<PageHash> = HashSet::from([Page::zero().hash()]);
        let first = |number: usize| ChunkIndex(number as u32 * model::manifest::PAGE_CHUNKS);
        for (number, name) in self.version.manifest().pages().iter().enumerate() {
            let stays = self.version.layers()[..self.kept].iter().any(|layer| layer.pages().has(*name));
            if known.insert(*name) && !stays {
                let page = self.version.page(number, first(number))?;
                pack.add(&page).map_err(failed())?;
            }
        }
        pack.finish().and_then(|mut output| output.flush()).map_err(failed())?;
        Ok(file.sync().map_err(failed())?)
    }

    /// Puts the layer in place, then has each version above the old layers use it.
    fn publish(self) -> Result<u32, FlattenError> {
        let (root, old) = (self.version.root(), names(self.version));
        let mut state = self.store.state();
        if record_of(&state, &root).is_none_or(|record| record.layers != old) {
            return Err(FlattenError::Changed(root));
        }
        let roots: Vec<Root> = state.versions.keys().copied().collect();
        let above =
            |root: &Root| record_of(&state, root).is_some_and(|record| record.layers.starts_with(&old));
        let above: Vec<Root> = roots.into_iter().filter(above).collect();
        durable::publish(self.store.files(), &self.directory(), &self.store.layout().layer(&self.name))
            .map_err(io_error("cannot put the merged layer in place"))?;
        for root in &above {
            self.exchange(&mut state, root, old.len())?;
        }
        self.store.layout().remove_orphan_layers(&state.versions)?;
        Ok(above.len() as u32)
    }

    /// Writes the record of a version with the new layer in the place of the lowest `replaced`,
    /// of which the first `kept` stay.
    fn exchange(&self, state: &mut State, root: &Root, replaced: usize) -> Result<(), StoreError> {
        let found = state.versions.get_mut(root).expect("it was just found");
        let record = found.record.as_mut().expect("it was just read");
        let mut layers = record.layers[..self.kept].to_vec();
        layers.push(self.name.clone());
        layers.extend_from_slice(&record.layers[replaced..]);
        let new = VersionRecord { layers, manifest: record.manifest.clone() };
        let staged = self.store.layout().incoming().join(format!("{root}.version"));
        let path = self.store.layout().record(found.claim, root);
        let done = durable::create_file(self.store.files(), &staged, &new.encode())
            .and_then(|()| durable::publish(self.store.files(), &staged, &path));
        // A sync that fails after the rename leaves the new record in place: what is in memory must
        // be what a start would find, for it says which layers are not used any more.
        if done.is_ok() || std::fs::read(&path).is_ok_and(|bytes| bytes == new.encode()) {
            *record = new;
            state.forget_open(root);
        }
        done.map_err(io_error(format!("cannot exchange the record of version {root}")))
    }
}

/// A file of the store that is written from its beginning to its end.
struct Appending<'a> {
    file: &'a dyn OpenFile,
    at: u64,
}

impl Write for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_some_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn record_of<'a>(state: &'a State, root: &Root) -> Option<&'a VersionRecord> {
    state.versions.get(root)?.record.as_ref().ok()
}

fn names(version: &StoredVersion) -> Vec<LayerName> {
    version.layers().iter().map(|layer| layer.name().clone()).collect()
}

/// What the layers above the `kept` lowest say together.
fn overlay(store: &Store, version: &StoredVersion, kept: usize) -> Result<Presence, FlattenError> {
    let size = version.size();
    let mut states = vec![ChunkState::Absent; size.chunk_count() as usize];
    for layer in &version.layers()[kept..] {
        let directory = store.layout().layer(layer.name());
        let presence = Layer::read_presence(&directory, layer.name(), size);
        let presence = presence.map_err(|_| FlattenError::Changed(version.root()))?;
        presence.lay_over(&mut states, |state| Some(state).filter(|state| *state != ChunkState::Absent));
    }
    let mut overlay = Presence::absent(size);
    for (chunk, state) in (0..).zip(states) {
        if state != ChunkState::Absent {
            overlay.set(ChunkIndex(chunk), state);
        }
    }
    Ok(overlay)
}

fn copy_range(from: &File, to: &File, offset: u64, len: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (offset, offset);
    while read_at < offset + len {
        let rest = (offset + len - read_at) as usize;
        if rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), rest)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
