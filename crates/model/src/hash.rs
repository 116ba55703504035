//! The three hashes that name content: of a chunk, of a manifest page, of a manifest.
//!
//! All are BLAKE3 keyed by a context string (BLAKE3 paper, section 2.3, `derive_key`), so that no
//! byte string can be taken for a chunk and for a page at once. A chunk's name does not depend on
//! where it lies in the disk.

use crate::chunk::CHUNK_SIZE;
use std::fmt;
use std::str::FromStr;

const CHUNK_CONTEXT: &str = "headwater 2026-11 chunk v1";
const PAGE_CONTEXT: &str = "headwater 2026-11 manifest page v1";
const ROOT_CONTEXT: &str = "headwater 2026-11 manifest root v1";

/// Why a text is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hash: 64 hexadecimal digits are expected")]
pub struct ParseHashError(String);

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes 32 bytes that were read from a stored or sent manifest.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the hash.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;
            fn from_str(text: &str) -> Result<Self, ParseHashError> {
                parse_hex(text).map(Self).ok_or_else(|| ParseHashError(text.chars().take(80).collect()))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hash_type! {
    /// The name of a chunk: keyed BLAKE3 of its 64 KiB, zero-padded where the disk ends inside it.
    ChunkHash
}
hash_type! {
    /// The name of a manifest page: keyed BLAKE3 of its 1,024 chunk hashes.
    PageHash
}
hash_type! {
    /// The hash of a manifest: what promotion, sessions and replication speak of.
    ///
    /// A root denotes one byte string for ever (DESIGN section 9, invariant 2).
    Root
}

impl ChunkHash {
    /// Marks a chunk of zeros in a manifest. Such chunks are never stored, sent or hashed.
    pub const ZERO: Self = Self([0; 32]);

    /// Names `content`, which must be a whole chunk of 64 KiB (pad the disk's last one with
    /// zeros). A chunk of zeros is named [`ChunkHash::ZERO`].
    pub fn of(content: &[u8]) -> Self {
        assert_eq!(content.len(), CHUNK_SIZE as usize, "a chunk is hashed whole");
        if is_zero(content) { Self::ZERO } else { Self(keyed(CHUNK_CONTEXT, content)) }
    }
}

impl PageHash {
    /// Names a page by the bytes of its hashes.
    pub(crate) fn of(page_bytes: &[u8]) -> Self {
        Self(keyed(PAGE_CONTEXT, page_bytes))
    }
}

impl Root {
    /// Names a manifest by its encoded header and page hashes.
    pub(crate) fn of(manifest_bytes: &[u8]) -> Self {
        Self(keyed(ROOT_CONTEXT, manifest_bytes))
    }

    /// The first 12 digits, enough for people to tell roots apart in a table.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

/// Whether every byte is zero; runs at memory speed on whole chunks.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Sixteen words at a time let the compiler use the widest registers; an early exit after
    // each group makes data chunks cost almost nothing.
    let mut groups = bytes.chunks_exact(128);
    let all = groups.by_ref().all(|group| group.iter().fold(0u8, |acc, byte| acc | byte) == 0);
    all && groups.remainder().iter().all(|byte| *byte == 0)
}

fn keyed(context: &str, content: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new_derive_key(context).update(content).finalize().as_bytes()
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_of_zeros_has_the_zero_name() {
        assert_eq!(ChunkHash::of(&[0; CHUNK_SIZE as usize]), ChunkHash::ZERO);
    }

    #[test]
    fn one_bit_anywhere_changes_the_name() {
        let mut chunk = vec![0; CHUNK_SIZE as usize];
        chunk[65_535] = 1;
        let last = ChunkHash::of(&chunk);
        chunk[65_535] = 0;
        chunk[0] = 1;
        assert_ne!(last, ChunkHash::of(&chunk));
        assert_ne!(last, ChunkHash::ZERO);
    }

    #[test]
    fn a_root_survives_text_and_json() {
        let root = Root::of(b"header");
        assert_eq!(root.to_string().parse::<Root>().unwrap(), root);
        let json = serde_json::to_string(&root).unwrap();
        assert_eq!(serde_json::from_str::<Root>(&json).unwrap(), root);
    }

    #[test]
    fn a_wrong_digit_or_length_is_refused() {
        assert!("zz".parse::<Root>().is_err());
        assert!("g".repeat(64).parse::<Root>().is_err());
        assert!("é".repeat(32).parse::<Root>().is_err());
    }
}
