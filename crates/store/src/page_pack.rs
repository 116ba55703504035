//! The page pack of a layer: the manifest pages that its version has and its parents have not.
//!
//! One file for each layer, so that publishing a version costs one fsync for all its pages and
//! versions share pages as they share layers. A page is found by its hash and checked against it
//! when it is read; the index is small enough to keep in memory (32 bytes for 64 MiB of disk).
//! Pages that say "all zero" are never stored. Revision 1, little-endian, n pages:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 32,768 x i | 32,768 | page i: 1,024 chunk hashes |
//! | 32,768 x n | 32 x n | index: the hash of page i at 32 x i |
//! | then | 8 | magic `HWPAGES1`, the last digit is the revision |
//! | then | 4 | n |
//! | then | 4 | zero |
//! | then | 32 | BLAKE3 derive_key("headwater 2026-11 page index v1", index, magic, n, zero) |

use model::manifest::PAGE_BYTES;
use model::{Page, PageHash};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

const MAGIC: &[u8; 8] = b"HWPAGES1";
const CONTEXT: &str = "headwater 2026-11 page index v1";
const FOOTER_BYTES: usize = 48;

/// Why a page cannot be had from a pack.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    #[error("the page pack is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes a pack: pages in any order, each one once.
pub(crate) struct PagePackWriter<W> {
    output: W,
    index: Vec<PageHash>,
    known: HashMap<PageHash, u32>,
    zero: PageHash,
}

impl<W: Write> PagePackWriter<W> {
    pub(crate) fn new(output: W) -> Self {
        let zero = Page::zero().hash();
        Self { output, index: Vec::new(), known: HashMap::new(), zero }
    }

    /// Stores `page` unless it is known or all zero, and names it.
    pub(crate) fn add(&mut self, page: &Page) -> io::Result<PageHash> {
        let bytes = page.encode();
        let hash = page.hash();
        if hash != self.zero && !self.known.contains_key(&hash) {
            self.output.write_all(&bytes)?;
            self.known.insert(hash, self.index.len() as u32);
            self.index.push(hash);
        }
        Ok(hash)
    }

    /// Writes the index; the caller makes the file durable.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let mut tail: Vec<u8> = self.index.iter().flat_map(|hash| *hash.as_bytes()).collect();
        tail.extend_from_slice(MAGIC);
        tail.extend_from_slice(&(self.index.len() as u32).to_le_bytes());
        tail.extend_from_slice(&[0; 4]);
        let sum = blake3::derive_key(CONTEXT, &tail);
        tail.extend_from_slice(&sum);
        self.output.write_all(&tail)?;
        Ok(self.output)
    }
}

/// A pack that was published: finds pages by hash.
#[derive(Debug)]
pub(crate) struct PagePack {
    file: File,
    slots: HashMap<PageHash, u32>,
}

impl PagePack {
    /// Reads the index of the pack in `file`; no page is read.
    pub(crate) fn open(file: File) -> Result<Self, PackError> {
        let len = file.metadata()?.len();
        let count = read_count(&file, len)?;
        let tail_len = count as usize * 32 + FOOTER_BYTES;
        let mut tail = vec![0; tail_len];
        file.read_exact_at(&mut tail, len - tail_len as u64)?;
        let (body, sum) = tail.split_at(tail_len - 32);
        if blake3::derive_key(CONTEXT, body) != sum {
            return Err(PackError::Damaged("the checksum of its index is wrong".into()));
        }
        let hashes = body[..count as usize * 32].chunks_exact(32);
        let hashes = hashes.map(|hash| PageHash::from_bytes(hash.try_into().expect("32 bytes")));
        Ok(Self { slots: hashes.zip(0..).collect(), file })
    }

    /// Whether the index names the page.
    pub(crate) fn has(&self, hash: PageHash) -> bool {
        self.slots.contains_key(&hash)
    }

    /// Reads and checks the page of this name, or answers none where the pack has no such page.
    pub(crate) fn read(&self, hash: PageHash) -> Result<Option<Page>, PackError> {
        let Some(slot) = self.slots.get(&hash) else { return Ok(None) };
        let mut bytes = vec![0; PAGE_BYTES];
        self.file.read_exact_at(&mut bytes, u64::from(*slot) * PAGE_BYTES as u64)?;
        let page = Page::decode(&bytes).expect("a page's length");
        if page.hash() != hash {
            return Err(PackError::Damaged(format!("page {slot} is not what its name says")));
        }
        Ok(Some(page))
    }
}

/// Reads the footer's count and checks it against the file's length before it is believed.
fn read_count(file: &File, len: u64) -> Result<u32, PackError> {
    let damaged = |what: &str| PackError::Damaged(what.into());
    let at = len.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| damaged("it is too short"))?;
    let mut footer = [0; 16];
    file.read_exact_at(&mut footer, at)?;
    if &footer[..8] != MAGIC {
        return Err(damaged("it is not of revision 1"));
    }
    let count = u32::from_le_bytes(footer[8..12].try_into().expect("4 bytes"));
    let expected = u64::from(count) * (PAGE_BYTES as u64 + 32) + FOOTER_BYTES as u64;
    if expected != len {
        return Err(PackError::Damaged(format!("{len} bytes instead of {expected}")));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ChunkHash;

    fn page(byte: u8) -> Page {
        let mut page = Page::zero();
        page.set(3, ChunkHash::from_bytes([byte; 32]));
        page
    }

    fn pack_of(pages: &[Page]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = PagePackWriter::new(file.reopen().unwrap());
        for page in pages {
            writer.add(page).unwrap();
        }
        writer.finish().unwrap();
        file
    }

    #[test]
    fn pages_are_found_by_name_and_stored_once() {
        let file = pack_of(&[page(1), page(2), page(1), Page::zero()]);
        assert_eq!(file.as_file().metadata().unwrap().len(), 2 * (PAGE_BYTES as u64 + 32) + 48);
        let pack = PagePack::open(file.reopen().unwrap()).unwrap();
        assert_eq!(pack.read(page(2).hash()).unwrap(), Some(page(2)));
        assert_eq!(pack.read(page(9).hash()).unwrap(), None);
    }

    #[test]
    fn the_golden_pack_is_written_to_the_byte() {
        let file = pack_of(&[page(7)]);
        let written = std::fs::read(file.path()).unwrap();
        assert_eq!(written, include_bytes!("../golden/pages-1.bin"));
    }

    #[test]
    fn a_flipped_byte_never_gives_a_page() {
        let file = pack_of(&[page(1), page(2)]);
        let good = std::fs::read(file.path()).unwrap();
        for at in (0..good.len()).step_by(131).chain(good.len() - FOOTER_BYTES..good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(file.path(), &bad).unwrap();
            let pack = PagePack::open(file.reopen().unwrap());
            let both = pack.and_then(|p| Ok((p.read(page(1).hash())?, p.read(page(2).hash())?)));
            assert!(both.is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_short_file_is_refused() {
        let file = pack_of(&[page(1)]);
        for len in [0, 10, 47, 48, 32_768] {
            file.as_file().set_len(len).unwrap();
            assert!(PagePack::open(file.reopen().unwrap()).is_err(), "length {len}");
        }
    }
}
