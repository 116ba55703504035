//! A layer: the chunks that one version changed, in a sparse file in the disk's own addresses.
//!
//! The file `data` has exactly the disk's length, so that the base layer of an import is a plain
//! sparse raw image; what the file holds for each chunk is in `present` (see `presence.rs`), the
//! manifest pages that came with it are in `pages` (see `page_pack.rs`).

use crate::page_pack::{PackError, PagePack};
use crate::presence::Presence;
use crate::record::LayerName;
use model::DiskSize;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) const DATA_FILE: &str = "data";
pub(crate) const PRESENCE_FILE: &str = "present";
pub(crate) const PAGES_FILE: &str = "pages";

/// An open layer; complete and immutable.
#[derive(Debug)]
pub struct Layer {
    name: LayerName,
    path: PathBuf,
    file: File,
    size: DiskSize,
    pages: PagePack,
}

/// Why a layer cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error("layer {name}: {reason}")]
    Damaged { name: String, reason: String },
    #[error("layer {name}: {source}")]
    Io { name: String, source: io::Error },
}

impl Layer {
    /// Opens the layer in `directory`, which must be of a disk of `size`.
    pub(crate) fn open(directory: &Path, name: &LayerName, size: DiskSize) -> Result<Self, LayerError> {
        let path = directory.join(DATA_FILE);
        let file = File::open(&path).map_err(|error| opening(name, DATA_FILE, error))?;
        let len = file.metadata().map_err(|error| opening(name, DATA_FILE, error))?.len();
        if len != size.bytes() {
            let reason = format!("its data has {len} bytes, the disk has {}", size.bytes());
            return Err(damaged(name, reason));
        }
        let pages = File::open(directory.join(PAGES_FILE)).map_err(|e| opening(name, PAGES_FILE, e))?;
        let pages = PagePack::open(pages).map_err(|error| match error {
            PackError::Io(source) => opening(name, PAGES_FILE, source),
            PackError::Damaged(_) => damaged(name, error.to_string()),
        })?;
        Ok(Self { name: name.clone(), path, file, size, pages })
    }

    /// Reads which chunks the layer of this directory has.
    pub(crate) fn read_presence(
        directory: &Path,
        name: &LayerName,
        size: DiskSize,
    ) -> Result<Presence, LayerError> {
        let bytes = fs::read(directory.join(PRESENCE_FILE));
        let bytes = bytes.map_err(|error| opening(name, PRESENCE_FILE, error))?;
        Presence::decode(&bytes, size).map_err(|error| damaged(name, error.to_string()))
    }

    /// The data file: a chunk of this layer lies at its own offset in the disk.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path of the data file. It may be gone (the version was deleted) while
    /// [`Layer::file`] still reads.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the disk, which is the length of the data file.
    pub fn size(&self) -> DiskSize {
        self.size
    }

    pub(crate) fn name(&self) -> &LayerName {
        &self.name
    }

    pub(crate) fn pages(&self) -> &PagePack {
        &self.pages
    }
}

fn damaged(name: &LayerName, reason: String) -> LayerError {
    LayerError::Damaged { name: name.as_str().to_owned(), reason }
}

/// A file that is not there is damage; anything else may pass.
fn opening(name: &LayerName, file: &str, error: io::Error) -> LayerError {
    match error.kind() {
        io::ErrorKind::NotFound => damaged(name, format!("its file {file:?} is missing")),
        _ => LayerError::Io { name: name.as_str().to_owned(), source: error },
    }
}
