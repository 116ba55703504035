//! A draft as a writable disk.
//!
//! Nothing is handed out of memory in place: what a draft stands on changes with each checkpoint,
//! and its own bytes with each write. Who may write is not checked here: that is [`crate::Fenced`].

use crate::block_io::{Access, BlockError, BlockIo, Extent, ExtentKind, Geometry, Piece};
use model::ByteRange;
use std::sync::Arc;
use store::{Draft, DraftError};

/// A disk over one open draft.
#[derive(Debug)]
pub struct DraftDisk {
    draft: Arc<Draft>,
}

impl DraftDisk {
    /// A disk that reads and writes `draft`.
    pub fn new(draft: Arc<Draft>) -> Self {
        Self { draft }
    }

    /// The draft itself.
    pub fn draft(&self) -> &Arc<Draft> {
        &self.draft
    }
}

impl BlockIo for DraftDisk {
    fn geometry(&self) -> Geometry {
        Geometry { size_bytes: self.draft.size().bytes(), access: Access::ReadWrite }
    }

    fn read_resident<'a>(&'a self, _: ByteRange, _: &mut Vec<Piece<'a>>) -> bool {
        false
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.draft.read_at(offset, buffer).map_err(block_error)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        self.draft.write_at(offset, data).map_err(block_error)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.draft.flush().map_err(block_error)
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        self.draft.trim(range).map_err(block_error)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        self.draft.write_zeroes(range).map_err(block_error)
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        let extents = self.draft.extents(range, limit).map_err(block_error)?;
        let kind = |is_data| if is_data { ExtentKind::Data } else { ExtentKind::Hole };
        Ok(extents.into_iter().map(|extent| Extent { len: extent.len, kind: kind(extent.is_data) }).collect())
    }

    fn is_far(&self, _: ByteRange) -> bool {
        false
    }

    fn prefetch(&self, range: ByteRange) {
        self.draft.prefetch(range);
    }
}

fn block_error(error: DraftError) -> BlockError {
    match error {
        DraftError::OutOfRange => BlockError::OutOfRange,
        DraftError::NoSpace => BlockError::NoSpace,
        DraftError::Closed => BlockError::Closed,
        other => BlockError::Io(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RamCache, contract};
    use store::{DraftName, ImportOptions, Quiet, Store};

    /// A draft above an imported version with data, zero chunks and a partial last block.
    fn draft(directory: &std::path::Path) -> (Store, Arc<Draft>, Vec<u8>) {
        let mut bytes: Vec<u8> =
            (0..3_000_320u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        bytes[300_000..1_200_000].fill(0);
        let store = Store::open(directory).unwrap();
        let options = ImportOptions { reserve_bytes: 0, ..ImportOptions::default() };
        let imported = store.import_stream(&mut &bytes[..], None, &options, &Quiet).unwrap();
        let draft = store.create_draft(&DraftName::new("d.2").unwrap(), &imported.root).unwrap();
        (store, draft, bytes)
    }

    #[test]
    fn it_keeps_the_contract_of_a_writable_disk() {
        let directory = tempfile::tempdir().unwrap();
        let (_, draft, bytes) = draft(directory.path());
        contract::writable(&DraftDisk::new(draft), &bytes);
    }

    #[test]
    fn it_keeps_the_contract_after_a_checkpoint_and_reopened() {
        let directory = tempfile::tempdir().unwrap();
        let (store, draft, bytes) = draft(directory.path());
        let disk = DraftDisk::new(draft);
        contract::writable(&disk, &bytes);
        disk.draft().checkpoint(&Quiet).unwrap();
        let mut now = vec![0; bytes.len()];
        disk.read_at(0, &mut now).unwrap();
        contract::writable(&disk, &now);
        disk.flush().unwrap();
        disk.read_at(0, &mut now).unwrap();
        let name = disk.draft().name().clone();
        drop(disk);
        contract::writable(&DraftDisk::new(store.open_draft(&name).unwrap()), &now);
    }

    #[test]
    fn a_ram_cache_above_it_keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let (_, draft, bytes) = draft(directory.path());
        contract::writable(&RamCache::new(DraftDisk::new(draft), 64 << 20), &bytes);
    }

    #[test]
    fn a_deleted_draft_is_a_closed_disk() {
        let directory = tempfile::tempdir().unwrap();
        let (store, draft, _) = draft(directory.path());
        let disk = DraftDisk::new(draft);
        store.delete_draft(disk.draft().name()).unwrap();
        assert_eq!(disk.write_at(0, &[1; 512]), Err(BlockError::Closed));
        assert_eq!(disk.read_at(0, &mut [1; 512]), Err(BlockError::Closed));
        assert_eq!(disk.flush(), Err(BlockError::Closed));
    }
}
