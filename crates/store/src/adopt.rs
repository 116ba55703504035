//! Adopted files: images that somebody brought by other means (a USB disk, rsync, cp). Their chunks
//! are hashed once; from then on what a version here lacks is copied from them and not fetched.
//!
//! Nothing is believed of them: each chunk is compared with the manifest when it is copied. Of a
//! file only the beginnings of its chunks' hashes are kept, in memory: after a restart it is to be
//! adopted again, where it is still needed.

use crate::receive::prefix;
use crate::store::Store;
use image::{ImageError, ImageReader, RunKind};
use model::{CHUNK_SIZE, ChunkHash};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// The most files at a time; beyond it the oldest is forgotten.
const MAX_FILES: usize = 256;
/// The most chunks of all files together: 256 GiB of data, for which 64 MiB of memory are needed.
const MAX_CHUNKS: usize = 4 << 20;
/// How much is read at a time.
const UNIT_BYTES: u64 = 1 << 20;

/// What was adopted, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    files: Mutex<Vec<Arc<SeedFile>>>,
    taken_bytes: AtomicU64,
}

/// An adopted file.
pub(crate) struct SeedFile {
    path: PathBuf,
    image: Box<dyn ImageReader>,
    /// The beginnings of the chunks' hashes and where the chunks are, in order.
    chunks: Vec<(u64, u32)>,
}

/// Why a file is not adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// It cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The observer stopped it.
    #[error("cancelled")]
    Cancelled,
    /// There are too many chunks to remember.
    #[error(
        "more than 256 GiB of data are adopted\nhint: `headwater adopt --forget` lets go of what was adopted before"
    )]
    TooMuch,
}

impl Store {
    /// Hashes an image and remembers what is in it; answers the bytes of data found. `go_on` hears
    /// how many bytes of the disk are done, and says false to stop.
    pub fn adopt(
        &self,
        path: &Path,
        image: Box<dyn ImageReader>,
        go_on: &dyn Fn(u64) -> bool,
    ) -> Result<u64, AdoptError> {
        let known: usize = self.adopted().files().iter().map(|file| file.chunks.len()).sum();
        let mut chunks = hashed(&*image, MAX_CHUNKS.saturating_sub(known), go_on)?;
        chunks.sort_unstable();
        let bytes = chunks.len() as u64 * u64::from(CHUNK_SIZE);
        let file = Arc::new(SeedFile { path: path.to_owned(), image, chunks });
        let mut files = self.adopted().files();
        files.retain(|other| other.path != path);
        if files.len() >= MAX_FILES {
            files.remove(0);
        }
        files.push(file);
        Ok(bytes)
    }

    /// Lets go of all adopted files; they themselves are not touched.
    pub fn forget_adopted(&self) {
        self.adopted().files().clear();
    }

    /// The adopted files.
    pub fn adopted_files(&self) -> Vec<PathBuf> {
        self.adopted().files().iter().map(|file| file.path.clone()).collect()
    }

    /// Bytes that were copied from adopted files since the store was opened.
    pub fn taken_bytes(&self) -> u64 {
        self.adopted().taken_bytes.load(Ordering::Relaxed)
    }
}

impl Adopted {
    /// The files, newest last.
    pub(crate) fn list(&self) -> Vec<Arc<SeedFile>> {
        self.files().clone()
    }

    /// Counts what was copied.
    pub(crate) fn took(&self, bytes: u64) {
        self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn files(&self) -> MutexGuard<'_, Vec<Arc<SeedFile>>> {
        self.files.lock().expect("no thread panics while it holds the adopted files")
    }
}

impl SeedFile {
    /// Where a chunk with this beginning of its hash is.
    pub(crate) fn find(&self, prefix: u64) -> Option<u32> {
        let at = self.chunks.binary_search_by_key(&prefix, |(known, _)| *known).ok()?;
        Some(self.chunks[at].1)
    }

    /// Reads a chunk, whole and zero-padded; none where the file cannot be read any more.
    pub(crate) fn read(&self, chunk: u32) -> Option<Vec<u8>> {
        let offset = u64::from(chunk) * u64::from(CHUNK_SIZE);
        let len = self.image.size_bytes().checked_sub(offset)?.min(u64::from(CHUNK_SIZE));
        let mut bytes = vec![0; CHUNK_SIZE as usize];
        self.image.read_at(offset, &mut bytes[..len as usize]).ok()?;
        Some(bytes)
    }
}

impl std::fmt::Debug for SeedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The chunks of an image that are not zero.
fn hashed(
    image: &dyn ImageReader,
    most: usize,
    go_on: &dyn Fn(u64) -> bool,
) -> Result<Vec<(u64, u32)>, AdoptError> {
    let (size, chunk_bytes) = (image.size_bytes(), CHUNK_SIZE as usize);
    let (mut chunks, mut offset) = (Vec::new(), 0);
    let mut unit = vec![0; UNIT_BYTES as usize];
    while offset < size {
        if !go_on(offset) {
            return Err(AdoptError::Cancelled);
        }
        let run = image.run_at(offset, size - offset)?;
        let end = offset + run.len;
        // Whole chunks only: a hole ends where its last whole chunk does.
        let skipped = end / u64::from(CHUNK_SIZE) * u64::from(CHUNK_SIZE);
        if run.kind == RunKind::Hole && (skipped > offset || end == size) {
            offset = if end == size { size } else { skipped };
            continue;
        }
        let len = UNIT_BYTES.min(size - offset);
        unit.fill(0);
        image.read_at(offset, &mut unit[..len as usize])?;
        let first = (offset / u64::from(CHUNK_SIZE)) as u32;
        for (chunk, bytes) in
            (first..).zip(unit[..(len as usize).next_multiple_of(chunk_bytes)].chunks(chunk_bytes))
        {
            let hash = ChunkHash::of(bytes);
            if hash != ChunkHash::ZERO {
                chunks.push((prefix(&hash), chunk));
            }
        }
        if chunks.len() > most {
            return Err(AdoptError::TooMuch);
        }
        offset += UNIT_BYTES;
    }
    Ok(chunks)
}
