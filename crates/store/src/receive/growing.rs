//! A layer that is being filled: bytes first, then what the presence file says of them.
//!
//! A chunk goes through three states here: wanted, written (its bytes were given to the file
//! system, nobody reads them), and stored (they were synced, and only then does the presence say
//! so: DESIGN section 9, invariant 3). The presence file is changed in place, block by block; a
//! power loss may tear a block, which its checksum tells (`recover.rs`).

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
    present: Arc<dyn OpenFile>,
    filling: Mutex<Filling>,
    /// Held while a batch is made durable, so that who waits for it finds its chunk readable.
    pub(super) settling: Mutex<()>,
}

#[derive(Debug)]
struct Filling {
    presence: Presence,
    /// Written and not synced yet.
    written: BTreeMap<u32, Urgency>,
    /// Blocks of the presence file that are older than `presence`.
    stale: BTreeSet<u32>,
    /// Whether the presence file was written since it was synced.
    unsynced: bool,
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
        let present = files.open_file(&directory.join(PRESENCE_FILE))?;
        let (written, stale) = (BTreeMap::new(), BTreeSet::new());
        let filling = Mutex::new(Filling { presence, written, stale, unsynced: false });
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
        filling.unsynced || !filling.stale.is_empty() || filling.presence.has_wanted()
    }

    /// Whether the chunk is to come and was not written yet.
    pub(super) fn wants(&self, chunk: ChunkIndex) -> bool {
        let filling = self.filling();
        filling.presence.get(chunk) == ChunkState::Wanted && !filling.written.contains_key(&chunk.0)
    }

    /// Bytes that were written and not synced, in whole chunks.
    pub(super) fn written_bytes(&self) -> u64 {
        self.filling().written.len() as u64 * u64::from(CHUNK_SIZE)
    }

    /// Writes the verified bytes of a chunk; answers false where they are here already. Nobody
    /// reads them before [`Growing::settle`].
    pub(super) fn write(&self, chunk: ChunkIndex, bytes: &[u8], urgency: Urgency) -> io::Result<bool> {
        if !self.wants(chunk) {
            return Ok(false);
        }
        self.data.write_all_at(bytes, chunk.offset())?;
        if urgency == Urgency::Bulk {
            self.data.start_writeout(chunk.offset(), bytes.len() as u64);
        }
        self.filling().written.insert(chunk.0, urgency);
        Ok(true)
    }

    /// Makes what was written durable, then says in memory and in the presence file that it is
    /// here; answers which chunks. After an error they are wanted again: what a failed sync left
    /// is not known.
    pub(super) fn settle(&self) -> io::Result<Vec<ChunkIndex>> {
        let written = std::mem::take(&mut self.filling().written);
        if written.is_empty() {
            return Ok(Vec::new());
        }
        self.data.sync()?;
        self.forget(&written);
        let mut filling = self.filling();
        for chunk in written.keys().copied().map(ChunkIndex) {
            filling.presence.set(chunk, ChunkState::Stored);
            filling.stale.insert(block_of(chunk));
        }
        // A presence that cannot be written now is written with the next batch.
        let _ = self.write_presence(&mut filling);
        Ok(written.into_keys().map(ChunkIndex).collect())
    }

    /// Waits until the presence file says durably what is here.
    pub(crate) fn sync_presence(&self) -> io::Result<()> {
        let mut filling = self.filling();
        self.write_presence(&mut filling)?;
        if filling.unsynced {
            self.present.sync()?;
            filling.unsynced = false;
        }
        Ok(())
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

    fn write_presence(&self, filling: &mut Filling) -> io::Result<()> {
        while let Some(block) = filling.stale.first().copied() {
            filling.unsynced = true;
            self.present.write_all_at(&filling.presence.encode_block(block), offset_of(block))?;
            filling.stale.remove(&block);
        }
        Ok(())
    }

    /// Lets the page cache go of what no device waits for.
    fn forget(&self, written: &BTreeMap<u32, Urgency>) {
        for (chunk, _) in written.iter().filter(|(_, urgency)| **urgency == Urgency::Bulk) {
            let chunk = ChunkIndex(*chunk);
            self.data.forget_range(chunk.offset(), u64::from(self.size.chunk_len(chunk)));
        }
    }

    fn filling(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().expect(NO_PANIC)
    }
}
