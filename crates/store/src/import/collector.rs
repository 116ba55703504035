//! Puts the hashes of units, which come in any order, together into manifest pages.

use super::pipeline::UNIT_CHUNKS;
use super::staging::PackFile;
use crate::page_pack::PagePackWriter;
use crate::presence::{ChunkState, Presence};
use model::manifest::{PAGE_CHUNKS, page_count};
use model::{ChunkHash, ChunkIndex, DiskSize, Manifest, Page, PageHash};
use std::collections::BTreeMap;
use std::io;

const UNITS_PER_PAGE: u32 = PAGE_CHUNKS / UNIT_CHUNKS;

/// Manifest pages and presence as far as they are known.
pub(crate) struct Collector {
    pack: PagePackWriter<PackFile>,
    /// Pages of which some units are still out; few, for units are handed out in order.
    open: BTreeMap<u32, OpenPage>,
    done: BTreeMap<u32, PageHash>,
    /// One bit for each chunk that is stored.
    stored: Vec<u64>,
}

struct OpenPage {
    page: Page,
    missing_units: u32,
}

impl Collector {
    pub(crate) fn new(pack: PagePackWriter<PackFile>) -> Self {
        Self { pack, open: BTreeMap::new(), done: BTreeMap::new(), stored: Vec::new() }
    }

    /// Takes the hashes of the chunks of `unit`; none where the whole unit is zero.
    pub(crate) fn add(&mut self, unit: u32, hashes: &[ChunkHash]) -> io::Result<()> {
        let number = unit / UNITS_PER_PAGE;
        let open = self
            .open
            .entry(number)
            .or_insert_with(|| OpenPage { page: Page::zero(), missing_units: UNITS_PER_PAGE });
        let first = unit * UNIT_CHUNKS;
        for (chunk, hash) in (first..).zip(hashes) {
            open.page.set((chunk % PAGE_CHUNKS) as usize, *hash);
            if *hash != ChunkHash::ZERO {
                set_bit(&mut self.stored, chunk as usize);
            }
        }
        open.missing_units -= 1;
        match open.missing_units {
            0 => self.close(number),
            _ => Ok(()),
        }
    }

    fn close(&mut self, number: u32) -> io::Result<()> {
        if let Some(open) = self.open.remove(&number) {
            let hash = self.pack.add(&open.page)?;
            self.done.insert(number, hash);
        }
        Ok(())
    }

    /// Closes the last pages and makes the page pack durable.
    pub(crate) fn finish(mut self, size: DiskSize) -> io::Result<(Manifest, Presence)> {
        let open: Vec<u32> = self.open.keys().copied().collect();
        open.into_iter().try_for_each(|number| self.close(number))?;
        self.pack.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        let zero = Page::zero().hash();
        let page = |number: u32| self.done.get(&number).copied().unwrap_or(zero);
        let manifest = Manifest::new(size, (0..page_count(size)).map(page).collect());
        Ok((manifest, presence(&self.stored, size)))
    }
}

/// The presence of a base layer, which says of every chunk that it is stored or zero.
fn presence(stored: &[u64], size: DiskSize) -> Presence {
    let mut presence = Presence::absent(size);
    for chunk in 0..size.chunk_count() {
        let word = stored.get(chunk as usize / 64).copied().unwrap_or(0);
        let state = if word >> (chunk % 64) & 1 == 1 { ChunkState::Stored } else { ChunkState::Zero };
        presence.set(ChunkIndex(chunk), state);
    }
    presence
}

fn set_bit(words: &mut Vec<u64>, at: usize) {
    if words.len() <= at / 64 {
        words.resize(at / 64 + 1, 0);
    }
    words[at / 64] |= 1 << (at % 64);
}
