//! Memory for cached blocks, in slabs that go back to the system when the last block leaves them.
//!
//! A slab is one allocation of 1 MiB: large enough that the C library maps it by itself (so that
//! freeing it really unmaps it), and touched block by block, so that an empty place costs nothing.

use super::BLOCK_SIZE;
use std::collections::BTreeSet;

/// Blocks in a slab: 1 MiB, eight times the C library's threshold for a mapping of its own.
const SLAB_BLOCKS: u32 = 256;
const WORDS: usize = SLAB_BLOCKS as usize / 64;
const BLOCK: usize = BLOCK_SIZE as usize;

/// The place of one block of 4 KiB in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageId(pub(super) u32);

struct Slab {
    bytes: Box<[u8]>,
    /// A set bit is a place in use.
    used: [u64; WORDS],
}

/// All slabs, and which of them have room.
#[derive(Default)]
pub(super) struct PageArena {
    slabs: Vec<Option<Slab>>,
    /// Slabs with a free place, lowest first: old slabs fill up, young ones empty and go.
    with_room: BTreeSet<u32>,
    vacant: Vec<u32>,
}

impl PageArena {
    /// Takes a place; what stands in it is whatever its last user left.
    pub(super) fn take(&mut self) -> PageId {
        let number = self.with_room.first().copied().unwrap_or_else(|| self.add_slab());
        let slab = self.slabs[number as usize].as_mut().expect("a slab with room exists");
        let place = slab.take_place();
        if slab.is_full() {
            self.with_room.remove(&number);
        }
        PageId(number * SLAB_BLOCKS + place)
    }

    /// Gives a place back.
    pub(super) fn give_back(&mut self, page: PageId) {
        let (number, place) = (page.0 / SLAB_BLOCKS, page.0 % SLAB_BLOCKS);
        let slab = self.slabs[number as usize].as_mut().expect("the page was taken from this slab");
        slab.used[place as usize / 64] &= !(1 << (place % 64));
        if slab.used == [0; WORDS] {
            self.slabs[number as usize] = None;
            self.with_room.remove(&number);
            self.vacant.push(number);
        } else {
            self.with_room.insert(number);
        }
    }

    /// The bytes of a block.
    pub(super) fn page(&self, page: PageId) -> &[u8] {
        let slab = self.slabs[(page.0 / SLAB_BLOCKS) as usize].as_ref().expect("the page is in use");
        &slab.bytes[(page.0 % SLAB_BLOCKS) as usize * BLOCK..][..BLOCK]
    }

    /// The bytes of a block, to change.
    pub(super) fn page_mut(&mut self, page: PageId) -> &mut [u8] {
        let slab = self.slabs[(page.0 / SLAB_BLOCKS) as usize].as_mut().expect("the page is in use");
        &mut slab.bytes[(page.0 % SLAB_BLOCKS) as usize * BLOCK..][..BLOCK]
    }

    fn add_slab(&mut self) -> u32 {
        let slab = Slab { bytes: vec![0; SLAB_BLOCKS as usize * BLOCK].into_boxed_slice(), used: [0; WORDS] };
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.slabs.push(None);
            (self.slabs.len() - 1) as u32
        });
        self.slabs[number as usize] = Some(slab);
        self.with_room.insert(number);
        number
    }

    #[cfg(test)]
    fn slab_count(&self) -> usize {
        self.slabs.iter().flatten().count()
    }
}

impl Slab {
    fn take_place(&mut self) -> u32 {
        let word = self.used.iter().position(|word| *word != u64::MAX).expect("the slab has room");
        let bit = self.used[word].trailing_ones();
        self.used[word] |= 1 << bit;
        word as u32 * 64 + bit
    }

    fn is_full(&self) -> bool {
        self.used == [u64::MAX; WORDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_distinct_and_keep_their_bytes() {
        let mut arena = PageArena::default();
        let pages: Vec<PageId> = (0..600).map(|_| arena.take()).collect();
        for (number, page) in pages.iter().enumerate() {
            arena.page_mut(*page).fill(number as u8);
        }
        for (number, page) in pages.iter().enumerate() {
            assert!(arena.page(*page).iter().all(|byte| *byte == number as u8));
        }
    }

    #[test]
    fn an_empty_slab_goes_back_and_a_free_place_is_taken_again() {
        let mut arena = PageArena::default();
        let pages: Vec<PageId> = (0..SLAB_BLOCKS * 2).map(|_| arena.take()).collect();
        assert_eq!(arena.slab_count(), 2);
        pages[..SLAB_BLOCKS as usize].iter().for_each(|page| arena.give_back(*page));
        assert_eq!(arena.slab_count(), 1);
        arena.give_back(pages[SLAB_BLOCKS as usize + 7]);
        assert_eq!(arena.take(), pages[SLAB_BLOCKS as usize + 7]);
    }
}
