//! Which blocks of a disk were written or zeroed, and their bytes.
//!
//! A block of 4 KiB is in one of three states: the parent's, zero, or a page of ours. States are
//! kept for 64 KiB at a time (an extent); an extent that is zero as a whole is one bit.

use super::arena::{PageArena, PageId};
use super::{BLOCK_SIZE, EXTENT_COST, REGION_COST};
use std::collections::HashMap;

/// Blocks in an extent: 64 KiB, the chunk of the layers below.
const EXTENT_BLOCKS: u64 = 16;
/// Extents in a region of the zero map: 1 GiB of disk in 2 KiB of bits.
const REGION_EXTENTS: u64 = 16 * 1024;

/// What a block reads as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// What the disk below says.
    Parent,
    /// Zeros, whatever the disk below says.
    Zero,
    /// What was written.
    Page(PageId),
}

const PARENT: u32 = u32::MAX;
const ZERO: u32 = u32::MAX - 1;

/// The states of 16 blocks, 4 bytes each.
#[derive(Clone, Copy)]
struct Extent([u32; EXTENT_BLOCKS as usize]);

impl Extent {
    fn get(&self, slot: u64) -> Block {
        match self.0[slot as usize] {
            PARENT => Block::Parent,
            ZERO => Block::Zero,
            page => Block::Page(PageId(page)),
        }
    }

    fn set(&mut self, slot: u64, block: Block) {
        self.0[slot as usize] = match block {
            Block::Parent => PARENT,
            Block::Zero => ZERO,
            Block::Page(page) => page.0,
        };
    }
}

/// Blocks over a parent that only ever move away from it.
#[derive(Default)]
pub(super) struct Overlay {
    extents: HashMap<u32, Box<Extent>>,
    zero: HashMap<u32, Box<[u64; REGION_EXTENTS as usize / 64]>>,
    arena: PageArena,
    used_bytes: u64,
}

impl Overlay {
    /// The memory in use, in bytes, with what the bookkeeping takes.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// The state of one block.
    pub(super) fn get(&self, block: u64) -> Block {
        let number = block / EXTENT_BLOCKS;
        match self.extents.get(&(number as u32)) {
            Some(extent) => extent.get(block % EXTENT_BLOCKS),
            None if self.is_zero_extent(number) => Block::Zero,
            None => Block::Parent,
        }
    }

    /// How many blocks from `block`, at most `limit`, are in the same kind of state.
    pub(super) fn run_len(&self, block: u64, limit: u64) -> u64 {
        let kind = std::mem::discriminant(&self.get(block));
        let mut len = 1;
        while len < limit {
            let at = block + len;
            if std::mem::discriminant(&self.get(at)) != kind {
                break;
            }
            let whole = at.is_multiple_of(EXTENT_BLOCKS) && !self.extents.contains_key(&extent_of(at));
            len += if whole { EXTENT_BLOCKS } else { 1 };
        }
        len.min(limit)
    }

    /// The bytes of a page.
    pub(super) fn page(&self, page: PageId) -> &[u8] {
        self.arena.page(page)
    }

    /// What writing `blocks` (first, count) would add to the memory in use, in bytes.
    pub(super) fn cost_of_writing(&self, first: u64, count: u64) -> u64 {
        let pages = (first..first + count).filter(|block| !matches!(self.get(*block), Block::Page(_)));
        let extents = (extent_of(first)..=extent_of(first + count - 1))
            .filter(|number| !self.extents.contains_key(number));
        pages.count() as u64 * BLOCK_SIZE + extents.count() as u64 * EXTENT_COST
    }

    /// What zeroing `blocks` (first, count) would at most add, in bytes; what it frees counts
    /// against it.
    pub(super) fn cost_of_zeroing(&self, first: u64, count: u64) -> i64 {
        let mut cost = 0;
        for part in parts(first, count) {
            let extent = self.extents.get(&part.extent);
            cost -= self.pages_of(part) as i64 * BLOCK_SIZE as i64;
            if part.is_whole() {
                cost -= extent.map_or(0, |_| EXTENT_COST as i64);
            } else if extent.is_none() && !self.is_zero_extent(part.extent.into()) {
                cost += EXTENT_COST as i64;
            }
        }
        cost + self.missing_regions(first, count) as i64 * REGION_COST as i64
    }

    /// The page of a block, for writing; a block that had none gets one, with zeros in it or, where
    /// the parent's bytes count, with `parent`.
    pub(super) fn page_for_writing(&mut self, block: u64, parent: Option<&[u8]>) -> &mut [u8] {
        let before = self.get(block);
        let page = match before {
            Block::Page(page) => page,
            Block::Zero | Block::Parent => self.arena.take(),
        };
        if !matches!(before, Block::Page(_)) {
            self.extent_mut(block).set(block % EXTENT_BLOCKS, Block::Page(page));
            self.used_bytes += BLOCK_SIZE;
        }
        let bytes = self.arena.page_mut(page);
        match (before, parent) {
            (Block::Zero, _) | (Block::Parent, None) => bytes.fill(0),
            (Block::Parent, Some(parent)) => bytes.copy_from_slice(parent),
            (Block::Page(_), _) => {}
        }
        bytes
    }

    /// Makes `count` blocks from `first` zero and gives their pages back.
    pub(super) fn zero(&mut self, first: u64, count: u64) {
        for part in parts(first, count) {
            self.release_pages(part);
            if part.is_whole() {
                self.make_zero_extent(part.extent);
            } else if !self.is_zero_extent(part.extent.into()) {
                let extent = self.extent_mut(u64::from(part.extent) * EXTENT_BLOCKS);
                part.slots().for_each(|slot| extent.set(slot, Block::Zero));
                if extent.0 == [ZERO; EXTENT_BLOCKS as usize] {
                    self.make_zero_extent(part.extent);
                }
            }
        }
    }

    fn release_pages(&mut self, part: Part) {
        let Some(extent) = self.extents.get_mut(&part.extent) else { return };
        for slot in part.slots() {
            if let Block::Page(page) = extent.get(slot) {
                extent.set(slot, Block::Zero);
                self.arena.give_back(page);
                self.used_bytes -= BLOCK_SIZE;
            }
        }
    }

    fn pages_of(&self, part: Part) -> usize {
        let Some(extent) = self.extents.get(&part.extent) else { return 0 };
        part.slots().filter(|slot| matches!(extent.get(*slot), Block::Page(_))).count()
    }

    /// The states of the extent that holds `block`, made where there were none.
    fn extent_mut(&mut self, block: u64) -> &mut Extent {
        let number = extent_of(block);
        if !self.extents.contains_key(&number) {
            let state = if self.take_zero_extent(number) { ZERO } else { PARENT };
            self.extents.insert(number, Box::new(Extent([state; EXTENT_BLOCKS as usize])));
            self.used_bytes += EXTENT_COST;
        }
        self.extents.get_mut(&number).expect("it was just made")
    }

    fn is_zero_extent(&self, extent: u64) -> bool {
        let (region, word, bit) = zero_bit(extent);
        self.zero.get(&region).is_some_and(|bits| bits[word] & bit != 0)
    }

    fn make_zero_extent(&mut self, extent: u32) {
        if self.extents.remove(&extent).is_some() {
            self.used_bytes -= EXTENT_COST;
        }
        let (region, word, bit) = zero_bit(extent.into());
        let bits = self.zero.entry(region).or_insert_with(|| {
            self.used_bytes += REGION_COST;
            Box::new([0; REGION_EXTENTS as usize / 64])
        });
        bits[word] |= bit;
    }

    /// Clears an extent's zero bit and says whether it was set.
    fn take_zero_extent(&mut self, extent: u32) -> bool {
        let (region, word, bit) = zero_bit(extent.into());
        let Some(bits) = self.zero.get_mut(&region) else { return false };
        let was = bits[word] & bit != 0;
        bits[word] &= !bit;
        was
    }

    fn missing_regions(&self, first: u64, count: u64) -> usize {
        let region = |block: u64| (block / EXTENT_BLOCKS / REGION_EXTENTS) as u32;
        (region(first)..=region(first + count - 1)).filter(|region| !self.zero.contains_key(region)).count()
    }
}

fn extent_of(block: u64) -> u32 {
    (block / EXTENT_BLOCKS) as u32
}

fn zero_bit(extent: u64) -> (u32, usize, u64) {
    let within = extent % REGION_EXTENTS;
    ((extent / REGION_EXTENTS) as u32, (within / 64) as usize, 1 << (within % 64))
}

/// The blocks of a run that lie in one extent.
#[derive(Clone, Copy)]
struct Part {
    extent: u32,
    from: u64,
    to: u64,
}

impl Part {
    fn slots(self) -> std::ops::Range<u64> {
        self.from..self.to
    }

    fn is_whole(self) -> bool {
        self.to - self.from == EXTENT_BLOCKS
    }
}

fn parts(first: u64, count: u64) -> impl Iterator<Item = Part> {
    let end = first + count;
    let mut at = first;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let base = at / EXTENT_BLOCKS * EXTENT_BLOCKS;
        let part = Part { extent: extent_of(at), from: at - base, to: (end - base).min(EXTENT_BLOCKS) };
        at = base + EXTENT_BLOCKS;
        Some(part)
    })
}
