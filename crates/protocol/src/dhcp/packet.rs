//! The DHCP message on the wire (RFC 2131 section 2, RFC 2132, RFC 3396).
//!
//! Our own codec, and not `dhcproto`: its decoder asserts on lengths that a client sends and
//! drops every option after one that it cannot interpret, while booting needs five of them as raw
//! bytes from firmware of any quality. The tests use `dhcproto` as the second opinion.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The fixed part with its magic cookie.
const HEADER_SIZE: usize = 240;
/// Larger ones are not DHCP: options for booting take a few hundred bytes.
const SIZE_LIMIT: usize = 4096;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const FILE: std::ops::Range<usize> = 108..236;
const SNAME: std::ops::Range<usize> = 44..108;
const PAD: u8 = 0;
const OVERLOAD: u8 = 52;
const END: u8 = 255;
/// Some BIOS ROMs drop shorter answers (BOOTP's size, RFC 951).
const MIN_SIZE: usize = 300;

/// Options as code and raw content; repeated codes are joined (RFC 3396).
pub type Options = BTreeMap<u8, Vec<u8>>;

/// A message, its fixed fields decoded and its options raw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// 1 from clients, 2 from servers.
    pub op: u8,
    /// Hardware type; 1 is Ethernet.
    pub htype: u8,
    /// Length of the hardware address.
    pub hlen: u8,
    /// Relays passed.
    pub hops: u8,
    /// The client's transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The highest bit asks for broadcast answers.
    pub flags: u16,
    /// The client's address, if it has and uses one.
    pub ciaddr: Ipv4Addr,
    /// The address given to the client.
    pub yiaddr: Ipv4Addr,
    /// The next server in the boot.
    pub siaddr: Ipv4Addr,
    /// The relay's address.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address, padded.
    pub chaddr: [u8; 16],
    /// The boot file's name, at most 127 bytes; empty where the field holds options.
    pub file: Vec<u8>,
    /// All options but padding, overload and end.
    pub options: Options,
}

/// Why bytes are no DHCP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than the fixed part or longer than any message for booting.
    #[error("{0} bytes is no length of a DHCP message")]
    Length(usize),
    /// BOOTP without vendor extensions, or another protocol.
    #[error("no DHCP magic cookie")]
    Cookie,
    /// An option reaches beyond its field.
    #[error("option {0} is cut off")]
    Truncated(u8),
}

impl Packet {
    /// Decodes a datagram.
    pub fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        if !(HEADER_SIZE..=SIZE_LIMIT).contains(&bytes.len()) {
            return Err(PacketError::Length(bytes.len()));
        }
        if bytes[236..240] != COOKIE {
            return Err(PacketError::Cookie);
        }
        let mut options = Options::new();
        read_options(&bytes[HEADER_SIZE..], &mut options)?;
        let overload = options.remove(&OVERLOAD).and_then(|value| value.first().copied());
        let (file_has_options, sname_has_options) =
            overload.map_or((false, false), |bits| (bits & 1 != 0, bits & 2 != 0));
        if file_has_options {
            read_options(&bytes[FILE], &mut options)?;
        }
        if sname_has_options {
            read_options(&bytes[SNAME], &mut options)?;
        }
        // Overload counts in the options field only (RFC 2132 section 9.3).
        options.remove(&OVERLOAD);
        let mut chaddr = [0; 16];
        chaddr.copy_from_slice(&bytes[28..44]);
        Ok(Self {
            op: bytes[0],
            htype: bytes[1],
            hlen: bytes[2],
            hops: bytes[3],
            xid: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            secs: u16::from_be_bytes([bytes[8], bytes[9]]),
            flags: u16::from_be_bytes([bytes[10], bytes[11]]),
            ciaddr: address_at(bytes, 12),
            yiaddr: address_at(bytes, 16),
            siaddr: address_at(bytes, 20),
            giaddr: address_at(bytes, 24),
            chaddr,
            file: if file_has_options { Vec::new() } else { until_nul(&bytes[FILE]) },
            options,
        })
    }

    /// Encodes the message, padded to 300 bytes. The message type comes first, then the server's
    /// identity: some ROMs look no further than the first options.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.op, self.htype, self.hlen, self.hops];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            bytes.extend(address.octets());
        }
        bytes.extend(self.chaddr);
        bytes.resize(FILE.start, 0);
        bytes.extend(&self.file[..self.file.len().min(FILE.len() - 1)]);
        bytes.resize(FILE.end, 0);
        bytes.extend(COOKIE);
        let first = [53, 54];
        let rest = self.options.keys().copied().filter(|code| !first.contains(code));
        for code in first.into_iter().chain(rest) {
            if let Some(value) = self.options.get(&code) {
                write_option(code, value, &mut bytes);
            }
        }
        bytes.push(END);
        bytes.resize(bytes.len().max(MIN_SIZE), PAD);
        bytes
    }
}

fn write_option(code: u8, value: &[u8], bytes: &mut Vec<u8>) {
    if value.is_empty() {
        bytes.extend([code, 0]);
    }
    for part in value.chunks(255) {
        bytes.extend([code, part.len() as u8]);
        bytes.extend(part);
    }
}

fn read_options(field: &[u8], options: &mut Options) -> Result<(), PacketError> {
    let mut rest = field;
    while let [code, after @ ..] = rest {
        match (*code, after) {
            (END, _) => return Ok(()),
            (PAD, _) => rest = after,
            (code, [len, after @ ..]) => {
                let Some((value, after)) = after.split_at_checked(usize::from(*len)) else {
                    return Err(PacketError::Truncated(code));
                };
                options.entry(code).or_default().extend(value);
                rest = after;
            }
            (code, []) => return Err(PacketError::Truncated(code)),
        }
    }
    Ok(())
}

fn address_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

fn until_nul(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|byte| *byte != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::{Decodable, Decoder, v4};
    use proptest::prelude::*;

    fn packet(options: Options, file: Vec<u8>, xid: u32) -> Packet {
        Packet {
            op: 2,
            htype: 1,
            hlen: 6,
            hops: 0,
            xid,
            secs: 7,
            flags: 0x8000,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::new(10, 0, 0, 9),
            siaddr: Ipv4Addr::new(10, 0, 0, 1),
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: [0x52, 0x54, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            file,
            options,
        }
    }

    fn any_options() -> impl Strategy<Value = Options> {
        let code = (1u8..255).prop_filter("overload is not a value", |code| *code != OVERLOAD);
        proptest::collection::btree_map(code, proptest::collection::vec(any::<u8>(), 0..400), 0..6)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            options in any_options(),
            file in proptest::collection::vec(1u8..=255, 0..127),
            xid: u32,
        ) {
            let packet = packet(options, file, xid);
            prop_assert_eq!(Packet::parse(&packet.encode()), Ok(packet));
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), cookie: bool) {
            if cookie && bytes.len() >= HEADER_SIZE {
                bytes[236..240].copy_from_slice(&COOKIE);
            }
            drop(Packet::parse(&bytes));
        }
    }

    #[test]
    fn another_decoder_reads_the_same() {
        let options = Options::from([
            (53, vec![2]),
            (54, vec![10, 0, 0, 1]),
            (60, b"PXEClient".to_vec()),
            (67, vec![b'x'; 300]),
        ]);
        let bytes = packet(options, b"undionly.kpxe".to_vec(), 0xdead_beef).encode();
        let other = v4::Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!(other.xid(), 0xdead_beef);
        assert_eq!(other.fname(), Some(&b"undionly.kpxe\0"[..]));
        assert_eq!(other.opts().msg_type(), Some(v4::MessageType::Offer));
        let file = other.opts().get(v4::OptionCode::BootfileName);
        assert_eq!(file, Some(&v4::DhcpOption::BootfileName(vec![b'x'; 300])));
    }

    #[test]
    fn options_in_the_file_and_name_fields_are_read() {
        let mut bytes = packet(Options::from([(53, vec![1])]), Vec::new(), 1).encode();
        let end = bytes.iter().rposition(|byte| *byte == END).unwrap();
        bytes[end..end + 4].copy_from_slice(&[OVERLOAD, 1, 3, END]);
        bytes[FILE.start..FILE.start + 5].copy_from_slice(&[12, 2, b'p', b'c', END]);
        bytes[SNAME.start..SNAME.start + 4].copy_from_slice(&[12, 1, b'1', END]);
        assert_eq!(Packet::parse(&bytes).unwrap().options[&12], b"pc1");
    }

    #[test]
    fn an_overload_within_an_overload_is_dropped() {
        let mut bytes = packet(Options::new(), Vec::new(), 1).encode();
        bytes[HEADER_SIZE..HEADER_SIZE + 4].copy_from_slice(&[OVERLOAD, 1, 2, END]);
        bytes[SNAME.start..SNAME.start + 4].copy_from_slice(&[OVERLOAD, 1, 3, END]);
        assert_eq!(Packet::parse(&bytes).unwrap().options, Options::new());
    }

    #[test]
    fn a_cut_off_option_is_named() {
        let mut bytes = packet(Options::new(), Vec::new(), 1).encode();
        bytes.truncate(HEADER_SIZE);
        bytes.extend([77, 9, 1]);
        assert_eq!(Packet::parse(&bytes), Err(PacketError::Truncated(77)));
    }
}
