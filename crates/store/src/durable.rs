//! Files that are on the disk for good when the call returns.
//!
//! The order that every publication keeps: bytes written, fsync of the file, rename into place,
//! fsync of the directory. A crash between any two steps leaves the old state.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Creates `path` with `bytes` and waits until both are durable, all but its directory entry.
pub(crate) fn create_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Waits until the entries of the directory `path` are durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Renames `from` to `to` and waits until the new name is durable.
///
/// Both lie in the same file system. The old name may come back after a power loss only together
/// with the absence of the new one.
pub(crate) fn publish(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_directory(to.parent().expect("a published path lies in a directory of the store"))
}
