//! Takes a Linux image's identity out of it: what must not be the same on every device.
//!
//! Works on images that are not mounted and needs no privileges. The result is a list of changes
//! for the caller to write; where anything is in the way there is an error and no list. Whether
//! the list does what it says is looked at with another ext4 implementation (`ext4-view`) before
//! it is handed out.

mod beside;

use crate::boot_files::{self, BootFilesError, VolumeFiles};
use crate::ext4_edit::{EditError, Editor, check_unmounted};
use crate::overlay::{Change, Overlay};
use crate::partitions::{Partition, find_partitions};
use crate::reader::ImageReader;
use std::fmt;
use std::sync::Arc;

/// Emptied: systemd writes a new one at the next start, and mounts over it where it cannot.
const EMPTIED: [&str; 1] = ["etc/machine-id"];
/// Removed: each is made anew where it is missing.
const REMOVED: [&str; 3] =
    ["var/lib/dbus/machine-id", "var/lib/systemd/credential.secret", "var/lib/systemd/random-seed"];
/// Where SSH keeps the keys that tell a host from others.
const SSH_DIRECTORY: &str = "etc/ssh";

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// It is there and has no bytes.
    Emptied,
    /// It is gone, and its bytes are zeroed.
    Removed,
}

/// A file that was cleaned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanedFile {
    /// Its absolute path in the image.
    pub path: String,
    /// What was done to it.
    pub what: Cleaned,
}

impl fmt::Display for CleanedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            Cleaned::Emptied => write!(f, "emptied {}", self.path),
            Cleaned::Removed => write!(f, "removed {}", self.path),
        }
    }
}

/// What takes the identity out of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaning {
    /// The files, in the order of the work; empty where the image has no identity.
    pub files: Vec<CleanedFile>,
    /// What to write, in the order of the disk; only blocks that differ.
    pub changes: Vec<Change>,
}

/// Why an image's identity stays in it.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// There is no root file system that can be edited.
    #[error(
        "{0}\nhint: linux-clean needs a root on ext4, not inside LVM or LUKS; leave this hook out, and clean the image before you shut the machine down"
    )]
    NoRoot(BootFilesError),
    /// The file system is in the middle of something.
    #[error(
        "the root file system cannot be changed: {0}\nhint: start the machine and shut it down cleanly first, or detach it with `shutdown -h now` and checkpoint again"
    )]
    NotClean(&'static str),
    /// The file system uses something that is not written here.
    #[error(
        "the root file system cannot be changed: {0}\nhint: leave this hook out, and clean the image before you shut the machine down"
    )]
    Unsupported(String),
    /// Structures contradict each other, or the image cannot be read.
    #[error("the root file system is damaged: {0}\nhint: run `e2fsck -f` on it in a maintenance version")]
    Damaged(String),
}

impl From<EditError> for CleanError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::NotClean(reason) => Self::NotClean(reason),
            EditError::Unsupported(what) => Self::Unsupported(what),
            EditError::Damaged(what) => Self::Damaged(what),
        }
    }
}

/// Finds what takes the identity out of `image`: an empty `/etc/machine-id`, no SSH host keys, no
/// random seed, no credential secret; also where `/var` is a partition of its own, and on the EFI
/// system partition. Changes nothing itself.
///
/// Blocks while it reads a few megabytes, so async callers use a pool thread.
pub fn clean_linux(image: &Arc<dyn ImageReader>) -> Result<Cleaning, CleanError> {
    // The parsers were read, not proven: a panic in one is this image's fault, not the server's.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| clean(image)))
        .unwrap_or_else(|_| Err(CleanError::Damaged("a parser gave up on its structures".to_owned())))
}

fn clean(image: &Arc<dyn ImageReader>) -> Result<Cleaning, CleanError> {
    let overlay = Arc::new(Overlay::new(Arc::clone(image)));
    let root = find_root(image, &overlay)?;
    let editor = Editor::open(&overlay, &root)?;
    let mut files = Vec::new();
    for path in EMPTIED {
        if let Some(file) = editor.file(path)?.filter(|file| file.len() > 0) {
            editor.empty(path, &file)?;
            files.push(CleanedFile { path: format!("/{path}"), what: Cleaned::Emptied });
        }
    }
    for path in removed_paths(&editor)? {
        if let Some(file) = editor.file(&path)? {
            editor.remove(&path, &file)?;
            files.push(CleanedFile { path: format!("/{path}"), what: Cleaned::Removed });
        }
    }
    // Dropping it puts back the mark that says "unmounted cleanly".
    drop(editor);
    check_result(&overlay, &root, &files)?;
    for partition in find_partitions(image).iter().filter(|partition| **partition != root) {
        files.extend(beside::clean(image, &overlay, partition)?);
    }
    let changes = overlay.changes().map_err(|error| CleanError::Damaged(error.to_string()))?;
    Ok(Cleaning { files, changes })
}

/// The root's partition. A root whose journal is full of changes may not be readable at all: then
/// that is the message.
fn find_root(image: &Arc<dyn ImageReader>, overlay: &Arc<Overlay>) -> Result<Partition, CleanError> {
    boot_files::root_partition(image).or_else(|no_root| {
        for partition in find_partitions(image) {
            check_unmounted(overlay, &partition)?;
        }
        Err(CleanError::NoRoot(no_root))
    })
}

fn removed_paths(editor: &Editor) -> Result<Vec<String>, EditError> {
    let names = editor.files_in(SSH_DIRECTORY)?;
    let keys = names.iter().filter(|name| is_host_key(name)).map(|name| format!("{SSH_DIRECTORY}/{name}"));
    Ok(REMOVED.into_iter().map(str::to_owned).chain(keys).collect())
}

/// `ssh_host_ed25519_key`, `ssh_host_ed25519_key.pub` and their like.
fn is_host_key(name: &str) -> bool {
    name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with("_key.pub"))
}

/// Looks at the result with the other implementation of ext4.
fn check_result(overlay: &Arc<Overlay>, root: &Partition, files: &[CleanedFile]) -> Result<(), CleanError> {
    let image: Arc<dyn ImageReader> = Arc::clone(overlay) as _;
    let tree = VolumeFiles::open(&image, root);
    for file in files {
        let size_bytes = tree.size_of(&file.path).map_err(|error| CleanError::Damaged(error.to_string()))?;
        let expected = match file.what {
            Cleaned::Emptied => Some(0),
            Cleaned::Removed => None,
        };
        if size_bytes != expected {
            return Err(CleanError::Damaged(format!("{} is still there afterwards", file.path)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
