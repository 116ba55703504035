//! The data file of a layer while it is written.
//!
//! Written with direct I/O where the file system has it: the bytes go to the disk while the next
//! ones are hashed, the fsync at the end finds nothing left to write, and an import of many
//! gigabytes does not push what devices boot from out of the page cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Direct I/O wants offsets, lengths and addresses in multiples of this (bytes).
const DIRECT_ALIGNMENT: u64 = 4096;

/// A sparse file being filled by several threads.
pub(crate) struct DataFile {
    buffered: File,
    direct: Option<File>,
}

impl DataFile {
    /// Creates the file with a length of `len` bytes, all hole.
    pub(crate) fn create(path: &Path, len: u64) -> io::Result<Self> {
        let buffered = OpenOptions::new().write(true).create_new(true).open(path)?;
        buffered.set_len(len)?;
        let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
        let direct = OpenOptions::new().write(true).custom_flags(flags).open(path).ok();
        Ok(Self { buffered, direct })
    }

    /// Changes the length; what is added is hole.
    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        self.buffered.set_len(len)
    }

    /// Writes `bytes`, whose address is aligned, at `offset`.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let aligned = (offset | bytes.len() as u64).is_multiple_of(DIRECT_ALIGNMENT);
        if let (Some(direct), true) = (&self.direct, aligned) {
            match direct.write_all_at(bytes, offset) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                done => return done,
            }
        }
        self.buffered.write_all_at(bytes, offset)
    }

    /// Waits until everything written is durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.buffered.sync_all()
    }
}
