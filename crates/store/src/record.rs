//! The record of a version: its manifest and the layers that make it up.
//!
//! The file's name is the root; it lies in `unclaimed/` or in `versions/`. Revision 1,
//! little-endian, n layers:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `HWVERSN1`, the last digit is the revision |
//! | 8 | 4 | n, 1 to 1,024 |
//! | 12 | 4 | length of the manifest in bytes |
//! | 16 | 16 x n | layer names, base first: 16 letters or digits each |
//! | 16 + 16 x n | as said | the manifest (crate `model`, `HWMANIF1`) |
//! | then | 32 | BLAKE3 derive_key("headwater 2026-11 version record v1", all of the above) |

use model::{Manifest, Root};
use std::hash::{BuildHasher, Hasher, RandomState};

const MAGIC: &[u8; 8] = b"HWVERSN1";
const CONTEXT: &str = "headwater 2026-11 version record v1";
/// The most layers below one version: 50 is a long history, and placement has 16 bits.
pub(crate) const MAX_LAYERS: usize = 1024;
/// The length of a layer's name in bytes.
pub(crate) const LAYER_NAME_BYTES: usize = 16;

/// The name of a layer: 16 letters or digits, chosen at random when it was staged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LayerName(String);

impl LayerName {
    /// Accepts 16 ASCII letters or digits.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let fits = text.len() == LAYER_NAME_BYTES && text.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then(|| Self(text.to_owned()))
    }

    /// Sixteen letters and digits that were never chosen before, by all odds.
    pub(crate) fn random() -> Self {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let words = [RandomState::new().build_hasher().finish(), RandomState::new().build_hasher().finish()];
        let mut number = u128::from(words[0]) << 64 | u128::from(words[1]);
        let digit = |_| {
            let digit = DIGITS[(number % 36) as usize];
            number /= 36;
            char::from(digit)
        };
        Self((0..LAYER_NAME_BYTES).map(digit).collect())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the record file of a version says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionRecord {
    pub(crate) layers: Vec<LayerName>,
    pub(crate) manifest: Manifest,
}

/// Why bytes are no record of the version that they are named for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("its record is not of revision 1")]
    Magic,
    #[error("the checksum of its record is wrong")]
    Checksum,
    #[error("its record contradicts itself: {0}")]
    Contradiction(String),
    #[error("its manifest has the root {0}")]
    OtherRoot(Root),
}

impl VersionRecord {
    /// The bytes described at the top of this file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        assert!((1..=MAX_LAYERS).contains(&self.layers.len()), "a version has 1 to 1,024 layers");
        let manifest = self.manifest.encode();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(self.layers.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(manifest.len() as u32).to_le_bytes());
        self.layers.iter().for_each(|name| bytes.extend_from_slice(name.0.as_bytes()));
        bytes.extend_from_slice(&manifest);
        let sum = blake3::derive_key(CONTEXT, &bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Reads the bytes of [`VersionRecord::encode`] and checks that they are of the version `root`.
    pub(crate) fn decode(bytes: &[u8], root: Root) -> Result<Self, RecordError> {
        if !bytes.starts_with(MAGIC) || bytes.len() < 48 {
            return Err(RecordError::Magic);
        }
        let (body, sum) = bytes.split_at(bytes.len() - 32);
        if blake3::derive_key(CONTEXT, body) != sum {
            return Err(RecordError::Checksum);
        }
        let word = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().expect("4 bytes")) as usize;
        let (count, manifest_len) = (word(8), word(12));
        let names_end = 16 + count.min(MAX_LAYERS + 1) * LAYER_NAME_BYTES;
        if !(1..=MAX_LAYERS).contains(&count) || body.len() != names_end + manifest_len {
            return Err(RecordError::Contradiction("lengths do not add up".into()));
        }
        let layers = body[16..names_end].chunks_exact(LAYER_NAME_BYTES).map(layer_name);
        let layers = layers.collect::<Option<Vec<_>>>();
        let layers = layers.ok_or_else(|| RecordError::Contradiction("a layer's name".into()))?;
        let manifest = Manifest::decode(&body[names_end..])
            .map_err(|error| RecordError::Contradiction(error.to_string()))?;
        match manifest.root() {
            found if found == root => Ok(Self { layers, manifest }),
            found => Err(RecordError::OtherRoot(found)),
        }
    }
}

fn layer_name(bytes: &[u8]) -> Option<LayerName> {
    std::str::from_utf8(bytes).ok().and_then(LayerName::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{DiskSize, Page};

    fn sample() -> VersionRecord {
        let manifest = Manifest::new(DiskSize::new(1 << 20).unwrap(), vec![Page::zero().hash()]);
        let layers = ["base000000000001", "next000000000002"];
        VersionRecord { layers: layers.map(|l| LayerName::new(l).unwrap()).to_vec(), manifest }
    }

    #[test]
    fn the_golden_record_is_read_and_written_to_the_byte() {
        let golden = include_bytes!("../golden/version-1.bin");
        assert_eq!(sample().encode(), golden);
        assert_eq!(VersionRecord::decode(golden, sample().manifest.root()).unwrap(), sample());
    }

    #[test]
    fn any_flipped_byte_and_any_cut_is_noticed() {
        let (bytes, root) = (sample().encode(), sample().manifest.root());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(VersionRecord::decode(&bad, root).is_err(), "byte {at}");
            assert!(VersionRecord::decode(&bytes[..at], root).is_err(), "length {at}");
        }
    }

    #[test]
    fn a_record_under_another_root_is_refused() {
        let other = Manifest::new(DiskSize::new(512).unwrap(), vec![Page::zero().hash()]).root();
        let result = VersionRecord::decode(&sample().encode(), other);
        assert_eq!(result, Err(RecordError::OtherRoot(sample().manifest.root())));
    }

    #[test]
    fn a_layer_name_cannot_leave_its_directory() {
        assert!(LayerName::new("../../etc/passwd").is_none());
        assert!(LayerName::new("abcdefgh01234567").is_some());
    }
}
