//! What every disk does with a range before it touches anything.

use crate::block_io::{BlockError, Geometry};
use crate::mapped_file::MAX_PREFETCH_BYTES;
use model::{ByteRange, CHUNK_SIZE, DiskSize};

impl Geometry {
    /// The end of `range`, where the range lies inside the disk.
    #[inline]
    pub fn check(&self, range: ByteRange) -> Result<u64, BlockError> {
        match range.end() {
            Some(end) if end <= self.size_bytes => Ok(end),
            _ => Err(BlockError::OutOfRange),
        }
    }
}

/// What is brought in for a checked range: its whole chunks, for the neighbours' sake, and at most
/// about 8 MiB.
pub(crate) fn prefetched(range: ByteRange, size: DiskSize) -> ByteRange {
    let chunk = u64::from(CHUNK_SIZE);
    let start = range.offset / chunk * chunk;
    let end = range.offset + range.len.min(MAX_PREFETCH_BYTES);
    let end = end.next_multiple_of(chunk).min(size.bytes()).max(start);
    ByteRange::new(start, end - start)
}
