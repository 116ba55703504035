//! MAC addresses, in the spellings that admins and firmware use.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An Ethernet address: how a device is recognised at boot.
///
/// Written `52:54:00:12:34:56`; read with colons, dashes, Cisco dots or nothing between the digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

/// Why a text is no MAC address of a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseMacError {
    /// Not twelve digits after the separators are gone.
    #[error("{text:?} is not a MAC address: it has {digits} hexadecimal digits instead of 12")]
    Length {
        /// What was given, cut at 40 characters.
        text: String,
        /// How many digits it has.
        digits: usize,
    },
    /// A character that is neither digit nor separator.
    #[error("{text:?} is not a MAC address: {bad:?} is not a hexadecimal digit")]
    Digit {
        /// What was given, cut at 40 characters.
        text: String,
        /// The first offending character.
        bad: char,
    },
    /// Group addresses and all zeros never identify one device.
    #[error("{0} is a group or empty address: no device has it")]
    NotADevice(String),
}

impl MacAddress {
    /// The six bytes.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether the address can belong to one device: not zero, not multicast or broadcast.
    pub fn is_unicast(self) -> bool {
        self.0 != [0; 6] && self.0[0] & 1 == 0
    }
}

impl FromStr for MacAddress {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let shown = || text.chars().take(40).collect::<String>();
        let digits: Vec<char> =
            text.trim().chars().filter(|c| !matches!(c, ':' | '-' | '.')).take(64).collect();
        if let Some(bad) = digits.iter().find(|c| !c.is_ascii_hexdigit()) {
            return Err(ParseMacError::Digit { text: shown(), bad: *bad });
        }
        if digits.len() != 12 {
            return Err(ParseMacError::Length { text: shown(), digits: digits.len() });
        }
        let nibbles: Vec<u8> = digits.iter().map(|c| c.to_digit(16).unwrap_or(0) as u8).collect();
        let mut octets = [0; 6];
        for (octet, pair) in octets.iter_mut().zip(nibbles.chunks_exact(2)) {
            *octet = pair[0] << 4 | pair[1];
        }
        let mac = Self(octets);
        if mac.is_unicast() { Ok(mac) } else { Err(ParseMacError::NotADevice(mac.to_string())) }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for MacAddress {
    type Error = ParseMacError;
    fn try_from(text: String) -> Result<Self, ParseMacError> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_spelling_is_read() {
        for text in [
            "52:54:00:12:34:56",
            "52-54-00-12-34-56",
            "5254.0012.3456",
            "525400123456",
            " 52:54:00:12:34:56 ",
        ] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), "52:54:00:12:34:56");
        }
    }

    #[test]
    fn a_mistyped_address_says_what_is_wrong() {
        let error = |text: &str| text.parse::<MacAddress>().unwrap_err().to_string();
        assert!(error("52:54:00:12:34").contains("10 hexadecimal digits"));
        assert!(error("52:54:00:12:34:5g").contains("'g'"));
        assert!(error("ff:ff:ff:ff:ff:ff").contains("group or empty"));
        assert!(error("00:00:00:00:00:00").contains("group or empty"));
    }
}
