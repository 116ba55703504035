//! A disk that fails when a test says so.

use crate::block_io::{BlockError, BlockIo, Extent, Geometry, Piece};
use model::ByteRange;
use std::sync::Mutex;

/// What fails at present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every read fails with this.
    pub reads: Option<BlockError>,
    /// Every write, trim and write of zeros fails with this.
    pub writes: Option<BlockError>,
    /// Every flush fails with this.
    pub flushes: Option<BlockError>,
}

/// Passes requests on, or fails them.
#[derive(Debug)]
pub struct Failing<D> {
    inner: D,
    faults: Mutex<Faults>,
}

impl<D: BlockIo> Failing<D> {
    /// Wraps `inner`; nothing fails yet.
    pub fn new(inner: D) -> Self {
        Self { inner, faults: Mutex::default() }
    }

    /// Changes what fails from now on.
    pub fn set(&self, faults: Faults) {
        *self.faults.lock().expect("no thread panics while it holds the faults") = faults;
    }

    fn faults(&self) -> Faults {
        self.faults.lock().expect("no thread panics while it holds the faults").clone()
    }

    fn reading(&self) -> Result<(), BlockError> {
        self.faults().reads.map_or(Ok(()), Err)
    }

    fn writing(&self) -> Result<(), BlockError> {
        self.faults().writes.map_or(Ok(()), Err)
    }
}

impl<D: BlockIo> BlockIo for Failing<D> {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        self.reading().is_ok() && self.inner.read_resident(range, pieces)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.reading()?;
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        self.writing()?;
        self.inner.write_at(offset, data)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.faults().flushes.map_or(Ok(()), Err)?;
        self.inner.flush()
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        self.writing()?;
        self.inner.trim(range)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        self.writing()?;
        self.inner.write_zeroes(range)
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        self.reading()?;
        self.inner.extents(range, limit)
    }

    fn is_far(&self, range: ByteRange) -> bool {
        self.inner.is_far(range)
    }

    fn prefetch(&self, range: ByteRange) {
        self.inner.prefetch(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryDisk, contract};
    use model::DiskSize;

    #[test]
    fn without_faults_it_keeps_the_contract() {
        let disk = MemoryDisk::writable(DiskSize::new(1 << 18).unwrap());
        contract::writable(&Failing::new(disk), &vec![0; 1 << 18]);
    }

    #[test]
    fn a_fault_ends_when_it_is_taken_away() {
        let disk = Failing::new(MemoryDisk::fixed(vec![1; 512]));
        let reads = Some(BlockError::Io("bad sector".into()));
        disk.set(Faults { reads: reads.clone(), ..Faults::default() });
        assert_eq!(disk.read_at(0, &mut [0; 512]).err(), reads);
        disk.set(Faults::default());
        assert_eq!(disk.read_at(0, &mut [0; 512]), Ok(()));
    }
}
