//! What is asked of a server: reads, and on a draft changes and flushes.

use super::unflushed::{Content, Mark};
use disk::BlockError;
use model::ByteRange;
use protocol::nbd::wire::command_flag;
use protocol::nbd::{Command, ErrorNumber, RequestHeader};
use std::sync::Arc;

/// Called once with the bytes of a read (none for other calls), or with why there are none.
pub(crate) type CallDone = Box<dyn FnOnce(Result<Vec<u8>, BlockError>) + Send>;

/// A call that the caller does not wait for.
pub(crate) struct RemoteCall {
    /// What it is about: inside the disk, 1 byte to 32 MiB for reads and writes, less than 4 GiB
    /// for the others; empty for a flush.
    pub(crate) range: ByteRange,
    /// What to do.
    pub(crate) action: Action,
    /// Who hears of the end; runs on the link's thread and must not wait for another call.
    pub(crate) done: CallDone,
}

/// What to do with a range. Only [`Action::Read`] is understood where the disk is shared.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Gets its bytes.
    Read,
    /// Stores bytes.
    Write {
        /// As many as the range has.
        bytes: Arc<Vec<u8>>,
        /// Durable before it is answered.
        fua: bool,
    },
    /// Makes it zero.
    WriteZeroes {
        /// Durable before it is answered.
        fua: bool,
    },
    /// Lets go of it.
    Trim {
        /// Durable before it is answered.
        fua: bool,
    },
    /// Makes everything durable that was answered before.
    Flush,
}

impl Action {
    /// Whether the disk is another one afterwards.
    pub(super) fn changes(&self) -> bool {
        !matches!(self, Self::Read | Self::Flush)
    }

    fn header(&self) -> (Command, bool) {
        match *self {
            Self::Read => (Command::Read, false),
            Self::Write { fua, .. } => (Command::Write, fua),
            Self::WriteZeroes { fua } => (Command::WriteZeroes, fua),
            Self::Trim { fua } => (Command::Trim, fua),
            Self::Flush => (Command::Flush, false),
        }
    }

    /// What must be kept after the server has acknowledged it; none where it is durable then.
    fn unflushed(&self) -> Option<Content> {
        match self {
            Self::Write { bytes, fua: false } => Some(Content::Bytes(Arc::clone(bytes))),
            Self::WriteZeroes { fua: false } => Some(Content::Zeroes),
            Self::Trim { fua: false } => Some(Content::Trimmed),
            _ => None,
        }
    }
}

/// A request on its way to a server.
#[derive(Debug)]
pub(super) struct Frame {
    /// The request's head.
    pub(super) header: RequestHeader,
    /// What follows it.
    pub(super) payload: Option<Arc<Vec<u8>>>,
}

impl Frame {
    fn new(action: &Action, cookie: u64, range: ByteRange) -> Self {
        let (command, fua) = action.header();
        let mut header = RequestHeader::new(command, cookie, range.offset, range.len as u32);
        header.flags = if fua { command_flag::FUA } else { 0 };
        let payload = if let Action::Write { bytes, .. } = action { Some(Arc::clone(bytes)) } else { None };
        Self { header, payload }
    }

    /// The frame that repeats an acknowledged change.
    pub(super) fn again(cookie: u64, range: ByteRange, content: &Content) -> Self {
        let action = match content {
            Content::Bytes(bytes) => Action::Write { bytes: Arc::clone(bytes), fua: false },
            Content::Zeroes => Action::WriteZeroes { fua: false },
            Content::Trimmed => Action::Trim { fua: false },
        };
        Self::new(&action, cookie, range)
    }
}

/// One call in flight.
pub(super) struct Waiting {
    pub(super) range: ByteRange,
    pub(super) action: Action,
    /// What has come of a read.
    pub(super) bytes: Vec<u8>,
    /// Bytes received on this connection.
    pub(super) got: u64,
    /// The server's error on this connection.
    pub(super) failed: Option<ErrorNumber>,
    pub(super) failures: u32,
    /// Sent on this connection.
    pub(super) on_wire: bool,
    /// Sent on any connection.
    pub(super) was_sent: bool,
    /// What had been acknowledged when this call was made.
    pub(super) mark: Mark,
    done: CallDone,
}

impl Waiting {
    pub(super) fn new(call: RemoteCall, mark: Mark) -> Self {
        let RemoteCall { range, action, done } = call;
        let bytes = if matches!(action, Action::Read) { vec![0; range.len as usize] } else { Vec::new() };
        let (got, failed, failures, on_wire, was_sent) = (0, None, 0, false, false);
        Self { range, action, bytes, got, failed, failures, on_wire, was_sent, mark, done }
    }

    pub(super) fn frame(&self, cookie: u64) -> Frame {
        Frame::new(&self.action, cookie, self.range)
    }

    /// Whether both change a byte that they have in common.
    pub(super) fn collides(&self, other: &Self) -> bool {
        let (mine, its) = (self.range, other.range);
        let apart = mine.offset + mine.len <= its.offset || its.offset + its.len <= mine.offset;
        self.action.changes() && other.action.changes() && !apart
    }

    /// Forgets what an earlier connection has brought.
    pub(super) fn begin_again(&mut self) {
        (self.got, self.failed, self.on_wire) = (0, None, false);
    }

    /// Whether the server has left out something.
    pub(super) fn is_incomplete(&self) -> bool {
        matches!(self.action, Action::Read) && self.got != self.range.len
    }

    /// What must be kept of it now that it is acknowledged.
    pub(super) fn unflushed(&self) -> Option<Content> {
        self.action.unflushed()
    }

    /// Ends it well.
    pub(super) fn finish(self) -> Finished {
        Finished { done: self.done, result: Ok(self.bytes) }
    }

    /// Ends it.
    pub(super) fn fail(self, error: BlockError) -> Finished {
        Finished { done: self.done, result: Err(error) }
    }
}

/// A call that is over, to be told to its owner without the lock held.
pub(super) struct Finished {
    done: CallDone,
    result: Result<Vec<u8>, BlockError>,
}

impl Finished {
    /// Tells the owner.
    pub(super) fn tell(self) {
        (self.done)(self.result);
    }
}
