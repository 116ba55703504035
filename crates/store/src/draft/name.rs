//! The name of a draft, which is also the name of its directory.

use std::fmt;
use std::str::FromStr;

/// The longest name in bytes: a file name may have 255, and staging adds a few.
const MAX_BYTES: usize = 200;

/// The name of a draft: 1 to 200 letters, digits, `.`, `-` and `_`, not beginning with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DraftName(String);

/// Why a text is no name of a draft.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a draft: 1 to 200 letters, digits, '.', '-' and '_', not beginning with '.'")]
pub struct DraftNameError(String);

impl DraftName {
    /// Checks a name.
    pub fn new(text: &str) -> Result<Self, DraftNameError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(known);
        match fits && !text.starts_with('.') {
            true => Ok(Self(text.to_owned())),
            false => Err(DraftNameError(text.chars().take(80).collect())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DraftName {
    type Err = DraftNameError;
    fn from_str(text: &str) -> Result<Self, DraftNameError> {
        Self::new(text)
    }
}

impl fmt::Display for DraftName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_directory() {
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(201)] {
            assert!(DraftName::new(bad).is_err(), "{bad:?}");
        }
        assert!(DraftName::new("win11.3.e17").is_ok());
    }
}
