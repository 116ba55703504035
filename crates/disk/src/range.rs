//! The check that every disk makes before it touches anything.

use crate::block_io::{BlockError, Geometry};
use model::ByteRange;

impl Geometry {
    /// The end of `range`, where the range lies inside the disk.
    #[inline]
    pub fn check(&self, range: ByteRange) -> Result<u64, BlockError> {
        match range.end() {
            Some(end) if end <= self.size_bytes => Ok(end),
            _ => Err(BlockError::OutOfRange),
        }
    }
}
