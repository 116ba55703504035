//! Replies, as a stream: data are handed on as they come, so that a client needs no buffer for a
//! whole reply (NBD proto.md, "Simple reply message", "Structured reply chunk message").
//!
//! The parser never trusts a length or an offset: data outside the range that the cookie asked
//! for are an error.

use crate::nbd::wire::{
    ErrorNumber, MAX_STRING_BYTES, SIMPLE_REPLY_BYTES, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_BYTES,
    STRUCTURED_REPLY_MAGIC, be_u16, be_u32, be_u64, chunk,
};

/// The most bytes of a `BLOCK_STATUS` chunk: 8,191 extents, more than any server sends at once.
const MAX_STATUS_BYTES: u32 = 64 * 1024;

/// Which replies the handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyForm {
    /// Simple replies only.
    Simple,
    /// Structured replies, and simple ones to whatever is not a read.
    Structured,
}

/// What a cookie is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingRead {
    /// The first byte asked for.
    pub offset: u64,
    /// How many bytes; 0 for everything that is not a read.
    pub len: u32,
}

/// One event of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Bytes of the disk for a read, at their offset in the disk; more may follow.
    Data {
        /// The request.
        cookie: u64,
        /// Where in the disk they belong.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A part of a read that is all zeros.
    Zeroes {
        /// The request.
        cookie: u64,
        /// Where in the disk they begin.
        offset: u64,
        /// How many.
        len: u32,
    },
    /// The extents of a `BLOCK_STATUS`, from the request's offset on.
    Status {
        /// The request.
        cookie: u64,
        /// The context's number.
        context: u32,
        /// Lengths and flags in order.
        extents: Vec<StatusExtent>,
    },
    /// The request, or a part of it, failed. [`Reply::Done`] follows.
    Failed {
        /// The request.
        cookie: u64,
        /// Why.
        error: ErrorNumber,
    },
    /// The request is over: its cookie is free again.
    Done {
        /// The request.
        cookie: u64,
    },
}

/// A run of one kind, as `BLOCK_STATUS` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusExtent {
    /// Length in bytes.
    pub len: u32,
    /// See [`crate::nbd::wire::STATE_HOLE`] and [`crate::nbd::wire::STATE_ZERO`].
    pub flags: u32,
}

/// The result of one step of the parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What they said; none together with `consumed` = 0 where more bytes are needed.
    pub reply: Option<Reply<'a>>,
}

/// Why a server's bytes are no replies; the connection cannot be used any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// Not the head of a reply.
    #[error("a reply with a wrong magic")]
    Magic,
    /// A cookie that waits for nothing.
    #[error("a reply to a request that was not made")]
    Cookie,
    /// A chunk that is too short or too long for its type, or of an unknown type.
    #[error("a reply chunk that makes no sense")]
    Chunk,
    /// Data outside of what was asked for.
    #[error("a reply with data that were not asked for")]
    Range,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Data { cookie: u64, offset: u64, left: u32, done: bool },
    Finish { cookie: u64 },
}

/// The state between two steps.
#[derive(Clone, Debug)]
pub struct ReplyParser {
    form: ReplyForm,
    state: State,
}

impl ReplyParser {
    /// A parser for a connection that has just opened its export.
    pub fn new(form: ReplyForm) -> Self {
        Self { form, state: State::Head }
    }

    /// Takes one step. `pending` tells what a cookie waits for, none where it waits for nothing.
    #[inline]
    pub fn next<'a>(
        &mut self,
        input: &'a [u8],
        pending: impl FnOnce(u64) -> Option<PendingRead>,
    ) -> Result<Parsed<'a>, BadReply> {
        match self.state {
            State::Head => self.head(input, pending),
            State::Data { cookie, offset, left, done } => {
                Ok(self.data(input, Run { cookie, offset, left, done }))
            }
            State::Finish { cookie } => {
                self.state = State::Head;
                Ok(Parsed { consumed: 0, reply: Some(Reply::Done { cookie }) })
            }
        }
    }

    fn data<'a>(&mut self, input: &'a [u8], run: Run) -> Parsed<'a> {
        let Run { cookie, offset, left, done } = run;
        let take = input.len().min(left as usize);
        if take == 0 {
            return Parsed { consumed: 0, reply: None };
        }
        let rest = left - take as u32;
        self.state = match rest {
            0 => after(cookie, done),
            left => State::Data { cookie, offset: offset + take as u64, left, done },
        };
        Parsed { consumed: take, reply: Some(Reply::Data { cookie, offset, bytes: &input[..take] }) }
    }

    fn head<'a>(
        &mut self,
        input: &'a [u8],
        pending: impl FnOnce(u64) -> Option<PendingRead>,
    ) -> Result<Parsed<'a>, BadReply> {
        if input.len() < SIMPLE_REPLY_BYTES {
            return Ok(Parsed { consumed: 0, reply: None });
        }
        match (be_u32(input, 0), self.form) {
            (SIMPLE_REPLY_MAGIC, _) => self.simple(input, pending),
            (STRUCTURED_REPLY_MAGIC, ReplyForm::Structured) => self.structured(input, pending),
            _ => Err(BadReply::Magic),
        }
    }

    fn simple<'a>(
        &mut self,
        input: &'a [u8],
        pending: impl FnOnce(u64) -> Option<PendingRead>,
    ) -> Result<Parsed<'a>, BadReply> {
        let (error, cookie) = (be_u32(input, 4), be_u64(input, 8));
        let wanted = pending(cookie).ok_or(BadReply::Cookie)?;
        let consumed = SIMPLE_REPLY_BYTES;
        if error != 0 {
            self.state = State::Finish { cookie };
            let error = ErrorNumber::from_number(error);
            return Ok(Parsed { consumed, reply: Some(Reply::Failed { cookie, error }) });
        }
        if wanted.len == 0 {
            return Ok(Parsed { consumed, reply: Some(Reply::Done { cookie }) });
        }
        if self.form == ReplyForm::Structured {
            return Err(BadReply::Magic); // reads must then be answered by chunks
        }
        let run = Run { cookie, offset: wanted.offset, left: wanted.len, done: true };
        self.state = State::Data { cookie, offset: run.offset, left: run.left, done: true };
        let body = self.data(&input[consumed..], run);
        Ok(Parsed { consumed: consumed + body.consumed, reply: body.reply })
    }

    fn structured<'a>(
        &mut self,
        input: &'a [u8],
        pending: impl FnOnce(u64) -> Option<PendingRead>,
    ) -> Result<Parsed<'a>, BadReply> {
        if input.len() < STRUCTURED_REPLY_BYTES {
            return Ok(Parsed { consumed: 0, reply: None });
        }
        let head = Head {
            kind: be_u16(input, 6),
            done: be_u16(input, 4) & chunk::FLAG_DONE != 0,
            cookie: be_u64(input, 8),
            len: be_u32(input, 16),
        };
        let wanted = pending(head.cookie).ok_or(BadReply::Cookie)?;
        let body = &input[STRUCTURED_REPLY_BYTES..];
        let parsed = match head.kind {
            chunk::OFFSET_DATA => self.offset_data(head, wanted, body)?,
            chunk::NONE if head.len == 0 && head.done => {
                Some(Parsed { consumed: 0, reply: Some(Reply::Done { cookie: head.cookie }) })
            }
            _ => self.whole_chunk(head, wanted, body)?,
        };
        Ok(match parsed {
            None => Parsed { consumed: 0, reply: None },
            Some(p) => Parsed { consumed: p.consumed + STRUCTURED_REPLY_BYTES, reply: p.reply },
        })
    }

    fn offset_data<'a>(
        &mut self,
        head: Head,
        wanted: PendingRead,
        body: &'a [u8],
    ) -> Result<Option<Parsed<'a>>, BadReply> {
        if head.len <= 8 {
            return Err(BadReply::Chunk);
        }
        if body.len() < 8 {
            return Ok(None);
        }
        let (offset, left) = (be_u64(body, 0), head.len - 8);
        check_range(wanted, offset, left)?;
        self.state = State::Data { cookie: head.cookie, offset, left, done: head.done };
        let run = Run { cookie: head.cookie, offset, left, done: head.done };
        let data = self.data(&body[8..], run);
        Ok(Some(Parsed { consumed: 8 + data.consumed, reply: data.reply }))
    }

    /// Chunks that are small and only make sense when they are complete.
    fn whole_chunk<'a>(
        &mut self,
        head: Head,
        wanted: PendingRead,
        body: &'a [u8],
    ) -> Result<Option<Parsed<'a>>, BadReply> {
        let longest =
            if head.kind & chunk::ERROR_BIT != 0 { MAX_STRING_BYTES + 14 } else { MAX_STATUS_BYTES };
        if head.len > longest {
            return Err(BadReply::Chunk);
        }
        let Some(body) = body.get(..head.len as usize) else { return Ok(None) };
        let cookie = head.cookie;
        let reply = match (head.kind, body.len()) {
            (chunk::OFFSET_HOLE, 12) => {
                let (offset, len) = (be_u64(body, 0), be_u32(body, 8));
                check_range(wanted, offset, len)?;
                Reply::Zeroes { cookie, offset, len }
            }
            (chunk::BLOCK_STATUS, 12..) if (body.len() - 4) % 8 == 0 => {
                Reply::Status { cookie, context: be_u32(body, 0), extents: extents(&body[4..]) }
            }
            (kind, 6..) if kind & chunk::ERROR_BIT != 0 => {
                Reply::Failed { cookie, error: ErrorNumber::from_number(be_u32(body, 0)) }
            }
            _ => return Err(BadReply::Chunk),
        };
        self.state = after(cookie, head.done);
        Ok(Some(Parsed { consumed: body.len(), reply: Some(reply) }))
    }
}

#[derive(Clone, Copy)]
struct Run {
    cookie: u64,
    offset: u64,
    left: u32,
    done: bool,
}

#[derive(Clone, Copy)]
struct Head {
    kind: u16,
    done: bool,
    cookie: u64,
    len: u32,
}

fn after(cookie: u64, done: bool) -> State {
    if done { State::Finish { cookie } } else { State::Head }
}

fn check_range(wanted: PendingRead, offset: u64, len: u32) -> Result<(), BadReply> {
    let start = offset.checked_sub(wanted.offset).ok_or(BadReply::Range)?;
    let end = start.checked_add(u64::from(len)).ok_or(BadReply::Range)?;
    if len > 0 && end <= u64::from(wanted.len) { Ok(()) } else { Err(BadReply::Range) }
}

fn extents(bytes: &[u8]) -> Vec<StatusExtent> {
    bytes.chunks_exact(8).map(|e| StatusExtent { len: be_u32(e, 0), flags: be_u32(e, 4) }).collect()
}
