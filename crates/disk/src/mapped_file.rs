//! One file, read by `pread` and handed out from its mapping where it is in memory.
//!
//! What [`crate::FileDisk`] has one of and [`crate::VersionDisk`] one for each layer.

use crate::block_io::{BlockError, MappedSlice};
use crate::mapped_cache::MappedCache;
use crate::mapping::FileMapping;
use crate::residency::Residency;
use model::CHUNK_SIZE;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The most bytes that one hint brings in: what a disk reads in some milliseconds.
const MAX_PREFETCH_BYTES: u64 = 8 * 1024 * 1024;
/// From this many bytes on a range is offered as a part of its file: the kernel then hands the
/// pages on without copying them, and nothing is mapped. Below, one gathered call for many
/// replies is cheaper, by measurement.
const FROM_FILE_BYTES: u32 = 128 * 1024;

/// A file of `len` bytes whose offsets are the disk's.
#[derive(Debug)]
pub(crate) struct MappedFile {
    file: File,
    len: u64,
    residency: Arc<Residency>,
}

impl MappedFile {
    /// Maps `len` bytes of `file`, which the file must have.
    pub(crate) fn new(file: File, len: u64, cache: Arc<MappedCache>) -> io::Result<Self> {
        let mapping = FileMapping::new(&file, len)?;
        Ok(Self { file, len, residency: Residency::new(mapping, len, cache) })
    }

    /// The file itself.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The bytes in place, where they are in memory.
    #[inline]
    pub(crate) fn resident(&self, offset: u64, len: u32) -> Option<MappedSlice> {
        self.residency.is_resident(offset, len).then(|| MappedSlice {
            address: self.residency.mapping().address_of(offset),
            len,
            disk_offset: offset,
            file: (len >= FROM_FILE_BYTES).then(|| self.file.as_raw_fd()),
        })
    }

    /// Reads, and brings the rest of the touched chunks in for the neighbours' sake.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let len = buffer.len() as u64;
        self.will_need(offset, len);
        self.file.read_exact_at(buffer, offset).map_err(|error| BlockError::Io(error.to_string()))?;
        self.residency.refresh(offset, len);
        Ok(())
    }

    /// Asks for the chunks of a range to be read soon; at most 8 MiB of it.
    pub(crate) fn will_need(&self, offset: u64, len: u64) {
        let chunk = u64::from(CHUNK_SIZE);
        let start = offset / chunk * chunk;
        let end = (offset + len.min(MAX_PREFETCH_BYTES)).next_multiple_of(chunk).min(self.len);
        // A hint: where the file system refuses it, the read itself brings the bytes.
        let _ = fadvise(&self.file, start, NonZeroU64::new(end - start), Advice::WillNeed);
    }
}
