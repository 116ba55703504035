//! Removing a file of a FAT file system that is not mounted, with its bytes.
//!
//! The structures are written by `fatfs`, into an [`Overlay`], never into the image.

use crate::ext4_edit::EditError;
use crate::overlay::Overlay;
use crate::partitions::Partition;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

/// Larger files are not what their path says; a random seed has 32 or 512 bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// Zeroes a file and removes it; the file is there.
pub(crate) fn remove(overlay: &Arc<Overlay>, partition: &Partition, path: &str) -> Result<(), EditError> {
    let damaged = |error: io::Error| EditError::Damaged(format!("FAT, {path}: {error}"));
    let bytes = Bytes { overlay: Arc::clone(overlay), start: partition.start, len: partition.len, at: 0 };
    let fat = fatfs::FileSystem::new(bytes, fatfs::FsOptions::new()).map_err(damaged)?;
    let mut file = fat.root_dir().open_file(path).map_err(damaged)?;
    let len = file.seek(SeekFrom::End(0)).map_err(damaged)?;
    if len > FILE_LIMIT {
        return Err(EditError::Unsupported(format!("{path} has {len} bytes, far more than it should")));
    }
    file.rewind().and_then(|_| file.write_all(&vec![0; len as usize])).map_err(damaged)?;
    file.flush().map_err(damaged)?;
    drop(file);
    fat.root_dir().remove(path).map_err(damaged)?;
    fat.unmount().map_err(damaged)
}

/// A partition's bytes in the overlay.
struct Bytes {
    overlay: Arc<Overlay>,
    start: u64,
    len: u64,
    at: u64,
}

impl Bytes {
    /// How many of `len` bytes lie inside the partition from here on.
    fn within(&self, len: usize) -> usize {
        (self.len.saturating_sub(self.at)).min(len as u64) as usize
    }
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.within(buffer.len());
        self.overlay.read(self.start + self.at, &mut buffer[..len])?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.within(bytes.len());
        self.overlay.write(self.start + self.at, &bytes[..len])?;
        self.at += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Bytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let from = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.at = from.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
