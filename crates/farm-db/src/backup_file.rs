//! All records of a farm in one file that can be carried away: what `headwater farm backup` writes.
//!
//! Little-endian, revision 1 (`docs/formats.md`):
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `HWBACKUP` |
//! | 4 | format revision: 1 |
//! | 4 | bytes of the description, at most 65,536 |
//! | that many | the description: a JSON object with `farm` (its id, or null), `server` (which wrote it), `program` (its version), `made_ms` (milliseconds since 1970 UTC) |
//! | 8 | the database's revision that this is the state of |
//! | 8 | how many records follow |
//! | each record | as in `farm.records`, ordered by key |
//! | 32 | BLAKE3 of everything before |
//!
//! Records of who is alive are not in it.

use crate::db::{DbError, Snapshot};
use crate::records_file::{self, HASH_BYTES};
use crate::transfer::is_carried;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"HWBACKUP";
const FORMAT_REVISION: u32 = 1;
/// The description is a few names.
const MAX_DESCRIPTION_BYTES: usize = 65_536;

/// Where a backup comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The farm's id; none where it has no certificate authority yet.
    pub farm: Option<String>,
    /// The server that wrote it.
    pub server: String,
    /// That server's program version.
    pub program: String,
    /// When, in milliseconds since 1970 UTC.
    pub made_ms: u64,
}

/// A farm's records as of one revision, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Where they come from.
    pub description: Description,
    /// The records.
    pub records: Snapshot,
}

impl Backup {
    /// A backup of a database's state; records of who is alive are left out.
    pub fn new(description: Description, mut records: Snapshot) -> Self {
        records.entries.retain(|entry| is_carried(&entry.key));
        Self { description, records }
    }

    /// The file's bytes.
    ///
    /// # Panics
    /// Where the description is not made of a few names.
    pub fn encode(&self) -> Vec<u8> {
        let description = serde_json::to_vec(&self.description).expect("names and numbers are JSON");
        assert!(description.len() <= MAX_DESCRIPTION_BYTES, "a description is a few names");
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT_REVISION.to_le_bytes());
        bytes.extend((description.len() as u32).to_le_bytes());
        bytes.extend(description);
        records_file::encode_records(&self.records, &mut bytes);
        let hash = blake3::hash(&bytes);
        bytes.extend(hash.as_bytes());
        bytes
    }

    /// Reads a file's bytes.
    ///
    /// Errors: [`DbError::Unusable`] where they are another file's, damaged, or of a newer format.
    pub fn decode(bytes: &[u8]) -> Result<Self, DbError> {
        let unusable = |why: &str| DbError::Unusable(why.to_owned());
        let damaged = || unusable("it is damaged: its checksum is wrong\nhint: take another backup");
        let content = bytes.strip_prefix(MAGIC).ok_or_else(|| {
            unusable("it is no backup of a farm\nhint: `headwater farm backup FILE` makes one")
        })?;
        let revision = content.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or_else(damaged)?;
        if revision != FORMAT_REVISION {
            return Err(unusable(&format!(
                "it has format {revision}, this program knows {FORMAT_REVISION}\nhint: use the program that wrote it, or a newer one"
            )));
        }
        let (hashed, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or_else(damaged)?;
        if blake3::hash(hashed) != *hash {
            return Err(damaged());
        }
        parse(hashed.get(12..).ok_or_else(damaged)?).ok_or_else(damaged)
    }
}

fn parse(rest: &[u8]) -> Option<Backup> {
    let (length, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let (description, mut rest) = rest.split_at_checked(length)?;
    if length > MAX_DESCRIPTION_BYTES {
        return None;
    }
    let description = serde_json::from_slice(description).ok()?;
    let records = records_file::decode_records(&mut rest).filter(|_| rest.is_empty())?;
    Some(Backup { description, records })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Entry;
    use proptest::prelude::*;

    fn sample() -> Backup {
        let entry = |key: &str, value: &[u8]| Entry {
            key: key.to_owned(),
            value: value.to_vec(),
            create_revision: 2,
            mod_revision: 8,
        };
        let description = Description {
            farm: Some("000102030405060708090a0b0c0d0e0f".to_owned()),
            server: "pvs01".to_owned(),
            program: "0.1.0".to_owned(),
            made_ms: 1_763_836_262_123,
        };
        let entries = vec![entry("/farm", b"{}"), entry("/live/x", b"1"), entry("/vdisks/win11", b"")];
        Backup::new(description, Snapshot { revision: 9, entries })
    }

    #[test]
    fn the_file_is_as_documented_and_who_is_alive_is_not_in_it() {
        let golden = include_bytes!("../golden/backup-1.bin");
        assert!(sample().encode() == golden, "the format has changed");
        let read = Backup::decode(golden).unwrap();
        assert_eq!(read, sample());
        assert_eq!(read.records.entries.len(), 2);
    }

    #[test]
    fn another_file_is_told_from_a_damaged_one_and_a_newer_one() {
        let why = |bytes: &[u8]| Backup::decode(bytes).unwrap_err().to_string();
        assert!(why(b"SQLite format 3").contains("no backup"));
        let mut newer = sample().encode();
        newer[8] = 2;
        assert!(why(&newer).contains("format 2"));
        assert!(why(&sample().encode()[..50]).contains("damaged"));
    }

    proptest! {
        #[test]
        fn any_change_of_a_byte_is_found(at in 0..sample().encode().len(), bit in 0..8u32) {
            let mut bytes = sample().encode();
            bytes[at] ^= 1u8 << bit;
            prop_assert!(Backup::decode(&bytes).is_err());
        }

        #[test]
        fn a_file_that_was_cut_off_or_went_on_is_refused(left in 0..sample().encode().len(), more in 1..100usize) {
            let mut bytes = sample().encode();
            prop_assert!(Backup::decode(&bytes[..left]).is_err());
            bytes.extend(vec![0; more]);
            prop_assert!(Backup::decode(&bytes).is_err());
        }

        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut file = MAGIC.to_vec();
            file.extend(FORMAT_REVISION.to_le_bytes());
            file.extend(bytes);
            let hash = blake3::hash(&file);
            file.extend(hash.as_bytes());
            let _ = Backup::decode(&file);
        }
    }
}
