//! The secret name of a session, and what is kept of it.

use std::fmt;
use std::str::FromStr;

/// What a token's hash is told apart by from all other hashes.
const HASH_CONTEXT: &str = "headwater 2026-11 session token v1";

/// The secret name of a session: 128 random bits in hexadecimal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Token(String);

impl Token {
    /// Draws a token from the system's randomness.
    pub(crate) fn random() -> Self {
        Self(random_hex::<16>())
    }

    /// Takes a text from a URL or an export name; whether it names a session is for the table.
    pub(crate) fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text that goes into URLs and the export name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What the table and the disk know it by.
    pub(crate) fn hash(&self) -> TokenHash {
        TokenHash(blake3::derive_key(HASH_CONTEXT, self.0.as_bytes()))
    }
}

/// Tokens stay out of logs, also by accident.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The hash of a token: finds its session and opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TokenHash([u8; 32]);

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TokenHash {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        blake3::Hash::from_hex(text).map(|hash| Self(hash.into())).map_err(|_| ())
    }
}

/// Random bytes of the system as text.
pub(super) fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's randomness is available");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_was_written_and_is_not_the_token() {
        let token = Token::random();
        let hash = token.hash();
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_ne!(hash.to_string(), token.as_str());
        assert!("zz".parse::<TokenHash>().is_err());
        assert!(!format!("{token:?}").contains(token.as_str()));
    }
}
