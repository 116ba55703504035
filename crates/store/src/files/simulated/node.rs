//! The content of a simulated file: what is durable, and what was done since.

use super::{Numbers, SECTOR_BYTES};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// One file, whatever its names are.
#[derive(Debug)]
pub(super) struct Node {
    durable: Vec<u8>,
    pending: Vec<Pending>,
    /// A sync failed: the system's memory shows what the disk does not have.
    stale: bool,
    /// Pages that take room on the disk.
    pages: BTreeSet<u64>,
}

/// The unit in bytes in which files take room.
const PAGE_BYTES: u64 = 4096;

#[derive(Clone, Debug)]
enum Pending {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

impl Node {
    pub(super) fn durable(content: Vec<u8>) -> Self {
        // Holes are not told from zeros: what was there from the beginning takes no more room.
        let pages = (0..(content.len() as u64).div_ceil(PAGE_BYTES)).collect();
        Self { durable: content, pending: Vec::new(), stale: false, pages }
    }

    /// How many of `len` bytes from `offset` fit where there is room for so many more; takes the
    /// room that they need.
    pub(super) fn take_room(&mut self, offset: u64, len: usize, room: &mut u64) -> usize {
        let end = offset + len as u64;
        for page in offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            if self.pages.contains(&page) {
                continue;
            }
            if *room < PAGE_BYTES {
                return (page * PAGE_BYTES).saturating_sub(offset) as usize;
            }
            *room -= PAGE_BYTES;
            self.pages.insert(page);
        }
        len
    }

    /// Notes that the pages of a range take no room any more.
    pub(super) fn give_room_back(&mut self, offset: u64, len: u64) {
        let whole = offset.div_ceil(PAGE_BYTES)..(offset + len) / PAGE_BYTES;
        self.pages.retain(|page| !whole.contains(page));
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.pending.push(Pending::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.pending.push(Pending::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            pending.apply(&mut self.durable);
        }
    }

    /// Some of it reached the disk, the system forgets that the rest did not.
    pub(super) fn fail_to_sync(&mut self, numbers: &mut Numbers) {
        self.durable = self.after_power_loss(numbers);
        self.pending.clear();
        self.stale = true;
    }

    /// What a reader sees once the system's memory of the file is dropped, where that differs.
    pub(super) fn after_forgetting(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.stale).then(|| {
            let mut content = self.durable.clone();
            self.pending.iter().cloned().for_each(|pending| pending.apply(&mut content));
            content
        })
    }

    /// What is durable, and any sectors of what is not.
    pub(super) fn after_power_loss(&self, numbers: &mut Numbers) -> Vec<u8> {
        let mut content = self.durable.clone();
        // Often nothing or everything was written back; between the two lie the torn ones.
        let chance = numbers.below(5);
        for pending in &self.pending {
            match pending {
                Pending::SetLen(_) if numbers.below(4) < chance => pending.clone().apply(&mut content),
                Pending::SetLen(_) => {}
                Pending::Write { offset, bytes } => {
                    for (offset, sector) in sectors(*offset, bytes) {
                        if numbers.below(4) < chance {
                            Pending::Write { offset, bytes: sector.to_vec() }.apply(&mut content);
                        }
                    }
                }
            }
        }
        content
    }
}

impl Pending {
    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => content.resize(len as usize, 0),
            Self::Write { offset, bytes } => {
                let end = offset as usize + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[offset as usize..end].copy_from_slice(&bytes);
            }
        }
    }
}

/// The parts of a write by sector of the disk.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let (mut at, mut rest) = (offset, bytes);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = (SECTOR_BYTES - at as usize % SECTOR_BYTES).min(rest.len());
        let (sector, after) = rest.split_at(len);
        let found = (at, sector);
        at += len as u64;
        rest = after;
        Some(found)
    })
}

/// Writes a file with holes where the content is zero.
pub(super) fn write_sparse(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(content.len() as u64)?;
    for (at, block) in (0..).step_by(4096).zip(content.chunks(4096)) {
        if !model::hash::is_zero(block) {
            file.write_all_at(block, at)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_loss_keeps_what_was_synced_and_any_sectors_of_the_rest() {
        let mut node = Node::durable(vec![0; 4096]);
        node.write(0, &[1; 4096]);
        node.sync();
        node.write(256, &[2; 2048]);
        let mut torn = 0;
        for seed in 0..100 {
            let content = node.after_power_loss(&mut Numbers::new(seed));
            assert!(content[..256].iter().chain(&content[2304..]).all(|byte| *byte == 1));
            let sectors = content.chunks(256).skip(1).take(8);
            let new = sectors.filter(|part| part.iter().all(|byte| *byte == 2)).count();
            torn += u32::from(new > 0 && new < 8);
        }
        assert!(torn > 20, "{torn} of 100 were torn");
    }

    #[test]
    fn what_a_failed_sync_lost_is_seen_until_the_memory_of_it_is_dropped() {
        let mut node = Node::durable(vec![1; 512]);
        node.write(0, &[2; 512]);
        node.fail_to_sync(&mut Numbers::new(1));
        node.sync();
        let durable = node.after_power_loss(&mut Numbers::new(2));
        assert_eq!(node.after_forgetting(), Some(durable));
        assert_eq!(node.after_forgetting(), None);
    }
}
