//! Files that are on the disk for good when the call returns.
//!
//! The order that every publication keeps: bytes written, fsync of the file, rename into place,
//! fsync of the directory. A crash between any two steps leaves the old state. All of it goes
//! through [`Files`], so that tests can crash, tear and fail each step.

use crate::files::Files;
use std::io;
use std::path::Path;

/// Creates `path` with `bytes` and waits until both are durable, all but its directory entry.
pub(crate) fn create_file(files: &dyn Files, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = files.create_file(path)?;
    file.write_all_at(bytes, 0)?;
    file.sync()
}

/// Waits until the entries of the directory `path` are durable.
pub(crate) fn sync_directory(files: &dyn Files, path: &Path) -> io::Result<()> {
    files.sync_directory(path)
}

/// Renames `from` to `to` and waits until the new name is durable.
///
/// Both lie in the same file system. The old name may come back after a power loss only together
/// with the absence of the new one.
pub(crate) fn publish(files: &dyn Files, from: &Path, to: &Path) -> io::Result<()> {
    files.rename(from, to)?;
    files.sync_directory(to.parent().expect("a published path lies in a directory of the store"))
}
