//! From the server's greeting to an open export (NBD proto.md, "Fixed newstyle negotiation").
//!
//! One option at a time: `STRUCTURED_REPLY` and `SET_META_CONTEXT` where wished for, then `GO`. A
//! server that knows neither of the first two is still usable; one without `GO` is not.

use crate::nbd::wire::{
    BASE_ALLOCATION, GREETING_BYTES, MAX_STRING_BYTES, NBD_MAGIC, OPTION_MAGIC, OPTION_REPLY_HEADER_BYTES,
    OPTION_REPLY_MAGIC, be_u16, be_u32, be_u64, handshake_flag, info, option, option_reply,
};

/// The longest reply to an option that is accepted, in bytes: a string and its frame.
const MAX_REPLY_BYTES: u32 = MAX_STRING_BYTES + 64;

/// What a client would like beyond reading and writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Structured replies: holes are not sent as zeros, and errors can come late.
    pub structured_replies: bool,
    /// The `base:allocation` context, for `BLOCK_STATUS`; needs structured replies.
    pub block_status: bool,
}

/// The server's limits on requests, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Offsets and lengths are multiples of this.
    pub minimum: u32,
    /// Requests of this size and up are served well.
    pub preferred: u32,
    /// The largest request.
    pub maximum: u32,
}

/// What the handshake brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenExport {
    /// The disk's size in bytes.
    pub size_bytes: u64,
    /// See [`crate::nbd::wire::transmission_flag`].
    pub flags: u16,
    /// The server's limits, where it told them.
    pub block_sizes: Option<BlockSizes>,
    /// The server's text for people.
    pub description: Option<String>,
    /// Whether reads are answered by chunks.
    pub structured_replies: bool,
    /// The number of `base:allocation`, where it was selected.
    pub allocation_context: Option<u32>,
}

/// Why there is no open export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The server speaks something else.
    #[error("the server does not speak fixed newstyle NBD")]
    NotNbd,
    /// The server broke the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    /// There is no such export (or, to us, none).
    #[error("the server has no export of that name: {0}")]
    Unknown(String),
    /// The server wants TLS first.
    #[error("the server wants TLS: {0}")]
    TlsRequired(String),
    /// The server stops, or refuses for another reason.
    #[error("the server refused the export (error {kind}): {message}")]
    Refused {
        /// The reply's kind without the error bit.
        kind: u32,
        /// The server's message.
        message: String,
    },
}

/// How far one call has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed; those before this index are consumed.
    NeedMore {
        /// Bytes of the input that are done with.
        consumed: usize,
    },
    /// The export is open; bytes from this index on are replies.
    Open {
        /// Bytes of the input that are done with.
        consumed: usize,
        /// What was opened.
        export: OpenExport,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    Structured,
    Meta,
    Go,
    Done,
}

/// The state of one handshake.
#[derive(Clone, Debug)]
pub struct Handshake {
    name: String,
    wishes: Wishes,
    stage: Stage,
    export: OpenExport,
    told_size: bool,
}

impl Handshake {
    /// A handshake for the export `name`, which is at most 4,096 bytes long.
    pub fn new(name: &str, wishes: Wishes) -> Self {
        assert!(name.len() <= MAX_STRING_BYTES as usize, "an export name has at most 4096 bytes");
        let export = OpenExport {
            size_bytes: 0,
            flags: 0,
            block_sizes: None,
            description: None,
            structured_replies: false,
            allocation_context: None,
        };
        Self { name: name.to_owned(), wishes, stage: Stage::Greeting, export, told_size: false }
    }

    /// Takes what the server sent so far (unconsumed bytes first) and appends what to send.
    pub fn receive(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        let mut at = 0;
        while self.stage != Stage::Done {
            let used = match self.stage {
                Stage::Greeting => self.greeting(&input[at..], output)?,
                _ => self.option_reply(&input[at..], output)?,
            };
            match used {
                0 => return Ok(Step::NeedMore { consumed: at }),
                used => at += used,
            }
        }
        Ok(Step::Open { consumed: at, export: self.export.clone() })
    }

    fn greeting(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, HandshakeError> {
        if input.len() < GREETING_BYTES {
            let magic = NBD_MAGIC.to_be_bytes();
            let seen = input.len().min(8);
            return if input[..seen] == magic[..seen] { Ok(0) } else { Err(HandshakeError::NotNbd) };
        }
        let flags = be_u16(input, 16);
        let newstyle = be_u64(input, 0) == NBD_MAGIC && be_u64(input, 8) == OPTION_MAGIC;
        if !newstyle || flags & handshake_flag::FIXED_NEWSTYLE == 0 {
            return Err(HandshakeError::NotNbd);
        }
        let reply = flags & (handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
        output.extend_from_slice(&u32::from(reply).to_be_bytes());
        self.enter_next(output);
        Ok(GREETING_BYTES)
    }

    /// Goes to the next stage that is wished for and sends its option.
    fn enter_next(&mut self, output: &mut Vec<u8>) {
        self.stage = match self.stage {
            Stage::Greeting if self.wishes.structured_replies => Stage::Structured,
            Stage::Structured if self.wishes.block_status && self.export.structured_replies => Stage::Meta,
            _ => Stage::Go,
        };
        match self.stage {
            Stage::Structured => put_option(output, option::STRUCTURED_REPLY, &[]),
            Stage::Meta => put_option(output, option::SET_META_CONTEXT, &self.meta_query()),
            _ => put_option(output, option::GO, &self.go_request()),
        }
    }

    fn meta_query(&self) -> Vec<u8> {
        let mut data = self.counted_name();
        data.extend_from_slice(&1u32.to_be_bytes());
        data.extend_from_slice(&(BASE_ALLOCATION.len() as u32).to_be_bytes());
        data.extend_from_slice(BASE_ALLOCATION.as_bytes());
        data
    }

    fn go_request(&self) -> Vec<u8> {
        let mut data = self.counted_name();
        data.extend_from_slice(&2u16.to_be_bytes());
        data.extend_from_slice(&info::BLOCK_SIZE.to_be_bytes());
        data.extend_from_slice(&info::DESCRIPTION.to_be_bytes());
        data
    }

    fn counted_name(&self) -> Vec<u8> {
        let mut data = (self.name.len() as u32).to_be_bytes().to_vec();
        data.extend_from_slice(self.name.as_bytes());
        data
    }

    fn expected_option(&self) -> u32 {
        match self.stage {
            Stage::Structured => option::STRUCTURED_REPLY,
            Stage::Meta => option::SET_META_CONTEXT,
            _ => option::GO,
        }
    }

    fn option_reply(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, HandshakeError> {
        if input.len() < OPTION_REPLY_HEADER_BYTES {
            return Ok(0);
        }
        if be_u64(input, 0) != OPTION_REPLY_MAGIC || be_u32(input, 8) != self.expected_option() {
            return Err(HandshakeError::Protocol("an option reply with a wrong head"));
        }
        let (kind, len) = (be_u32(input, 12), be_u32(input, 16));
        if len > MAX_REPLY_BYTES {
            return Err(HandshakeError::Protocol("an option reply that is too long"));
        }
        let end = OPTION_REPLY_HEADER_BYTES + len as usize;
        let Some(data) = input.get(OPTION_REPLY_HEADER_BYTES..end) else { return Ok(0) };
        self.take_reply(kind, data, output)?;
        Ok(end)
    }

    fn take_reply(&mut self, kind: u32, data: &[u8], output: &mut Vec<u8>) -> Result<(), HandshakeError> {
        match (self.stage, kind) {
            (Stage::Go, option_reply::INFO) => self.take_info(data)?,
            (Stage::Go, option_reply::ACK) if self.told_size => self.stage = Stage::Done,
            (Stage::Go, kind) if kind & option_reply::ERROR_BIT != 0 => return Err(refusal(kind, data)),
            (Stage::Structured, kind) => {
                self.export.structured_replies = kind == option_reply::ACK;
                self.enter_next(output);
            }
            (Stage::Meta, option_reply::META_CONTEXT) if data.len() >= 4 => {
                if &data[4..] == BASE_ALLOCATION.as_bytes() {
                    self.export.allocation_context = Some(be_u32(data, 0));
                }
            }
            (Stage::Meta, option_reply::ACK) => self.enter_next(output),
            (Stage::Meta, kind) if kind & option_reply::ERROR_BIT != 0 => self.enter_next(output),
            _ => return Err(HandshakeError::Protocol("an option reply out of place")),
        }
        Ok(())
    }

    fn take_info(&mut self, data: &[u8]) -> Result<(), HandshakeError> {
        const SHORT: HandshakeError = HandshakeError::Protocol("an information reply that is too short");
        if data.len() < 2 {
            return Err(SHORT);
        }
        match (be_u16(data, 0), data.len()) {
            (info::EXPORT, 12) => {
                self.export.size_bytes = be_u64(data, 2);
                self.export.flags = be_u16(data, 10);
                self.told_size = true;
            }
            (info::BLOCK_SIZE, 14) => {
                self.export.block_sizes = Some(BlockSizes {
                    minimum: be_u32(data, 2),
                    preferred: be_u32(data, 6),
                    maximum: be_u32(data, 10),
                });
            }
            (info::EXPORT | info::BLOCK_SIZE, _) => return Err(SHORT),
            (info::DESCRIPTION, _) => self.export.description = Some(text(&data[2..])),
            _ => {}
        }
        Ok(())
    }
}

fn refusal(kind: u32, data: &[u8]) -> HandshakeError {
    let message = text(data);
    match kind {
        option_reply::ERR_UNKNOWN => HandshakeError::Unknown(message),
        option_reply::ERR_TLS_REQD => HandshakeError::TlsRequired(message),
        kind => HandshakeError::Refused { kind: kind & !option_reply::ERROR_BIT, message },
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn put_option(output: &mut Vec<u8>, number: u32, data: &[u8]) {
    output.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    output.extend_from_slice(&number.to_be_bytes());
    output.extend_from_slice(&(data.len() as u32).to_be_bytes());
    output.extend_from_slice(data);
}
