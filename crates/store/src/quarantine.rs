//! The quarantine: which chunks were found damaged and must not be read (DESIGN section 9,
//! invariant 4).
//!
//! A chunk is named by the layer it lies in, so that every version above that layer is covered.
//! The file is a log: it says what holds before anybody acts on it, one fsync for each change. It
//! is written anew when the store is opened. Revision 1, little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `HWQUARN1`, the last digit is the revision |
//! | 8 | 56 | zero |
//! | 64 x n | 16 | layer name |
//! | 64 x n + 16 | 4 | chunk |
//! | 64 x n + 20 | 4 | 1 the chunk is damaged, 2 it is whole again |
//! | 64 x n + 24 | 32 | the hash that it must have |
//! | 64 x n + 56 | 8 | first bytes of BLAKE3 derive_key("headwater 2026-11 quarantine v1", the 56 bytes above) |
//!
//! A record whose checksum is wrong does not count: a crash tore it, or the disk did, and then the
//! next scrub finds the chunk again.

use crate::durable;
use crate::files::{Files, OpenFile};
use crate::record::{LAYER_NAME_BYTES, LayerName};
use model::{ChunkHash, ChunkIndex};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"HWQUARN1";
const CONTEXT: &str = "headwater 2026-11 quarantine v1";
pub(crate) const QUARANTINE_FILE: &str = "quarantine";
const RECORD_BYTES: usize = 64;
/// The longest file that is read: a million records. A disk that is this bad is replaced.
const MAX_BYTES: u64 = RECORD_BYTES as u64 * (1 << 20);

/// The damaged chunks of one store, and the file that remembers them.
#[derive(Debug)]
pub(crate) struct Quarantine {
    path: PathBuf,
    files: Arc<dyn Files>,
    /// The log and where its next record goes; none where the next change writes it anew: it was
    /// not written yet, or a change failed and nobody knows what of it is there.
    log: Option<(Arc<dyn OpenFile>, u64)>,
    bad: BTreeMap<(LayerName, u32), ChunkHash>,
}

impl Quarantine {
    /// Reads the file in the store's directory, forgets what `keep` does not know any more, and
    /// writes it anew where that makes it shorter.
    pub(crate) fn open(
        directory: &Path,
        files: Arc<dyn Files>,
        keep: impl Fn(&LayerName) -> bool,
    ) -> io::Result<Self> {
        let path = directory.join(QUARANTINE_FILE);
        let bytes = match fs::metadata(&path) {
            Ok(metadata) if metadata.len() <= MAX_BYTES => fs::read(&path)?,
            Ok(_) => return Err(io::Error::other("the file \"quarantine\" is too long")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut bad = decode(&bytes).map_err(io::Error::other)?;
        bad.retain(|(layer, _), _| keep(layer));
        let mut quarantine = Self { path, files, log: None, bad };
        if !bytes.is_empty() && quarantine.encode().len() != bytes.len() {
            quarantine.rewrite()?;
        }
        Ok(quarantine)
    }

    /// Remembers that a chunk is damaged, for good when this returns. After an error the chunk is
    /// not read either, but a crash forgets it; the next change that succeeds makes up for it.
    pub(crate) fn add(&mut self, layer: &LayerName, chunk: ChunkIndex, hash: ChunkHash) -> io::Result<()> {
        let is_new = self.bad.insert((layer.clone(), chunk.0), hash).is_none();
        if is_new || self.log.is_none() {
            self.append(&record(layer, chunk.0, 1, hash))?;
        }
        Ok(())
    }

    /// Remembers that a chunk is whole again.
    pub(crate) fn remove(&mut self, layer: &LayerName, chunk: ChunkIndex) -> io::Result<()> {
        match self.bad.remove(&(layer.clone(), chunk.0)) {
            Some(hash) => self.append(&record(layer, chunk.0, 2, hash)),
            None => Ok(()),
        }
    }

    /// The damaged chunks of all layers.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&LayerName, ChunkIndex, ChunkHash)> {
        self.bad.iter().map(|((layer, chunk), hash)| (layer, ChunkIndex(*chunk), *hash))
    }

    fn append(&mut self, record: &[u8; RECORD_BYTES]) -> io::Result<()> {
        let Some((file, at)) = self.log.take() else { return self.rewrite() };
        file.write_all_at(record, at)?;
        file.sync()?;
        self.log = Some((file, at + RECORD_BYTES as u64));
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; RECORD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        for ((layer, chunk), hash) in &self.bad {
            bytes.extend_from_slice(&record(layer, *chunk, 1, *hash));
        }
        bytes
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let (new, bytes) = (self.path.with_extension("new"), self.encode());
        // A crash may have left one.
        match self.files.remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        durable::create_file(&*self.files, &new, &bytes)?;
        durable::publish(&*self.files, &new, &self.path)?;
        self.log = Some((self.files.open_file(&self.path)?, bytes.len() as u64));
        Ok(())
    }
}

fn record(layer: &LayerName, chunk: u32, state: u32, hash: ChunkHash) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..16].copy_from_slice(layer.as_str().as_bytes());
    bytes[16..20].copy_from_slice(&chunk.to_le_bytes());
    bytes[20..24].copy_from_slice(&state.to_le_bytes());
    bytes[24..56].copy_from_slice(hash.as_bytes());
    let sum = blake3::derive_key(CONTEXT, &bytes[..56]);
    bytes[56..].copy_from_slice(&sum[..8]);
    bytes
}

/// Reads the bytes described at the top of this file.
pub(crate) fn decode(bytes: &[u8]) -> Result<BTreeMap<(LayerName, u32), ChunkHash>, &'static str> {
    let mut bad = BTreeMap::new();
    if bytes.is_empty() {
        return Ok(bad);
    }
    if !bytes.starts_with(MAGIC) {
        return Err("the file \"quarantine\" is not of revision 1");
    }
    for record in bytes.chunks_exact(RECORD_BYTES).skip(1) {
        let (body, sum) = record.split_at(56);
        let name = std::str::from_utf8(&body[..LAYER_NAME_BYTES]).ok().and_then(LayerName::new);
        let (Some(name), true) = (name, blake3::derive_key(CONTEXT, body)[..8] == *sum) else { continue };
        let word = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().expect("4 bytes"));
        let hash = ChunkHash::from_bytes(body[24..56].try_into().expect("32 bytes"));
        match word(20) {
            1 => bad.insert((name, word(16)), hash),
            _ => bad.remove(&(name, word(16))),
        };
    }
    Ok(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::SystemFiles;
    use crate::files::simulated::{Faults, Numbers, SimulatedFiles};
    use std::collections::BTreeSet;

    fn name(text: &str) -> LayerName {
        LayerName::new(text).unwrap()
    }

    fn hash(byte: u8) -> ChunkHash {
        ChunkHash::from_bytes([byte; 32])
    }

    /// Chunk 7 found damaged, chunk 9 found damaged and repaired.
    fn sample(directory: &Path) -> Vec<u8> {
        let mut quarantine = Quarantine::open(directory, Arc::new(SystemFiles), |_| true).unwrap();
        let layer = name("base000000000001");
        quarantine.add(&layer, ChunkIndex(7), hash(7)).unwrap();
        quarantine.add(&layer, ChunkIndex(9), hash(9)).unwrap();
        quarantine.remove(&layer, ChunkIndex(9)).unwrap();
        fs::read(directory.join(QUARANTINE_FILE)).unwrap()
    }

    #[test]
    fn the_golden_quarantine_is_read_and_written_to_the_byte() {
        let directory = tempfile::tempdir().unwrap();
        let golden = include_bytes!("../golden/quarantine-1.bin");
        assert_eq!(sample(directory.path()), golden);
        let bad = decode(golden).unwrap();
        assert_eq!(bad, BTreeMap::from([((name("base000000000001"), 7), hash(7))]));
    }

    #[test]
    fn it_is_remembered_and_written_anew_without_what_is_repaired_or_gone() {
        let directory = tempfile::tempdir().unwrap();
        sample(directory.path());
        let again = Quarantine::open(directory.path(), Arc::new(SystemFiles), |_| true).unwrap();
        assert_eq!(again.all().count(), 1);
        assert_eq!(fs::metadata(directory.path().join(QUARANTINE_FILE)).unwrap().len(), 128);
        let again = Quarantine::open(directory.path(), Arc::new(SystemFiles), |_| false);
        assert_eq!(again.unwrap().all().count(), 0);
    }

    #[test]
    fn a_torn_or_flipped_record_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = sample(directory.path());
        for at in 64..128 {
            let mut bad = bytes[..192].to_vec();
            bad[at] ^= 1;
            assert_eq!(decode(&bad).unwrap().len(), 1, "byte {at}");
            assert_eq!(decode(&bytes[..at]).unwrap().len(), 0, "length {at}");
        }
        assert!(decode(b"something else").is_err());
    }

    /// Of each chunk what was said last, and everything that a crash may leave.
    #[derive(Default)]
    struct Expected(BTreeMap<u32, (bool, BTreeSet<bool>)>);

    impl Expected {
        fn say(&mut self, chunk: u32, is_bad: bool) {
            let (said, possible) = self.0.entry(chunk).or_insert((false, BTreeSet::from([false])));
            *said = is_bad;
            possible.insert(is_bad);
        }

        /// Everything that was said is durable.
        fn confirm(&mut self) {
            self.0.values_mut().for_each(|(said, possible)| *possible = BTreeSet::from([*said]));
        }

        fn settle(&mut self, found: &Quarantine, seed: u64) {
            let found: Vec<u32> = found.all().map(|(_, chunk, _)| chunk.0).collect();
            for (chunk, (said, possible)) in &mut self.0 {
                *said = found.contains(chunk);
                assert!(possible.contains(said), "seed {seed}: chunk {chunk} is damaged: {said}");
            }
            self.confirm();
        }
    }

    /// Random findings and repairs on a disk that fails, fills up and loses its power.
    fn live(seed: u64) -> u64 {
        let parent = tempfile::tempdir().unwrap();
        let (mut numbers, mut expected, mut crashes) = (Numbers::new(seed), Expected::default(), 0);
        let mut path = parent.path().join("0");
        fs::create_dir(&path).unwrap();
        for round in 1..12 {
            let files = SimulatedFiles::new(&path, seed ^ round).unwrap();
            let mut quarantine = Quarantine::open(&path, Arc::new(files.clone()), |_| true).unwrap();
            expected.settle(&quarantine, seed);
            let mut faults = Faults { short_write_one_in: 5, ..Faults::default() };
            match numbers.below(3) {
                0 => faults.power_lasts = Some(numbers.below(30)),
                1 => (faults.sync_error_one_in, faults.write_error_one_in) = (5, 5),
                _ => faults.room_bytes = Some(numbers.below(600)),
            }
            files.set(faults);
            for _ in 0..numbers.below(20) {
                let (chunk, is_bad) = (numbers.below(6) as u32, numbers.one_in(2));
                let layer = name("base000000000001");
                let result = match is_bad {
                    true => quarantine.add(&layer, ChunkIndex(chunk), hash(7)),
                    false => quarantine.remove(&layer, ChunkIndex(chunk)),
                };
                expected.say(chunk, is_bad);
                // A change that succeeds makes up for those that failed before it.
                if result.is_ok() && quarantine.log.is_some() {
                    expected.confirm();
                }
            }
            let after = parent.path().join(round.to_string());
            fs::create_dir(&after).unwrap();
            files.lose_power(&after).unwrap();
            (path, crashes) = (after, crashes + 1);
        }
        crashes
    }

    #[test]
    fn what_was_quarantined_stays_so_on_a_disk_that_fails_fills_and_loses_its_power() {
        assert_eq!((0..60).map(live).sum::<u64>(), 60 * 11);
    }
}
