//! A layer that is being made: a directory under `incoming/` that goes away unless it is published.

use super::collector::Collector;
use super::data_file::DataFile;
use super::room::write_error;
use super::{ImportError, Imported};
use crate::durable;
use crate::layer::{DATA_FILE, PAGES_FILE, PRESENCE_FILE};
use crate::layout::io_error;
use crate::page_pack::PagePackWriter;
use crate::record::{LAYER_NAME_BYTES, LayerName, VersionRecord};
use crate::store::Store;
use model::DiskSize;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use tempfile::TempDir;

/// What the workers of an import found out.
pub(crate) struct Collected {
    pub(crate) collector: Collector,
    pub(crate) data_bytes: u64,
}

/// Where an import writes its page pack.
pub(crate) type PackFile = BufWriter<File>;

/// The directory of an import; removed when it is dropped unpublished.
pub(crate) struct Staging {
    directory: TempDir,
    name: LayerName,
    data: DataFile,
}

impl Staging {
    /// Creates the directory, and in it a data file of `len` bytes.
    pub(crate) fn create(store: &Store, len: u64) -> Result<Self, ImportError> {
        let incoming = store.layout().incoming();
        let make = || {
            let directory =
                tempfile::Builder::new().prefix("").rand_bytes(LAYER_NAME_BYTES).tempdir_in(&incoming)?;
            let data = DataFile::create(&directory.path().join(DATA_FILE), len)?;
            Ok((directory, data))
        };
        let (directory, data) = make().map_err(io_error("cannot begin the import"))?;
        let name = directory.path().file_name().and_then(|name| name.to_str());
        let name = name.and_then(LayerName::new).expect("tempfile makes names of letters and digits");
        Ok(Self { directory, name, data })
    }

    pub(crate) fn data(&self) -> &DataFile {
        &self.data
    }

    /// Begins the layer's page pack.
    pub(crate) fn page_pack(&self) -> io::Result<PagePackWriter<PackFile>> {
        let file = File::create_new(self.path().join(PAGES_FILE))?;
        Ok(PagePackWriter::new(BufWriter::new(file)))
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes everything durable, then visible: data, pages, presence, directory, and last the
    /// renames (`Store::publish`).
    pub(crate) fn publish(
        self,
        store: &Store,
        size: DiskSize,
        collected: Collected,
    ) -> Result<Imported, ImportError> {
        let Collected { collector, data_bytes } = collected;
        let settle = || {
            self.data.set_len(size.bytes())?;
            self.data.sync()?;
            let (manifest, presence) = collector.finish(size)?;
            durable::create_file(store.files(), &self.path().join(PRESENCE_FILE), &presence.encode())?;
            durable::sync_directory(store.files(), self.path())?;
            Ok(manifest)
        };
        let manifest = settle().map_err(|error| write_error(data_bytes, error))?;
        let root = manifest.root();
        let record = VersionRecord { layers: vec![self.name.clone()], manifest };
        let new = store.publish(self.path(), record)?;
        let stored_bytes = if new { data_bytes } else { 0 };
        Ok(Imported { root, size, stored_bytes, already_stored: !new })
    }
}
