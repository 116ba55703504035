//! The text that carries trust from a farm to a new server: `hwjoin_FINGERPRINT_SECRET@ADDRESSES`.
//!
//! FINGERPRINT pins the farm's authority, SECRET lets one server in, ADDRESSES (with commas) are
//! where servers of the farm listen.

use mesh::identity::Fingerprint;
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "hwjoin_";

/// What is in a token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct JoinTokenText {
    pub(crate) pinned: Fingerprint,
    pub(crate) secret: String,
    pub(crate) addresses: Vec<String>,
}

/// The text, with its secret; there is no `Debug`.
impl fmt::Display for JoinTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_{}@{}", self.pinned, self.secret, self.addresses.join(","))
    }
}

impl FromStr for JoinTokenText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (head, addresses) = text.strip_prefix(PREFIX)?.split_once('@')?;
            let (pinned, secret) = head.split_once('_')?;
            let pinned = pinned.parse().ok()?;
            let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
            let whole = secret.len() == 64 && addresses.iter().all(|address| address.contains(':'));
            whole.then(|| Self { pinned, secret: secret.to_owned(), addresses })
        };
        parsed().ok_or_else(|| "that is no token of `headwater farm token`, or not all of it".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_a_cut_one_is_refused() {
        let text = format!("hwjoin_{}_{}@10.0.0.5:6910,hw2:6910", "0a".repeat(32), "5e".repeat(32));
        let token: JoinTokenText = text.parse().unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(token.addresses, ["10.0.0.5:6910", "hw2:6910"]);
        assert_eq!(token.to_string(), text);
        for cut in [&text[..30], &text[1..], "hwjoin_@", &text[..140], ""] {
            assert!(cut.parse::<JoinTokenText>().is_err(), "{cut}");
        }
    }
}
