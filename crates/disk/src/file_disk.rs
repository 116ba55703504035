//! A read-only disk over one sparse file that holds the whole disk, as a raw image does.

use crate::block_io::{Access, BlockError, BlockIo, Extent, ExtentKind, Geometry, Piece};
use crate::mapped_cache::MappedCache;
use crate::mapped_file::{FROM_FILE_BYTES, MappedFile};
use crate::range::prefetched;
use crate::residency::{Mapped, Residency};
use model::{ByteRange, DiskSize};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

/// A disk that is one raw image.
#[derive(Debug)]
pub struct FileDisk {
    file: MappedFile,
    residency: Arc<Residency>,
    size: DiskSize,
    /// `SEEK_DATA` moves the file's one position.
    seeking: Mutex<()>,
}

impl FileDisk {
    /// Opens a disk of `size` over `file`, which must be at least that long.
    pub fn new(file: File, size: DiskSize, cache: Arc<MappedCache>) -> io::Result<Self> {
        if file.metadata()?.len() < size.bytes() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than the disk"));
        }
        let file = MappedFile::new(file, size.bytes(), &cache)?;
        let mapped = Arc::clone(file.mapping()) as Arc<dyn Mapped>;
        let residency = Residency::new(mapped, size.bytes(), cache);
        Ok(Self { file, residency, size, seeking: Mutex::default() })
    }

    /// The end of the run that begins at `offset`, and whether it is a hole.
    fn run_at(&self, offset: u64, end: u64) -> Result<(u64, ExtentKind), BlockError> {
        let _guard = self.seeking.lock().expect("no thread panics while it seeks");
        let file = self.file.file();
        match seek(file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Ok((data.min(end), ExtentKind::Hole)),
            Ok(_) => {
                let hole = seek(file, SeekFrom::Hole(offset)).map_err(io_error)?;
                Ok((hole.clamp(offset + 1, end), ExtentKind::Data))
            }
            Err(Errno::NXIO) => Ok((end, ExtentKind::Hole)), // no data up to the file's end
            Err(error) => Err(io_error(error)),
        }
    }
}

impl BlockIo for FileDisk {
    fn geometry(&self) -> Geometry {
        Geometry { size_bytes: self.size.bytes(), access: Access::ReadOnly }
    }

    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        let Ok(len) = u32::try_from(range.len) else { return false };
        if len == 0 || self.geometry().check(range).is_err() {
            return false;
        }
        let resident = self.residency.is_resident(range.offset, range.len);
        if resident {
            let from_file = range.len >= FROM_FILE_BYTES;
            pieces.push(Piece::Mapped(self.file.slice(range.offset, len, from_file)));
        }
        resident
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let range = ByteRange::new(offset, buffer.len() as u64);
        self.geometry().check(range)?;
        if self.residency.is_resident(offset, range.len) {
            return self.file.read_at(offset, buffer);
        }
        self.prefetch(range);
        self.file.read_at(offset, buffer)?;
        self.residency.refresh(offset, range.len);
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn trim(&self, _: ByteRange) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn write_zeroes(&self, _: ByteRange) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        let end = self.geometry().check(range)?;
        let (mut at, mut extents) = (range.offset, Vec::new());
        while at < end && extents.len() < limit {
            let (next, kind) = self.run_at(at, end)?;
            extents.push(Extent { len: next - at, kind });
            at = next;
        }
        Ok(extents)
    }

    fn is_far(&self, _: ByteRange) -> bool {
        false
    }

    fn prefetch(&self, range: ByteRange) {
        if self.geometry().check(range).is_ok() {
            let wanted = prefetched(range, self.size);
            self.file.will_need(wanted.offset, wanted.len);
        }
    }
}

fn io_error(error: Errno) -> BlockError {
    BlockError::Io(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;
    use std::os::unix::fs::FileExt;

    fn disk_with_a_hole() -> (FileDisk, Vec<u8>) {
        let file = tempfile::tempfile().unwrap();
        let mut expected = vec![0; 5 << 20];
        expected[..1 << 20].iter_mut().enumerate().for_each(|(i, b)| *b = (i % 251) as u8);
        expected[4 << 20..].iter_mut().enumerate().for_each(|(i, b)| *b = (i % 241) as u8);
        file.set_len(5 << 20).unwrap();
        file.write_all_at(&expected[..1 << 20], 0).unwrap();
        file.write_all_at(&expected[4 << 20..], 4 << 20).unwrap();
        let size = DiskSize::new(5 << 20).unwrap();
        (FileDisk::new(file, size, MappedCache::new(64 << 20)).unwrap(), expected)
    }

    #[test]
    fn it_keeps_the_contract_of_a_read_only_disk() {
        let (disk, expected) = disk_with_a_hole();
        contract::read_only(&disk, &expected);
    }

    #[test]
    fn its_holes_are_told() {
        let (disk, _) = disk_with_a_hole();
        let extents = disk.extents(ByteRange::new(0, 5 << 20), 10).unwrap();
        let kinds: Vec<_> = extents.iter().map(|e| (e.len, e.kind)).collect();
        let (data, hole) = (ExtentKind::Data, ExtentKind::Hole);
        assert_eq!(kinds, [(1 << 20, data), (3 << 20, hole), (1 << 20, data)]);
    }

    #[test]
    fn what_was_read_is_resident_and_a_tight_window_still_serves_it() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..80 << 20).map(|i: u32| (i >> 12) as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let size = DiskSize::new(80 << 20).unwrap();
        let disk = FileDisk::new(file, size, MappedCache::new(0)).unwrap();
        for _ in 0..2 {
            for at in (0..80u64 << 20).step_by(1 << 20) {
                let mut pieces = Vec::new();
                assert!(disk.read_resident(ByteRange::new(at, 4096), &mut pieces));
                assert_eq!(contract::collect(&pieces), bytes[at as usize..at as usize + 4096]);
            }
        }
    }

    #[test]
    fn a_truncated_file_is_an_error_and_no_crash() {
        let (disk, _) = disk_with_a_hole();
        let mut pieces = Vec::new();
        assert!(disk.read_resident(ByteRange::new(0, 4096), &mut pieces));
        // The descriptor is shared with the mapping; as if someone had cut the image short.
        disk.file.file().set_len(0).unwrap();
        let [Piece::Mapped(slice)] = pieces[..] else { panic!("one mapped piece") };
        assert!(crate::mapping::copy_mapped(slice).is_err());
        assert!(matches!(disk.read_at(0, &mut [0; 512]), Err(BlockError::Io(_))));
    }
}
