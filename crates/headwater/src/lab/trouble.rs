//! Why the lab cannot go on: what happened, and what to do next.

use std::fmt;

/// A failure that is told to people.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    what: String,
    hint: String,
}

impl Trouble {
    /// What happened, and what to do next.
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhint: {}", self.what, self.hint)
    }
}

impl std::error::Error for Trouble {}
