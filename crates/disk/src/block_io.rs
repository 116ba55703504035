//! The one trait below every block protocol.
//!
//! Two ways to read, because a server must never let one cold page stall a thread that serves
//! thousands of devices: [`BlockIo::read_resident`] hands out what is in memory right now and
//! never blocks; [`BlockIo::read_at`] may block and runs on a pool thread.

use model::ByteRange;
use std::os::fd::RawFd;

/// Size and abilities of a disk; constant while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The size in bytes; a multiple of 512.
    pub size_bytes: u64,
    /// What the device may do with it.
    pub access: Access,
}

/// What a device may do with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only; every writing call answers [`BlockError::ReadOnly`].
    ReadOnly,
    /// Reads, writes, trims and flushes.
    ReadWrite,
}

/// Why a request failed; the protocols translate it (NBD: EINVAL, EPERM, ENOSPC, EIO, ESHUTDOWN).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Beyond the end of the disk.
    #[error("request outside the disk")]
    OutOfRange,
    /// The disk is not writable.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The write cache or the file system below is full; nothing of the request was stored.
    #[error("no space left for writes")]
    NoSpace,
    /// The bytes could not be read or written.
    #[error("input/output error: {0}")]
    Io(String),
    /// The disk was closed under the session (its lease is gone, its server stops).
    #[error("the disk is closed")]
    Closed,
}

/// Bytes that can be sent without copying them first.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Memory that holds the bytes and that nothing changes while the disk is borrowed.
    Memory(&'a [u8]),
    /// This many zero bytes.
    Zero(u32),
    /// A mapped range that must only be given to the kernel (sendmsg), never dereferenced: a
    /// vanished page is then EFAULT for one session instead of SIGBUS for the server.
    Mapped(MappedSlice),
}

/// An address range inside a file mapping that lives as long as the disk that handed it out.
///
/// It is a number, not a pointer: only the kernel follows it. Where the kernel cannot, the same
/// bytes come from [`BlockIo::read_at`] at `disk_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedSlice {
    /// Address of the first byte; valid while the `BlockIo` that handed it out is alive.
    pub address: usize,
    /// Length in bytes.
    pub len: u32,
    /// Where in the disk the bytes are.
    pub disk_offset: u64,
    /// The file that has the same bytes at the same offset, where sending them from it
    /// (`sendfile`) is cheaper than from the mapping; valid for as long as the address.
    pub file: Option<RawFd>,
}

/// Whether a range holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    /// Stored bytes.
    Data,
    /// Reads as zero and takes no space (NBD base:allocation HOLE | ZERO).
    Hole,
}

/// A run of bytes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes.
    pub len: u64,
    /// What it is.
    pub kind: ExtentKind,
}

/// A disk: random access by byte, checked against its size, safe to share between threads.
pub trait BlockIo: Send + Sync {
    /// Size and abilities.
    fn geometry(&self) -> Geometry;

    /// Appends pieces that make up exactly `range` to `pieces` and answers true where all of it
    /// is in memory now; else leaves `pieces` as it was and answers false. Never blocks on a disk.
    ///
    /// The pieces stay valid until the caller drops its reference to the disk.
    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool;

    /// Fills `buffer` from `offset`. May block.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError>;

    /// Stores `data` at `offset`; seen by every later read, durable after [`BlockIo::flush`].
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError>;

    /// Makes every write that was answered before this call durable (as durable as the disk's
    /// kind promises: a RAM write cache promises nothing beyond its own life).
    fn flush(&self) -> Result<(), BlockError>;

    /// Lets go of a range: it reads as zero from now on, also where a parent has data.
    fn trim(&self, range: ByteRange) -> Result<(), BlockError>;

    /// Makes a range read as zero.
    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError>;

    /// The runs of data and holes that make up `range`, in order; at most `limit` runs, so the
    /// answer may cover only the beginning of the range, but always at least one byte of it.
    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError>;

    /// Whether a request for the range may have to wait for another server, and not only for a disk
    /// of this one. A hint: who serves many gives such requests threads of their own.
    fn is_far(&self, range: ByteRange) -> bool;

    /// Asks for a range to be brought into memory soon; a hint that may do nothing.
    fn prefetch(&self, range: ByteRange);
}
