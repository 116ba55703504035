//! A shared disk is a disk: decorators can be put over one that others read as well.

use crate::block_io::{BlockError, BlockIo, Extent, Geometry, Piece};
use model::ByteRange;
use std::sync::Arc;

impl<D: BlockIo + ?Sized> BlockIo for Arc<D> {
    fn geometry(&self) -> Geometry {
        (**self).geometry()
    }

    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        (**self).read_resident(range, pieces)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        (**self).read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        (**self).write_at(offset, data)
    }

    fn flush(&self) -> Result<(), BlockError> {
        (**self).flush()
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        (**self).trim(range)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        (**self).write_zeroes(range)
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        (**self).extents(range, limit)
    }

    fn is_far(&self, range: ByteRange) -> bool {
        (**self).is_far(range)
    }

    fn prefetch(&self, range: ByteRange) {
        (**self).prefetch(range)
    }
}
