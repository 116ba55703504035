//! A sealed version as a read-only disk: each chunk from the topmost layer that has it.
//!
//! One look into the store's flat map says where a chunk lies, so that fifty layers read as fast
//! as one. A chunk is compared with its name when it is first read and again after it has left the
//! memory, or after somebody has written to a file; in between its bytes are handed out from the
//! page cache as they are. A chunk that this
//! server lacks is an error here; falling through to a peer is a decorator's business.

use crate::block_io::{Access, BlockError, BlockIo, Extent, ExtentKind, Geometry, Piece};
use crate::mapped_cache::MappedCache;
use crate::mapped_file::{FROM_FILE_BYTES, MappedFile};
use crate::mapping::PAGE;
use crate::range::prefetched;
use crate::residency::{Mapped, Residency, SPAN_CHUNKS};
use model::{ByteRange, CHUNK_SIZE, ChunkIndex};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use store::{Place, StoredVersion, version::ChunkError};

/// Runs from this many bytes on are sent from their files, in a request that is long enough.
const FROM_FILE_RUN: u64 = CHUNK_SIZE as u64 / 2;

/// A disk over one stored version; keeps the version readable while it is open.
#[derive(Debug)]
pub struct VersionDisk {
    layers: Arc<MappedLayers>,
    residency: Arc<Residency>,
}

/// The mapped layers of a version: to be asked as one disk, so that what is asked of the kernel
/// does not grow with the layers.
#[derive(Debug)]
struct MappedLayers {
    version: Arc<StoredVersion>,
    files: Vec<MappedFile>,
    /// When each file was last changed, in nanoseconds.
    changed: Vec<AtomicI64>,
}

/// A part of a request that lies in one place.
#[derive(Clone, Copy)]
struct Run {
    place: Place,
    range: ByteRange,
}

impl VersionDisk {
    /// Maps the layers of `version`; what is mapped at once is bounded by `cache`.
    pub fn open(version: Arc<StoredVersion>, cache: &Arc<MappedCache>) -> io::Result<Self> {
        let size = version.size().bytes();
        let map = |layer: &Arc<store::Layer>| MappedFile::new(layer.file().try_clone()?, size, cache);
        let files = version.layers().iter().map(map).collect::<io::Result<Vec<MappedFile>>>()?;
        let changed = files.iter().map(|file| file.changed_at().map(AtomicI64::new));
        let changed = changed.collect::<io::Result<_>>()?;
        let layers = Arc::new(MappedLayers { version, files, changed });
        let residency = Residency::new(Arc::clone(&layers) as Arc<dyn Mapped>, size, Arc::clone(cache));
        Ok(Self { layers, residency })
    }

    /// Reads chunks that are not known to be right: whole, compared with their names. What was read
    /// from memory may be handed out from there from now on, for as long as it stays there.
    fn read_verified(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let changes = self.residency.changes();
        self.version().read_verified(offset, buffer).map_err(|error| match error {
            ChunkError::Missing(chunk) => missing(ChunkIndex(chunk).offset()),
            ChunkError::Corrupt { chunk, .. } => quarantined(ChunkIndex(chunk).offset()),
            ChunkError::Io { .. } => BlockError::Io(error.to_string()),
        })?;
        self.residency.verified(offset, buffer.len() as u64, changes);
        Ok(())
    }

    /// The version that is read.
    pub fn version(&self) -> &Arc<StoredVersion> {
        &self.layers.version
    }

    fn read_runs(&self, range: ByteRange, buffer: &mut [u8]) -> Result<(), BlockError> {
        let mut rest = buffer;
        for run in self.layers.runs(range) {
            let (piece, after) = rest.split_at_mut(run.range.len as usize);
            rest = after;
            match run.place {
                Place::Zero => piece.fill(0),
                Place::Layer(layer) => self.layers.file(layer).read_at(run.range.offset, piece)?,
                // What has just come is not in its file for good yet.
                Place::Missing | Place::Quarantined => self.read_verified(run.range.offset, piece)?,
            }
        }
        Ok(())
    }
}

impl MappedLayers {
    /// The runs of a checked range by the place where they lie.
    fn runs(&self, range: ByteRange) -> impl Iterator<Item = Run> {
        let mut parts = range.by_chunk().peekable();
        std::iter::from_fn(move || {
            let first = parts.next()?;
            let place = self.version.place(first.chunk);
            let offset = first.chunk.offset() + u64::from(first.within);
            let mut len = u64::from(first.len);
            while let Some(part) = parts.next_if(|part| self.version.place(part.chunk) == place) {
                len += u64::from(part.len);
            }
            Some(Run { place, range: ByteRange::new(offset, len) })
        })
    }

    fn file(&self, layer: u16) -> &MappedFile {
        &self.files[usize::from(layer)]
    }
}

impl Mapped for MappedLayers {
    fn residency(&self, offset: u64, len: usize, found: &mut [u8]) -> io::Result<()> {
        for run in self.runs(ByteRange::new(offset, len as u64)) {
            let first = (run.range.offset - offset) as usize / PAGE;
            let pages = &mut found[first..][..(run.range.len as usize).div_ceil(PAGE)];
            match run.place {
                Place::Zero => pages.fill(1),
                Place::Missing | Place::Quarantined => pages.fill(0),
                Place::Layer(layer) => {
                    let mapping = self.file(layer).mapping();
                    mapping.residency(run.range.offset, run.range.len as usize, pages)?;
                }
            }
        }
        Ok(())
    }

    fn nameless(&self, offset: u64) -> u32 {
        let first = ChunkIndex::of_offset(offset).0;
        let end = self.version.size().chunk_count().min(first + SPAN_CHUNKS);
        let is_zero = |chunk: u32| u32::from(self.version.place(ChunkIndex(chunk)) == Place::Zero);
        (first..end).fold(0, |bits, chunk| bits | is_zero(chunk) << (chunk - first))
    }

    fn was_changed(&self) -> bool {
        let is_other = |(file, known): (&MappedFile, &AtomicI64)| {
            // A file that cannot be asked cannot be read either.
            file.changed_at().is_ok_and(|at| known.swap(at, Ordering::AcqRel) != at)
        };
        // All of them, so that each change is told of once.
        self.files.iter().zip(&self.changed).map(is_other).fold(false, |any, is| any | is)
    }

    fn unmap_pages(&self, offset: u64, len: usize) {
        for run in self.runs(ByteRange::new(offset, len as u64)) {
            if let Place::Layer(layer) = run.place {
                self.file(layer).mapping().unmap_pages(run.range.offset, run.range.len as usize);
            }
        }
    }
}

impl BlockIo for VersionDisk {
    fn geometry(&self) -> Geometry {
        Geometry { size_bytes: self.version().size().bytes(), access: Access::ReadOnly }
    }

    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        if range.len == 0 || range.len > u64::from(u32::MAX) || self.geometry().check(range).is_err() {
            return false;
        }
        if !self.residency.is_resident(range.offset, range.len) {
            return false;
        }
        let (before, long) = (pieces.len(), range.len >= FROM_FILE_BYTES);
        for run in self.layers.runs(range) {
            let (offset, len) = (run.range.offset, run.range.len as u32);
            pieces.push(match run.place {
                Place::Zero => Piece::Zero(len),
                Place::Layer(layer) => {
                    let from_file = long && run.range.len >= FROM_FILE_RUN;
                    Piece::Mapped(self.layers.file(layer).slice(offset, len, from_file))
                }
                Place::Missing | Place::Quarantined => {
                    pieces.truncate(before);
                    return false;
                }
            });
        }
        true
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let range = ByteRange::new(offset, buffer.len() as u64);
        self.geometry().check(range)?;
        if self.residency.is_resident(offset, range.len) {
            return self.read_runs(range, buffer);
        }
        self.prefetch(range);
        self.read_verified(offset, buffer)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn trim(&self, _: ByteRange) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn write_zeroes(&self, _: ByteRange) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        self.geometry().check(range)?;
        let mut extents = Vec::<Extent>::new();
        for run in self.layers.runs(range) {
            let kind = if run.place == Place::Zero { ExtentKind::Hole } else { ExtentKind::Data };
            let full = extents.len() == limit;
            match extents.last_mut() {
                Some(last) if last.kind == kind => last.len += run.range.len,
                _ if full => break,
                _ => extents.push(Extent { len: run.range.len, kind }),
            }
        }
        Ok(extents)
    }

    fn is_far(&self, _: ByteRange) -> bool {
        false
    }

    fn prefetch(&self, range: ByteRange) {
        if self.geometry().check(range).is_err() {
            return;
        }
        for run in self.layers.runs(prefetched(range, self.version().size())) {
            if let Place::Layer(layer) = run.place {
                self.layers.file(layer).will_need(run.range.offset, run.range.len);
            }
        }
    }
}

fn missing(offset: u64) -> BlockError {
    BlockError::Io(format!("the chunk at byte {offset} is not on this server"))
}

fn quarantined(offset: u64) -> BlockError {
    BlockError::Io(format!("the chunk at byte {offset} is damaged and not repaired yet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;
    use store::{ImportOptions, Quiet, Store};

    /// A disk with data, zero chunks and a partial last chunk, imported into a store.
    fn imported(directory: &std::path::Path) -> (VersionDisk, Vec<u8>) {
        let mut bytes: Vec<u8> =
            (0..3_000_320u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        bytes[300_000..1_200_000].fill(0);
        let store = Store::open(directory).unwrap();
        let options = ImportOptions { reserve_bytes: 0, ..ImportOptions::default() };
        let imported = store.import_stream(&mut &bytes[..], None, &options, &Quiet).unwrap();
        let version = store.version(&imported.root).unwrap();
        (VersionDisk::open(version, &MappedCache::new(1 << 30)).unwrap(), bytes)
    }

    #[test]
    fn it_keeps_the_contract_of_a_read_only_disk() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, bytes) = imported(directory.path());
        contract::read_only(&disk, &bytes);
    }

    #[test]
    fn a_byte_that_the_disk_changed_is_refused_and_right_bytes_are_served_from_memory() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let (disk, bytes) = imported(directory.path());
        let layer = std::fs::read_dir(directory.path().join("layers")).unwrap().next().unwrap().unwrap();
        let path = layer.path().join("data");
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let mut piece = vec![0; 4096];
        disk.read_at(0, &mut piece).unwrap();
        assert!(disk.read_resident(ByteRange::new(0, 4096), &mut Vec::new()), "it was compared");

        let (range, chunk) = (ByteRange::new(70_000, 100), 65_536..131_072);
        let mut pieces = Vec::new();
        assert!(!disk.read_resident(range, &mut pieces), "nobody has compared it");
        std::os::unix::fs::FileExt::write_all_at(&file, &[!bytes[80_000]], 80_000).unwrap();
        let refused = disk.read_at(range.offset, &mut piece[..100]).unwrap_err();
        assert!(refused.to_string().contains("damaged"), "{refused}");
        assert!(!disk.read_resident(range, &mut pieces) && pieces.is_empty());

        std::os::unix::fs::FileExt::write_all_at(&file, &bytes[chunk], 65_536).unwrap();
        disk.read_at(range.offset, &mut piece[..100]).unwrap();
        assert_eq!(piece[..100], bytes[70_000..70_100]);
    }

    #[test]
    fn bytes_that_somebody_writes_over_those_in_memory_are_refused_soon() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let (disk, bytes) = imported(directory.path());
        let layer = std::fs::read_dir(directory.path().join("layers")).unwrap().next().unwrap().unwrap();
        let file = std::fs::File::options().write(true).open(layer.path().join("data")).unwrap();
        let mut piece = vec![0; 4096];
        disk.read_at(0, &mut piece).unwrap();
        assert!(disk.read_resident(ByteRange::new(0, 4096), &mut Vec::new()), "it was compared");

        std::os::unix::fs::FileExt::write_all_at(&file, &[!bytes[5]], 5).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let refused = loop {
            match disk.read_at(0, &mut piece) {
                Err(error) => break error,
                Ok(()) => assert!(std::time::Instant::now() < deadline, "the other byte is served for ever"),
            }
        };
        assert!(refused.to_string().contains("damaged"), "{refused}");
        assert!(!disk.read_resident(ByteRange::new(0, 4096), &mut Vec::new()));

        std::os::unix::fs::FileExt::write_all_at(&file, &bytes[5..6], 5).unwrap();
        disk.read_at(0, &mut piece).unwrap();
        assert_eq!(piece, bytes[..4096]);
    }

    #[test]
    fn chunks_of_zeros_are_neither_stored_nor_mapped() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, _) = imported(directory.path());
        let mut pieces = Vec::new();
        assert!(disk.read_resident(ByteRange::new(400_000, 300_000), &mut pieces));
        assert!(matches!(pieces[..], [Piece::Zero(300_000)]));
        let extents = disk.extents(ByteRange::new(0, 3_000_320), 9).unwrap();
        assert_eq!(extents.len(), 3);
        assert_eq!(extents[1].kind, ExtentKind::Hole);
    }
}
