//! What of a Linux image's identity lies outside its root: a `/var` on a partition of its own, and
//! the random seed that systemd-boot keeps on the EFI system partition.

use super::{CleanError, Cleaned, CleanedFile};
use crate::boot_files::VolumeFiles;
use crate::ext4_edit::Editor;
use crate::fat_edit;
use crate::overlay::Overlay;
use crate::partitions::Partition;
use crate::reader::ImageReader;
use std::sync::Arc;

/// Of a file system that is mounted on `/var`; the same files as in the root's.
const OF_VAR: [&str; 3] = ["lib/dbus/machine-id", "lib/systemd/credential.secret", "lib/systemd/random-seed"];
/// Of an EFI system partition (systemd, "Boot Loader Interface"): systemd-boot hands it to the
/// kernel as entropy; one that all devices share is none.
const OF_ESP: &str = "loader/random-seed";

/// Removes what is not the root's. A partition that cannot be read is passed by: swap, LVM, LUKS
/// and other systems' partitions have no identity that anybody here could find.
pub(super) fn clean(
    image: &Arc<dyn ImageReader>,
    overlay: &Arc<Overlay>,
    partition: &Partition,
) -> Result<Vec<CleanedFile>, CleanError> {
    let volume = VolumeFiles::open(image, partition);
    let is_there = |path: &str| volume.exists(path);
    let mut removed = Vec::new();
    if volume.is_ext4() && OF_VAR.into_iter().any(is_there) {
        let editor = Editor::open(overlay, partition)?;
        for path in OF_VAR {
            if let Some(file) = editor.file(path)? {
                editor.remove(path, &file)?;
                removed.push(path);
            }
        }
    } else if !volume.is_ext4() && is_there(OF_ESP) {
        fat_edit::remove(overlay, partition, OF_ESP)?;
        removed.push(OF_ESP);
    }
    check(overlay, partition, &removed)?;
    let number = partition.number.unwrap_or(0);
    let shown =
        |path: &str| CleanedFile { path: format!("/{path} of partition {number}"), what: Cleaned::Removed };
    Ok(removed.into_iter().map(shown).collect())
}

/// Looks at the result anew.
fn check(overlay: &Arc<Overlay>, partition: &Partition, removed: &[&str]) -> Result<(), CleanError> {
    let image: Arc<dyn ImageReader> = Arc::clone(overlay) as _;
    let volume = VolumeFiles::open(&image, partition);
    match removed.iter().find(|path| volume.exists(path)) {
        Some(path) => Err(CleanError::Damaged(format!("/{path} is still there afterwards"))),
        None => Ok(()),
    }
}
