//! Raw images: files and block devices.

use crate::reader::{ImageError, ImageReader, Run, RunKind};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A raw image; holes of a sparse file are found by asking the file system.
#[derive(Debug)]
pub struct RawImage {
    file: File,
    size_bytes: u64,
}

impl RawImage {
    /// Reads `file`, a regular file or a block device, as a disk.
    pub fn open(file: File) -> Result<Self, ImageError> {
        let size_bytes = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|e| failed(e.into()))?;
        Ok(Self { file, size_bytes })
    }

    /// Where the next data begins at or after `offset`: `offset` itself where the file system
    /// cannot tell, the end of the disk where none is left.
    fn next_data(&self, offset: u64) -> Result<u64, ImageError> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(at) => Ok(at.min(self.size_bytes)),
            Err(Errno::NXIO) => Ok(self.size_bytes),
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(offset),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Where the data at `offset` ends: the end of the disk where the file system cannot tell.
    fn next_hole(&self, offset: u64) -> Result<u64, ImageError> {
        match rustix::fs::seek(&self.file, SeekFrom::Hole(offset)) {
            // A file that shrinks while it is read answers with offsets that lead nowhere.
            Ok(at) if at > offset => Ok(at.min(self.size_bytes)),
            Ok(_) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NXIO) => Ok(self.size_bytes),
            Err(error) => Err(failed(error.into())),
        }
    }
}

impl ImageReader for RawImage {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn run_at(&self, offset: u64, limit: u64) -> Result<Run, ImageError> {
        let data = self.next_data(offset)?;
        let (end, kind) = match data > offset {
            true => (data, RunKind::Hole),
            false => (self.next_hole(offset)?, RunKind::Data),
        };
        Ok(Run { len: (end - offset).min(limit), kind })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        self.file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                ImageError::Damaged("the file became shorter while it was read".into())
            }
            _ => failed(error),
        })
    }
}

fn failed(source: io::Error) -> ImageError {
    ImageError::Io { context: "cannot read the raw image".into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_tile_a_sparse_file_and_holes_are_found() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 << 20).unwrap();
        file.write_all_at(&[1; 4096], 1 << 20).unwrap();
        let image = RawImage::open(file).unwrap();
        let mut runs = Vec::new();
        let mut at = 0;
        while at < image.size_bytes() {
            let run = image.run_at(at, u64::MAX).unwrap();
            runs.push((at, run));
            at += run.len;
        }
        assert_eq!(at, 3 << 20);
        let data: Vec<_> = runs.iter().filter(|(_, run)| run.kind == RunKind::Data).collect();
        assert_eq!(data.len(), 1);
        assert!(data[0].0 <= 1 << 20 && data[0].0 + data[0].1.len >= (1 << 20) + 4096);
    }

    #[test]
    fn a_file_cut_while_it_is_read_is_damaged() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let image = RawImage::open(file.try_clone().unwrap()).unwrap();
        file.set_len(4096).unwrap();
        assert!(matches!(image.read_at(8192, &mut [0; 512]), Err(ImageError::Damaged(_))));
        assert!(image.run_at(8192, 512).unwrap().len <= 512);
    }
}
