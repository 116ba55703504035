//! The way in: an image, read once, becomes a version with one layer.
//!
//! Worker threads take units of 1 MiB, hash their chunks while the bytes are in the processor's
//! cache, and write what is not zero to the same offset of the new layer's data file. The calling
//! thread reports progress and hears of cancellation. Nothing is visible before everything is
//! durable; whatever ends the import early removes what it wrote (`staging.rs`), and so does the
//! next [`Store::open`] after a kill.

mod collector;
pub(crate) mod data_file;
mod pipeline;
mod room;
mod staging;

use crate::layout::StoreError;
use crate::store::Store;
use image::{ImageError, ImageReader};
use model::chunk::DiskSizeError;
use model::{DiskSize, Root};
use std::io::{self, Read};
use std::num::NonZeroUsize;

/// The settings of an import.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// How many threads hash and write.
    pub threads: NonZeroUsize,
    /// Bytes of the file system that an import leaves free.
    pub reserve_bytes: u64,
}

impl Default for ImportOptions {
    /// All cores, and two threads at least, for one of them may wait for the disk; leaves 256 MiB
    /// free, so that records and logs can still be written.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = cores.max(NonZeroUsize::MIN.saturating_add(1));
        Self { threads, reserve_bytes: 256 << 20 }
    }
}

/// Hears how an import goes; called on the thread that imports, about ten times a second.
pub trait ImportObserver {
    /// Tells how far the import is.
    fn progress(&self, progress: ImportProgress);

    /// Whether to stop and undo the import.
    fn cancelled(&self) -> bool;
}

/// An observer that wants to know nothing and never cancels.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl ImportObserver for Quiet {
    fn progress(&self, _: ImportProgress) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportProgress {
    /// What it is doing.
    pub phase: ImportPhase,
    /// Bytes of the disk that are done, holes and zeros included.
    pub done_bytes: u64,
    /// The size of the disk in bytes, where it is known before the end.
    pub total_bytes: Option<u64>,
    /// Bytes written to the store.
    pub data_bytes: u64,
}

/// What an import is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportPhase {
    /// Looking whether the image fits.
    Measuring,
    /// Reading, hashing and writing.
    Copying,
    /// Waiting until everything is on the disk for good.
    Finishing,
}

/// A finished import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The name of the content.
    pub root: Root,
    /// The size of the disk.
    pub size: DiskSize,
    /// Bytes that the import wrote; 0 where the store had the version already.
    pub stored_bytes: u64,
    /// Whether the store had this very content before.
    pub already_stored: bool,
}

/// Why an import did not happen. Nothing of it is left in the store.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The size of the image is no disk size.
    #[error("{0}\nhint: was the image cut off on its way here?")]
    Size(#[from] DiskSizeError),
    /// The stream is a file of a format that cannot be read front to back, or compressed.
    #[error(
        "the stream is a {0} file, not a raw image\n\
         hint: write it to a file and import that, or unpack or convert it on the way"
    )]
    NotRaw(&'static str),
    /// The stream broke.
    #[error("cannot read the image: {0}")]
    Read(#[source] io::Error),
    /// Too large for the store's file system.
    #[error(
        "the image needs at least {} in the store, {} can be used\n\
         hint: delete versions that nobody boots, or give the store a larger file system",
        in_units(*needed), in_units(*free)
    )]
    NoSpace {
        /// Bytes that the image would take, as far as it was read.
        needed: u64,
        /// Bytes that an import may use: what is free without the reserve.
        free: u64,
    },
    /// The observer said so.
    #[error("the import was cancelled")]
    Cancelled,
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A number of bytes for people: `12.3 GiB`, or `512 bytes` below 1 MiB.
fn in_units(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB")];
    match units.iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}

impl Store {
    /// Imports an image; the version is durable and unclaimed afterwards.
    pub fn import(
        &self,
        source: &dyn ImageReader,
        options: &ImportOptions,
        observer: &dyn ImportObserver,
    ) -> Result<Imported, ImportError> {
        let size = DiskSize::new(source.size_bytes())?;
        let room = room::for_image(self, source, options, observer)?;
        let staging = staging::Staging::create(self, size.bytes())?;
        let work = pipeline::Work::new(&staging, room, Some(size.bytes()))?;
        pipeline::copy_image(&work, source, size, options, observer)?;
        let collected = work.into_collected(observer);
        staging.publish(self, size, collected)
    }

    /// Imports a raw image from a stream, in one pass and without a copy on the side.
    ///
    /// `expected_bytes` serves the progress report only; the disk is as large as the stream is
    /// long, which must be a multiple of 512.
    pub fn import_stream(
        &self,
        source: &mut dyn Read,
        expected_bytes: Option<u64>,
        options: &ImportOptions,
        observer: &dyn ImportObserver,
    ) -> Result<Imported, ImportError> {
        let room = room::for_stream(self, options)?;
        let staging = staging::Staging::create(self, 0)?;
        let work = pipeline::Work::new(&staging, room, expected_bytes)?;
        let size = pipeline::copy_stream(&work, source, options, observer)?;
        let collected = work.into_collected(observer);
        staging.publish(self, size, collected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_space_is_told_in_units_with_a_hint() {
        let error = ImportError::NoSpace { needed: 5 << 30, free: 1000 }.to_string();
        assert!(
            error.starts_with("the image needs at least 5.0 GiB in the store, 1000 bytes can"),
            "{error}"
        );
        assert!(error.contains("\nhint: "));
    }
}
