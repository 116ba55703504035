//! Reading what a version holds: no byte is given out that did not pass its hash (DESIGN section 9,
//! invariant 4). Who finds damage here tells the store, which looks into it (`suspects.rs`).

use super::{ChunkError, Place, StoredVersion};
use model::{ByteRange, CHUNK_SIZE, ChunkHash, ChunkIndex};
use std::os::unix::fs::FileExt;

impl StoredVersion {
    /// Reads the chunk, whole and zero-padded, into `buffer` (64 KiB) and compares it with the
    /// manifest.
    pub fn verify_chunk(&self, chunk: ChunkIndex, buffer: &mut [u8]) -> Result<(), ChunkError> {
        let read = self.read_chunk(chunk, buffer);
        if let Err(ChunkError::Io { .. }) = &read {
            self.suspects.add(self.root, chunk);
        }
        read?;
        self.compare(chunk, buffer)
    }

    /// Fills `buffer` from `offset`, inside the disk; every chunk that is touched is compared with
    /// the manifest before a byte of it is given out.
    pub fn read_verified(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ChunkError> {
        let mut rest = buffer;
        let mut whole_chunk = Vec::new();
        for part in ByteRange::new(offset, rest.len() as u64).by_chunk() {
            let (piece, after) = rest.split_at_mut(part.len as usize);
            rest = after;
            let from = part.within as usize;
            match self.place(part.chunk) {
                Place::Zero => piece.fill(0),
                _ if piece.len() == CHUNK_SIZE as usize => self.verify_chunk(part.chunk, piece)?,
                _ => {
                    whole_chunk.resize(CHUNK_SIZE as usize, 0);
                    self.verify_chunk(part.chunk, &mut whole_chunk)?;
                    piece.copy_from_slice(&whole_chunk[from..from + piece.len()]);
                }
            }
        }
        Ok(())
    }

    /// Compares a whole chunk that was read with the manifest.
    pub(crate) fn compare(&self, chunk: ChunkIndex, bytes: &[u8]) -> Result<(), ChunkError> {
        let (found, expected) = (ChunkHash::of(bytes), self.chunk_hash(chunk)?);
        if found == expected {
            return Ok(());
        }
        self.suspects.add(self.root, chunk);
        let reason = format!("its bytes hash to {found}, its name is {expected}");
        Err(ChunkError::Corrupt { chunk: chunk.0, reason })
    }

    /// Reads the chunk, whole and zero-padded, into `buffer` (64 KiB), and compares it with nothing.
    pub(crate) fn read_chunk(&self, chunk: ChunkIndex, buffer: &mut [u8]) -> Result<(), ChunkError> {
        let len = self.size().chunk_len(chunk) as usize;
        buffer[len..].fill(0);
        // Before the place is looked at: what is fresh no more is stored.
        let fresh = self.fresh_if_missing(chunk);
        match self.place(chunk) {
            Place::Missing => match fresh {
                Some(fresh) => buffer[..len].copy_from_slice(&fresh),
                None => return Err(ChunkError::Missing(chunk.0)),
            },
            Place::Quarantined => return Err(quarantined(chunk)),
            Place::Zero => buffer.fill(0),
            Place::Layer(layer) => {
                let file = self.layers[usize::from(layer)].file();
                let read = file.read_exact_at(&mut buffer[..len], chunk.offset());
                read.map_err(|source| ChunkError::Io { chunk: chunk.0, source })?;
            }
        }
        Ok(())
    }
}

fn quarantined(chunk: ChunkIndex) -> ChunkError {
    let reason = "it was found damaged and is not read until it is repaired".into();
    ChunkError::Corrupt { chunk: chunk.0, reason }
}
