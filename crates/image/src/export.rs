//! Images out: what devices boot, as a file for other programs.
//!
//! A file appears under its name only when it is complete and durable; what was there before under
//! that name is never replaced.

mod qcow2;
mod raw;

use crate::reader::{ImageError, ImageReader};
use std::fs::File;
use std::io;
use std::path::Path;
use tempfile::NamedTempFile;

/// How much is read at once, in bytes: a whole number of qcow2 clusters.
const PIECE_BYTES: u64 = 1 << 20;

/// Writes the disk as a sparse raw image to the new file `path`, byte for byte.
pub fn export_raw(source: &dyn ImageReader, path: &Path) -> Result<(), ImageError> {
    create(path, |file| raw::write(source, file))
}

/// Writes the disk as a qcow2 image (version 3, clusters of 64 KiB) to the new file `path`.
pub fn export_qcow2(source: &dyn ImageReader, path: &Path) -> Result<(), ImageError> {
    create(path, |file| qcow2::write(source, file))
}

/// Runs `write` on a file beside `path`, which gets this name when everything is durable.
fn create(path: &Path, write: impl FnOnce(&File) -> Result<(), ImageError>) -> Result<(), ImageError> {
    let failed = |source| writing(path, source);
    if path.symlink_metadata().is_ok() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = NamedTempFile::with_prefix_in(".export-", directory).map_err(failed)?;
    write(file.as_file()).map_err(|error| match error {
        ImageError::Io { context, source } if context.is_empty() => failed(source),
        other => other,
    })?;
    file.as_file().sync_all().map_err(failed)?;
    make_readable(file.as_file()).map_err(failed)?;
    file.persist_noclobber(path).map_err(|error| failed(error.error))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

/// Temporary files are private; an export is an ordinary file (0644, whatever the umask: the
/// umask cannot be asked without changing it).
fn make_readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

fn writing(path: &Path, source: io::Error) -> ImageError {
    ImageError::Io { context: format!("cannot write {}", path.display()), source }
}

/// A failure to write; [`create`] says which file.
fn failed(source: io::Error) -> ImageError {
    ImageError::Io { context: String::new(), source }
}
