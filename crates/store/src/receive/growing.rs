//! A layer that is being filled: bytes first, then what the presence file says of them.
//!
//! A chunk goes through three states here: wanted, taken (its bytes were given to the file system,
//! or wait in memory for the next batch; nobody reads the file's), and stored (they were synced, and
//! only then does the presence say so: DESIGN section 9, invariant 3). The presence file is changed
//! in place, block by block; a power loss may tear a block, which its checksum tells (`recover.rs`).
//! It is written and synced while nobody else is kept waiting: a device's chunk is taken meanwhile.

use super::Urgency;
use crate::files::{Files, OpenFile};
use crate::layer::{DATA_FILE, PRESENCE_FILE};
use crate::presence::{ChunkState, Presence, block_of, offset_of};
use crate::record::LayerName;
use model::{CHUNK_SIZE, ChunkIndex, DiskSize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

const NO_PANIC: &str = "no thread panics while it holds a growing layer";

/// The files of a layer that some chunks are still to come to.
#[derive(Debug)]
pub(crate) struct Growing {
    name: LayerName,
    size: DiskSize,
    data: Arc<dyn OpenFile>,
    /// Held while the presence file is written or synced; taken before `filling`, never after it.
    present: Mutex<Arc<dyn OpenFile>>,
    filling: Mutex<Filling>,
    /// Held while a batch is made durable, so that who waits for it finds its chunk readable.
    pub(super) settling: Mutex<()>,
}

#[derive(Debug)]
struct Filling {
    presence: Presence,
    /// Taken and not synced yet.
    taken: BTreeMap<u32, Taken>,
    /// Blocks of the presence file that are older than `presence`.
    stale: BTreeSet<u32>,
    /// Blocks that were written, or are just being written, since the presence file was synced.
    unsynced: BTreeSet<u32>,
}

/// A chunk of the next batch.
#[derive(Debug)]
enum Taken {
    /// In the file; leaves the page cache once it is on the disk.
    Written,
    /// Not in the file yet: who put it did not wait for the file system. Stays in the page cache.
    Held(Arc<[u8]>),
}

impl Growing {
    /// Opens the files in a layer's directory; `presence` is what its presence file says.
    pub(crate) fn open(
        files: &dyn Files,
        directory: &Path,
        name: &LayerName,
        size: DiskSize,
        presence: Presence,
    ) -> io::Result<Self> {
        let data = files.open_file(&directory.join(DATA_FILE))?;
        let present = Mutex::new(files.open_file(&directory.join(PRESENCE_FILE))?);
        let (taken, stale, unsynced) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let filling = Mutex::new(Filling { presence, taken, stale, unsynced });
        Ok(Self { name: name.clone(), size, data, present, filling, settling: Mutex::new(()) })
    }

    pub(crate) fn name(&self) -> &LayerName {
        &self.name
    }

    /// What the layer has now.
    pub(crate) fn presence(&self) -> Presence {
        self.filling().presence.clone()
    }

    /// Whether chunks are still to come, or what came is not told by the presence file yet.
    pub(crate) fn is_unfinished(&self) -> bool {
        let filling = self.filling();
        !filling.unsynced.is_empty() || !filling.stale.is_empty() || filling.presence.has_wanted()
    }

    /// Whether the chunk is to come and was not taken yet.
    pub(super) fn wants(&self, chunk: ChunkIndex) -> bool {
        self.filling().wants(chunk)
    }

    /// Bytes that were taken and not synced, in whole chunks.
    pub(super) fn unsettled_bytes(&self) -> u64 {
        self.filling().taken.len() as u64 * u64::from(CHUNK_SIZE)
    }

    /// Takes the verified bytes of a chunk; answers false where they are here already. Nobody reads
    /// them from the file before [`Growing::settle`]. What a device waits for is not written before
    /// that either: while a journal commits, a write of a few bytes may take as long as a sync.
    pub(super) fn take(&self, chunk: ChunkIndex, bytes: &Arc<[u8]>, urgency: Urgency) -> io::Result<bool> {
        if urgency == Urgency::OnDemand {
            let mut filling = self.filling();
            let is_wanted = filling.wants(chunk);
            if is_wanted {
                filling.taken.insert(chunk.0, Taken::Held(Arc::clone(bytes)));
            }
            return Ok(is_wanted);
        }
        if !self.wants(chunk) {
            return Ok(false);
        }
        self.data.write_all_at(bytes, chunk.offset())?;
        self.data.start_writeout(chunk.offset(), bytes.len() as u64);
        self.filling().taken.insert(chunk.0, Taken::Written);
        Ok(true)
    }

    /// Makes what was taken durable, then says in memory and in the presence file that it is
    /// here; answers which chunks. After an error they are wanted again: what a failed sync left
    /// is not known.
    pub(super) fn settle(&self) -> io::Result<Vec<ChunkIndex>> {
        let taken = std::mem::take(&mut self.filling().taken);
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        for (chunk, bytes) in held(&taken) {
            self.data.write_all_at(bytes, chunk.offset())?;
        }
        self.data.sync()?;
        self.forget(&taken);
        let mut filling = self.filling();
        for chunk in taken.keys().copied().map(ChunkIndex) {
            filling.presence.set(chunk, ChunkState::Stored);
            filling.stale.insert(block_of(chunk));
        }
        drop(filling);
        // A presence that cannot be written now is written with the next batch.
        let _ = self.write_presence(&**self.present());
        Ok(taken.into_keys().map(ChunkIndex).collect())
    }

    /// Waits until the presence file says durably what is here. After an error all that it may have
    /// lost is written again by the next call: what a failed sync left is not known.
    pub(crate) fn sync_presence(&self) -> io::Result<()> {
        let present = self.present();
        self.write_presence(&**present)?;
        if self.filling().unsynced.is_empty() {
            return Ok(());
        }
        let synced = present.sync();
        let mut filling = self.filling();
        let mut blocks = std::mem::take(&mut filling.unsynced);
        if synced.is_err() {
            filling.stale.append(&mut blocks);
        }
        synced
    }

    /// Sets the states of chunks in the blocks of the file that a crash has torn.
    pub(super) fn repair(&self, states: &[(ChunkIndex, ChunkState)]) -> io::Result<()> {
        let mut filling = self.filling();
        for (chunk, state) in states {
            filling.presence.set(*chunk, *state);
            filling.stale.insert(block_of(*chunk));
        }
        drop(filling);
        self.sync_presence()
    }

    /// Writes the blocks that are older than what is in memory to `present`, which is locked.
    fn write_presence(&self, present: &dyn OpenFile) -> io::Result<()> {
        loop {
            // By itself, so that nobody waits for the write.
            let next = self.filling().begin_block();
            let Some((block, bytes)) = next else { return Ok(()) };
            if let Err(error) = present.write_all_at(&bytes, offset_of(block)) {
                self.filling().stale.insert(block);
                return Err(error);
            }
        }
    }

    /// Lets the page cache go of what no device waits for.
    fn forget(&self, taken: &BTreeMap<u32, Taken>) {
        for (chunk, _) in taken.iter().filter(|(_, taken)| matches!(taken, Taken::Written)) {
            let chunk = ChunkIndex(*chunk);
            self.data.forget_range(chunk.offset(), u64::from(self.size.chunk_len(chunk)));
        }
    }

    fn present(&self) -> MutexGuard<'_, Arc<dyn OpenFile>> {
        self.present.lock().expect(NO_PANIC)
    }

    fn filling(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().expect(NO_PANIC)
    }
}

impl Filling {
    fn wants(&self, chunk: ChunkIndex) -> bool {
        self.presence.get(chunk) == ChunkState::Wanted && !self.taken.contains_key(&chunk.0)
    }

    /// A block of the presence file that is to be written, and its bytes.
    fn begin_block(&mut self) -> Option<(u32, Vec<u8>)> {
        let block = self.stale.pop_first()?;
        self.unsynced.insert(block);
        Some((block, self.presence.encode_block(block)))
    }
}

/// What is not in the file yet.
fn held(taken: &BTreeMap<u32, Taken>) -> impl Iterator<Item = (ChunkIndex, &[u8])> {
    taken.iter().filter_map(|(chunk, taken)| match taken {
        Taken::Held(bytes) => Some((ChunkIndex(*chunk), &**bytes)),
        Taken::Written => None,
    })
}
