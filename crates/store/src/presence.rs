//! The presence file of a layer: what the layer says about each chunk of the disk.
//!
//! A file of its own beside the data, written and synced only after the data is (DESIGN section 9,
//! invariant 3). Blocks of 4 KiB, each with its own checksum, so that a later writer can add
//! chunks by rewriting single blocks and a torn write is noticed. Revision 1, little-endian:
//!
//! | offset in the file | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `HWPRESN1`, the last digit is the revision |
//! | 8 | 8 | disk size in bytes |
//! | 16 | 4 | chunk size in bytes: 65,536 |
//! | 20 | 4 | number of state blocks = ceil(chunks / 16,256) |
//! | 24 | 4,040 | zero |
//! | 4,064 | 32 | checksum of block 0 |
//! | 4,096 x n | 4,064 | states of chunks (n - 1) x 16,256 and on, 2 bits each, lowest bits first |
//! | 4,096 x n + 4,064 | 32 | checksum of block n |
//!
//! States: 0 absent (look in the layer below), 1 stored here, 2 zero here, 3 never. States past
//! the last chunk are 0. Checksum of block n = BLAKE3 derive_key("headwater 2026-11 presence block
//! v1", n as 4 bytes, the block's first 4,064 bytes).

use model::{CHUNK_SIZE, ChunkIndex, DiskSize};

const MAGIC: &[u8; 8] = b"HWPRESN1";
const CONTEXT: &str = "headwater 2026-11 presence block v1";
const BLOCK_BYTES: usize = 4096;
const PAYLOAD_BYTES: usize = BLOCK_BYTES - 32;
const BLOCK_CHUNKS: usize = PAYLOAD_BYTES * 4;

/// What a layer says about a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkState {
    /// Nothing: look in the layer below.
    Absent,
    /// Its bytes are in the layer's data file.
    Stored,
    /// It reads as zero; nothing is stored.
    Zero,
}

/// The states of all chunks of a disk, in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    size: DiskSize,
    /// Two bits a chunk, lowest first.
    states: Vec<u8>,
}

/// Why bytes are no presence file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PresenceError {
    #[error("the presence file is not of revision 1")]
    Magic,
    #[error("the presence file is for a disk of {found} bytes instead of {expected}")]
    Size { expected: u64, found: u64 },
    #[error("the presence file has {found} bytes instead of {expected}")]
    Length { expected: usize, found: usize },
    #[error("the checksum of presence block {0} is wrong")]
    Checksum(u32),
    #[error("chunk {0} has the impossible presence state 3")]
    State(u32),
}

impl Presence {
    /// A layer that says nothing yet.
    pub(crate) fn absent(size: DiskSize) -> Self {
        Self { size, states: vec![0; (size.chunk_count() as usize).div_ceil(4)] }
    }

    pub(crate) fn get(&self, chunk: ChunkIndex) -> ChunkState {
        let bits = self.states[chunk.0 as usize / 4] >> (chunk.0 % 4 * 2) & 3;
        match bits {
            0 => ChunkState::Absent,
            1 => ChunkState::Stored,
            _ => ChunkState::Zero,
        }
    }

    pub(crate) fn set(&mut self, chunk: ChunkIndex, state: ChunkState) {
        assert!(chunk.0 < self.size.chunk_count(), "a chunk past the disk's end");
        let bits = match state {
            ChunkState::Absent => 0,
            ChunkState::Stored => 1,
            ChunkState::Zero => 2,
        };
        let (byte, shift) = (&mut self.states[chunk.0 as usize / 4], chunk.0 % 4 * 2);
        *byte = *byte & !(3 << shift) | bits << shift;
    }

    /// Writes `value` of the state over each chunk's place in `places`, where there is a value.
    /// Stretches about which the layer says nothing cost next to nothing: a disk of 1 TiB has
    /// 16.7 million chunks, and a version has up to a thousand layers.
    pub(crate) fn lay_over<T: Copy>(&self, places: &mut [T], value: impl Fn(ChunkState) -> Option<T>) {
        let values = [ChunkState::Absent, ChunkState::Stored, ChunkState::Zero].map(value);
        for (bytes, places) in self.states.chunks(8).zip(places.chunks_mut(32)) {
            if bytes.iter().all(|byte| *byte == 0) && values[0].is_none() {
                continue;
            }
            for (byte, places) in bytes.iter().zip(places.chunks_mut(4)) {
                for (at, place) in places.iter_mut().enumerate() {
                    // State 3 was refused when the file was read.
                    if let Some(value) = values[usize::from(byte >> (2 * at) & 3).min(2)] {
                        *place = value;
                    }
                }
            }
        }
    }

    /// The bytes described at the top of this file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; file_bytes(self.size)];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.size.bytes().to_le_bytes());
        bytes[16..20].copy_from_slice(&CHUNK_SIZE.to_le_bytes());
        bytes[20..24].copy_from_slice(&(block_count(self.size) as u32).to_le_bytes());
        let blocks = bytes[BLOCK_BYTES..].chunks_exact_mut(BLOCK_BYTES);
        for (block, states) in blocks.zip(self.states.chunks(PAYLOAD_BYTES)) {
            block[..states.len()].copy_from_slice(states);
        }
        for (number, block) in bytes.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            let sum = checksum(number as u32, &block[..PAYLOAD_BYTES]);
            block[PAYLOAD_BYTES..].copy_from_slice(&sum);
        }
        bytes
    }

    /// Reads the bytes of [`Presence::encode`] for a disk of `size`.
    pub(crate) fn decode(bytes: &[u8], size: DiskSize) -> Result<Self, PresenceError> {
        if bytes.len() < BLOCK_BYTES || &bytes[..8] != MAGIC {
            return Err(PresenceError::Magic);
        }
        let found = u64::from_le_bytes(bytes[8..16].try_into().expect("8 bytes"));
        if found != size.bytes() {
            return Err(PresenceError::Size { expected: size.bytes(), found });
        }
        if bytes.len() != file_bytes(size) {
            return Err(PresenceError::Length { expected: file_bytes(size), found: bytes.len() });
        }
        let mut presence = Self::absent(size);
        for (number, block) in bytes.chunks_exact(BLOCK_BYTES).enumerate() {
            let (payload, sum) = block.split_at(PAYLOAD_BYTES);
            if checksum(number as u32, payload) != sum {
                return Err(PresenceError::Checksum(number as u32));
            }
        }
        let blocks = bytes[BLOCK_BYTES..].chunks_exact(BLOCK_BYTES);
        for (states, block) in presence.states.chunks_mut(PAYLOAD_BYTES).zip(blocks) {
            states.copy_from_slice(&block[..states.len()]);
        }
        presence.refuse_impossible_states()?;
        Ok(presence)
    }

    fn refuse_impossible_states(&self) -> Result<(), PresenceError> {
        let both = |byte: &u8| byte & byte >> 1 & 0x55 != 0;
        match self.states.iter().position(both) {
            None => Ok(()),
            Some(at) => Err(PresenceError::State(at as u32 * 4)),
        }
    }
}

fn block_count(size: DiskSize) -> usize {
    (size.chunk_count() as usize).div_ceil(BLOCK_CHUNKS)
}

fn file_bytes(size: DiskSize) -> usize {
    (1 + block_count(size)) * BLOCK_BYTES
}

fn checksum(number: u32, payload: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    *hasher.update(&number.to_le_bytes()).update(payload).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Presence {
        let mut presence = Presence::absent(DiskSize::new(20_000 * u64::from(CHUNK_SIZE)).unwrap());
        for chunk in 0..20_000 {
            let state = [ChunkState::Stored, ChunkState::Zero, ChunkState::Absent][chunk as usize % 3];
            presence.set(ChunkIndex(chunk), state);
        }
        presence
    }

    #[test]
    fn the_golden_presence_file_is_read_and_written_to_the_byte() {
        let golden = include_bytes!("../golden/presence-1.bin");
        assert_eq!(sample().encode(), golden);
        assert_eq!(Presence::decode(golden, sample().size).unwrap(), sample());
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let bytes = sample().encode();
        for at in (0..bytes.len()).step_by(97) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(Presence::decode(&bad, sample().size).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(states in proptest::collection::vec(0u8..3, 1..200)) {
            let size = DiskSize::new(states.len() as u64 * u64::from(CHUNK_SIZE) - 512).unwrap();
            let mut presence = Presence::absent(size);
            for (at, state) in states.iter().enumerate() {
                let state = [ChunkState::Absent, ChunkState::Stored, ChunkState::Zero][*state as usize];
                presence.set(ChunkIndex(at as u32), state);
                prop_assert_eq!(presence.get(ChunkIndex(at as u32)), state);
            }
            prop_assert_eq!(Presence::decode(&presence.encode(), size).unwrap(), presence);
        }
    }
}
