//! What clients send, and the headers of what they get.

/// The longest request: RFC 2347 allows 512 bytes, some ROMs pad a little.
const REQUEST_LIMIT: usize = 1024;
/// The longest part of a client's error message that is kept.
const MESSAGE_LIMIT: usize = 120;
const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// A packet from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// RRQ.
    Read(ReadRequest),
    /// WRQ; always refused.
    Write,
    /// The number of the last block received in order.
    Ack(u16),
    /// The client gives up.
    Error {
        /// The code.
        code: u16,
        /// The text, printable and at most 120 characters.
        message: String,
    },
    /// Data or option acknowledgement, which only servers send here.
    Unexpected,
}

/// A request for a file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ReadRequest {
    /// The file's name as the client wrote it.
    pub file: String,
    /// Bytes in a block, 8 to 65,464.
    pub block_size: Option<u16>,
    /// Blocks sent before an acknowledgement is waited for, from 1.
    pub window_size: Option<u16>,
    /// Seconds until a block is sent again, from 1.
    pub timeout_s: Option<u8>,
    /// Whether the client wants to know the file's size.
    pub wants_size: bool,
}

/// Why bytes are no packet that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Too short for its kind, a request without its strings, or longer than any request.
    #[error("malformed packet of {0} bytes")]
    Malformed(usize),
    /// Not one of the six operations.
    #[error("unknown operation {0}")]
    Operation(u16),
    /// Neither octet nor netascii.
    #[error("only the modes octet and netascii are served")]
    Mode,
}

/// The codes of RFC 1350 and RFC 2347 that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The name is in no map.
    NotFound = 1,
    /// Writing is not possible.
    AccessViolation = 2,
    /// Too many transfers.
    Busy = 3,
    /// The packet makes no sense.
    Illegal = 4,
    /// From a port that no transfer has.
    UnknownTransfer = 5,
}

impl Packet {
    /// Decodes a datagram.
    pub fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        let malformed = PacketError::Malformed(bytes.len());
        let [high, low, rest @ ..] = bytes else { return Err(malformed) };
        match (u16::from_be_bytes([*high, *low]), rest) {
            (READ, _) if bytes.len() <= REQUEST_LIMIT => read_request(rest),
            (READ, _) => Err(malformed),
            (WRITE, _) => Ok(Self::Write),
            (ACK, [high, low, ..]) => Ok(Self::Ack(u16::from_be_bytes([*high, *low]))),
            (ERROR, [high, low, text @ ..]) => {
                Ok(Self::Error { code: u16::from_be_bytes([*high, *low]), message: printable(text) })
            }
            (ACK | ERROR, _) => Err(malformed),
            (DATA | OACK, _) => Ok(Self::Unexpected),
            (other, _) => Err(PacketError::Operation(other)),
        }
    }
}

/// `FILE\0MODE\0(OPTION\0VALUE\0)*`; options that are unknown or out of range are left out, as
/// RFC 2347 asks.
fn read_request(rest: &[u8]) -> Result<Packet, PacketError> {
    let malformed = PacketError::Malformed(rest.len() + 2);
    let mut strings = rest.split_inclusive(|byte| *byte == 0).map(|raw| raw.split_last());
    let mut next = || match strings.next().flatten() {
        Some((0, text)) => std::str::from_utf8(text).ok(),
        _ => None,
    };
    let (Some(file), Some(mode)) = (next(), next()) else { return Err(malformed) };
    if !mode.eq_ignore_ascii_case("octet") && !mode.eq_ignore_ascii_case("netascii") {
        return Err(PacketError::Mode);
    }
    let mut request = ReadRequest { file: file.to_owned(), ..ReadRequest::default() };
    while let (Some(name), Some(value)) = (next(), next()) {
        set_option(&mut request, name, value);
    }
    Ok(Packet::Read(request))
}

fn set_option(request: &mut ReadRequest, name: &str, value: &str) {
    match name.to_ascii_lowercase().as_str() {
        "blksize" => {
            request.block_size = value.parse().ok().filter(|size| (8..=65_464).contains(size));
        }
        "windowsize" => request.window_size = value.parse().ok().filter(|size| *size > 0),
        "timeout" => request.timeout_s = value.parse().ok().filter(|seconds| *seconds > 0),
        "tsize" => request.wants_size = true,
        _ => {}
    }
}

fn printable(text: &[u8]) -> String {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    text.iter()
        .take(MESSAGE_LIMIT)
        .map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' })
        .collect()
}

/// The four bytes before a block's content; numbers wrap around to zero.
pub fn data_header(block: u64) -> [u8; 4] {
    let [high, low] = ((block & 0xffff) as u16).to_be_bytes();
    [0, DATA as u8, high, low]
}

/// An ERROR packet.
pub fn error(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut bytes = vec![0, ERROR as u8, 0, code as u8];
    bytes.extend(message.bytes().filter(|byte| *byte != 0));
    bytes.push(0);
    bytes
}

/// An OACK packet with the options in the order given.
pub(super) fn option_ack(options: &[(&str, u64)]) -> Vec<u8> {
    let mut bytes = vec![0, OACK as u8];
    for (name, value) in options {
        bytes.extend(name.bytes());
        bytes.push(0);
        bytes.extend(value.to_string().bytes());
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_with_every_option_is_read() {
        let bytes = b"\0\x01undionly.kpxe\0OCTET\0blksize\x001456\0tsize\x000\0\
            windowsize\x0016\0timeout\x002\0unknown\0x\0";
        let expected = ReadRequest {
            file: "undionly.kpxe".to_owned(),
            block_size: Some(1456),
            window_size: Some(16),
            timeout_s: Some(2),
            wants_size: true,
        };
        assert_eq!(Packet::parse(bytes), Ok(Packet::Read(expected)));
    }

    #[test]
    fn options_out_of_range_are_left_out() {
        let bytes = b"\0\x01f\0octet\0blksize\x007\0windowsize\x000\0timeout\x00300\0";
        let Ok(Packet::Read(request)) = Packet::parse(bytes) else { panic!("a request") };
        assert_eq!(request, ReadRequest { file: "f".to_owned(), ..ReadRequest::default() });
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        for bad in [&b""[..], b"\0", b"\0\x01", b"\0\x01f", b"\0\x01f\0octet", b"\0\x04\0"] {
            assert!(matches!(Packet::parse(bad), Err(PacketError::Malformed(_))), "{bad:?}");
        }
        assert_eq!(Packet::parse(b"\0\x01f\0mail\0"), Err(PacketError::Mode));
        assert_eq!(Packet::parse(b"\0\x09"), Err(PacketError::Operation(9)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..8) {
            drop(Packet::parse(&bytes));
            let mut bytes = bytes;
            bytes.splice(0..0, [0, kind]);
            drop(Packet::parse(&bytes));
        }
    }
}
