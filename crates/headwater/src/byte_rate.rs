//! Rates as people write them: `20Mbit/s`, `5MiB/s`, `none`.

use std::str::FromStr;

/// Bytes a second; none = unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRate(pub(crate) Option<u64>);

/// Why a text is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate: write it like 20Mbit/s, 5MiB/s, or none")]
pub(crate) struct ParseByteRateError(String);

impl FromStr for ByteRate {
    type Err = ParseByteRateError;

    fn from_str(text: &str) -> Result<Self, ParseByteRateError> {
        match text.trim() {
            "none" => Ok(Self(None)),
            rate => match parse(rate) {
                Some(bytes) => Ok(Self(Some(bytes))),
                None => Err(ParseByteRateError(text.chars().take(40).collect())),
            },
        }
    }
}

fn parse(text: &str) -> Option<u64> {
    let text = text.strip_suffix("/s")?;
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    // Lines are sold in decimal bits, files counted in binary bytes.
    match unit.trim().to_ascii_lowercase().as_str() {
        "kbit" => number.checked_mul(125),
        "mbit" => number.checked_mul(125_000),
        "gbit" => number.checked_mul(125_000_000),
        "b" => Some(number),
        "kib" => number.checked_mul(1 << 10),
        "mib" => number.checked_mul(1 << 20),
        "gib" => number.checked_mul(1 << 30),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("20Mbit/s", Some(2_500_000)),
            ("512 kbit/s", Some(64_000)),
            ("1Gbit/s", Some(125_000_000)),
            ("5MiB/s", Some(5 << 20)),
            ("none", None),
        ] {
            assert_eq!(text.parse(), Ok(ByteRate(bytes)), "{text}");
        }
        for text in ["", "20", "20Mbit", "-1MiB/s", "1.5MiB/s", "5MB/s", "99999999999999GiB/s"] {
            assert!(text.parse::<ByteRate>().is_err(), "{text}");
        }
    }
}
