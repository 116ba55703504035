//! A disk in memory, for tests and benchmarks.

use crate::block_io::{Access, BlockError, BlockIo, Extent, ExtentKind, Geometry, Piece};
use model::{ByteRange, DiskSize};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The unit in which zeros are told as holes, in bytes.
const BLOCK: u64 = 4096;

/// A disk whose bytes are a vector: writable, or fixed and then handed out without copying.
#[derive(Debug)]
pub enum MemoryDisk {
    /// Never changes.
    Fixed(Vec<u8>),
    /// May be written.
    Writable(RwLock<Vec<u8>>),
}

impl MemoryDisk {
    /// A read-only disk of these bytes; their number must be a disk's size.
    pub fn fixed(bytes: Vec<u8>) -> Self {
        DiskSize::new(bytes.len() as u64).expect("a whole number of sectors");
        Self::Fixed(bytes)
    }

    /// A writable disk of zeros.
    pub fn writable(size: DiskSize) -> Self {
        let len = usize::try_from(size.bytes()).expect("a disk that fits into memory");
        Self::Writable(RwLock::new(vec![0; len]))
    }

    fn with<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Self::Fixed(bytes) => look(bytes),
            Self::Writable(bytes) => look(&read(bytes)),
        }
    }

    fn change(&self, range: ByteRange, change: impl FnOnce(&mut [u8])) -> Result<(), BlockError> {
        let Self::Writable(bytes) = self else { return Err(BlockError::ReadOnly) };
        self.geometry().check(range)?;
        change(&mut write(bytes)[range.offset as usize..][..range.len as usize]);
        Ok(())
    }
}

fn read(bytes: &RwLock<Vec<u8>>) -> RwLockReadGuard<'_, Vec<u8>> {
    bytes.read().expect("no thread panics while it copies")
}

fn write(bytes: &RwLock<Vec<u8>>) -> RwLockWriteGuard<'_, Vec<u8>> {
    bytes.write().expect("no thread panics while it copies")
}

impl BlockIo for MemoryDisk {
    fn geometry(&self) -> Geometry {
        let access = match self {
            Self::Fixed(_) => Access::ReadOnly,
            Self::Writable(_) => Access::ReadWrite,
        };
        Geometry { size_bytes: self.with(<[u8]>::len) as u64, access }
    }

    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        let Self::Fixed(bytes) = self else { return false };
        if range.len == 0 || self.geometry().check(range).is_err() {
            return false;
        }
        pieces.push(Piece::Memory(&bytes[range.offset as usize..][..range.len as usize]));
        true
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.geometry().check(ByteRange::new(offset, buffer.len() as u64))?;
        self.with(|bytes| buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]));
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        self.change(ByteRange::new(offset, data.len() as u64), |bytes| bytes.copy_from_slice(data))
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        self.write_zeroes(range)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        self.change(range, |bytes| bytes.fill(0))
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        let end = self.geometry().check(range)?;
        let (mut at, mut extents) = (range.offset, Vec::<Extent>::new());
        while at < end {
            let next = ((at / BLOCK + 1) * BLOCK).min(end);
            let zero = self.with(|bytes| model::hash::is_zero(&bytes[at as usize..next as usize]));
            let kind = if zero { ExtentKind::Hole } else { ExtentKind::Data };
            let full = extents.len() == limit;
            match extents.last_mut() {
                Some(last) if last.kind == kind => last.len += next - at,
                _ if full => break,
                _ => extents.push(Extent { len: next - at, kind }),
            }
            at = next;
        }
        Ok(extents)
    }

    fn is_far(&self, _: ByteRange) -> bool {
        false
    }

    fn prefetch(&self, _: ByteRange) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn the_writable_form_keeps_the_contract() {
        let disk = MemoryDisk::writable(DiskSize::new(1 << 20).unwrap());
        contract::writable(&disk, &vec![0; 1 << 20]);
    }

    #[test]
    fn the_fixed_form_keeps_the_contract() {
        let bytes: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 253) as u8).collect();
        contract::read_only(&MemoryDisk::fixed(bytes.clone()), &bytes);
    }
}
