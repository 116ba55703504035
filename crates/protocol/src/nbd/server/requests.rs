//! Bytes to requests, checked against the export (NBD proto.md, "Request message").
//!
//! The parser looks at one request at a time and holds none: a write's payload is handed on in
//! the pieces in which it comes, so the holder of the socket decides how much to keep. A refused
//! write's payload is skipped before the refusal is told, so that a client that sends first and
//! reads later is not confused.

use super::{ReplyForm, Session};
use crate::nbd::wire::{
    Command, EXTENDED_REQUEST_BYTES, ErrorNumber, MAX_PAYLOAD_BYTES, REQUEST_BYTES, RequestHeader,
    command_flag,
};

/// A request that makes sense for its export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The client's name for it.
    pub cookie: u64,
    /// First byte; inside the disk.
    pub offset: u64,
    /// Bytes; the range ends inside the disk. At most 32 MiB for reads and writes.
    pub len: u64,
    /// What to do.
    pub kind: OrderKind,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// Read; `whole` asks for one chunk of data (the DF flag).
    Read {
        /// The answer must be one chunk.
        whole: bool,
    },
    /// Write the payload that follows.
    Write {
        /// Durable before the reply.
        fua: bool,
    },
    /// Make answered writes durable.
    Flush,
    /// Let go of the range.
    Trim {
        /// Durable before the reply.
        fua: bool,
    },
    /// Bring the range into memory.
    Cache,
    /// Make the range read as zero.
    WriteZeroes {
        /// Durable before the reply.
        fua: bool,
    },
    /// Tell about the range.
    BlockStatus {
        /// One extent is enough.
        one: bool,
    },
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A request; a write's payload follows as [`Incoming::Payload`].
    Order(Order),
    /// A part of the last write's payload.
    Payload {
        /// The bytes.
        bytes: &'a [u8],
        /// The payload ends with them.
        last: bool,
    },
    /// A request to be answered with an error.
    Refused {
        /// The client's name for it.
        cookie: u64,
        /// The offset that it gave.
        offset: u64,
        /// Why.
        error: ErrorNumber,
    },
    /// The client goes away.
    Disconnect,
}

/// The result of one step of the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What they said; none where more bytes are needed.
    pub incoming: Option<Incoming<'a>>,
}

/// Why the connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not the head of a request: whatever follows cannot be understood.
    #[error("a request with a wrong magic")]
    Magic,
    /// A payload that would have to be read for nothing.
    #[error("a write of {0} bytes, where 32 MiB is the limit")]
    TooLarge(u64),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Payload { left: u32 },
    Skip { left: u32, refusal: Refusal },
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    cookie: u64,
    offset: u64,
    error: ErrorNumber,
}

/// The state between two steps.
#[derive(Clone, Copy, Debug)]
pub struct RequestParser {
    session: Session,
    state: State,
}

impl RequestParser {
    /// A parser for a session that has just begun.
    pub fn new(session: Session) -> Self {
        Self { session, state: State::Head }
    }

    /// Takes one step.
    #[inline]
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<Parsed<'a>, BadRequest> {
        match self.state {
            State::Head => self.head(input),
            State::Payload { left } => Ok(self.payload(input, left)),
            State::Skip { left, refusal } => Ok(self.skip(input, left, refusal)),
        }
    }

    /// How many bytes of the current write's payload have not come yet.
    pub fn payload_left(&self) -> u32 {
        match self.state {
            State::Payload { left } => left,
            _ => 0,
        }
    }

    #[inline]
    fn head<'a>(&mut self, input: &'a [u8]) -> Result<Parsed<'a>, BadRequest> {
        let (header, consumed) = match self.session.form {
            ReplyForm::Extended => (
                input.first_chunk::<EXTENDED_REQUEST_BYTES>().map(RequestHeader::decode_extended),
                EXTENDED_REQUEST_BYTES,
            ),
            _ => (input.first_chunk::<REQUEST_BYTES>().map(RequestHeader::decode), REQUEST_BYTES),
        };
        match header {
            None => Ok(Parsed { consumed: 0, incoming: None }),
            Some(None) => Err(BadRequest::Magic),
            Some(Some(header)) => {
                let incoming = self.admit(&header)?;
                Ok(Parsed { consumed, incoming })
            }
        }
    }

    /// Decides what becomes of a request; none where a payload has to be skipped first.
    #[inline]
    fn admit(&mut self, header: &RequestHeader) -> Result<Option<Incoming<'static>>, BadRequest> {
        let command = Command::from_number(header.command);
        if command == Some(Command::Disconnect) {
            return Ok(Some(Incoming::Disconnect));
        }
        let payload = self.payload_of(command, header)?;
        let refusal = match check(&self.session, command, header) {
            Ok(order) => {
                if payload > 0 {
                    self.state = State::Payload { left: payload };
                }
                return Ok(Some(Incoming::Order(order)));
            }
            Err(error) => Refusal { cookie: header.cookie, offset: header.offset, error },
        };
        if payload > 0 {
            self.state = State::Skip { left: payload, refusal };
            return Ok(None);
        }
        Ok(Some(refusal.incoming()))
    }

    /// The length of the payload that follows a request.
    fn payload_of(&self, command: Option<Command>, header: &RequestHeader) -> Result<u32, BadRequest> {
        let announced = self.session.form == ReplyForm::Extended
            && header.flags & command_flag::PAYLOAD_LEN != 0
            && command != Some(Command::Write);
        if command != Some(Command::Write) && !announced {
            return Ok(0);
        }
        match u32::try_from(header.len) {
            Ok(len) if len <= MAX_PAYLOAD_BYTES => Ok(len),
            _ => Err(BadRequest::TooLarge(header.len)),
        }
    }

    fn payload<'a>(&mut self, input: &'a [u8], left: u32) -> Parsed<'a> {
        let take = input.len().min(left as usize);
        if take == 0 {
            return Parsed { consumed: 0, incoming: None };
        }
        let left = left - take as u32;
        self.state = if left == 0 { State::Head } else { State::Payload { left } };
        let incoming = Incoming::Payload { bytes: &input[..take], last: left == 0 };
        Parsed { consumed: take, incoming: Some(incoming) }
    }

    fn skip<'a>(&mut self, input: &'a [u8], left: u32, refusal: Refusal) -> Parsed<'a> {
        let take = input.len().min(left as usize);
        let left = left - take as u32;
        if left > 0 {
            self.state = State::Skip { left, refusal };
            return Parsed { consumed: take, incoming: None };
        }
        self.state = State::Head;
        Parsed { consumed: take, incoming: Some(refusal.incoming()) }
    }
}

impl Refusal {
    fn incoming(self) -> Incoming<'static> {
        Incoming::Refused { cookie: self.cookie, offset: self.offset, error: self.error }
    }
}

/// Which flags a command may carry.
fn allowed_flags(command: Command) -> u16 {
    use command_flag as flag;
    match command {
        Command::Read => flag::FUA | flag::DF,
        Command::Write => flag::FUA | flag::PAYLOAD_LEN,
        Command::WriteZeroes => flag::FUA | flag::NO_HOLE,
        Command::BlockStatus => flag::FUA | flag::REQ_ONE,
        _ => flag::FUA,
    }
}

/// Whether the request makes sense for the session's export.
#[inline]
fn check(session: &Session, command: Option<Command>, header: &RequestHeader) -> Result<Order, ErrorNumber> {
    let Some(command) = command else { return Err(ErrorNumber::Invalid) };
    if header.flags & !allowed_flags(command) != 0 {
        return Err(ErrorNumber::Invalid);
    }
    let kind = kind_of(session, command, header.flags)?;
    check_range(session, kind, header)?;
    let (offset, len) = if kind == OrderKind::Flush { (0, 0) } else { (header.offset, header.len) };
    Ok(Order { cookie: header.cookie, offset, len, kind })
}

#[inline]
fn kind_of(session: &Session, command: Command, flags: u16) -> Result<OrderKind, ErrorNumber> {
    let fua = flags & command_flag::FUA != 0;
    let writes = matches!(command, Command::Write | Command::Trim | Command::WriteZeroes);
    if writes && session.read_only {
        return Err(ErrorNumber::Perm);
    }
    Ok(match command {
        Command::Read => OrderKind::Read { whole: flags & command_flag::DF != 0 },
        Command::Write => OrderKind::Write { fua },
        Command::Flush => OrderKind::Flush,
        Command::Trim => OrderKind::Trim { fua },
        Command::Cache => OrderKind::Cache,
        Command::WriteZeroes => OrderKind::WriteZeroes { fua },
        Command::BlockStatus if session.allocation => {
            OrderKind::BlockStatus { one: flags & command_flag::REQ_ONE != 0 }
        }
        Command::BlockStatus | Command::Disconnect => return Err(ErrorNumber::Invalid),
    })
}

#[inline]
fn check_range(session: &Session, kind: OrderKind, header: &RequestHeader) -> Result<(), ErrorNumber> {
    if kind == OrderKind::Flush {
        return Ok(());
    }
    let inside = header.offset.checked_add(header.len).is_some_and(|end| end <= session.size_bytes);
    let grows = matches!(kind, OrderKind::Write { .. } | OrderKind::WriteZeroes { .. });
    match inside {
        false if grows => return Err(ErrorNumber::NoSpace),
        false => return Err(ErrorNumber::Invalid),
        true => {}
    }
    let too_long = matches!(kind, OrderKind::Read { .. }) && header.len > u64::from(MAX_PAYLOAD_BYTES);
    if header.len == 0 || too_long { Err(ErrorNumber::Invalid) } else { Ok(()) }
}
