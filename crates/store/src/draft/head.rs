//! The head of a draft: what it stands on and which of its generations are in use.
//!
//! Replaced whole, by a rename; everything that a checkpoint does becomes true with one such
//! replacement. Revision 1, little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `HWDRAFT1`, the last digit is the revision |
//! | 8 | 8 | disk size in bytes |
//! | 16 | 32 | root of the version below |
//! | 48 | 8 | number of the active generation, from 1 |
//! | 56 | 8 | number of the frozen generation between the two, 0 where there is none |
//! | 64 | 32 | BLAKE3 derive_key("headwater 2026-11 draft head v1", all of the above) |

use model::{DiskSize, Root};

const MAGIC: &[u8; 8] = b"HWDRAFT1";
const CONTEXT: &str = "headwater 2026-11 draft head v1";
/// The length of a head file in bytes.
pub(crate) const HEAD_BYTES: usize = 96;

/// What the head file of a draft says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) size: DiskSize,
    pub(crate) parent: Root,
    pub(crate) active: u64,
    pub(crate) frozen: Option<u64>,
}

impl Head {
    /// The bytes described at the top of this file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.size.bytes().to_le_bytes());
        bytes.extend_from_slice(self.parent.as_bytes());
        bytes.extend_from_slice(&self.active.to_le_bytes());
        bytes.extend_from_slice(&self.frozen.unwrap_or(0).to_le_bytes());
        let sum = blake3::derive_key(CONTEXT, &bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Reads the bytes of [`Head::encode`], or says why they are none.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() != HEAD_BYTES || !bytes.starts_with(MAGIC) {
            return Err("its head is not of revision 1".into());
        }
        let (body, sum) = bytes.split_at(64);
        if blake3::derive_key(CONTEXT, body) != sum {
            return Err("the checksum of its head is wrong".into());
        }
        let word = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("8 bytes"));
        let size = DiskSize::new(word(8)).map_err(|error| error.to_string())?;
        let parent = Root::from_bytes(body[16..48].try_into().expect("32 bytes"));
        let frozen = Some(word(56)).filter(|number| *number != 0);
        let head = Self { size, parent, active: word(48), frozen };
        match head.active > frozen.unwrap_or(0) {
            true => Ok(head),
            false => Err("the generations in its head contradict each other".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Head {
        let size = DiskSize::new(40 << 30).unwrap();
        Head { size, parent: Root::from_bytes([7; 32]), active: 3, frozen: Some(2) }
    }

    #[test]
    fn the_golden_head_is_read_and_written_to_the_byte() {
        let golden = include_bytes!("../../golden/draft-head-1.bin");
        assert_eq!(sample().encode(), golden);
        assert_eq!(Head::decode(golden).unwrap(), sample());
    }

    #[test]
    fn any_flipped_byte_and_any_cut_is_noticed() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Head::decode(&bad).is_err(), "byte {at}");
            assert!(Head::decode(&bytes[..at]).is_err(), "length {at}");
        }
    }
}
