//! All records in one file: what a server falls back to while etcd is away.
//!
//! Little-endian, revision 1 (`docs/formats.md`):
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `HWRECORD` |
//! | 4 | format revision: 1 |
//! | 4 | 0 |
//! | 8 | the database's revision that this is the state of |
//! | 8 | how many records follow |
//! | each record | `u32` bytes of the key, `u32` bytes of the value, `u64` create revision, `u64` mod revision, the key (UTF-8), the value; ordered by key |
//! | 32 | BLAKE3 of everything before |

use crate::db::{DbError, Entry, MAX_VALUE_BYTES, Snapshot};
use std::fs::File;
use std::io::Write;
use std::path::Path;

const MAGIC: &[u8; 8] = b"HWRECORD";
const FORMAT_REVISION: u32 = 1;
/// The checksum at the end.
pub(crate) const HASH_BYTES: usize = 32;
/// A key is a path of a few names.
const MAX_KEY_BYTES: usize = 4096;

/// The file's bytes.
pub fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(FORMAT_REVISION.to_le_bytes());
    bytes.extend([0; 4]);
    encode_records(snapshot, &mut bytes);
    let hash = blake3::hash(&bytes);
    bytes.extend(hash.as_bytes());
    bytes
}

/// Appends revision, count and records.
pub(crate) fn encode_records(snapshot: &Snapshot, bytes: &mut Vec<u8>) {
    bytes.extend(snapshot.revision.to_le_bytes());
    bytes.extend((snapshot.entries.len() as u64).to_le_bytes());
    for Entry { key, value, create_revision, mod_revision } in &snapshot.entries {
        bytes.extend((key.len() as u32).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(create_revision.to_le_bytes());
        bytes.extend(mod_revision.to_le_bytes());
        bytes.extend(key.as_bytes());
        bytes.extend(value);
    }
}

/// Reads a file's bytes.
///
/// Errors: [`DbError::Unusable`] where they are another file's, damaged, or of a newer format.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, DbError> {
    let unusable = |why: &str| DbError::Unusable(why.to_owned());
    let damaged =
        || unusable("it is damaged: its checksum is wrong\nhint: if the database can be reached, delete it");
    let content = bytes.strip_prefix(MAGIC).ok_or_else(|| unusable("it is not a file of farm records"))?;
    let revision = content.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or_else(damaged)?;
    if revision != FORMAT_REVISION {
        return Err(unusable(&format!("it has format {revision}, this program knows {FORMAT_REVISION}")));
    }
    let (hashed, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or_else(damaged)?;
    if blake3::hash(hashed) != *hash {
        return Err(damaged());
    }
    let mut rest = hashed.get(16..).ok_or_else(damaged)?;
    decode_records(&mut rest).filter(|_| rest.is_empty()).ok_or_else(damaged)
}

/// Takes revision, count and records from the front.
pub(crate) fn decode_records(rest: &mut &[u8]) -> Option<Snapshot> {
    let (revision, count) = (number(rest)?, number(rest)?);
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(entry(rest)?);
    }
    Some(Snapshot { revision, entries })
}

fn entry(rest: &mut &[u8]) -> Option<Entry> {
    let lengths = number(rest)?;
    let (key, value) = (lengths as u32 as usize, (lengths >> 32) as usize);
    if key > MAX_KEY_BYTES || value > MAX_VALUE_BYTES {
        return None;
    }
    let (create_revision, mod_revision) = (number(rest)?, number(rest)?);
    let key = String::from_utf8(take(rest, key)?.to_vec()).ok()?;
    Some(Entry { key, value: take(rest, value)?.to_vec(), create_revision, mod_revision })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?))
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}

/// Writes the file so that after a power cut it is the old one or the new one. Blocking.
pub fn write(path: &Path, snapshot: &Snapshot) -> Result<(), DbError> {
    let failed = |e: std::io::Error| DbError::Failed(format!("{} cannot be written: {e}", path.display()));
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let store = || {
        use std::os::unix::fs::OpenOptionsExt;
        // The records have hashes of tokens and the farm's secrets in them.
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&staged)?;
        file.write_all(&encode(snapshot))?;
        file.sync_all()?;
        std::fs::rename(&staged, path)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    };
    store().map_err(failed)
}

/// Reads the file; none where there is none. Blocking.
///
/// Errors: as [`decode`], with the file's name.
pub fn read(path: &Path) -> Result<Option<Snapshot>, DbError> {
    let named = |why: String| DbError::Unusable(format!("{}: {why}", path.display()));
    match std::fs::read(path) {
        Ok(bytes) => decode(&bytes).map(Some).map_err(|e| named(e.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(format!("it cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Snapshot {
        let entry = |key: &str, value: &[u8], create_revision, mod_revision| Entry {
            key: key.to_owned(),
            value: value.to_vec(),
            create_revision,
            mod_revision,
        };
        Snapshot {
            revision: 9,
            entries: vec![entry("/farm", b"{}", 1, 1), entry("/vdisks/win11", b"", 3, 8)],
        }
    }

    #[test]
    fn the_file_is_as_documented() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/records-1.bin");
        assert_eq!(encode(&sample()), std::fs::read(&golden).unwrap());
        assert_eq!(read(&golden).unwrap(), Some(sample()));
    }

    #[test]
    fn a_file_is_replaced_whole_and_nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, &Snapshot { revision: 1, entries: vec![] }).unwrap();
        write(&path, &sample()).unwrap();
        assert_eq!(read(&path).unwrap(), Some(sample()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn any_change_of_a_byte_is_found(at in 0..encode(&sample()).len(), bit in 0..8u32) {
            let mut bytes = encode(&sample());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut file = MAGIC.to_vec();
            file.extend(FORMAT_REVISION.to_le_bytes());
            file.extend(bytes);
            let hash = blake3::hash(&file);
            file.extend(hash.as_bytes());
            let _ = decode(&file);
        }
    }
}
