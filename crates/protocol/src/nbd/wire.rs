//! The numbers of the NBD protocol and the fixed-size encodings (NBD proto.md, "Values").
//!
//! All integers are big-endian. Nothing here decides anything: see [`super::server`] and
//! [`super::client`] for the state machines.

/// `NBDMAGIC`: the first eight bytes that a server sends.
pub const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`: the second eight bytes of a newstyle server, and the head of each option.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// The head of each reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// The head of a compact request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// The head of an extended request.
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// The head of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// The head of a structured reply chunk.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
/// The head of an extended reply chunk.
pub const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// Bytes of the server's greeting: two magics and the handshake flags.
pub const GREETING_BYTES: usize = 18;
/// Bytes of an option's header, sent by the client: magic, option, length.
pub const OPTION_HEADER_BYTES: usize = 16;
/// Bytes of an option reply's header, sent by the server: magic, option, kind, length.
pub const OPTION_REPLY_HEADER_BYTES: usize = 20;
/// Bytes of a compact request: magic, flags, type, cookie, offset, length.
pub const REQUEST_BYTES: usize = 28;
/// Bytes of an extended request: the same with a length of 64 bits.
pub const EXTENDED_REQUEST_BYTES: usize = 32;
/// Bytes of a simple reply: magic, error, cookie.
pub const SIMPLE_REPLY_BYTES: usize = 16;
/// Bytes of a structured reply chunk's header: magic, flags, type, cookie, length.
pub const STRUCTURED_REPLY_BYTES: usize = 20;
/// Bytes of an extended reply chunk's header: magic, flags, type, cookie, offset, length.
pub const EXTENDED_REPLY_BYTES: usize = 32;

/// The longest string of the protocol in bytes: names, descriptions, queries ("Terminology").
pub const MAX_STRING_BYTES: u32 = 4096;
/// The largest payload of one request or reply in bytes; the figure that every client in use
/// stays below, and our bound on what one request may make us hold.
pub const MAX_PAYLOAD_BYTES: u32 = 32 * 1024 * 1024;

/// Handshake flags, from the server and echoed by the client.
pub mod handshake_flag {
    /// Fixed newstyle: unknown options are answered, not fatal.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// No 124 zero bytes after an `EXPORT_NAME` reply.
    pub const NO_ZEROES: u16 = 2;
}

/// Transmission flags: what an export can do.
pub mod transmission_flag {
    /// The field is meaningful; always set.
    pub const HAS_FLAGS: u16 = 1;
    /// Writes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `FLUSH` is understood.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// The FUA flag is understood.
    pub const SEND_FUA: u16 = 1 << 3;
    /// `TRIM` is understood.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES` is understood.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The DF flag is understood.
    pub const SEND_DF: u16 = 1 << 7;
    /// Several connections see one coherent disk.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// `CACHE` is understood.
    pub const SEND_CACHE: u16 = 1 << 10;
}

/// Option numbers of the handshake.
pub mod option {
    /// Opens an export; the reply has no error form.
    pub const EXPORT_NAME: u32 = 1;
    /// Ends the handshake.
    pub const ABORT: u32 = 2;
    /// Asks for the names of all exports.
    pub const LIST: u32 = 3;
    /// Begins TLS.
    pub const STARTTLS: u32 = 5;
    /// Asks about an export.
    pub const INFO: u32 = 6;
    /// Asks about an export and opens it.
    pub const GO: u32 = 7;
    /// Asks for structured replies.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Asks which metadata contexts there are.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Selects metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
    /// Asks for 64-bit headers.
    pub const EXTENDED_HEADERS: u32 = 11;
}

/// Kinds of replies to options.
pub mod option_reply {
    /// Done.
    pub const ACK: u32 = 1;
    /// An export's name, in answer to `LIST`.
    pub const SERVER: u32 = 2;
    /// A piece of information, in answer to `INFO` and `GO`.
    pub const INFO: u32 = 3;
    /// A metadata context.
    pub const META_CONTEXT: u32 = 4;
    /// Every kind with this bit is an error.
    pub const ERROR_BIT: u32 = 1 << 31;
    /// The option is unknown here.
    pub const ERR_UNSUP: u32 = ERROR_BIT | 1;
    /// Forbidden by the server's policy.
    pub const ERR_POLICY: u32 = ERROR_BIT | 2;
    /// The option's data make no sense.
    pub const ERR_INVALID: u32 = ERROR_BIT | 3;
    /// TLS is needed first.
    pub const ERR_TLS_REQD: u32 = ERROR_BIT | 5;
    /// There is no such export.
    pub const ERR_UNKNOWN: u32 = ERROR_BIT | 6;
    /// The server stops.
    pub const ERR_SHUTDOWN: u32 = ERROR_BIT | 7;
    /// The option's data are too long.
    pub const ERR_TOO_BIG: u32 = ERROR_BIT | 9;
    /// Extended headers are on, so the option makes no sense.
    pub const ERR_EXT_HEADER_REQD: u32 = ERROR_BIT | 10;
}

/// Kinds of information about an export.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// The canonical name.
    pub const NAME: u16 = 1;
    /// A text for people.
    pub const DESCRIPTION: u16 = 2;
    /// Minimum, preferred and maximum block size.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Flags of a request.
pub mod command_flag {
    /// Durable before the reply.
    pub const FUA: u16 = 1;
    /// `WRITE_ZEROES` must allocate.
    pub const NO_HOLE: u16 = 1 << 1;
    /// The answer to a read must be one chunk.
    pub const DF: u16 = 1 << 2;
    /// Only one extent is wanted.
    pub const REQ_ONE: u16 = 1 << 3;
    /// `WRITE_ZEROES` must be fast or fail.
    pub const FAST_ZERO: u16 = 1 << 4;
    /// The length field tells of a payload (extended headers).
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// Types and flags of reply chunks.
pub mod chunk {
    /// Flag: the last chunk of a reply.
    pub const FLAG_DONE: u16 = 1;
    /// No payload.
    pub const NONE: u16 = 0;
    /// An offset and data.
    pub const OFFSET_DATA: u16 = 1;
    /// An offset and a length of zeros.
    pub const OFFSET_HOLE: u16 = 2;
    /// A context and its extents, 32 bits each.
    pub const BLOCK_STATUS: u16 = 5;
    /// A context and its extents, 64 bits each.
    pub const BLOCK_STATUS_EXT: u16 = 6;
    /// Every type with this bit is an error.
    pub const ERROR_BIT: u16 = 1 << 15;
    /// An error and a message.
    pub const ERROR: u16 = ERROR_BIT | 1;
    /// The same with an offset.
    pub const ERROR_OFFSET: u16 = ERROR_BIT | 2;
}

/// The name of the one metadata context that is served.
pub const BASE_ALLOCATION: &str = "base:allocation";
/// `base:allocation`: the extent takes no space.
pub const STATE_HOLE: u32 = 1;
/// `base:allocation`: the extent reads as zero.
pub const STATE_ZERO: u32 = 2;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// Read a range.
    Read = 0,
    /// Write a range; its payload follows the request.
    Write = 1,
    /// Go away; there is no reply.
    Disconnect = 2,
    /// Make what was answered durable.
    Flush = 3,
    /// Let go of a range.
    Trim = 4,
    /// Bring a range into the server's memory.
    Cache = 5,
    /// Make a range read as zero.
    WriteZeroes = 6,
    /// Tell which parts of a range hold data.
    BlockStatus = 7,
}

impl Command {
    /// The command of a number, or none where it is not known.
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            4 => Self::Trim,
            5 => Self::Cache,
            6 => Self::WriteZeroes,
            7 => Self::BlockStatus,
            _ => return None,
        })
    }
}

/// The error numbers that may cross the wire (NBD proto.md, "Error values").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorNumber {
    /// Not permitted: a write to a read-only export.
    Perm = 1,
    /// The medium failed.
    Io = 5,
    /// The server is short of memory.
    NoMemory = 12,
    /// The request makes no sense.
    Invalid = 22,
    /// No space left.
    NoSpace = 28,
    /// An answer would not fit into one chunk.
    Overflow = 75,
    /// Not supported here.
    NotSupported = 95,
    /// The server stops.
    Shutdown = 108,
}

impl ErrorNumber {
    /// The error of a number; unknown numbers count as [`ErrorNumber::Invalid`], as the protocol
    /// asks.
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Perm,
            5 => Self::Io,
            12 => Self::NoMemory,
            28 => Self::NoSpace,
            75 => Self::Overflow,
            95 => Self::NotSupported,
            108 => Self::Shutdown,
            _ => Self::Invalid,
        }
    }

    /// The number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }
}

/// A request as it crosses the wire; a write's payload comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// See [`command_flag`].
    pub flags: u16,
    /// The command's number; [`Command::from_number`] tells which one it is.
    pub command: u16,
    /// The client's name for the request, returned in its replies.
    pub cookie: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes; at most 32 bits in the compact form.
    pub len: u64,
}

impl RequestHeader {
    /// A request without flags.
    pub fn new(command: Command, cookie: u64, offset: u64, len: u32) -> Self {
        Self { flags: 0, command: command as u16, cookie, offset, len: u64::from(len) }
    }

    /// The compact form (NBD proto.md, "Compact request message").
    ///
    /// Panics on a length of more than 32 bits: only a bug in a client can ask for that.
    pub fn encode(&self) -> [u8; REQUEST_BYTES] {
        let len = u32::try_from(self.len).expect("a compact request's length has 32 bits");
        let mut bytes = [0; REQUEST_BYTES];
        bytes[0..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..28].copy_from_slice(&len.to_be_bytes());
        bytes
    }

    /// Reads the compact form; none where the magic is wrong.
    #[inline]
    pub fn decode(bytes: &[u8; REQUEST_BYTES]) -> Option<Self> {
        (be_u32(bytes, 0) == REQUEST_MAGIC).then(|| Self {
            flags: be_u16(bytes, 4),
            command: be_u16(bytes, 6),
            cookie: be_u64(bytes, 8),
            offset: be_u64(bytes, 16),
            len: u64::from(be_u32(bytes, 24)),
        })
    }

    /// The extended form (NBD proto.md, "Extended request message").
    pub fn encode_extended(&self) -> [u8; EXTENDED_REQUEST_BYTES] {
        let mut bytes = [0; EXTENDED_REQUEST_BYTES];
        bytes[0..4].copy_from_slice(&EXTENDED_REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    /// Reads the extended form; none where the magic is wrong.
    pub fn decode_extended(bytes: &[u8; EXTENDED_REQUEST_BYTES]) -> Option<Self> {
        (be_u32(bytes, 0) == EXTENDED_REQUEST_MAGIC).then(|| Self {
            flags: be_u16(bytes, 4),
            command: be_u16(bytes, 6),
            cookie: be_u64(bytes, 8),
            offset: be_u64(bytes, 16),
            len: be_u64(bytes, 24),
        })
    }
}

/// A simple reply; `error` is 0 for success.
#[inline]
pub fn simple_reply(cookie: u64, error: u32) -> [u8; SIMPLE_REPLY_BYTES] {
    let mut bytes = [0; SIMPLE_REPLY_BYTES];
    bytes[0..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    bytes[4..8].copy_from_slice(&error.to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
    bytes
}

/// The header of a structured reply chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// [`chunk::FLAG_DONE`] or 0.
    pub flags: u16,
    /// See [`chunk`].
    pub kind: u16,
    /// The request's cookie.
    pub cookie: u64,
    /// Bytes of payload that follow.
    pub len: u32,
}

impl ChunkHeader {
    /// The structured form (NBD proto.md, "Structured reply chunk message").
    #[inline]
    pub fn encode(&self) -> [u8; STRUCTURED_REPLY_BYTES] {
        let mut bytes = [0; STRUCTURED_REPLY_BYTES];
        bytes[0..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.kind.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    /// The extended form, which repeats the request's offset.
    pub fn encode_extended(&self, offset: u64) -> [u8; EXTENDED_REPLY_BYTES] {
        let mut bytes = [0; EXTENDED_REPLY_BYTES];
        bytes[0..4].copy_from_slice(&EXTENDED_REPLY_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.kind.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&offset.to_be_bytes());
        bytes[24..32].copy_from_slice(&u64::from(self.len).to_be_bytes());
        bytes
    }
}

/// Two bytes at `at`; panics outside of `bytes`, so callers check lengths first.
#[inline]
pub(crate) fn be_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes at `at`; panics outside of `bytes`, so callers check lengths first.
#[inline]
pub(crate) fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Eight bytes at `at`; panics outside of `bytes`, so callers check lengths first.
#[inline]
pub(crate) fn be_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_header() -> impl Strategy<Value = RequestHeader> {
        (any::<u16>(), any::<u16>(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(
            |(flags, command, cookie, offset, len)| RequestHeader {
                flags,
                command,
                cookie,
                offset,
                len: u64::from(len),
            },
        )
    }

    #[test]
    fn a_wrong_magic_is_no_request() {
        let mut bytes = RequestHeader::new(Command::Read, 1, 2, 3).encode();
        bytes[0] ^= 1;
        assert_eq!(RequestHeader::decode(&bytes), None);
    }

    #[test]
    fn unknown_error_numbers_count_as_invalid() {
        assert_eq!(ErrorNumber::from_number(77), ErrorNumber::Invalid);
        assert_eq!(ErrorNumber::from_number(28), ErrorNumber::NoSpace);
    }

    proptest! {
        #[test]
        fn requests_survive_both_encodings(header in any_header()) {
            prop_assert_eq!(RequestHeader::decode(&header.encode()), Some(header));
            prop_assert_eq!(RequestHeader::decode_extended(&header.encode_extended()), Some(header));
        }
    }
}
