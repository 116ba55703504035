//! What a generation of a draft says about each block of 4 KiB.
//!
//! Two bits a block, so a chunk's sixteen blocks are one `u32`; chunks that were never touched take
//! no memory at all (16 bytes or so for each one that was). The table is split into stripes, and
//! a stripe's lock is also what keeps requests to its chunks apart: who holds it for writing may
//! change the data file there, who holds it for reading sees whole blocks.

use model::{CHUNK_SIZE, ChunkIndex};
use std::collections::{HashMap, HashSet};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The unit of the draft's bookkeeping in bytes: the page of the system and of most file systems.
pub(crate) const BLOCK_BYTES: u32 = 4096;
/// Blocks in a chunk.
pub(crate) const CHUNK_BLOCKS: u32 = CHUNK_SIZE / BLOCK_BYTES;
/// Stripes of a table: enough for the requests of a busy disk not to meet, by eye.
pub(crate) const STRIPES: u32 = 64;

/// What a generation says about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockState {
    /// Nothing: look below.
    Below,
    /// Its bytes are in the generation's data file.
    Data,
    /// It reads as zero.
    Zero,
}

/// The states of a chunk's sixteen blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkBlocks(u32);

impl ChunkBlocks {
    pub(crate) const ALL_DATA: Self = Self(0x5555_5555);
    pub(crate) const ALL_ZERO: Self = Self(0xAAAA_AAAA);

    pub(crate) fn get(self, block: u32) -> BlockState {
        match self.0 >> (block * 2) & 3 {
            0 => BlockState::Below,
            1 => BlockState::Data,
            _ => BlockState::Zero,
        }
    }

    pub(crate) fn set(&mut self, block: u32, state: BlockState) {
        let bits = match state {
            BlockState::Below => 0,
            BlockState::Data => 1,
            BlockState::Zero => 2,
        };
        self.0 = self.0 & !(3 << (block * 2)) | bits << (block * 2);
    }

    /// How many blocks have their bytes here.
    pub(crate) fn data_blocks(self) -> u32 {
        (self.0 & 0x5555_5555).count_ones()
    }

    /// The runs of blocks of one state: first block, count, state.
    pub(crate) fn runs(self) -> impl Iterator<Item = (u32, u32, BlockState)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            if at == CHUNK_BLOCKS {
                return None;
            }
            let (first, state) = (at, self.get(at));
            while at < CHUNK_BLOCKS && self.get(at) == state {
                at += 1;
            }
            Some((first, at - first, state))
        })
    }
}

/// The chunks of one stripe.
#[derive(Debug, Default)]
pub(crate) struct Stripe {
    states: HashMap<u32, ChunkBlocks>,
    /// Chunks whose states the log does not have yet.
    unlogged: HashSet<u32>,
}

impl Stripe {
    pub(crate) fn get(&self, chunk: ChunkIndex) -> ChunkBlocks {
        self.states.get(&chunk.0).copied().unwrap_or_default()
    }

    /// Changes a chunk's states, to be logged by the next flush; answers the change in data blocks.
    pub(crate) fn set(&mut self, chunk: ChunkIndex, blocks: ChunkBlocks) -> i64 {
        let before = self.states.insert(chunk.0, blocks).unwrap_or_default();
        if before != blocks {
            self.unlogged.insert(chunk.0);
        }
        i64::from(blocks.data_blocks()) - i64::from(before.data_blocks())
    }
}

/// A chunk and what is said about it.
pub(crate) type ChunkEntry = (ChunkIndex, ChunkBlocks);

/// The states of all touched chunks of a generation.
#[derive(Debug)]
pub(crate) struct BlockTable {
    stripes: Box<[RwLock<Stripe>]>,
}

impl BlockTable {
    pub(crate) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| RwLock::default()).collect() }
    }

    /// Locks the stripe of `chunk` for reading.
    pub(crate) fn read(&self, chunk: ChunkIndex) -> RwLockReadGuard<'_, Stripe> {
        self.stripes[(chunk.0 % STRIPES) as usize].read().expect(NO_PANIC)
    }

    /// Locks the stripes of the chunks `first` to `last`.
    pub(crate) fn write(&self, first: ChunkIndex, last: ChunkIndex) -> Locked<'_> {
        let count = (last.0 - first.0 + 1).min(STRIPES);
        let mut numbers: Vec<u32> = (0..count).map(|at| (first.0.wrapping_add(at)) % STRIPES).collect();
        numbers.sort_unstable();
        let lock = |number: &u32| (*number, self.stripes[*number as usize].write().expect(NO_PANIC));
        Locked { stripes: numbers.iter().map(lock).collect() }
    }

    /// The chunks that the log does not have yet; the log is taken to have them afterwards.
    pub(crate) fn take_unlogged(&self) -> Vec<ChunkEntry> {
        let mut entries = Vec::new();
        for stripe in &self.stripes {
            let mut stripe = stripe.write().expect(NO_PANIC);
            let unlogged = std::mem::take(&mut stripe.unlogged);
            entries
                .extend(unlogged.into_iter().map(|chunk| (ChunkIndex(chunk), stripe.get(ChunkIndex(chunk)))));
        }
        entries.sort_unstable_by_key(|(chunk, _)| *chunk);
        entries
    }

    /// Takes [`BlockTable::take_unlogged`] back: the log could not be written.
    pub(crate) fn still_unlogged(&self, entries: &[ChunkEntry]) {
        for (chunk, _) in entries {
            self.write(*chunk, *chunk).stripe(*chunk).unlogged.insert(chunk.0);
        }
    }

    /// Every touched chunk, in order.
    pub(crate) fn entries(&self) -> Vec<ChunkEntry> {
        let mut entries = Vec::new();
        for stripe in &self.stripes {
            let stripe = stripe.read().expect(NO_PANIC);
            entries.extend(stripe.states.iter().map(|(chunk, blocks)| (ChunkIndex(*chunk), *blocks)));
        }
        entries.sort_unstable_by_key(|(chunk, _)| *chunk);
        entries
    }

    /// How many chunks were touched.
    pub(crate) fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.read().expect(NO_PANIC).states.len()).sum()
    }

    /// Takes states over that the log has already; answers the data blocks among them.
    pub(crate) fn load(&self, states: HashMap<u32, ChunkBlocks>) -> u64 {
        let mut data = 0;
        for (chunk, blocks) in states {
            data += u64::from(blocks.data_blocks());
            let chunk = ChunkIndex(chunk);
            self.write(chunk, chunk).stripe(chunk).states.insert(chunk.0, blocks);
        }
        data
    }
}

/// Stripes locked for writing, in the order of their numbers.
pub(crate) struct Locked<'a> {
    stripes: Vec<(u32, RwLockWriteGuard<'a, Stripe>)>,
}

impl Locked<'_> {
    pub(crate) fn get(&self, chunk: ChunkIndex) -> ChunkBlocks {
        self.stripes[self.position(chunk)].1.get(chunk)
    }

    pub(crate) fn stripe(&mut self, chunk: ChunkIndex) -> &mut Stripe {
        let position = self.position(chunk);
        &mut self.stripes[position].1
    }

    fn position(&self, chunk: ChunkIndex) -> usize {
        let number = chunk.0 % STRIPES;
        self.stripes.binary_search_by_key(&number, |(number, _)| *number).expect("the chunk is locked")
    }
}

const NO_PANIC: &str = "no thread panics while it holds a stripe";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_tile_a_chunk() {
        let mut blocks = ChunkBlocks::default();
        blocks.set(3, BlockState::Data);
        blocks.set(4, BlockState::Data);
        blocks.set(15, BlockState::Zero);
        let runs: Vec<_> = blocks.runs().collect();
        let (below, data, zero) = (BlockState::Below, BlockState::Data, BlockState::Zero);
        assert_eq!(runs, [(0, 3, below), (3, 2, data), (5, 10, below), (15, 1, zero)]);
        assert_eq!(blocks.data_blocks(), 2);
        assert_eq!(ChunkBlocks::ALL_DATA.runs().collect::<Vec<_>>(), [(0, 16, data)]);
        assert_eq!(ChunkBlocks::ALL_ZERO.runs().collect::<Vec<_>>(), [(0, 16, zero)]);
    }

    #[test]
    fn what_was_taken_for_the_log_and_not_written_is_taken_again() {
        let table = BlockTable::new();
        let chunk = ChunkIndex(70);
        table.write(chunk, ChunkIndex(200)).stripe(chunk).set(chunk, ChunkBlocks::ALL_DATA);
        let taken = table.take_unlogged();
        assert_eq!(taken, [(chunk, ChunkBlocks::ALL_DATA)]);
        assert!(table.take_unlogged().is_empty());
        table.still_unlogged(&taken);
        assert_eq!(table.take_unlogged(), taken);
    }
}
