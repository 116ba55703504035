//! A version that is here in part, as an image: who looks for boot files in it waits for what it
//! touches only.

use disk::ChunkSource;
use image::{ImageError, ImageReader, Run};
use model::{ByteRange, ChunkIndex};
use std::io;
use std::sync::Arc;
use store::StoredVersion;

/// An image whose missing chunks come from the other servers; what is read is verified.
pub(in crate::serve) struct FetchedImage {
    version: Arc<StoredVersion>,
    source: Arc<dyn ChunkSource>,
}

impl FetchedImage {
    /// Lets what `version` lacks come from `source`.
    pub(in crate::serve) fn new(version: Arc<StoredVersion>, source: Arc<dyn ChunkSource>) -> Self {
        Self { version, source }
    }
}

impl ImageReader for FetchedImage {
    fn size_bytes(&self) -> u64 {
        self.version.size_bytes()
    }

    fn run_at(&self, offset: u64, limit: u64) -> Result<Run, ImageError> {
        self.version.run_at(offset, limit)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        let touched = ByteRange::new(offset, buffer.len() as u64).by_chunk().map(|part| part.chunk);
        let missing: Vec<ChunkIndex> = touched.filter(|chunk| !self.version.is_readable(*chunk)).collect();
        if !missing.is_empty() {
            self.source.fetch(self.version.root(), &missing).map_err(|error| ImageError::Io {
                context: "cannot fetch a part of the version".into(),
                source: io::Error::other(error.to_string()),
            })?;
        }
        self.version.read_at(offset, buffer)
    }
}
