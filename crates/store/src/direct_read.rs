//! Reading a layer's chunks from the disk itself, not from the page cache, and leaving the cache
//! as it is.

use crate::layer::Layer;
use model::ChunkIndex;
use rustix::io::ReadWriteFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// A layer's data file, open for direct I/O where the file system has it.
pub(crate) struct DirectRead<'a> {
    direct: Option<File>,
    buffered: &'a File,
}

impl<'a> DirectRead<'a> {
    pub(crate) fn open(layer: &'a Layer) -> Self {
        Self::of_file(layer.file())
    }

    pub(crate) fn of_file(buffered: &'a File) -> Self {
        let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
        // By its descriptor: the file may have no name any more.
        let path = format!("/proc/self/fd/{}", buffered.as_raw_fd());
        Self { direct: OpenOptions::new().read(true).custom_flags(flags).open(path).ok(), buffered }
    }

    /// Fills the aligned `buffer` (64 KiB) with the `len` bytes of a chunk, zero-padded.
    pub(crate) fn read(&self, chunk: ChunkIndex, len: u32, buffer: &mut [u8]) -> io::Result<()> {
        let len = len as usize;
        let direct = self.direct.as_ref().map(|file| read_to_end_of_chunk(file, chunk.offset(), buffer));
        let read = match direct {
            Some(Err(error)) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
            Some(Ok(read)) => read,
            Some(Err(_)) | None => self.read_buffered(chunk.offset(), buffer)?,
        };
        if read < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer[len..].fill(0);
        Ok(())
    }

    /// Through the page cache; what was not in it goes again.
    fn read_buffered(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let cached = {
            let pieces = &mut [io::IoSliceMut::new(buffer)];
            rustix::io::preadv2(self.buffered, pieces, offset, ReadWriteFlags::NOWAIT)
        };
        let read = read_to_end_of_chunk(self.buffered, offset, buffer)?;
        if cached.is_ok_and(|cached| cached < read) || cached.is_err() {
            let len = std::num::NonZeroU64::new(buffer.len() as u64);
            let _ = rustix::fs::fadvise(self.buffered, offset, len, rustix::fs::Advice::DontNeed);
        }
        Ok(read)
    }
}

/// Reads until the buffer is full or the file is at its end; answers how much.
fn read_to_end_of_chunk(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // A file is read in one piece but for its end, where direct I/O cannot go on.
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
