//! Amounts of bytes as people write them: `512MiB`, `2GiB`, `1048576`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An amount of bytes; shown in the largest binary unit that keeps it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub(crate) struct ByteSize(pub(crate) u64);

/// As it stands in a file: a number or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

/// Why a text is no amount of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an amount of bytes: write it like 512MiB, 2GiB or 1048576")]
pub(crate) struct ParseByteSizeError(String);

const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl FromStr for ByteSize {
    type Err = ParseByteSizeError;

    fn from_str(text: &str) -> Result<Self, ParseByteSizeError> {
        parse(text.trim()).map(Self).ok_or_else(|| ParseByteSizeError(text.chars().take(40).collect()))
    }
}

fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, shift): &&(&str, u32)| self.0 >> shift > 0 && self.0 & ((1 << shift) - 1) == 0;
        let (unit, shift) = UNITS.iter().find(whole).unwrap_or(&UNITS[4]);
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

impl TryFrom<Written> for ByteSize {
    type Error = ParseByteSizeError;
    fn try_from(written: Written) -> Result<Self, ParseByteSizeError> {
        match written {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, bytes) in [("0", 0), ("512MiB", 512 << 20), ("2g", 2 << 30), (" 1 TiB", 1 << 40)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "2GB", "99999999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_shown_without_loss() {
        for (bytes, text) in [(0, "0B"), (1536, "1536B"), (3 << 10, "3KiB"), (1 << 40, "1TiB")] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}
