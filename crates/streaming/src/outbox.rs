//! What is still to be sent on a connection, in order, and how it is sent with few calls.

use crate::kernel::{After, FileRange, Gather, send_file};
use crate::zero_file::zero_file;
use disk::MappedSlice;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

/// The most bytes that one call is given: about what a socket takes at once.
const MAX_SEND_BYTES: usize = 4 << 20;
/// Heads that were sent are let go of in steps of this many bytes.
const SENT_HEADS: u64 = 64 * 1024;
/// From this many zeros on they are sent from a file of zeros, without a copy.
const FROM_FILE_ZEROES: u32 = 128 * 1024;
/// The memory that an idle connection keeps for its heads, in bytes.
const KEPT_HEADS: usize = 4096;

static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// Bytes to send, where they are.
#[derive(Debug)]
enum Segment {
    /// In [`Outbox::heads`], counted from the connection's beginning.
    Head { start: u64, len: u32 },
    /// In the disk's memory, which the connection's reference to the disk keeps.
    InPlace(MappedSlice),
    /// This many zeros.
    Zero(u32),
    /// Bytes of our own, from `sent` on.
    Owned { bytes: Vec<u8>, sent: usize },
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    heads: Vec<u8>,
    /// The position of `heads[0]`.
    heads_base: u64,
    queue: VecDeque<Segment>,
    queued_bytes: u64,
}

/// How a send ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Everything is sent.
    All,
    /// The socket takes no more at present.
    Blocked,
    /// The next bytes cannot be read at their place: replace them by a copy.
    Unreadable(MappedSlice),
    /// The connection is broken.
    Broken,
}

impl Outbox {
    /// How many bytes are waiting.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        self.queued_bytes
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Appends what `write` puts into the given buffer.
    #[inline]
    pub(crate) fn head(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.heads.len();
        write(&mut self.heads);
        let len = (self.heads.len() - before) as u32;
        self.queued_bytes += u64::from(len);
        if let Some(Segment::Head { len: last, .. }) = self.queue.back_mut() {
            *last += len; // heads are contiguous
            return;
        }
        self.queue.push_back(Segment::Head { start: self.heads_base + before as u64, len });
    }

    #[inline]
    pub(crate) fn in_place(&mut self, slice: MappedSlice) {
        self.queued_bytes += u64::from(slice.len);
        self.queue.push_back(Segment::InPlace(slice));
    }

    pub(crate) fn zeroes(&mut self, len: u32) {
        self.queued_bytes += u64::from(len);
        self.queue.push_back(Segment::Zero(len));
    }

    pub(crate) fn owned(&mut self, bytes: Vec<u8>) {
        self.queued_bytes += bytes.len() as u64;
        self.queue.push_back(Segment::Owned { bytes, sent: 0 });
    }

    /// Sends until nothing is left or the socket is full.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, gather: &mut Gather) -> Sent {
        while let Some(front) = self.queue.front() {
            let (offered, sent) = match front.in_file() {
                Some(range) => (range.len as usize, send_file(socket, range)),
                None => {
                    let (offered, after) = self.fill(gather);
                    (offered, gather.send(socket, after))
                }
            };
            match sent {
                Ok(0) => return self.unreadable(), // a file that has ended too early
                Ok(sent) => {
                    self.advance(sent);
                    // A short send means a full socket, or a page that is gone: the next call
                    // tells which, as soon as epoll finds the socket writable.
                    if sent < offered {
                        return Sent::Blocked;
                    }
                }
                Err(Errno::AGAIN) => return Sent::Blocked,
                Err(Errno::INTR) => {}
                Err(Errno::FAULT | Errno::IO) => return self.unreadable(),
                Err(_) => return Sent::Broken,
            }
        }
        Sent::All
    }

    /// Lists the next send; false where it is one from a file, or there is none.
    pub(crate) fn offer(&self, gather: &mut Gather) -> bool {
        let (offered, after) = self.fill(gather);
        offered > 0 && after == After::Nothing
    }

    /// Lets go of what was sent by other means than [`Outbox::send`].
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.advance(bytes);
    }

    fn unreadable(&self) -> Sent {
        match self.queue.front() {
            Some(Segment::InPlace(slice)) => Sent::Unreadable(*slice),
            _ => Sent::Broken,
        }
    }

    /// Puts a copy in the place of the slice that could not be read.
    pub(crate) fn replace_front(&mut self, bytes: Vec<u8>) {
        let old = self.queue.pop_front();
        assert!(matches!(&old, Some(Segment::InPlace(slice)) if slice.len as usize == bytes.len()));
        self.queue.push_front(Segment::Owned { bytes, sent: 0 });
    }

    /// Takes up to `limit` bytes off the queue into `into`; what lies in the disk's memory is
    /// read by `read`. For connections that encrypt. False where a read failed.
    pub(crate) fn copy_out(
        &mut self,
        limit: usize,
        into: &mut Vec<u8>,
        read: impl Fn(u64, &mut [u8]) -> bool,
    ) -> bool {
        into.clear();
        while into.len() < limit {
            let (start, room) = (into.len(), limit - into.len());
            let Some(front) = self.queue.front() else { break };
            match front {
                Segment::Head { start: at, len } => {
                    let at = (at - self.heads_base) as usize;
                    into.extend_from_slice(&self.heads[at..][..room.min(*len as usize)]);
                }
                Segment::Zero(len) => into.resize(start + room.min(*len as usize), 0),
                Segment::Owned { bytes, sent } => {
                    into.extend_from_slice(&bytes[*sent..][..room.min(bytes.len() - sent)]);
                }
                Segment::InPlace(slice) => {
                    into.resize(start + room.min(slice.len as usize), 0);
                    if !read(slice.disk_offset, &mut into[start..]) {
                        return false;
                    }
                }
            }
            self.advance(into.len() - start);
        }
        true
    }

    /// Lists the first pieces for one send, up to one that is sent from its file; tells how many
    /// bytes they have, and whether that one follows.
    fn fill(&self, gather: &mut Gather) -> (usize, After) {
        gather.clear();
        let mut offered = 0;
        for segment in &self.queue {
            if segment.in_file().is_some() {
                return (offered, After::More);
            }
            if gather.is_full() || offered >= MAX_SEND_BYTES {
                break;
            }
            offered += self.list(segment, gather);
        }
        (offered, After::Nothing)
    }

    fn list(&self, segment: &Segment, gather: &mut Gather) -> usize {
        match segment {
            Segment::Head { start, len } => {
                let at = (start - self.heads_base) as usize;
                gather.push(self.heads[at..].as_ptr() as usize, *len as usize);
                *len as usize
            }
            Segment::InPlace(slice) => {
                gather.push(slice.address, slice.len as usize);
                slice.len as usize
            }
            Segment::Owned { bytes, sent } => {
                gather.push(bytes[*sent..].as_ptr() as usize, bytes.len() - sent);
                bytes.len() - sent
            }
            Segment::Zero(len) => {
                let mut left = *len as usize;
                while left > 0 && !gather.is_full() {
                    let piece = left.min(ZEROES.len());
                    gather.push(ZEROES.as_ptr() as usize, piece);
                    left -= piece;
                }
                *len as usize - left
            }
        }
    }

    /// Lets go of the first `sent` bytes.
    fn advance(&mut self, mut sent: usize) {
        self.queued_bytes -= sent as u64;
        while sent > 0 {
            let front = self.queue.front_mut().expect("no more is sent than was queued");
            let done = front.take(sent);
            sent -= done.taken;
            if done.empty {
                self.queue.pop_front();
            }
        }
        self.release_heads();
    }

    fn release_heads(&mut self) {
        if self.queue.is_empty() {
            self.heads_base += self.heads.len() as u64;
            self.heads.clear();
            self.heads.shrink_to(KEPT_HEADS);
            return;
        }
        if self.heads.len() as u64 <= SENT_HEADS {
            return;
        }
        let first = self.queue.iter().find_map(|segment| match segment {
            Segment::Head { start, .. } => Some(*start),
            _ => None,
        });
        let sent = first.map_or(self.heads.len() as u64, |start| start - self.heads_base);
        if sent >= SENT_HEADS {
            self.heads.drain(..sent as usize);
            self.heads_base += sent;
        }
    }
}

struct Taken {
    taken: usize,
    empty: bool,
}

impl Segment {
    /// The part of a file to send it from, where that is how it is sent.
    #[inline]
    fn in_file(&self) -> Option<FileRange> {
        match self {
            Self::InPlace(MappedSlice { file: Some(file), disk_offset, len, .. }) => {
                Some(FileRange { file: *file, offset: *disk_offset, len: *len })
            }
            Self::Zero(len) if *len >= FROM_FILE_ZEROES => zero_file(*len),
            _ => None,
        }
    }

    /// Takes up to `sent` bytes off its beginning.
    fn take(&mut self, sent: usize) -> Taken {
        let (taken, left) = match self {
            Self::Head { start, len } => {
                let taken = sent.min(*len as usize);
                *start += taken as u64;
                *len -= taken as u32;
                (taken, *len as usize)
            }
            Self::InPlace(slice) => {
                let taken = sent.min(slice.len as usize);
                slice.address += taken;
                slice.disk_offset += taken as u64;
                slice.len -= taken as u32;
                (taken, slice.len as usize)
            }
            Self::Zero(len) => {
                let taken = sent.min(*len as usize);
                *len -= taken as u32;
                (taken, *len as usize)
            }
            Self::Owned { bytes, sent: before } => {
                let taken = sent.min(bytes.len() - *before);
                *before += taken;
                (taken, bytes.len() - *before)
            }
        };
        Taken { taken, empty: left == 0 }
    }
}
