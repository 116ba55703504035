//! Writes only for whoever may write at the moment when the write executes.
//!
//! A lease that is checked when a session opens is not enough: a server that was frozen and thaws
//! would apply an old write over a newer acknowledged one (DESIGN section 5, rule h). So every
//! write, trim, write of zeros and flush asks a [`WriteGate`] right before it executes. The gate
//! also commits the dirty record before the first write of an epoch is acknowledged (rule a).

use crate::block_io::{BlockError, BlockIo, Extent, Geometry, Piece};
use model::ByteRange;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says whether a change may be made now.
pub trait WriteGate: Send + Sync {
    /// Lets a change through, or says why not: [`BlockError::Closed`] where the lease is gone for
    /// good. May block while a record is committed; in the usual case it must be as cheap as one
    /// atomic load.
    fn admit(&self) -> Result<(), BlockError>;
}

/// A gate that is open until it is closed, once and for all.
#[derive(Debug, Default)]
pub struct Switch {
    closed: AtomicBool,
}

impl Switch {
    /// Lets nothing through from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

impl WriteGate for Switch {
    fn admit(&self) -> Result<(), BlockError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(BlockError::Closed),
            false => Ok(()),
        }
    }
}

impl<G: WriteGate + ?Sized> WriteGate for Arc<G> {
    fn admit(&self) -> Result<(), BlockError> {
        (**self).admit()
    }
}

/// A disk whose changes pass a gate; reads do not.
#[derive(Debug)]
pub struct Fenced<D, G> {
    inner: D,
    gate: G,
}

impl<D: BlockIo, G: WriteGate> Fenced<D, G> {
    /// Puts `gate` before the changes of `inner`.
    pub fn new(inner: D, gate: G) -> Self {
        Self { inner, gate }
    }
}

impl<D: BlockIo, G: WriteGate> BlockIo for Fenced<D, G> {
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
        self.gate.admit()?;
        self.inner.write_at(offset, data)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.gate.admit()?;
        self.inner.flush()
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        self.gate.admit()?;
        self.inner.trim(range)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        self.gate.admit()?;
        self.inner.write_zeroes(range)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryDisk, contract};
    use model::DiskSize;

    fn disk() -> MemoryDisk {
        MemoryDisk::writable(DiskSize::new(1 << 18).unwrap())
    }

    #[test]
    fn an_open_gate_keeps_the_contract() {
        contract::writable(&Fenced::new(disk(), Switch::default()), &vec![0; 1 << 18]);
    }

    #[test]
    fn a_closed_gate_stops_every_change_and_no_read() {
        let gate = Arc::new(Switch::default());
        let disk = Fenced::new(disk(), Arc::clone(&gate));
        disk.write_at(0, &[7; 512]).unwrap();
        gate.close();
        let range = ByteRange::new(0, 512);
        assert_eq!(disk.write_at(0, &[8; 512]), Err(BlockError::Closed));
        assert_eq!(disk.trim(range), Err(BlockError::Closed));
        assert_eq!(disk.write_zeroes(range), Err(BlockError::Closed));
        assert_eq!(disk.flush(), Err(BlockError::Closed));
        let mut buffer = [0; 512];
        disk.read_at(0, &mut buffer).unwrap();
        assert_eq!(buffer, [7; 512]);
    }
}
