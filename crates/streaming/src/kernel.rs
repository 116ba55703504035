//! How bytes leave: gathered from memory, or straight from a file; and the thread's time slice.
//! The only `unsafe` of this crate.
//!
//! `sendmsg` takes addresses that Rust must not follow (mapped files may shrink under us); the
//! kernel answers EFAULT where one cannot be read.
#![expect(unsafe_code, reason = "sendmsg from addresses that must not become references; sched_setattr")]

mod convoy;

pub(crate) use convoy::Convoy;

use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

/// The most pieces that one call takes (UIO_MAXIOV).
pub(crate) const MAX_PIECES: usize = 1024;

/// The pieces of one send; reused, so that a send allocates nothing.
pub(crate) struct Gather {
    pieces: Vec<libc::iovec>,
}

impl Gather {
    pub(crate) fn new() -> Self {
        Self { pieces: Vec::with_capacity(MAX_PIECES) }
    }

    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.pieces.len() >= MAX_PIECES
    }

    /// Adds `len` bytes at `address`, which stay there until [`Gather::send`] has returned.
    #[inline]
    pub(crate) fn push(&mut self, address: usize, len: usize) {
        self.pieces.push(libc::iovec { iov_base: address as *mut libc::c_void, iov_len: len });
    }

    /// Sends as much as the socket takes now; EAGAIN where that is nothing.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, after: After) -> Result<usize, Errno> {
        // SAFETY: all zeros is a valid msghdr: no name, no pieces, no control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = self.pieces.as_mut_ptr();
        message.msg_iovlen = self.pieces.len();
        let more = if after == After::More { libc::MSG_MORE } else { 0 };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | more;
        // SAFETY: the kernel only reads, and checks every address; the pieces outlive the call.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) };
        counted(sent)
    }
}

/// Whether a send is followed by another one at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The socket may wait with a packet that is not full.
    More,
    /// It is all that there is.
    Nothing,
}

/// A range of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileRange {
    pub(crate) file: RawFd,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// Sends a part of a file without copying it, as much as the socket takes now; EAGAIN where that
/// is nothing, 0 where the file has ended. The socket must not block.
pub(crate) fn send_file(socket: BorrowedFd<'_>, range: FileRange) -> Result<usize, Errno> {
    let mut offset = libc::off_t::try_from(range.offset).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel checks both descriptors and writes only to `offset`, which is ours.
    let sent = unsafe { libc::sendfile(socket.as_raw_fd(), range.file, &mut offset, range.len as usize) };
    counted(sent)
}

/// SCHED_FLAG_KEEP_POLICY of `linux/sched.h`.
const KEEP_POLICY: u64 = 8;

/// As the kernel lays it out (sched_setattr(2)).
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks for time slices of this length for this thread, which then runs sooner when it wakes and
/// gets no more of the processor than before (EEVDF, Linux 6.12: `kernel/sched/syscalls.c`; from
/// 0.1 to 100 ms, no privilege needed).
pub(crate) fn short_slices(slice: Duration) -> Result<(), Errno> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: 0,
        flags: KEEP_POLICY,
        // SAFETY: reads a number of this thread.
        nice: unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) },
        priority: 0,
        runtime: slice.as_nanos() as u64,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of the structure.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    counted(result as isize).map(|_| ())
}

/// The result of a call that answers a number of bytes or -1.
fn counted(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| {
        let code = std::io::Error::last_os_error().raw_os_error();
        Errno::from_raw_os_error(code.unwrap_or(libc::EIO))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_ask_for_short_slices_and_keeps_its_niceness() {
        // SAFETY: reads a number of this thread.
        let niceness = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = niceness();
        short_slices(Duration::from_micros(100)).unwrap();
        assert_eq!(niceness(), before);
    }
}
