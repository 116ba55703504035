//! Names that people give to farm objects.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest name in bytes: a DNS label, because a device's name becomes its host name.
pub const MAX_NAME_LEN: usize = 63;

/// The name of a vDisk, device, collection, server, store or site.
///
/// 1 to 63 of `a-z 0-9 . _ -`, starting with a letter or digit: safe in a URL, a file name, an
/// iPXE script and a shell without quoting.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a name may not be empty")]
    Empty,
    /// Longer than a DNS label.
    #[error("a name of {0} characters is too long: 63 is the limit")]
    TooLong(usize),
    /// A character outside the set.
    #[error("{0:?} may not stand in a name: use a-z, 0-9, '.', '_' and '-'")]
    Character(char),
    /// Begins with punctuation, which a shell or a URL may read as something else.
    #[error("a name begins with a letter or a digit, not with {0:?}")]
    Start(char),
}

impl Name {
    /// Accepts a text by the rules above; capitals are refused, not folded, so that what was
    /// typed is what is found.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let first = text.chars().next().ok_or(NameError::Empty)?;
        if text.len() > MAX_NAME_LEN {
            return Err(NameError::TooLong(text.chars().count()));
        }
        let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(*c);
        if let Some(bad) = text.chars().find(|c| !allowed(c)) {
            return Err(NameError::Character(bad));
        }
        if !first.is_ascii_alphanumeric() {
            return Err(NameError::Start(first));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_everywhere() {
        assert!(Name::new("win11-lab.2026_a").is_ok());
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new("../x"), Err(NameError::Character('/')));
        assert_eq!(Name::new("Win"), Err(NameError::Character('W')));
        assert_eq!(Name::new("-x"), Err(NameError::Start('-')));
        assert_eq!(Name::new(&"a".repeat(64)), Err(NameError::TooLong(64)));
    }
}
