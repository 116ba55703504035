//! Changes to an image, held in memory until somebody writes them.
//!
//! An edit either comes to its end and is a list of pages to write, or it fails and the image was
//! never touched. The overlay reads like the image with the changes in it, so that the edit's
//! result can be looked at before a byte is written.

use crate::reader::{ImageError, ImageReader, Run, RunKind};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Changes are kept in pages of this size, in the disk's own addresses.
const PAGE_BYTES: u64 = 4096;
/// The most bytes that an edit may touch: a hundred times what removing a few files takes.
const TOUCH_LIMIT: usize = 64 << 20;
/// The most reads of an edit: structures that lead in circles come to an end here.
const READ_LIMIT: u64 = 4_000_000;

/// A range of the disk and what it shall hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// First byte on the disk; a multiple of 512.
    pub offset: u64,
    /// The bytes; a multiple of 512 where the disk's size is one.
    pub bytes: Vec<u8>,
}

/// An image with changes over it.
pub(crate) struct Overlay {
    image: Arc<dyn ImageReader>,
    pages: Mutex<BTreeMap<u64, Vec<u8>>>,
    reads: AtomicU64,
}

impl Overlay {
    /// Nothing changed yet.
    pub(crate) fn new(image: Arc<dyn ImageReader>) -> Self {
        Self { image, pages: Mutex::default(), reads: AtomicU64::new(0) }
    }

    /// Fills `buffer` from `offset`; an error beyond the disk's end or after too many reads.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.reads.fetch_add(1, Ordering::Relaxed) >= READ_LIMIT {
            return Err(io::Error::other("gave up: the file system's structures lead in circles"));
        }
        let end = self.end_of(offset, buffer.len())?;
        if buffer.is_empty() {
            return Ok(());
        }
        self.image.read_at(offset, buffer).map_err(io::Error::other)?;
        for (start, page) in self.lock().range(page_of(offset)..end) {
            let (from, to) = (offset.max(*start), end.min(start + page.len() as u64));
            let source = &page[(from - start) as usize..(to - start) as usize];
            buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
        }
        Ok(())
    }

    /// Changes the bytes at `offset`.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = self.end_of(offset, bytes.len())?;
        let mut at = offset;
        while at < end {
            let to = end.min(page_of(at) + PAGE_BYTES);
            self.change_page(at, &bytes[(at - offset) as usize..(to - offset) as usize])?;
            at = to;
        }
        Ok(())
    }

    /// What differs from the image, in the order of the disk.
    pub(crate) fn changes(&self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        for (start, page) in self.lock().iter() {
            let mut before = vec![0; page.len()];
            self.image.read_at(*start, &mut before).map_err(io::Error::other)?;
            if before != *page {
                changes.push(Change { offset: *start, bytes: page.clone() });
            }
        }
        Ok(changes)
    }

    /// Changes a part of one page.
    fn change_page(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = page_of(offset);
        let mut pages = self.lock();
        if !pages.contains_key(&start) {
            if pages.len() >= TOUCH_LIMIT / PAGE_BYTES as usize {
                return Err(io::Error::other("gave up: the edit would change far more than it should"));
            }
            let mut page = vec![0; PAGE_BYTES.min(self.image.size_bytes() - start) as usize];
            self.image.read_at(start, &mut page).map_err(io::Error::other)?;
            pages.insert(start, page);
        }
        if let Some(page) = pages.get_mut(&start) {
            page[(offset - start) as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }

    fn end_of(&self, offset: u64, len: usize) -> io::Result<u64> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.image.size_bytes());
        end.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the disk's end"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<u8>>> {
        // A panic in a parser leaves whole pages behind, and the edit is thrown away.
        self.pages.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl ImageReader for Overlay {
    fn size_bytes(&self) -> u64 {
        self.image.size_bytes()
    }

    fn run_at(&self, offset: u64, limit: u64) -> Result<Run, ImageError> {
        Ok(Run { len: limit.min(self.size_bytes() - offset), kind: RunKind::Data })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        self.read(offset, buffer)
            .map_err(|source| ImageError::Io { context: format!("reading at {offset}"), source })
    }
}

fn page_of(offset: u64) -> u64 {
    offset / PAGE_BYTES * PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_image::image;
    use proptest::prelude::*;

    #[test]
    fn writing_what_is_there_is_no_change() {
        let overlay = Overlay::new(image(vec![7; 10_000]));
        overlay.write(4090, &[7; 100]).unwrap();
        assert_eq!(overlay.changes().unwrap(), []);
    }

    #[test]
    fn nothing_reaches_beyond_the_end() {
        let overlay = Overlay::new(image(vec![7; 5000]));
        assert!(overlay.write(4999, &[1; 2]).is_err());
        assert!(overlay.read(u64::MAX, &mut [0; 2]).is_err());
        overlay.write(4998, &[1; 2]).unwrap();
        assert_eq!(overlay.changes().unwrap()[0].bytes.len(), 5000 - 4096);
    }

    proptest! {
        #[test]
        fn an_overlay_reads_what_was_written_and_its_changes_say_the_same(
            writes in proptest::collection::vec((0usize..19_000, proptest::collection::vec(any::<u8>(), 0..600)), 0..20)
        ) {
            let original: Vec<u8> = (0..20_000u32).map(|at| (at % 251) as u8).collect();
            let overlay = Overlay::new(image(original.clone()));
            let mut model = original.clone();
            for (offset, bytes) in &writes {
                overlay.write(*offset as u64, bytes).unwrap();
                model[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            let mut seen = vec![0; model.len()];
            overlay.read(0, &mut seen).unwrap();
            prop_assert_eq!(&seen, &model);
            let mut applied = original;
            for change in overlay.changes().unwrap() {
                applied[change.offset as usize..][..change.bytes.len()].copy_from_slice(&change.bytes);
            }
            prop_assert_eq!(&applied, &model);
        }
    }
}
