//! The few operations on files that everything durable is made of, behind one trait.
//!
//! [`SystemFiles`] is the real thing. [`simulated`] keeps what was not synced apart, so that a
//! power loss, a torn write, a full or a failing disk can be had at every step of a test. Reading
//! what is immutable (layers, records at start) does not go through here.
//!
//! A write may be short and a sync may fail for good: who calls must be able to live with both,
//! so the trait has the system's own semantics and the loops stand here once, on top of it.

pub mod simulated;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A file system, or something that behaves like one on a bad day.
pub trait Files: Debug + Send + Sync {
    /// Creates a file that must not exist, for reading and writing.
    fn create_file(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>>;

    /// Opens a file for reading and writing.
    fn open_file(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>>;

    /// Makes a directory that must not exist.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Gives the file or directory `from` the name `to`, replacing a file there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives the file `from` a second name.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a file's name away.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory that is empty.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Waits until the entries of the directory `path` are durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// An open file, shared between threads.
pub trait OpenFile: Debug + Send + Sync {
    /// Reads some bytes; 0 only at the end of the file.
    fn read_some_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes the beginning of `bytes`; answers how many.
    fn write_some_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// The length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Cuts the file, or makes it longer by a hole.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Gives the bytes of a range back; it reads as zero afterwards.
    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Waits until the content is durable. After an error nothing is known about what was written
    /// since the last success, and trying again tells nothing (fsync(2), "ERRORS").
    fn sync(&self) -> io::Result<()>;

    /// Forgets what is only in memory of a file that was synced, so that reads see the disk.
    fn forget_cached(&self);

    /// Begins to write a range out, so that a later sync finds less to do; a hint.
    fn start_writeout(&self, offset: u64, len: u64);

    /// Forgets what is only in memory of a range that was synced; a hint.
    fn forget_range(&self, offset: u64, len: u64);
}

impl dyn OpenFile + '_ {
    /// Fills `buffer` from `offset`.
    pub fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_some_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`; where that fails, any part of them may have been written.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_some_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes a range read as zero: by a hole where the file system has holes.
    pub fn make_zero(&self, offset: u64, len: u64) -> io::Result<()> {
        static ZEROS: [u8; 65536] = [0; 65536];
        match self.punch_hole(offset, len) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            done => return done,
        }
        let mut at = 0;
        while at < len {
            let piece = (len - at).min(ZEROS.len() as u64);
            self.write_all_at(&ZEROS[..piece as usize], offset + at)?;
            at += piece;
        }
        Ok(())
    }

    /// The whole content; refused where it is longer than `limit` bytes.
    pub fn read_whole(&self, limit: u64) -> io::Result<Vec<u8>> {
        let len = self.length()?;
        if len > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{len} bytes are too many")));
        }
        let mut bytes = vec![0; len as usize];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// The system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn create_file(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).create_new(true).open(path)?))
    }

    fn open_file(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl OpenFile for File {
    fn read_some_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_some_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(self, flags, offset, len)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget_cached(&self) {
        // A hint: where the file system ignores it, reads see what the system has in memory.
        let _ = fadvise(self, 0, None, Advice::DontNeed);
    }

    fn start_writeout(&self, offset: u64, len: u64) {
        // Linux begins to write dirty pages out when it is told that they are not needed.
        let _ = fadvise(self, offset, NonZeroU64::new(len), Advice::DontNeed);
    }

    fn forget_range(&self, offset: u64, len: u64) {
        let _ = fadvise(self, offset, NonZeroU64::new(len), Advice::DontNeed);
    }
}
