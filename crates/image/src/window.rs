//! A part of an image as a file: what the parsers of file systems read through.
//!
//! Every [`Window`] of one search shares a [`Budget`]: the parsers are other people's code, and a
//! damaged directory whose clusters form a ring would keep them reading for ever. When the budget
//! is used up every read fails, so every search ends.

use crate::reader::{ImageError, ImageReader};
use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::rc::Rc;
use std::sync::Arc;

/// Reads a search may make. A Debian image takes about 4,000; a thousand times that is a ring.
const READ_LIMIT: u64 = 4_000_000;
/// Small reads are answered from one page of this size: file allocation tables are read two to
/// four bytes at a time.
const PAGE_SIZE: u64 = 4096;

/// How many more reads a search may make.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Rc<Cell<u64>>);

impl Budget {
    /// A fresh budget for one search.
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(READ_LIMIT)))
    }

    fn take_one(&self) -> io::Result<()> {
        let left = self
            .0
            .get()
            .checked_sub(1)
            .ok_or_else(|| io::Error::other("gave up: the file system's structures lead in circles"))?;
        self.0.set(left);
        Ok(())
    }
}

/// The bytes `start..start + len` of an image.
#[derive(Clone)]
pub(crate) struct Window {
    image: Arc<dyn ImageReader>,
    start: u64,
    len: u64,
    position: u64,
    page: Option<(u64, Vec<u8>)>,
    budget: Budget,
}

impl Window {
    /// A window on `start..start + len`, cut at the image's end.
    pub(crate) fn new(image: Arc<dyn ImageReader>, start: u64, len: u64, budget: Budget) -> Self {
        let len = len.min(image.size_bytes().saturating_sub(start));
        Self { image, start, len, position: 0, page: None, budget }
    }

    /// The window's length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from `offset` in the window; an error where the window ends before.
    pub(crate) fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.budget.take_one()?;
        let wanted = buffer.len() as u64;
        if offset.checked_add(wanted).is_none_or(|end| end > self.len) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the partition's end"));
        }
        if wanted == 0 {
            return Ok(());
        }
        let page_start = offset / PAGE_SIZE * PAGE_SIZE;
        if offset + wanted > page_start + PAGE_SIZE {
            return self.read_image(offset, buffer);
        }
        let page = self.page(page_start)?;
        let from = (offset - page_start) as usize;
        buffer.copy_from_slice(&page[from..from + buffer.len()]);
        Ok(())
    }

    fn page(&mut self, page_start: u64) -> io::Result<&[u8]> {
        if self.page.as_ref().is_none_or(|(start, _)| *start != page_start) {
            let len = PAGE_SIZE.min(self.len - page_start) as usize;
            let mut bytes = vec![0; len];
            self.read_image(page_start, &mut bytes)?;
            self.page = Some((page_start, bytes));
        }
        Ok(self.page.as_ref().map_or(&[], |(_, bytes)| bytes))
    }

    fn read_image(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.image.read_at(self.start + offset, buffer).map_err(|error| match error {
            ImageError::Io { source, .. } if source.raw_os_error().is_some() => source,
            other => io::Error::other(other.to_string()),
        })
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(self.position);
        let count = left.min(buffer.len() as u64) as usize;
        let position = self.position;
        self.fill(position.min(self.len), &mut buffer[..count])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.len.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position =
            target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.position)
    }
}

/// `fatfs` wants a writer; an image being looked at is never written.
impl Write for Window {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "images are only read here"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ext4_view::Ext4Read for Window {
    fn read(
        &mut self,
        start_byte: u64,
        buffer: &mut [u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.fill(start_byte, buffer)?)
    }
}
