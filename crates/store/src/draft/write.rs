//! Changing a draft: writes, trims, writes of zeros.
//!
//! A request is stored in two steps. First the bytes of blocks that the active generation does not
//! have yet: where that fails (the file system is full), nothing of the request is visible. Then
//! the bytes of blocks that it has, in place, and the new states. Meanwhile the stripes of all
//! chunks of the request are locked. A write that covers a block in part, of a block that is not
//! here yet, brings the rest of the block up from below first.

use super::blocks::{BLOCK_BYTES, BlockState, CHUNK_BLOCKS, Locked};
use super::error::file_error;
use super::{Draft, DraftError, World};
use model::{ByteRange, CHUNK_SIZE, ChunkIndex, DiskSize};
use std::borrow::Cow;
use std::sync::atomic::Ordering;

/// The most bytes that one step of a trim locks: half of the stripes.
const TRIM_STEP_BYTES: u64 = 32 * CHUNK_SIZE as u64;

/// Bytes of consecutive blocks that go to one place of the data file.
struct Piece<'a> {
    offset: u64,
    bytes: Cow<'a, [u8]>,
    /// The blocks are not in the active generation yet.
    fresh: bool,
}

impl Draft {
    /// Stores `data` at `offset`: seen by every later read, durable after [`Draft::flush`].
    ///
    /// After [`DraftError::NoSpace`] nothing of it was stored. After [`DraftError::Io`] blocks
    /// that were written before may have their old bytes or new ones.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), DraftError> {
        let range = ByteRange::new(offset, data.len() as u64);
        self.check_range(range)?;
        self.check_usable()?;
        let world = self.world();
        self.check_usable()?;
        match data.is_empty() {
            true => Ok(()),
            false => world.write(self.size, offset, data),
        }
    }

    /// Lets go of a range: it reads as zero from now on, also where a version below has data.
    pub fn trim(&self, range: ByteRange) -> Result<(), DraftError> {
        self.check_range(range)?;
        self.check_usable()?;
        let end = range.offset + range.len;
        let mut at = range.offset;
        while at < end {
            // Each step is a request of its own, so that a long trim holds nobody up.
            let step_end = ((at / TRIM_STEP_BYTES + 1) * TRIM_STEP_BYTES).min(end);
            let world = self.world();
            self.check_usable()?;
            world.make_zero(self.size, ByteRange::new(at, step_end - at))?;
            at = step_end;
        }
        Ok(())
    }

    /// Makes a range read as zero.
    pub fn write_zeroes(&self, range: ByteRange) -> Result<(), DraftError> {
        self.trim(range)
    }
}

impl World {
    fn write(&self, size: DiskSize, offset: u64, data: &[u8]) -> Result<(), DraftError> {
        let last = offset + data.len() as u64 - 1;
        let mut locked = self.active.table.write(ChunkIndex::of_offset(offset), ChunkIndex::of_offset(last));
        let pieces = self.pieces(&locked, size, offset, data)?;
        self.store(&pieces)?;
        for piece in pieces.iter().filter(|piece| piece.fresh) {
            self.set(&mut locked, ByteRange::new(piece.offset, piece.bytes.len() as u64), BlockState::Data);
        }
        Ok(())
    }

    /// Cuts a write into what is fresh and what is not; whole blocks where it is fresh.
    fn pieces<'a>(
        &self,
        locked: &Locked<'_>,
        size: DiskSize,
        offset: u64,
        data: &'a [u8],
    ) -> Result<Vec<Piece<'a>>, DraftError> {
        let mut pieces: Vec<Piece<'a>> = Vec::new();
        let (mut at, end) = (offset, offset + data.len() as u64);
        while at < end {
            let block = block_at(size, at);
            let state = state_at(locked, at);
            let block_end = block.offset + block.len;
            if state != BlockState::Data && (at > block.offset || end < block_end) {
                let until = block_end.min(end);
                let bytes = &data[(at - offset) as usize..(until - offset) as usize];
                pieces.push(self.assemble(block, state, at, bytes)?);
                at = until;
                continue;
            }
            let fresh = state != BlockState::Data;
            let from = at;
            at = block_end.min(end);
            while at < end && (state_at(locked, at) != BlockState::Data) == fresh {
                let block = block_at(size, at);
                let whole = block.offset + block.len <= end;
                if fresh && !whole {
                    break;
                }
                at = (block.offset + block.len).min(end);
            }
            let bytes = Cow::Borrowed(&data[(from - offset) as usize..(at - offset) as usize]);
            pieces.push(Piece { offset: from, bytes, fresh });
        }
        Ok(pieces)
    }

    /// A whole block: what it holds now, with `bytes` over it from `at`.
    fn assemble<'a>(
        &self,
        block: ByteRange,
        state: BlockState,
        at: u64,
        bytes: &[u8],
    ) -> Result<Piece<'a>, DraftError> {
        let mut whole = vec![0; block.len as usize];
        if state == BlockState::Below {
            self.read_below(block.offset, &mut whole)?;
        }
        whole[(at - block.offset) as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(Piece { offset: block.offset, bytes: Cow::Owned(whole), fresh: true })
    }

    /// Writes the bytes: first all that can fail for want of space.
    fn store(&self, pieces: &[Piece<'_>]) -> Result<(), DraftError> {
        let data = &self.active.data;
        self.active.data_unsynced.store(true, Ordering::Release);
        let context = || file_error("cannot write the draft's data");
        for piece in pieces.iter().filter(|piece| piece.fresh) {
            if let Err(error) = data.write_all_at(&piece.bytes, piece.offset) {
                self.give_back(pieces);
                return Err(context()(error));
            }
        }
        for piece in pieces.iter().filter(|piece| !piece.fresh) {
            data.write_all_at(&piece.bytes, piece.offset).map_err(context())?;
        }
        // Set again: a flush may have begun to sync between the first byte and the last.
        self.active.data_unsynced.store(true, Ordering::Release);
        Ok(())
    }

    /// Gives the space of a write back that did not fit; nothing reads there.
    fn give_back(&self, pieces: &[Piece<'_>]) {
        for piece in pieces.iter().filter(|piece| piece.fresh) {
            let _ = self.active.data.punch_hole(piece.offset, piece.bytes.len() as u64);
        }
    }

    fn make_zero(&self, size: DiskSize, range: ByteRange) -> Result<(), DraftError> {
        let last = ChunkIndex::of_offset(range.offset + range.len - 1);
        let mut locked = self.active.table.write(ChunkIndex::of_offset(range.offset), last);
        let (whole, edges) = split_whole_blocks(size, range);
        for edge in edges.into_iter().flatten() {
            self.zero_edge(&mut locked, size, edge)?;
        }
        if let Some(whole) = whole {
            self.zero_whole(&mut locked, whole);
        }
        Ok(())
    }

    /// Writes zeros over a part of a block, unless it reads as zero anyway.
    fn zero_edge(&self, locked: &mut Locked<'_>, size: DiskSize, edge: ByteRange) -> Result<(), DraftError> {
        let zeros = [0; BLOCK_BYTES as usize];
        let zeros = &zeros[..edge.len as usize];
        let block = block_at(size, edge.offset);
        let piece = match state_at(locked, edge.offset) {
            BlockState::Zero => return Ok(()),
            BlockState::Below if self.is_zero_below(ChunkIndex::of_offset(edge.offset)) => return Ok(()),
            BlockState::Below => self.assemble(block, BlockState::Below, edge.offset, zeros)?,
            BlockState::Data => Piece { offset: edge.offset, bytes: Cow::Borrowed(zeros), fresh: false },
        };
        self.store(std::slice::from_ref(&piece))?;
        if piece.fresh {
            self.set(locked, block, BlockState::Data);
        }
        Ok(())
    }

    /// Marks whole blocks as zero and gives back what they take.
    fn zero_whole(&self, locked: &mut Locked<'_>, range: ByteRange) {
        let mut had_data = false;
        for part in range.by_chunk() {
            let mut blocks = locked.get(part.chunk);
            if blocks == Default::default() && self.is_zero_below(part.chunk) {
                continue;
            }
            had_data |= blocks.data_blocks() > 0;
            for block in part.within / BLOCK_BYTES..(part.within + part.len).div_ceil(BLOCK_BYTES) {
                blocks.set(block, BlockState::Zero);
            }
            let change = locked.stripe(part.chunk).set(part.chunk, blocks);
            self.active.data_blocks.fetch_add(change, Ordering::Relaxed);
        }
        if had_data {
            // A failure costs space and nothing else: no read goes there.
            let _ = self.active.data.punch_hole(range.offset, range.len);
        }
    }

    fn set(&self, locked: &mut Locked<'_>, range: ByteRange, state: BlockState) {
        for part in range.by_chunk() {
            let mut blocks = locked.get(part.chunk);
            for block in part.within / BLOCK_BYTES..(part.within + part.len).div_ceil(BLOCK_BYTES) {
                blocks.set(block, state);
            }
            let change = locked.stripe(part.chunk).set(part.chunk, blocks);
            self.active.data_blocks.fetch_add(change, Ordering::Relaxed);
        }
    }
}

/// The block that holds the byte at `offset`; the disk's last one may be shorter.
fn block_at(size: DiskSize, offset: u64) -> ByteRange {
    let first = offset / u64::from(BLOCK_BYTES) * u64::from(BLOCK_BYTES);
    ByteRange::new(first, u64::from(BLOCK_BYTES).min(size.bytes() - first))
}

fn state_at(locked: &Locked<'_>, offset: u64) -> BlockState {
    let chunk = ChunkIndex::of_offset(offset);
    let block = (offset - chunk.offset()) as u32 / BLOCK_BYTES;
    debug_assert!(block < CHUNK_BLOCKS);
    locked.get(chunk).get(block)
}

/// The whole blocks of a range, and the parts of blocks before and after them.
fn split_whole_blocks(size: DiskSize, range: ByteRange) -> (Option<ByteRange>, [Option<ByteRange>; 2]) {
    let unit = u64::from(BLOCK_BYTES);
    let end = range.offset + range.len;
    let first = range.offset.next_multiple_of(unit);
    let last = if end == size.bytes() { end } else { end / unit * unit };
    let between = |from: u64, to: u64| (from < to).then(|| ByteRange::new(from, to - from));
    match first < last {
        true => (between(first, last), [between(range.offset, first), between(last, end)]),
        // The range may lie in one block, or in two neighbours and fill neither.
        false => {
            let middle = first.min(end);
            (None, [between(range.offset, middle), between(middle, end)])
        }
    }
}
