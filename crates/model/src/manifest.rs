//! The list chunk -> hash of one version, and its hash, the root.
//!
//! A manifest is a header and the hashes of its pages; a page is the hashes of 1,024 consecutive
//! chunks (64 MiB of disk). Versions share the pages that they have in common, and a reader needs
//! only the pages it touches: a 1 TB disk has 488 MB of hashes.
//!
//! Encoded, all integers little-endian (revision 1; `docs/formats.md` has the golden file):
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `HWMANIF1`, the last digit is the revision |
//! | 8 | 8 | disk size in bytes |
//! | 16 | 4 | chunk size in bytes: 65,536 |
//! | 20 | 4 | number of pages = ceil(chunks / 1,024) |
//! | 24 | 32 x n | page hashes |
//!
//! root = BLAKE3 derive_key("headwater 2026-11 manifest root v1", all of the above).

use crate::chunk::{CHUNK_SIZE, ChunkIndex, DiskSize, DiskSizeError};
use crate::hash::{ChunkHash, PageHash, Root};

/// How many chunk hashes a page holds.
pub const PAGE_CHUNKS: u32 = 1024;
/// The bytes of an encoded page: 1,024 hashes of 32 bytes.
pub const PAGE_BYTES: usize = PAGE_CHUNKS as usize * 32;

const MAGIC: &[u8; 8] = b"HWMANIF1";
const HEADER_BYTES: usize = 24;

/// The header and page hashes of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    size: DiskSize,
    pages: Vec<PageHash>,
}

/// Why bytes are no manifest or no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not ours, or of a revision that this program does not know.
    #[error("not a manifest of revision 1")]
    Magic,
    /// Shorter or longer than its header says.
    #[error("a manifest of {found} bytes where its header asks for {expected}")]
    Length {
        /// Bytes that the header asks for.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// A chunk size other than 64 KiB.
    #[error("chunk size {0}: this program reads 65536 only")]
    ChunkSize(u32),
    /// Not a possible disk.
    #[error("impossible disk size: {0}")]
    DiskSize(#[from] DiskSizeError),
    /// The number of pages does not follow from the disk size.
    #[error("{found} pages where the disk size asks for {expected}")]
    PageCount {
        /// Pages by the disk size.
        expected: u32,
        /// Pages by the header.
        found: u32,
    },
    /// A page is 1,024 hashes, always.
    #[error("a page of {0} bytes instead of 32768")]
    PageLength(usize),
}

impl Manifest {
    /// Builds the manifest of a disk of `size` from its pages' hashes, in disk order.
    ///
    /// Panics where the number of pages does not follow from the size: only a bug can do that.
    pub fn new(size: DiskSize, pages: Vec<PageHash>) -> Self {
        assert_eq!(pages.len(), page_count(size) as usize, "one hash for each 64 MiB");
        Self { size, pages }
    }

    /// The size of the virtual disk.
    pub fn size(&self) -> DiskSize {
        self.size
    }

    /// The page hashes in disk order.
    pub fn pages(&self) -> &[PageHash] {
        &self.pages
    }

    /// The bytes described at the top of this file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.pages.len() * 32);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.size.bytes().to_le_bytes());
        bytes.extend_from_slice(&CHUNK_SIZE.to_le_bytes());
        bytes.extend_from_slice(&(self.pages.len() as u32).to_le_bytes());
        self.pages.iter().for_each(|page| bytes.extend_from_slice(page.as_bytes()));
        bytes
    }

    /// Reads the bytes of [`Manifest::encode`]; the caller compares [`Manifest::root`] with the
    /// root it asked for.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let header = bytes
            .get(..HEADER_BYTES)
            .ok_or(ManifestError::Length { expected: HEADER_BYTES, found: bytes.len() })?;
        if &header[..8] != MAGIC {
            return Err(ManifestError::Magic);
        }
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        let size = DiskSize::new(u64::from_le_bytes(header[8..16].try_into().expect("8 bytes")))?;
        if word(16) != CHUNK_SIZE {
            return Err(ManifestError::ChunkSize(word(16)));
        }
        let (expected, found) = (page_count(size), word(20));
        if expected != found {
            return Err(ManifestError::PageCount { expected, found });
        }
        let expected_len = HEADER_BYTES + found as usize * 32;
        if bytes.len() != expected_len {
            return Err(ManifestError::Length { expected: expected_len, found: bytes.len() });
        }
        let pages = hashes(&bytes[HEADER_BYTES..]).map(PageHash::from_bytes).collect();
        Ok(Self { size, pages })
    }

    /// The root: the one name of this version's content.
    pub fn root(&self) -> Root {
        Root::of(&self.encode())
    }
}

/// How many pages the manifest of a disk of `size` has.
pub fn page_count(size: DiskSize) -> u32 {
    size.chunk_count().div_ceil(PAGE_CHUNKS)
}

/// The page that `chunk` is in, and its place there.
pub fn page_of(chunk: ChunkIndex) -> (usize, usize) {
    ((chunk.0 / PAGE_CHUNKS) as usize, (chunk.0 % PAGE_CHUNKS) as usize)
}

/// The hashes of 1,024 consecutive chunks; those past the disk's end are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page(Box<[ChunkHash]>);

impl Page {
    /// A page that says "all zero".
    pub fn zero() -> Self {
        Self(vec![ChunkHash::ZERO; PAGE_CHUNKS as usize].into_boxed_slice())
    }

    /// The hash at `place` (0 to 1,023).
    pub fn get(&self, place: usize) -> ChunkHash {
        self.0[place]
    }

    /// Sets the hash at `place` (0 to 1,023).
    pub fn set(&mut self, place: usize, hash: ChunkHash) {
        self.0[place] = hash;
    }

    /// All 1,024 hashes in order.
    pub fn hashes(&self) -> &[ChunkHash] {
        &self.0
    }

    /// The 32,768 bytes of the page: its hashes one after the other.
    pub fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|hash| *hash.as_bytes()).collect()
    }

    /// Reads the bytes of [`Page::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() != PAGE_BYTES {
            return Err(ManifestError::PageLength(bytes.len()));
        }
        Ok(Self(hashes(bytes).map(ChunkHash::from_bytes).collect()))
    }

    /// The name of the page.
    pub fn hash(&self) -> PageHash {
        PageHash::of(&self.encode())
    }
}

fn hashes(bytes: &[u8]) -> impl Iterator<Item = [u8; 32]> + '_ {
    bytes.chunks_exact(32).map(|hash| hash.try_into().expect("32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(size: u64) -> Manifest {
        let size = DiskSize::new(size).unwrap();
        let page = |n: u32| {
            let mut page = Page::zero();
            page.set(0, ChunkHash::from_bytes([n as u8 + 1; 32]));
            page.hash()
        };
        Manifest::new(size, (0..page_count(size)).map(page).collect())
    }

    /// Changing the format must change the revision: every root in every farm depends on it.
    #[test]
    fn the_root_of_a_known_manifest_never_changes() {
        let manifest = Manifest::new(DiskSize::new(1 << 20).unwrap(), vec![Page::zero().hash()]);
        assert_eq!(manifest.root().to_string(), include_str!("../golden/manifest-1.root").trim());
    }

    #[test]
    fn the_golden_manifest_is_read_and_written_to_the_byte() {
        let golden = include_bytes!("../golden/manifest-1.bin");
        let manifest = Manifest::decode(golden).unwrap();
        assert_eq!(manifest, sample(200 << 20));
        assert_eq!(manifest.encode(), golden);
    }

    #[test]
    fn a_wrong_page_count_is_refused_before_anything_is_allocated() {
        let mut bytes = sample(1 << 20).encode();
        bytes[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Manifest::decode(&bytes), Err(ManifestError::PageCount { expected: 1, found: u32::MAX }));
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(sectors in 1u64..1 << 22) {
            let manifest = sample(sectors * 512);
            prop_assert_eq!(Manifest::decode(&manifest.encode()).unwrap(), manifest);
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::decode(&bytes);
            let _ = Page::decode(&bytes);
        }
    }
}
