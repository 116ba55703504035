//! The copy of a draft as one hook sees it: counted, and closed when the hook has ended.

use disk::{BlockError, BlockIo, Extent, Geometry, Piece};
use model::ByteRange;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};

/// Chunks are counted in this size.
const CHUNK_BYTES: u64 = 64 << 10;
/// The most separate runs of touched chunks that are remembered; beyond it the count is a floor.
const MAX_RUNS: usize = 1 << 20;

/// A disk that can be closed: afterwards no call changes anything, and none is under way.
pub(super) struct CopyDisk {
    inner: Arc<dyn BlockIo>,
    /// Whether it is closed; changes hold it for reading.
    closed: RwLock<bool>,
    touched: Mutex<Touched>,
}

impl CopyDisk {
    /// Opens `inner` for one hook.
    pub(super) fn new(inner: Arc<dyn BlockIo>) -> Self {
        Self { inner, closed: RwLock::new(false), touched: Mutex::default() }
    }

    /// Refuses every change from now on, waits for those under way, and answers how many chunks
    /// were written to.
    pub(super) fn close(&self) -> u64 {
        *self.closed.write().expect("no change panics") = true;
        self.touched.lock().expect("counting does not panic").chunks()
    }

    fn change(
        &self,
        range: ByteRange,
        change: impl FnOnce(&dyn BlockIo) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let closed = self.closed.read().expect("no change panics");
        if *closed {
            return Err(BlockError::Closed);
        }
        change(self.inner.as_ref())?;
        self.touched.lock().expect("counting does not panic").add(range);
        Ok(())
    }
}

impl BlockIo for CopyDisk {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        self.inner.read_resident(range, pieces)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        self.change(ByteRange::new(offset, data.len() as u64), |disk| disk.write_at(offset, data))
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.inner.flush()
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        self.change(range, |disk| disk.trim(range))
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        self.change(range, |disk| disk.write_zeroes(range))
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        self.inner.extents(range, limit)
    }

    fn is_far(&self, range: ByteRange) -> bool {
        self.inner.is_far(range)
    }

    fn prefetch(&self, range: ByteRange) {
        self.inner.prefetch(range);
    }
}

/// Runs of chunks, first to one past the last, apart from each other.
#[derive(Default)]
struct Touched(BTreeMap<u64, u64>);

impl Touched {
    fn add(&mut self, range: ByteRange) {
        if range.len == 0 || self.0.len() >= MAX_RUNS {
            return;
        }
        let mut first = range.offset / CHUNK_BYTES;
        let mut end = (range.offset + range.len).div_ceil(CHUNK_BYTES);
        while let Some((&start, &stop)) = self.0.range(..=end).next_back().filter(|(_, stop)| **stop >= first)
        {
            self.0.remove(&start);
            (first, end) = (first.min(start), end.max(stop));
        }
        self.0.insert(first, end);
    }

    fn chunks(&self) -> u64 {
        self.0.iter().map(|(first, end)| end - first).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::{MemoryDisk, contract};
    use model::DiskSize;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn memory(size: u64) -> Arc<dyn BlockIo> {
        Arc::new(MemoryDisk::writable(DiskSize::new(size).unwrap()))
    }

    #[test]
    fn it_keeps_the_contract_of_what_it_wraps() {
        contract::writable(&CopyDisk::new(memory(1 << 18)), &vec![0; 1 << 18]);
    }

    #[test]
    fn nothing_changes_after_the_end() {
        let disk = CopyDisk::new(memory(1 << 20));
        disk.write_at(CHUNK_BYTES - 1, &[1, 2]).unwrap();
        assert_eq!(disk.close(), 2);
        let range = ByteRange::new(0, 512);
        assert_eq!(disk.write_at(0, &[1; 512]), Err(BlockError::Closed));
        assert_eq!(disk.trim(range), Err(BlockError::Closed));
        assert_eq!(disk.write_zeroes(range), Err(BlockError::Closed));
        let mut seen = [0; 2];
        disk.read_at(CHUNK_BYTES - 1, &mut seen).unwrap();
        assert_eq!(seen, [1, 2]);
    }

    proptest! {
        #[test]
        fn chunks_are_counted_once(ranges in proptest::collection::vec((0u64..4_000_000, 0u64..700_000), 0..40)) {
            let (mut touched, mut model) = (Touched::default(), BTreeSet::new());
            for (offset, len) in ranges {
                touched.add(ByteRange::new(offset, len));
                if len > 0 {
                    model.extend(offset / CHUNK_BYTES..=(offset + len - 1) / CHUNK_BYTES);
                }
            }
            prop_assert_eq!(touched.chunks(), model.len() as u64);
        }
    }
}
