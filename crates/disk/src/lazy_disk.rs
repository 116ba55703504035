//! A version that is here in part, as a disk: what is missing is fetched, stored, and then read.
//!
//! Only a missing chunk falls through to the source; one that is damaged here is an error here
//! (what is damaged is the scrub's and repair's business, and a disk that hid it would hide it
//! from everybody). What is here is served as fast as by a [`VersionDisk`], which does it.

use crate::block_io::{Access, BlockError, BlockIo, Extent, Geometry, Piece};
use crate::chunk_source::{ChunkSource, FetchError};
use crate::version_disk::VersionDisk;
use model::{ByteRange, ChunkIndex, DiskSize};
use std::sync::Arc;

/// Chunks behind a missing one that are asked for with it: 1 MiB, by eye, what a kernel reads
/// ahead eight times.
const AHEAD_CHUNKS: u32 = 16;
/// How often a chunk that was fetched may be missing again, which only a failing disk can do.
const MOST_ROUNDS: u32 = 3;

/// A disk over one version, whose missing chunks come from a source.
pub struct LazyDisk {
    near: VersionDisk,
    source: Arc<dyn ChunkSource>,
}

impl LazyDisk {
    /// Lets what `near` lacks come from `source`.
    pub fn new(near: VersionDisk, source: Arc<dyn ChunkSource>) -> Self {
        Self { near, source }
    }

    /// The disk of what is here.
    pub fn near(&self) -> &VersionDisk {
        &self.near
    }

    fn size(&self) -> DiskSize {
        self.near.version().size()
    }

    fn is_missing(&self, chunk: ChunkIndex) -> bool {
        !self.near.version().is_readable(chunk)
    }

    /// The missing chunks of a checked range.
    fn missing(&self, range: ByteRange) -> Vec<ChunkIndex> {
        let chunks = range.by_chunk().map(|part| part.chunk);
        chunks.filter(|chunk| self.is_missing(*chunk)).collect()
    }

    /// Waits until all of a checked range is here.
    fn bring(&self, range: ByteRange) -> Result<(), BlockError> {
        for _ in 0..MOST_ROUNDS {
            let missing = self.missing(range);
            let Some(last) = missing.last() else { return Ok(()) };
            self.expect_after(*last);
            self.source.fetch(self.near.version().root(), &missing).map_err(fetch_error)?;
        }
        match self.missing(range).first() {
            None => Ok(()),
            Some(chunk) => Err(BlockError::Io(format!("chunk {} came and is missing again", chunk.0))),
        }
    }

    fn expect_after(&self, chunk: ChunkIndex) {
        let after = chunk.0 + 1..self.size().chunk_count().min(chunk.0 + 1 + AHEAD_CHUNKS);
        let missing: Vec<ChunkIndex> =
            after.map(ChunkIndex).filter(|chunk| self.is_missing(*chunk)).collect();
        if !missing.is_empty() {
            self.source.expect(self.near.version().root(), &missing);
        }
    }
}

impl BlockIo for LazyDisk {
    fn geometry(&self) -> Geometry {
        Geometry { access: Access::ReadOnly, ..self.near.geometry() }
    }

    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        self.near.read_resident(range, pieces)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let range = ByteRange::new(offset, buffer.len() as u64);
        self.geometry().check(range)?;
        if !self.near.version().is_complete() {
            self.bring(range)?;
        }
        self.near.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        self.near.write_at(offset, data)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.near.flush()
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        self.near.trim(range)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        self.near.write_zeroes(range)
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        self.near.extents(range, limit)
    }

    fn is_far(&self, range: ByteRange) -> bool {
        !self.near.version().is_complete()
            && self.geometry().check(range).is_ok()
            && range.by_chunk().any(|part| self.is_missing(part.chunk))
    }

    fn prefetch(&self, range: ByteRange) {
        if self.geometry().check(range).is_err() {
            return;
        }
        self.near.prefetch(range);
        let missing = self.missing(range);
        if !missing.is_empty() {
            self.source.expect(self.near.version().root(), &missing);
        }
    }
}

fn fetch_error(error: FetchError) -> BlockError {
    BlockError::Io(error.to_string())
}

#[cfg(test)]
mod tests;
