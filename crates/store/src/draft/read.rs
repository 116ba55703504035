//! Reading a draft: each block from the topmost place that has it.

use super::blocks::{BLOCK_BYTES, BlockState, CHUNK_BLOCKS, ChunkBlocks};
use super::error::file_error;
use super::{Draft, DraftError, World};
use crate::version::Place;
use model::chunk::ChunkPart;
use model::{ByteRange, ChunkIndex};
use rustix::fs::{Advice, fadvise};
use std::num::NonZeroU64;

/// The most chunks that one hint brings in: 8 MiB, which a disk reads in some milliseconds.
const PREFETCH_CHUNKS: usize = 128;

/// A run of a draft's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftExtent {
    /// Length in bytes.
    pub len: u64,
    /// Whether it holds data; else it reads as zero and takes no space.
    pub is_data: bool,
}

/// Where the bytes of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Active,
    Frozen,
    Zero,
    Parent,
}

impl Draft {
    /// Fills `buffer` from `offset`. Never sees half of a block that is being written.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DraftError> {
        let range = ByteRange::new(offset, buffer.len() as u64);
        self.check_range(range)?;
        let world = self.world();
        self.check_open()?;
        let mut rest = buffer;
        for part in range.by_chunk() {
            let (piece, after) = rest.split_at_mut(part.len as usize);
            rest = after;
            world.read_part(part, piece)?;
        }
        Ok(())
    }

    /// Asks for a range to be brought into memory soon; a hint that may do nothing.
    pub fn prefetch(&self, range: ByteRange) {
        if self.check_range(range).is_err() {
            return;
        }
        let world = self.world();
        for part in range.by_chunk().take(PREFETCH_CHUNKS) {
            if let Place::Layer(layer) = world.parent.place(part.chunk) {
                let file = world.parent.layers()[usize::from(layer)].file();
                let len = NonZeroU64::new(u64::from(part.len));
                let _ = fadvise(file, part.chunk.offset() + u64::from(part.within), len, Advice::WillNeed);
            }
        }
    }

    /// The runs of data and holes that make up `range`; at most `limit` runs, so the answer may
    /// cover only the beginning of the range.
    pub fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<DraftExtent>, DraftError> {
        self.check_range(range)?;
        let world = self.world();
        self.check_open()?;
        let mut extents = Vec::<DraftExtent>::new();
        for part in range.by_chunk() {
            let active = world.active.table.read(part.chunk).get(part.chunk);
            for (source, run) in world.runs(part, active) {
                let below = source == Source::Parent && world.parent.place(part.chunk) != Place::Zero;
                let is_data = below || matches!(source, Source::Active | Source::Frozen);
                let full = extents.len() == limit;
                match extents.last_mut() {
                    Some(last) if last.is_data == is_data => last.len += run.len,
                    _ if full => return Ok(extents),
                    _ => extents.push(DraftExtent { len: run.len, is_data }),
                }
            }
        }
        Ok(extents)
    }
}

impl World {
    fn read_part(&self, part: ChunkPart, buffer: &mut [u8]) -> Result<(), DraftError> {
        let stripe = self.active.table.read(part.chunk);
        let (mut rest, mut below) = (buffer, None);
        for (source, run) in self.runs(part, stripe.get(part.chunk)) {
            let (piece, after) = rest.split_at_mut(run.len as usize);
            rest = after;
            match source {
                Source::Zero => piece.fill(0),
                Source::Parent => {
                    let chunk = self.chunk_below(part.chunk, &mut below)?;
                    piece.copy_from_slice(
                        &chunk[(run.offset - part.chunk.offset()) as usize..][..piece.len()],
                    );
                }
                Source::Active => read_file(&*self.active.data, run.offset, piece)?,
                Source::Frozen => {
                    let frozen = self.frozen.as_ref().expect("a block comes from the frozen generation");
                    read_file(&*frozen.data, run.offset, piece)?;
                }
            }
        }
        Ok(())
    }

    /// The parent's chunk, compared with its name, read once for all runs of a part.
    fn chunk_below<'a>(
        &self,
        chunk: ChunkIndex,
        below: &'a mut Option<Vec<u8>>,
    ) -> Result<&'a [u8], DraftError> {
        if below.is_none() {
            let mut whole = vec![0; model::CHUNK_SIZE as usize];
            if self.parent.place(chunk) != Place::Zero {
                self.parent.verify_chunk(chunk, &mut whole)?;
            }
            *below = Some(whole);
        }
        Ok(below.as_deref().expect("it was just read"))
    }

    /// Reads below the active generation what a block of a touched chunk holds, with the parent's
    /// bytes compared with their name: they are about to become the draft's own.
    pub(super) fn read_below(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DraftError> {
        let chunk = ChunkIndex::of_offset(offset);
        let block = (offset - chunk.offset()) as u32 / BLOCK_BYTES;
        match self.frozen_blocks(chunk).get(block) {
            BlockState::Zero => buffer.fill(0),
            BlockState::Data => {
                let frozen = self.frozen.as_ref().expect("its states were asked");
                read_file(&*frozen.data, offset, buffer)?;
            }
            BlockState::Below if self.parent.place(chunk) == Place::Zero => buffer.fill(0),
            BlockState::Below => {
                let mut whole = vec![0; model::CHUNK_SIZE as usize];
                self.parent.verify_chunk(chunk, &mut whole)?;
                let from = (offset - chunk.offset()) as usize;
                buffer.copy_from_slice(&whole[from..from + buffer.len()]);
            }
        }
        Ok(())
    }

    /// What the frozen generation says about a chunk; nothing where there is none.
    pub(super) fn frozen_blocks(&self, chunk: ChunkIndex) -> ChunkBlocks {
        self.frozen.as_ref().map(|frozen| frozen.table.read(chunk).get(chunk)).unwrap_or_default()
    }

    /// Whether a chunk reads as zero below the active generation.
    pub(super) fn is_zero_below(&self, chunk: ChunkIndex) -> bool {
        let frozen = self.frozen_blocks(chunk);
        frozen == ChunkBlocks::ALL_ZERO
            || frozen == ChunkBlocks::default() && self.parent.place(chunk) == Place::Zero
    }

    /// The runs of a part of a chunk by the place where their bytes are.
    fn runs(&self, part: ChunkPart, active: ChunkBlocks) -> impl Iterator<Item = (Source, ByteRange)> {
        let frozen = self.frozen_blocks(part.chunk);
        let end = part.within + part.len;
        let mut at = part.within;
        let source = move |block: u32| match (active.get(block), frozen.get(block)) {
            (BlockState::Data, _) => Source::Active,
            (BlockState::Zero, _) | (_, BlockState::Zero) => Source::Zero,
            (BlockState::Below, BlockState::Data) => Source::Frozen,
            (BlockState::Below, BlockState::Below) => Source::Parent,
        };
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let from = at;
            let mut block = at / BLOCK_BYTES;
            let found = source(block);
            while block < CHUNK_BLOCKS && block * BLOCK_BYTES < end && source(block) == found {
                block += 1;
            }
            at = (block * BLOCK_BYTES).min(end);
            let offset = part.chunk.offset() + u64::from(from);
            Some((found, ByteRange::new(offset, u64::from(at - from))))
        })
    }
}

fn read_file(file: &dyn crate::files::OpenFile, offset: u64, buffer: &mut [u8]) -> Result<(), DraftError> {
    file.read_exact_at(buffer, offset).map_err(file_error("cannot read the draft's data"))
}
