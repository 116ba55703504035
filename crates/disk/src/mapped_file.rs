//! One file, read by `pread` and handed out from its mapping where it is in memory.
//!
//! What [`crate::FileDisk`] has one of and [`crate::VersionDisk`] one for each layer.

use crate::block_io::{BlockError, MappedSlice};
use crate::mapped_cache::MappedCache;
use crate::mapping::FileMapping;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// The most bytes that one hint brings in: what a disk reads in some milliseconds.
pub(crate) const MAX_PREFETCH_BYTES: u64 = 8 * 1024 * 1024;
/// Requests from this many bytes on are offered as parts of their files: the kernel then hands
/// the pages on without copying them, and nothing is mapped. Below, one gathered call for many
/// replies is cheaper, by measurement.
pub(crate) const FROM_FILE_BYTES: u64 = 128 * 1024;

/// A file whose offsets are the disk's.
#[derive(Debug)]
pub(crate) struct MappedFile {
    file: File,
    mapping: Arc<FileMapping>,
}

impl MappedFile {
    /// Maps `len` bytes of `file`, which the file must have.
    pub(crate) fn new(file: File, len: u64, cache: &MappedCache) -> io::Result<Self> {
        let mapping = cache.mapping(&file, len)?;
        Ok(Self { file, mapping })
    }

    /// The file itself.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// What is mapped of it.
    pub(crate) fn mapping(&self) -> &Arc<FileMapping> {
        &self.mapping
    }

    /// The bytes in place, of which the caller knows that they are in memory; `from_file` where
    /// the reply is long enough to be sent from the file.
    #[inline]
    pub(crate) fn slice(&self, offset: u64, len: u32, from_file: bool) -> MappedSlice {
        MappedSlice {
            address: self.mapping.address_of(offset),
            len,
            disk_offset: offset,
            file: from_file.then(|| self.file.as_raw_fd()),
        }
    }

    /// Reads exactly `buffer`.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.file.read_exact_at(buffer, offset).map_err(|error| BlockError::Io(error.to_string()))
    }

    /// When somebody last wrote to the file, in nanoseconds: ctime, which nobody sets back.
    pub(crate) fn changed_at(&self) -> io::Result<i64> {
        let metadata = self.file.metadata()?;
        Ok(metadata.ctime().wrapping_mul(1_000_000_000).wrapping_add(metadata.ctime_nsec()))
    }

    /// Asks for a range to be read soon.
    pub(crate) fn will_need(&self, offset: u64, len: u64) {
        let Some(len) = NonZeroU64::new(len) else { return };
        // A hint: where the file system refuses it, the read itself brings the bytes.
        let _ = fadvise(&self.file, offset, Some(len), Advice::WillNeed);
    }
}
