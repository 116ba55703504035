//! Seeds: chunks that another version here or an adopted file has already, wherever in the disk,
//! are copied.
//!
//! The pages of the other versions are read once each; bytes are verified when they are read and
//! again when they are put. They go past the page cache on both sides.

use super::{ReceiveError, Receiving, Urgency, prefix};
use crate::adopt::SeedFile;
use crate::store::Store;
use crate::version::StoredVersion;
use model::manifest::PAGE_CHUNKS;
use model::{CHUNK_SIZE, ChunkHash, ChunkIndex, PageHash};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The missing chunks, by the beginning of their hash.
type Wanted = HashMap<u64, ChunkIndex>;

impl Receiving {
    /// Copies what other versions in this store and adopted files have of the missing chunks; answers how many
    /// chunks that gave. `stop` is asked now and then.
    pub fn copy_seeds(&self, stop: &dyn Fn() -> bool) -> Result<u32, ReceiveError> {
        let mut wanted = Wanted::new();
        // Fills in who else wants the same bytes, too.
        for chunk in self.wanted()? {
            wanted.insert(prefix(&self.version().chunk_hash(chunk)?), chunk);
        }
        let (mut copied, mut seen) = (0, HashSet::new());
        for version in self.store.others(self) {
            if wanted.is_empty() || stop() {
                break;
            }
            copied += self.seeds_of(&version, &mut wanted, &mut seen, stop)?;
        }
        for file in self.store.adopted().list() {
            if wanted.is_empty() || stop() {
                break;
            }
            copied += self.seeds_of_file(&file, &mut wanted, stop)?;
        }
        self.settle()?;
        Ok(copied)
    }

    fn seeds_of(
        &self,
        version: &StoredVersion,
        wanted: &mut Wanted,
        seen: &mut HashSet<PageHash>,
        stop: &dyn Fn() -> bool,
    ) -> Result<u32, ReceiveError> {
        let mut copied = 0;
        for (number, name) in version.manifest().pages().iter().enumerate() {
            if wanted.is_empty() || stop() {
                break;
            }
            if !seen.insert(*name) {
                continue;
            }
            let first = number as u32 * PAGE_CHUNKS;
            let Ok(page) = version.page(number, ChunkIndex(first)) else { continue };
            for (chunk, hash) in (first..version.size().chunk_count()).map(ChunkIndex).zip(page.hashes()) {
                copied += self.seed(version, chunk, hash, wanted)?;
            }
        }
        Ok(copied)
    }

    /// Copies what an adopted file has, in the file's order.
    fn seeds_of_file(
        &self,
        file: &SeedFile,
        wanted: &mut Wanted,
        stop: &dyn Fn() -> bool,
    ) -> Result<u32, ReceiveError> {
        let found = wanted.iter().filter_map(|(prefix, to)| Some((file.find(*prefix)?, *prefix, *to)));
        let mut found: Vec<(u32, u64, ChunkIndex)> = found.collect();
        found.sort_unstable_by_key(|(at, ..)| *at);
        let mut copied = 0;
        for (at, prefix, to) in found {
            if stop() {
                break;
            }
            let Some(mut bytes) = file.read(at) else { continue };
            bytes.truncate(self.version().size().chunk_len(to) as usize);
            match self.put(to, &bytes, Urgency::Bulk) {
                Ok(written) => {
                    wanted.remove(&prefix);
                    copied += written;
                    self.store.adopted().took(u64::from(written) * u64::from(CHUNK_SIZE));
                }
                // The file has changed since, or only the beginnings of the hashes are the same.
                Err(ReceiveError::WrongBytes { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(copied)
    }

    /// Copies one chunk where it is wanted and can be read.
    fn seed(
        &self,
        version: &StoredVersion,
        chunk: ChunkIndex,
        hash: &ChunkHash,
        wanted: &mut Wanted,
    ) -> Result<u32, ReceiveError> {
        let Some(to) = wanted.get(&prefix(hash)).copied() else { return Ok(0) };
        if self.version().chunk_hash(to)? != *hash {
            return Ok(0);
        }
        let Ok(mut bytes) = version.chunk_for_peer(chunk) else { return Ok(0) };
        bytes.resize(CHUNK_SIZE as usize, 0);
        bytes.truncate(self.version().size().chunk_len(to) as usize);
        let written = self.put(to, &bytes, Urgency::Bulk)?;
        wanted.remove(&prefix(hash));
        Ok(written)
    }
}

impl Store {
    /// The other versions here that can be opened.
    fn others(&self, than: &Receiving) -> impl Iterator<Item = Arc<StoredVersion>> {
        let roots: Vec<_> = self.state().versions.keys().copied().collect();
        let own = than.root();
        roots.into_iter().filter(move |root| *root != own).filter_map(|root| self.version(&root).ok())
    }
}
