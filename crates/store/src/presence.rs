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
//! States: 0 absent (look in the layer below), 1 stored here, 2 zero here, 3 wanted: this layer is
//! to have it and it has not come yet, whatever the layers below say. States past the last chunk
//! are 0. Checksum of block n = BLAKE3 derive_key("headwater 2026-11 presence block
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
    /// It is to come here from a peer; what lies below is something else.
    Wanted,
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
            2 => ChunkState::Zero,
            _ => ChunkState::Wanted,
        }
    }

    pub(crate) fn set(&mut self, chunk: ChunkIndex, state: ChunkState) {
        assert!(chunk.0 < self.size.chunk_count(), "a chunk past the disk's end");
        let bits = match state {
            ChunkState::Absent => 0,
            ChunkState::Stored => 1,
            ChunkState::Zero => 2,
            ChunkState::Wanted => 3,
        };
        let (byte, shift) = (&mut self.states[chunk.0 as usize / 4], chunk.0 % 4 * 2);
        *byte = *byte & !(3 << shift) | bits << shift;
    }

    /// Writes `value` of the state over each chunk's place in `places`, where there is a value.
    /// Stretches about which the layer says nothing cost next to nothing: a disk of 1 TiB has
    /// 16.7 million chunks, and a version has up to a thousand layers.
    pub(crate) fn lay_over<T: Copy>(&self, places: &mut [T], value: impl Fn(ChunkState) -> Option<T>) {
        let values =
            [ChunkState::Absent, ChunkState::Stored, ChunkState::Zero, ChunkState::Wanted].map(value);
        for (bytes, places) in self.states.chunks(8).zip(places.chunks_mut(32)) {
            if bytes.iter().all(|byte| *byte == 0) && values[0].is_none() {
                continue;
            }
            for (byte, places) in bytes.iter().zip(places.chunks_mut(4)) {
                for (at, place) in places.iter_mut().enumerate() {
                    if let Some(value) = values[usize::from(byte >> (2 * at) & 3)] {
                        *place = value;
                    }
                }
            }
        }
    }

    /// Whether any chunk is still to come.
    pub(crate) fn has_wanted(&self) -> bool {
        self.states.iter().any(|byte| byte & byte >> 1 & 0x55 != 0)
    }

    /// The bytes described at the top of this file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.size.bytes().to_le_bytes());
        bytes[16..20].copy_from_slice(&CHUNK_SIZE.to_le_bytes());
        bytes[20..24].copy_from_slice(&(block_count(self.size) as u32).to_le_bytes());
        seal(0, &mut bytes);
        for number in 1..=block_count(self.size) as u32 {
            bytes.extend_from_slice(&self.encode_block(number));
        }
        bytes
    }

    /// The block of states `number`, from 1, as it stands in the file at `number` x 4,096.
    pub(crate) fn encode_block(&self, number: u32) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        let states = self.states.chunks(PAYLOAD_BYTES).nth(number as usize - 1);
        let states = states.expect("a block of this disk");
        block[..states.len()].copy_from_slice(states);
        seal(number, &mut block);
        block
    }

    /// Reads the bytes of [`Presence::encode`] for a disk of `size`.
    pub(crate) fn decode(bytes: &[u8], size: DiskSize) -> Result<Self, PresenceError> {
        match Self::decode_torn(bytes, size)? {
            (presence, torn) if torn.is_empty() => Ok(presence),
            (_, torn) => Err(PresenceError::Checksum(torn[0])),
        }
    }

    /// Reads the presence of a layer that is being received: also answers the blocks of states
    /// that a crash has torn, whose chunks read as absent.
    pub(crate) fn decode_torn(bytes: &[u8], size: DiskSize) -> Result<(Self, Vec<u32>), PresenceError> {
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
        let mut torn = Vec::new();
        let mut states = presence.states.chunks_mut(PAYLOAD_BYTES);
        for (number, block) in (0..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let (payload, sum) = block.split_at(PAYLOAD_BYTES);
            let whole = checksum(number, payload) == sum;
            match number {
                0 if whole => {}
                0 => return Err(PresenceError::Checksum(0)),
                _ => {
                    let states = states.next().expect("as many blocks as the file's length says");
                    match whole {
                        true => states.copy_from_slice(&payload[..states.len()]),
                        false => torn.push(number),
                    }
                }
            }
        }
        Ok((presence, torn))
    }
}

/// The block of the file that says what a chunk's state is.
pub(crate) fn block_of(chunk: ChunkIndex) -> u32 {
    chunk.0 / BLOCK_CHUNKS as u32 + 1
}

/// The chunks that a block of the file is about.
pub(crate) fn chunks_of(block: u32, size: DiskSize) -> std::ops::Range<u32> {
    let first = (block - 1) * BLOCK_CHUNKS as u32;
    first..size.chunk_count().min(first + BLOCK_CHUNKS as u32)
}

/// Where a block lies in the file, in bytes.
pub(crate) fn offset_of(block: u32) -> u64 {
    u64::from(block) * BLOCK_BYTES as u64
}

fn seal(number: u32, block: &mut [u8]) {
    let sum = checksum(number, &block[..PAYLOAD_BYTES]);
    block[PAYLOAD_BYTES..].copy_from_slice(&sum);
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

    /// Chunk 2 is still to come to a layer of five chunks.
    fn half() -> Presence {
        let mut presence = Presence::absent(DiskSize::new(5 * u64::from(CHUNK_SIZE)).unwrap());
        presence.set(ChunkIndex(1), ChunkState::Stored);
        presence.set(ChunkIndex(2), ChunkState::Wanted);
        presence
    }

    #[test]
    fn the_golden_presence_of_a_half_layer_is_read_and_written_to_the_byte() {
        let golden = include_bytes!("../golden/presence-half-1.bin");
        assert_eq!(half().encode(), golden);
        let found = Presence::decode(golden, half().size).unwrap();
        assert!(found == half() && found.has_wanted() && !sample().has_wanted());
    }

    #[test]
    fn a_torn_block_is_named_and_the_others_are_read() {
        let mut bytes = sample().encode();
        bytes[BLOCK_BYTES + 700] ^= 1;
        let (presence, torn) = Presence::decode_torn(&bytes, sample().size).unwrap();
        assert_eq!(torn, [1]);
        assert_eq!(presence.get(ChunkIndex(0)), ChunkState::Absent);
        assert_eq!(presence.get(ChunkIndex(18_000)), sample().get(ChunkIndex(18_000)));
        assert_eq!(block_of(ChunkIndex(18_000)), 2);
        assert_eq!(chunks_of(2, sample().size), 16_256..20_000);
        assert_eq!(offset_of(2), 8192);
        assert_eq!(sample().encode_block(2), bytes[8192..]);
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
        fn decode_undoes_encode(states in proptest::collection::vec(0u8..4, 1..200)) {
            let size = DiskSize::new(states.len() as u64 * u64::from(CHUNK_SIZE) - 512).unwrap();
            let mut presence = Presence::absent(size);
            for (at, state) in states.iter().enumerate() {
                let all = [ChunkState::Absent, ChunkState::Stored, ChunkState::Zero, ChunkState::Wanted];
                let state = all[usize::from(*state)];
                presence.set(ChunkIndex(at as u32), state);
                prop_assert_eq!(presence.get(ChunkIndex(at as u32)), state);
            }
            prop_assert_eq!(Presence::decode(&presence.encode(), size).unwrap(), presence);
        }
    }
}
