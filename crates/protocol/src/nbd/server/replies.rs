//! Encoders of replies, in the form that the handshake agreed on.
//!
//! Only heads are made here: a read's data are sent from where they are.

use super::handshake::ALLOCATION_CONTEXT;
use crate::nbd::wire::{ChunkHeader, ErrorNumber, STATE_HOLE, STATE_ZERO, chunk, simple_reply};

/// How replies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyForm {
    /// Simple replies: a read is answered by all its bytes.
    Simple,
    /// Structured replies: a read is answered by chunks of data and holes.
    Structured,
    /// The same with 64-bit headers, for every command.
    Extended,
}

/// A run of a `BLOCK_STATUS` answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRun {
    /// Length in bytes.
    pub len: u64,
    /// Takes no space and reads as zero.
    pub hole: bool,
}

/// Which request a reply belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The request's cookie.
    pub cookie: u64,
    /// The request's offset, which extended replies repeat.
    pub offset: u64,
}

/// A part of the disk that a chunk is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRange {
    /// First byte in the disk.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
    /// Nothing follows for the request.
    pub last: bool,
}

impl ReplyForm {
    /// Whether a read may be answered by several chunks and holes.
    #[inline]
    pub fn has_chunks(self) -> bool {
        self != Self::Simple
    }

    /// The reply to whatever is neither a read nor a `BLOCK_STATUS` and went well.
    pub fn put_done(self, to: ReplyTo, output: &mut Vec<u8>) {
        match self {
            Self::Extended => self.put_head(to, chunk::NONE, 0, true, output),
            _ => output.extend_from_slice(&simple_reply(to.cookie, 0)),
        }
    }

    /// The reply to a request that failed before any of its data were sent.
    pub fn put_error(self, to: ReplyTo, error: ErrorNumber, output: &mut Vec<u8>) {
        if self == Self::Simple {
            output.extend_from_slice(&simple_reply(to.cookie, error.number()));
            return;
        }
        self.put_head(to, chunk::ERROR, 6, true, output);
        output.extend_from_slice(&error.number().to_be_bytes());
        output.extend_from_slice(&0u16.to_be_bytes()); // no message
    }

    /// The head of data; `range.len` bytes follow it. In the simple form, a read has one.
    #[inline]
    pub fn put_data_head(self, to: ReplyTo, range: ChunkRange, output: &mut Vec<u8>) {
        if self == Self::Simple {
            output.extend_from_slice(&simple_reply(to.cookie, 0));
            return;
        }
        self.put_head(to, chunk::OFFSET_DATA, range.len + 8, range.last, output);
        output.extend_from_slice(&range.offset.to_be_bytes());
    }

    /// A part of a read that is all zeros; not in the simple form.
    pub fn put_hole(self, to: ReplyTo, range: ChunkRange, output: &mut Vec<u8>) {
        assert!(self.has_chunks(), "a simple reply has no holes");
        self.put_head(to, chunk::OFFSET_HOLE, 12, range.last, output);
        output.extend_from_slice(&range.offset.to_be_bytes());
        output.extend_from_slice(&range.len.to_be_bytes());
    }

    /// The answer to a `BLOCK_STATUS`; not in the simple form.
    pub fn put_status(self, to: ReplyTo, runs: &[StatusRun], output: &mut Vec<u8>) {
        assert!(self.has_chunks(), "a simple reply has no block status");
        match self {
            Self::Extended => self.put_wide_status(to, runs, output),
            _ => self.put_narrow_status(to, runs, output),
        }
    }

    fn put_narrow_status(self, to: ReplyTo, runs: &[StatusRun], output: &mut Vec<u8>) {
        self.put_head(to, chunk::BLOCK_STATUS, 4 + 8 * runs.len() as u32, true, output);
        output.extend_from_slice(&ALLOCATION_CONTEXT.to_be_bytes());
        for run in runs {
            // Compact requests have 32-bit lengths, and no run is longer than its request.
            let len = u32::try_from(run.len).unwrap_or(!511);
            output.extend_from_slice(&len.to_be_bytes());
            output.extend_from_slice(&state(run.hole).to_be_bytes());
        }
    }

    fn put_wide_status(self, to: ReplyTo, runs: &[StatusRun], output: &mut Vec<u8>) {
        self.put_head(to, chunk::BLOCK_STATUS_EXT, 8 + 16 * runs.len() as u32, true, output);
        output.extend_from_slice(&ALLOCATION_CONTEXT.to_be_bytes());
        output.extend_from_slice(&(runs.len() as u32).to_be_bytes());
        for run in runs {
            output.extend_from_slice(&run.len.to_be_bytes());
            output.extend_from_slice(&u64::from(state(run.hole)).to_be_bytes());
        }
    }

    #[inline]
    fn put_head(self, to: ReplyTo, kind: u16, len: u32, last: bool, output: &mut Vec<u8>) {
        let flags = if last { chunk::FLAG_DONE } else { 0 };
        let header = ChunkHeader { flags, kind, cookie: to.cookie, len };
        match self {
            Self::Extended => output.extend_from_slice(&header.encode_extended(to.offset)),
            _ => output.extend_from_slice(&header.encode()),
        }
    }
}

fn state(hole: bool) -> u32 {
    if hole { STATE_HOLE | STATE_ZERO } else { 0 }
}
