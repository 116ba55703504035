//! Read-only mappings of files: the only `unsafe` of this crate.
//!
//! A mapping here is never dereferenced: its addresses go to the kernel (`sendmsg`,
//! `process_vm_readv`), which answers EFAULT where a page is gone. So a file that is truncated
//! under us costs a session an error and the server nothing.
#![expect(unsafe_code, reason = "mmap, mincore and process_vm_readv have no safe form")]

use crate::block_io::MappedSlice;
use crate::residency::Mapped;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use std::fs::File;
use std::io;

/// The page size that residency is asked in, in bytes.
pub(crate) const PAGE: usize = 4096;

/// A whole file, mapped read-only and shared with the page cache.
#[derive(Debug)]
pub(crate) struct FileMapping {
    address: usize,
    len: usize,
}

impl FileMapping {
    /// Maps the first `len` bytes of `file`. Reads nothing.
    pub(crate) fn new(file: &File, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours,
        // and no reference into it is ever made.
        let pointer = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0)? };
        let mapping = Self { address: pointer as usize, len };
        // Read-ahead is ours: a fault must never bring more than the page it needs.
        mapping.advise(0, len, Advice::Random);
        Ok(mapping)
    }

    /// The address of the byte at `offset`, which lies inside the mapping.
    #[inline]
    pub(crate) fn address_of(&self, offset: u64) -> usize {
        debug_assert!(offset < self.len as u64);
        self.address + offset as usize
    }

    /// How many bytes are mapped.
    pub(crate) fn len(&self) -> u64 {
        self.len as u64
    }

    fn advise(&self, offset: usize, len: usize, advice: Advice) {
        let len = len.min(self.len.saturating_sub(offset));
        // SAFETY: the range lies inside our own mapping of a file, which is never written, so
        // that dropping its pages loses nothing. Failure only costs speed.
        let _ = unsafe { madvise((self.address + offset) as *mut _, len, advice) };
    }
}

impl Mapped for FileMapping {
    fn residency(&self, offset: u64, len: usize, found: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let len = len.min(self.len.saturating_sub(offset));
        assert!(offset.is_multiple_of(PAGE) && len.div_ceil(PAGE) <= found.len());
        // SAFETY: the range lies inside our mapping, and `found` has room for a byte a page.
        let result =
            unsafe { libc::mincore((self.address + offset) as *mut libc::c_void, len, found.as_mut_ptr()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn nameless(&self, _: u64) -> u32 {
        u32::MAX
    }

    fn was_changed(&self) -> bool {
        // Nothing is compared with anything.
        false
    }

    fn unmap_pages(&self, offset: u64, len: usize) {
        self.advise(offset as usize, len, Advice::LinuxDontNeed);
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and whoever was handed an address in it must have dropped
        // its reference to the disk before (see `BlockIo::read_resident`).
        let _ = unsafe { munmap(self.address as *mut _, self.len) };
    }
}

/// Copies the bytes of a slice through the kernel, for tests and for paths that need them in
/// memory of ours; an error where a page cannot be had.
pub fn copy_mapped(slice: MappedSlice) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0u8; slice.len as usize];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: slice.address as *mut _, iov_len: bytes.len() };
    // SAFETY: the kernel checks the remote range and writes only into `bytes`.
    let copied = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
    match usize::try_from(copied) {
        Ok(copied) if copied == bytes.len() => Ok(bytes),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
