//! Reading a chunk for a peer: verified, and without pushing what devices read out of the page
//! cache.
//!
//! What is in the cache is taken from there; everything else comes from the disk by direct I/O
//! and leaves the cache as it was (DESIGN section 9, invariant 11).

use crate::aligned::AlignedBuffer;
use crate::direct_read::DirectRead;
use crate::version::{ChunkError, Place, StoredVersion};
use model::{CHUNK_SIZE, ChunkIndex};
use rustix::io::{ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::IoSliceMut;

impl StoredVersion {
    /// The bytes of a chunk as far as they lie inside the disk, compared with the manifest.
    pub fn chunk_for_peer(&self, chunk: ChunkIndex) -> Result<Vec<u8>, ChunkError> {
        let len = self.size().chunk_len(chunk) as usize;
        let layer = match self.place(chunk) {
            Place::Zero => return Ok(vec![0; len]),
            Place::Missing => return Err(ChunkError::Missing(chunk.0)),
            Place::Quarantined => {
                let reason = "it was found damaged and is not repaired yet".into();
                return Err(ChunkError::Corrupt { chunk: chunk.0, reason });
            }
            Place::Layer(layer) => &self.layers()[usize::from(layer)],
        };
        let mut buffer = AlignedBuffer::new(CHUNK_SIZE as usize);
        if !read_cached(layer.file(), chunk, &mut buffer.bytes_mut()[..len]) {
            DirectRead::open(layer).read(chunk, len as u32, buffer.bytes_mut()).map_err(|source| {
                self.suspects.add(self.root(), chunk);
                ChunkError::Io { chunk: chunk.0, source }
            })?;
        }
        self.compare(chunk, buffer.bytes())?;
        Ok(buffer.bytes()[..len].to_vec())
    }
}

/// Reads the chunk where all of it is in the page cache.
fn read_cached(file: &File, chunk: ChunkIndex, buffer: &mut [u8]) -> bool {
    let len = buffer.len();
    let read = preadv2(file, &mut [IoSliceMut::new(buffer)], chunk.offset(), ReadWriteFlags::NOWAIT);
    read.is_ok_and(|read| read == len)
}
