//! A disk that takes its time, for tests of what else goes on meanwhile.

use crate::block_io::{BlockError, BlockIo, Extent, Geometry, Piece};
use model::ByteRange;
use std::thread::sleep;
use std::time::Duration;

/// Delays every request by a fixed time and has nothing in memory.
#[derive(Debug)]
pub struct Delayed<D> {
    inner: D,
    delay: Duration,
}

impl<D: BlockIo> Delayed<D> {
    /// Slows `inner` down.
    pub fn new(inner: D, delay: Duration) -> Self {
        Self { inner, delay }
    }
}

impl<D: BlockIo> BlockIo for Delayed<D> {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read_resident<'a>(&'a self, _: ByteRange, _: &mut Vec<Piece<'a>>) -> bool {
        false
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        sleep(self.delay);
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        sleep(self.delay);
        self.inner.write_at(offset, data)
    }

    fn flush(&self) -> Result<(), BlockError> {
        sleep(self.delay);
        self.inner.flush()
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        sleep(self.delay);
        self.inner.trim(range)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        sleep(self.delay);
        self.inner.write_zeroes(range)
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        sleep(self.delay);
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
    fn it_keeps_the_contract_of_what_it_wraps() {
        let disk = MemoryDisk::writable(DiskSize::new(1 << 18).unwrap());
        contract::writable(&Delayed::new(disk, Duration::ZERO), &vec![0; 1 << 18]);
    }
}
