//! A file of zeros in memory, for long runs of zeros: `sendfile` passes its pages on without a copy.

use crate::kernel::FileRange;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pwrite;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

/// The file's size: what one call passes on at most. Its pages are the memory that it costs.
const ZERO_FILE_BYTES: u32 = 1 << 20;

/// The first part of `len` zeros as a part of a file; none where the system gives no such file.
pub(crate) fn zero_file(len: u32) -> Option<FileRange> {
    static FILE: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let file = FILE.get_or_init(|| make().ok()).as_ref()?;
    Some(FileRange { file: file.as_raw_fd(), offset: 0, len: len.min(ZERO_FILE_BYTES) })
}

/// Writes the zeros, since `sendfile` reads holes by a slower path.
fn make() -> io::Result<OwnedFd> {
    let file = memfd_create("headwater-zeros", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, u64::from(ZERO_FILE_BYTES))?;
    let zeros = [0; 64 * 1024];
    for at in (0..u64::from(ZERO_FILE_BYTES)).step_by(zeros.len()) {
        pwrite(&file, &zeros, at)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn it_holds_nothing_but_zeros() {
        let file = make().unwrap();
        let mut bytes = vec![1; ZERO_FILE_BYTES as usize + 1];
        let mut at = 0;
        while let Ok(len @ 1..) = rustix::io::pread(file.as_fd(), &mut bytes[at..], at as u64) {
            at += len;
        }
        assert_eq!(at, ZERO_FILE_BYTES as usize);
        assert!(bytes[..at].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_run_is_offered_up_to_the_end_of_the_file() {
        assert_eq!(zero_file(5).unwrap().len, 5);
        assert_eq!(zero_file(u32::MAX).unwrap().len, ZERO_FILE_BYTES);
    }
}
