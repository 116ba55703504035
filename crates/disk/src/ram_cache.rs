//! A write cache in memory over any disk: what a standard-mode device writes, gone at reboot.
//!
//! Writes are kept in blocks of 4 KiB (smaller ones are merged with the parent's bytes), trimmed
//! blocks give their memory back and mask the parent, and the limit counts the memory really
//! held, bookkeeping included. What a full cache means to the device is the caller's decision:
//! here, a write that does not fit gets [`BlockError::NoSpace`] and stores nothing.
//!
//! The states of blocks are in `overlay`, their bytes in `arena`.

mod arena;
mod overlay;
#[cfg(test)]
mod tests;

use crate::block_io::{Access, BlockError, BlockIo, Extent, ExtentKind, Geometry, Piece};
use model::ByteRange;
use overlay::{Block, Overlay};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The cache's unit in bytes: the page and the file-system block of nearly every device.
pub const BLOCK_SIZE: u64 = 4096;
/// What the states of 64 KiB cost: 64 bytes, the allocator's share, and their place in a hash map
/// at half load (counted by eye, rounded up).
const EXTENT_COST: u64 = 128;
/// What the zero bits of 1 GiB cost: 2 KiB and their place in a hash map.
const REGION_COST: u64 = 2048 + 64;

const BLOCK: usize = BLOCK_SIZE as usize;

/// How full a write cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheFill {
    /// Memory held, in bytes.
    pub used_bytes: u64,
    /// The most it may hold, in bytes.
    pub limit_bytes: u64,
    /// Requests that were refused because they did not fit.
    pub refused: u64,
    /// Bytes the device has written, refused ones not counted.
    pub written_bytes: u64,
}

/// A copy-on-write overlay in memory.
pub struct RamCache<P> {
    parent: P,
    size_bytes: u64,
    limit_bytes: u64,
    overlay: RwLock<Overlay>,
    refused: AtomicU64,
    written_bytes: AtomicU64,
}

impl<P: BlockIo> RamCache<P> {
    /// Puts an empty cache of at most `limit_bytes` of memory over `parent`.
    pub fn new(parent: P, limit_bytes: u64) -> Self {
        let size_bytes = parent.geometry().size_bytes;
        Self {
            parent,
            size_bytes,
            limit_bytes,
            overlay: RwLock::default(),
            refused: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        }
    }

    /// The disk below.
    pub fn parent(&self) -> &P {
        &self.parent
    }

    /// How full the cache is now.
    pub fn fill(&self) -> CacheFill {
        CacheFill {
            used_bytes: self.read().used_bytes(),
            limit_bytes: self.limit_bytes,
            refused: self.refused.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
        }
    }

    /// Fills the parts of `buffer` that the cache has, never asking the parent, and answers the
    /// smallest range that holds all the others: none where the cache had everything.
    pub fn read_cached(&self, offset: u64, buffer: &mut [u8]) -> Result<Option<ByteRange>, BlockError> {
        self.check(ByteRange::new(offset, buffer.len() as u64))?;
        let overlay = self.read();
        let mut missing: Option<ByteRange> = None;
        for part in block_parts(offset, buffer.len()) {
            match overlay.get(part.block) {
                Block::Zero => buffer[part.buffer()].fill(0),
                Block::Page(page) => {
                    buffer[part.buffer()].copy_from_slice(&overlay.page(page)[part.within()]);
                }
                Block::Parent => {
                    let from = offset + part.at as u64;
                    let first = missing.map_or(from, |range| range.offset);
                    missing = Some(ByteRange::new(first, from + part.len as u64 - first));
                }
            }
        }
        Ok(missing)
    }

    /// Overwrites the parts of `buffer` that the cache has; the rest holds the parent's bytes.
    ///
    /// For a caller that fetches what [`RamCache::read_cached`] missed by itself.
    pub fn overlay_cached(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.read_cached(offset, buffer).map(|_| ())
    }

    /// Whether a write, trim or zeroing of `range` can be done without asking the parent.
    pub fn is_local(&self, range: ByteRange) -> bool {
        let overlay = self.read();
        self.edges(range).all(|block| overlay.get(block) != Block::Parent)
    }

    /// The blocks, at most two, that `range` covers only in part. The disk's end counts as a
    /// block's end.
    fn edges(&self, range: ByteRange) -> impl Iterator<Item = u64> {
        let end = range.offset + range.len;
        let head = (!range.offset.is_multiple_of(BLOCK_SIZE)).then_some(range.offset / BLOCK_SIZE);
        let cut = !end.is_multiple_of(BLOCK_SIZE) && end != self.size_bytes;
        let tail = cut.then_some(end / BLOCK_SIZE).filter(|tail| Some(*tail) != head);
        head.into_iter().chain(tail).filter(move |_| range.len > 0)
    }

    /// The parent's bytes of the edge blocks that are still the parent's.
    fn edge_bytes(&self, range: ByteRange) -> Result<Vec<EdgeBlock>, BlockError> {
        let wanted: Vec<u64> = {
            let overlay = self.read();
            self.edges(range).filter(|block| overlay.get(*block) == Block::Parent).collect()
        };
        wanted.into_iter().map(|block| self.parent_block(block)).collect()
    }

    fn parent_block(&self, block: u64) -> Result<EdgeBlock, BlockError> {
        let offset = block * BLOCK_SIZE;
        let mut bytes = vec![0; BLOCK];
        let len = (self.size_bytes - offset).min(BLOCK_SIZE) as usize;
        self.parent.read_at(offset, &mut bytes[..len])?;
        Ok(EdgeBlock { block, bytes })
    }

    fn zero(&self, range: ByteRange) -> Result<(), BlockError> {
        self.check(range)?;
        if range.len == 0 {
            return Ok(());
        }
        let edges = self.edge_bytes(range)?;
        let whole = self.whole_blocks(range);
        let mut overlay = self.write();
        let edge_cost: u64 = self
            .edges(range)
            .filter(|block| overlay.get(*block) == Block::Parent)
            .map(|block| overlay.cost_of_writing(block, 1))
            .sum();
        let cost = edge_cost as i64 + whole.map_or(0, |(first, count)| overlay.cost_of_zeroing(first, count));
        self.admit(overlay.used_bytes(), cost)?;
        if let Some((first, count)) = whole {
            overlay.zero(first, count);
        }
        for block in self.edges(range) {
            if overlay.get(block) != Block::Zero {
                let within = part_of_block(range, block);
                overlay.page_for_writing(block, bytes_of(&edges, block))[within].fill(0);
            }
        }
        Ok(())
    }

    /// The first of the blocks that `range` covers whole, and how many there are.
    fn whole_blocks(&self, range: ByteRange) -> Option<(u64, u64)> {
        let end = range.offset + range.len;
        let end = if end == self.size_bytes { end.next_multiple_of(BLOCK_SIZE) } else { end };
        let first = range.offset.div_ceil(BLOCK_SIZE);
        (end / BLOCK_SIZE > first).then(|| (first, end / BLOCK_SIZE - first))
    }

    fn admit(&self, used_bytes: u64, cost: i64) -> Result<(), BlockError> {
        if cost > 0 && used_bytes.saturating_add_signed(cost) > self.limit_bytes {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(BlockError::NoSpace);
        }
        Ok(())
    }

    fn check(&self, range: ByteRange) -> Result<(), BlockError> {
        match range.end() {
            Some(end) if end <= self.size_bytes => Ok(()),
            _ => Err(BlockError::OutOfRange),
        }
    }

    /// The state at `offset` and how many bytes, at most `limit`, share its kind.
    fn run_at(&self, offset: u64, limit: u64) -> (Block, u64) {
        let overlay = self.read();
        let first = offset / BLOCK_SIZE;
        let blocks = (offset + limit).div_ceil(BLOCK_SIZE) - first;
        let end = (first + overlay.run_len(first, blocks)) * BLOCK_SIZE;
        (overlay.get(first), (end - offset).min(limit))
    }

    fn read(&self) -> RwLockReadGuard<'_, Overlay> {
        self.overlay.read().expect("no holder of the lock panics")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Overlay> {
        self.overlay.write().expect("no holder of the lock panics")
    }
}

impl<P: BlockIo> BlockIo for RamCache<P> {
    fn geometry(&self) -> Geometry {
        Geometry { size_bytes: self.size_bytes, access: Access::ReadWrite }
    }

    /// Hands out zeros and the parent's memory; cached blocks may change while a caller sends
    /// them, so they are only ever copied (see [`RamCache::read_cached`]).
    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        if self.check(range).is_err() || range.len == 0 {
            return false;
        }
        match self.run_at(range.offset, range.len) {
            (_, len) if len < range.len => false,
            (Block::Parent, _) => self.parent.read_resident(range, pieces),
            (Block::Zero, len) => match u32::try_from(len) {
                Ok(len) => {
                    pieces.push(Piece::Zero(len));
                    true
                }
                Err(_) => false,
            },
            (Block::Page(_), _) => false,
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let Some(missing) = self.read_cached(offset, buffer)? else { return Ok(()) };
        let from = (missing.offset - offset) as usize;
        let part = &mut buffer[from..from + missing.len as usize];
        self.parent.read_at(missing.offset, part)?;
        self.overlay_cached(missing.offset, part)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        let range = ByteRange::new(offset, data.len() as u64);
        self.check(range)?;
        if data.is_empty() {
            return Ok(());
        }
        let edges = self.edge_bytes(range)?;
        let first = offset / BLOCK_SIZE;
        let count = (offset + range.len).div_ceil(BLOCK_SIZE) - first;
        let mut overlay = self.write();
        let cost = overlay.cost_of_writing(first, count);
        self.admit(overlay.used_bytes(), cost as i64)?;
        for part in block_parts(offset, data.len()) {
            let page = overlay.page_for_writing(part.block, bytes_of(&edges, part.block));
            page[part.within()].copy_from_slice(&data[part.buffer()]);
        }
        self.written_bytes.fetch_add(range.len, Ordering::Relaxed);
        Ok(())
    }

    /// Does nothing: this cache promises no more than its own life.
    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        self.zero(range)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        self.zero(range)
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        self.check(range)?;
        let end = range.offset + range.len;
        let mut runs: Vec<Extent> = Vec::new();
        let mut at = range.offset;
        while at < end {
            let (block, len) = self.run_at(at, end - at);
            let found = match block {
                Block::Page(_) => vec![Extent { len, kind: ExtentKind::Data }],
                Block::Zero => vec![Extent { len, kind: ExtentKind::Hole }],
                Block::Parent => self.parent.extents(ByteRange::new(at, len), limit.max(1))?,
            };
            assert!(!found.is_empty(), "extents answer at least one byte");
            for run in found {
                if !append(&mut runs, run, limit.max(1)) {
                    return Ok(runs);
                }
                at += run.len;
            }
        }
        Ok(runs)
    }

    fn is_far(&self, range: ByteRange) -> bool {
        self.check(range).is_ok() && self.parent.is_far(range)
    }

    fn prefetch(&self, range: ByteRange) {
        if self.check(range).is_ok() {
            self.parent.prefetch(range);
        }
    }
}

/// Adds a run, joined to the last one where both are of a kind; false where the limit is reached.
fn append(runs: &mut Vec<Extent>, run: Extent, limit: usize) -> bool {
    let full = runs.len() == limit;
    match runs.last_mut() {
        Some(last) if last.kind == run.kind => last.len += run.len,
        _ if full => return false,
        _ => runs.push(run),
    }
    true
}

/// A block of the parent, read whole because only a part of it is written.
struct EdgeBlock {
    block: u64,
    bytes: Vec<u8>,
}

fn bytes_of(edges: &[EdgeBlock], block: u64) -> Option<&[u8]> {
    edges.iter().find(|edge| edge.block == block).map(|edge| edge.bytes.as_slice())
}

/// Where in `block` the range lies.
fn part_of_block(range: ByteRange, block: u64) -> std::ops::Range<usize> {
    let start = block * BLOCK_SIZE;
    let from = range.offset.saturating_sub(start);
    let to = (range.offset + range.len - start).min(BLOCK_SIZE);
    from as usize..to as usize
}

/// The part of a request that lies in one block.
#[derive(Clone, Copy)]
struct BlockPart {
    block: u64,
    /// Offset in the block.
    from: usize,
    /// Offset in the request's buffer.
    at: usize,
    len: usize,
}

impl BlockPart {
    fn within(self) -> std::ops::Range<usize> {
        self.from..self.from + self.len
    }

    fn buffer(self) -> std::ops::Range<usize> {
        self.at..self.at + self.len
    }
}

fn block_parts(offset: u64, len: usize) -> impl Iterator<Item = BlockPart> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= len {
            return None;
        }
        let position = offset + at as u64;
        let from = (position % BLOCK_SIZE) as usize;
        let part = BlockPart { block: position / BLOCK_SIZE, from, at, len: (BLOCK - from).min(len - at) };
        at += part.len;
        Some(part)
    })
}
