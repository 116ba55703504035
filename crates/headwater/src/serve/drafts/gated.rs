//! A draft's disk behind its gate: reads pass, whatever changes the disk enters and leaves.

use super::gate::Gate;
use disk::{BlockError, BlockIo, Extent, Geometry, Piece};
use model::ByteRange;
use std::sync::Arc;

/// A disk whose writes execute only while the gate lets them.
pub(crate) struct Gated<D> {
    below: D,
    gate: Arc<Gate>,
}

impl<D: BlockIo> Gated<D> {
    /// Puts `gate` before `below`.
    pub(crate) fn new(below: D, gate: Arc<Gate>) -> Self {
        Self { below, gate }
    }

    fn within<T>(&self, change: impl FnOnce(&D) -> Result<T, BlockError>) -> Result<T, BlockError> {
        self.gate.enter()?;
        let _leaves = Leaves(&self.gate);
        change(&self.below)
    }
}

/// Leaves also when the disk below panics: else a checkpoint would wait for ever.
struct Leaves<'a>(&'a Gate);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl<D: BlockIo> BlockIo for Gated<D> {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        self.below.read_resident(range, pieces)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.below.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        self.within(|below| below.write_at(offset, data))
    }

    /// A flush promises that everything acknowledged is safe: only the present epoch may.
    fn flush(&self) -> Result<(), BlockError> {
        self.gate.flush_allowed()?;
        self.below.flush()
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        self.within(|below| below.trim(range))
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        self.within(|below| below.write_zeroes(range))
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        self.below.extents(range, limit)
    }

    fn is_far(&self, range: ByteRange) -> bool {
        self.below.is_far(range)
    }

    fn prefetch(&self, range: ByteRange) {
        self.below.prefetch(range);
    }
}
