//! The hooks that are part of this program, over a copy of a draft.

use super::HookError;
use super::copy_disk::CopyDisk;
use disk::{BlockError, BlockIo};
use image::{CleanError, ImageError, ImageReader, Run, RunKind};
use model::Name;
use std::sync::Arc;

/// Takes the identity out of a Linux image; answers the files.
pub(super) fn linux_clean(hook: &Name, copy: &Arc<CopyDisk>) -> Result<Vec<String>, HookError> {
    let image: Arc<dyn ImageReader> = Arc::new(DiskImage(Arc::clone(copy)));
    let failed = |source: CleanError| HookError::BuiltIn { hook: hook.clone(), source };
    let cleaning = image::clean_linux(&image).map_err(failed)?;
    for change in &cleaning.changes {
        let written = copy.write_at(change.offset, &change.bytes);
        written.map_err(|source| HookError::Disk { hook: hook.clone(), source })?;
    }
    match cleaning.files.is_empty() {
        true => Ok(vec!["the image has no identity to take out".to_owned()]),
        false => Ok(cleaning.files.iter().map(ToString::to_string).collect()),
    }
}

/// A disk as an image's reader.
struct DiskImage(Arc<CopyDisk>);

impl ImageReader for DiskImage {
    fn size_bytes(&self) -> u64 {
        self.0.geometry().size_bytes
    }

    fn run_at(&self, offset: u64, limit: u64) -> Result<Run, ImageError> {
        Ok(Run { len: limit.min(self.size_bytes() - offset), kind: RunKind::Data })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        let failed = |error: BlockError| ImageError::Io {
            context: format!("reading at {offset}"),
            source: std::io::Error::other(error.to_string()),
        };
        self.0.read_at(offset, buffer).map_err(failed)
    }
}
