//! Who asks: a PXE ROM, an iPXE, a UEFI HTTP client, or an ordinary machine.

use super::packet::Options;
use std::fmt;

const VENDOR_CLASS: u8 = 60;
const USER_CLASS: u8 = 77;
const ARCHITECTURE: u8 = 93;
const IPXE: u8 = 175;
/// In option 175: the feature flag "can do HTTP" (iPXE `DHCP_EB_FEATURE_HTTP`).
const IPXE_HTTP: u8 = 0x13;

/// What kind of client sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// Firmware that loads a boot file by TFTP.
    PxeRom(Architecture),
    /// An iPXE that runs scripts over HTTP.
    Ipxe(Architecture),
    /// UEFI firmware that loads its boot file by HTTP.
    UefiHttp(Architecture),
    /// An operating system, or anything else that wants no boot file.
    Ordinary,
}

impl ClientKind {
    /// Recognises the client by options 60, 77, 93 and 175.
    ///
    /// An iPXE whose option 175 says what it can do, and not HTTP, is treated as the ROM that it
    /// sits in: it gets a full iPXE by TFTP, which then comes back.
    pub fn recognise(options: &Options) -> Self {
        let vendor = options.get(&VENDOR_CLASS).map_or(&[][..], Vec::as_slice);
        let architecture = Architecture::find(options, vendor);
        if is_ipxe(options) {
            return Self::Ipxe(architecture);
        }
        if vendor.starts_with(b"PXEClient") {
            return Self::PxeRom(architecture);
        }
        if vendor.starts_with(b"HTTPClient") {
            return Self::UefiHttp(architecture);
        }
        Self::Ordinary
    }

    /// Whether the client is booting.
    pub fn boots(self) -> bool {
        self != Self::Ordinary
    }
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PxeRom(architecture) => write!(f, "PXE ROM ({architecture})"),
            Self::Ipxe(architecture) => write!(f, "iPXE ({architecture})"),
            Self::UefiHttp(architecture) => write!(f, "UEFI HTTP client ({architecture})"),
            Self::Ordinary => f.write_str("ordinary client"),
        }
    }
}

fn is_ipxe(options: &Options) -> bool {
    let features = options.get(&IPXE);
    let says_ipxe = options.get(&USER_CLASS).is_some_and(|class| contains(class, b"iPXE"));
    match features.and_then(|raw| sub_option_codes(raw)) {
        Some(codes) if codes.contains(&IPXE_HTTP) => true,
        // Option 175 without any feature is a loader that was built without the list.
        Some(codes) => codes.iter().all(|code| !(0x10..=0x2f).contains(code)),
        None => says_ipxe,
    }
}

/// The codes of encapsulated options; none where the encapsulation is broken.
fn sub_option_codes(raw: &[u8]) -> Option<Vec<u8>> {
    let mut codes = Vec::new();
    let mut rest = raw;
    while let [code, after @ ..] = rest {
        match *code {
            0 => rest = after,
            255 => break,
            code => {
                let (len, after) = after.split_first()?;
                rest = after.get(usize::from(*len)..)?;
                codes.push(code);
            }
        }
    }
    Some(codes)
}

/// The user class is plain text from iPXE and length-prefixed (RFC 3004) from others.
fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// A client's architecture (RFC 4578 section 2.1 and IANA's registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    /// Type 0: BIOS.
    Bios,
    /// Types 7, 9 and 16: UEFI on x86-64, by PXE or HTTP.
    UefiX64,
    /// Anything else; no loader of ours runs there yet.
    Other(u16),
}

impl Architecture {
    fn find(options: &Options, vendor: &[u8]) -> Self {
        match options.get(&ARCHITECTURE).map(Vec::as_slice) {
            Some([high, low, ..]) => Self::from_type(u16::from_be_bytes([*high, *low])),
            // "PXEClient:Arch:00007:UNDI:003016" says it too.
            _ => Self::from_type(vendor_architecture(vendor).unwrap_or(0)),
        }
    }

    fn from_type(number: u16) -> Self {
        match number {
            0 => Self::Bios,
            7 | 9 | 16 => Self::UefiX64,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bios => f.write_str("BIOS"),
            Self::UefiX64 => f.write_str("UEFI x86-64"),
            Self::Other(number) => write!(f, "architecture type {number}"),
        }
    }
}

fn vendor_architecture(vendor: &[u8]) -> Option<u16> {
    let digits = vendor.split(|byte| *byte == b':').nth(2)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(options: &[(u8, &[u8])]) -> ClientKind {
        let options = options.iter().map(|(code, value)| (*code, value.to_vec())).collect();
        ClientKind::recognise(&options)
    }

    #[test]
    fn firmware_and_loaders_are_told_apart() {
        let rom = (60, &b"PXEClient:Arch:00000:UNDI:002001"[..]);
        assert_eq!(kind(&[rom, (93, &[0, 0])]), ClientKind::PxeRom(Architecture::Bios));
        assert_eq!(kind(&[rom, (93, &[0, 7])]), ClientKind::PxeRom(Architecture::UefiX64));
        assert_eq!(kind(&[rom, (77, b"iPXE")]), ClientKind::Ipxe(Architecture::Bios));
        assert_eq!(kind(&[rom, (77, b"\x04iPXE")]), ClientKind::Ipxe(Architecture::Bios));
        let http = (60, &b"HTTPClient:Arch:00016:UNDI:003001"[..]);
        assert_eq!(kind(&[http]), ClientKind::UefiHttp(Architecture::UefiX64));
        assert_eq!(kind(&[(60, b"udhcp 1.35")]), ClientKind::Ordinary);
    }

    #[test]
    fn an_ipxe_that_cannot_do_http_is_its_rom() {
        let rom = (60, &b"PXEClient:Arch:00000"[..]);
        let with_http = (175, &[0xb1, 1, 1, 0x13, 1, 1][..]);
        let without = (175, &[0x11, 1, 1, 0x15, 1, 1][..]);
        assert_eq!(kind(&[rom, (77, b"iPXE"), with_http]), ClientKind::Ipxe(Architecture::Bios));
        assert_eq!(kind(&[rom, (77, b"iPXE"), without]), ClientKind::PxeRom(Architecture::Bios));
        let broken = (175, &[0x13, 200][..]);
        assert_eq!(kind(&[rom, (77, b"iPXE"), broken]), ClientKind::Ipxe(Architecture::Bios));
    }
}
