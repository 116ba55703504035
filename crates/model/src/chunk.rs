//! Chunk arithmetic: which chunks a byte range of the virtual disk touches.

use serde::{Deserialize, Serialize};

/// The size of a chunk in bytes, fixed by manifest revision 1 (DESIGN section 4).
///
/// Measured: 64 KiB sends 5 % (ext4) to 10 % (NTFS) more than 4 KiB for an operating system
/// update, with a sixteenth of the hashes; 1 MiB sends 14 % to 92 % more.
pub const CHUNK_SIZE: u32 = 64 * 1024;

/// The largest virtual disk in bytes: 256 TiB keeps page counts within 32 bits.
pub const MAX_DISK_SIZE: u64 = 1 << 48;

/// The position of a chunk in the virtual disk: byte offset / 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkIndex(pub u32);

impl ChunkIndex {
    /// The chunk that holds the byte at `offset`.
    pub fn of_offset(offset: u64) -> Self {
        let index = offset / u64::from(CHUNK_SIZE);
        assert!(index <= u64::from(u32::MAX), "offset beyond the largest disk");
        Self(index as u32)
    }

    /// The byte offset of the chunk's first byte.
    pub fn offset(self) -> u64 {
        u64::from(self.0) * u64::from(CHUNK_SIZE)
    }
}

/// The size of a virtual disk in bytes: a positive multiple of 512, at most 256 TiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct DiskSize(u64);

/// Why a number of bytes is no disk size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskSizeError {
    /// No disk has no bytes.
    #[error("a disk of 0 bytes cannot be streamed")]
    Empty,
    /// Every block protocol addresses at least 512-byte sectors.
    #[error("a disk of {0} bytes is not a whole number of 512-byte sectors")]
    Unaligned(u64),
    /// Past the format's limit.
    #[error("a disk of {0} bytes is larger than the limit of 256 TiB")]
    TooLarge(u64),
}

impl DiskSize {
    /// Accepts a positive multiple of 512 up to 256 TiB.
    pub fn new(bytes: u64) -> Result<Self, DiskSizeError> {
        match bytes {
            0 => Err(DiskSizeError::Empty),
            b if b % 512 != 0 => Err(DiskSizeError::Unaligned(b)),
            b if b > MAX_DISK_SIZE => Err(DiskSizeError::TooLarge(b)),
            b => Ok(Self(b)),
        }
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// How many chunks the disk has; the last one may be partial.
    pub fn chunk_count(self) -> u32 {
        self.0.div_ceil(u64::from(CHUNK_SIZE)) as u32
    }

    /// How many bytes of `chunk` lie inside the disk: 64 KiB but for the last chunk.
    pub fn chunk_len(self, chunk: ChunkIndex) -> u32 {
        self.0.saturating_sub(chunk.offset()).min(u64::from(CHUNK_SIZE)) as u32
    }

    /// Whether the whole of `range` lies inside the disk.
    pub fn contains(self, range: ByteRange) -> bool {
        range.end().is_some_and(|end| end <= self.0)
    }
}

impl TryFrom<u64> for DiskSize {
    type Error = DiskSizeError;
    fn try_from(bytes: u64) -> Result<Self, DiskSizeError> {
        Self::new(bytes)
    }
}

impl From<DiskSize> for u64 {
    fn from(size: DiskSize) -> Self {
        size.0
    }
}

/// A range of bytes of the virtual disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

impl ByteRange {
    /// The range of `len` bytes from `offset`.
    pub fn new(offset: u64, len: u64) -> Self {
        Self { offset, len }
    }

    /// The offset after the last byte, or none where it passes 2^64.
    pub fn end(self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }

    /// The parts of the range by chunk, in order: the chunk, and where in it the part lies.
    pub fn by_chunk(self) -> impl Iterator<Item = ChunkPart> {
        let end = self.end().expect("the caller has checked the range against the disk");
        let mut at = self.offset;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let chunk = ChunkIndex::of_offset(at);
            let within = (at - chunk.offset()) as u32;
            let len = (end - at).min(u64::from(CHUNK_SIZE - within)) as u32;
            at += u64::from(len);
            Some(ChunkPart { chunk, within, len })
        })
    }
}

/// The part of a byte range that lies in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPart {
    /// The chunk.
    pub chunk: ChunkIndex,
    /// Offset of the part's first byte in the chunk, in bytes.
    pub within: u32,
    /// Length of the part in bytes: 1 to 64 KiB.
    pub len: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_disk_size_is_whole_sectors_and_bounded() {
        assert_eq!(DiskSize::new(0), Err(DiskSizeError::Empty));
        assert_eq!(DiskSize::new(513), Err(DiskSizeError::Unaligned(513)));
        assert!(DiskSize::new(MAX_DISK_SIZE).is_ok());
        assert!(DiskSize::new(MAX_DISK_SIZE + 512).is_err());
    }

    #[test]
    fn the_last_chunk_may_be_partial() {
        let size = DiskSize::new(u64::from(CHUNK_SIZE) + 512).unwrap();
        assert_eq!(size.chunk_count(), 2);
        assert_eq!(size.chunk_len(ChunkIndex(0)), CHUNK_SIZE);
        assert_eq!(size.chunk_len(ChunkIndex(1)), 512);
        assert_eq!(size.chunk_len(ChunkIndex(2)), 0);
    }

    proptest! {
        #[test]
        fn parts_tile_the_range_without_gap_or_overlap(offset in 0u64..1 << 40, len in 0u64..1 << 22) {
            let mut at = offset;
            for part in ByteRange::new(offset, len).by_chunk() {
                prop_assert_eq!(part.chunk.offset() + u64::from(part.within), at);
                prop_assert!(part.len > 0 && part.within + part.len <= CHUNK_SIZE);
                at += u64::from(part.len);
            }
            prop_assert_eq!(at, offset + len);
        }
    }
}
