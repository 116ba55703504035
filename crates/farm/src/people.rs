//! People and programs that use the API: who they are, what they may do, how they prove it.
//!
//! No secret is in a record: of a password its argon2id hash, of a token its BLAKE3 hash. What a
//! request needs is a [`Level`], which each endpoint declares; what a user has is a [`Role`], which
//! may be bound to a site. The rules are in [`crate::rules::people`].

mod role;

pub use role::{Level, Role};

use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use model::Name;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The name by which the audit calls whoever has the token file of a server; no user is called so.
pub const ADMIN: &str = "admin";

/// Somebody who may use the API.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The user's name.
    pub name: Name,
    /// What the user may do.
    pub role: Role,
    /// The password as an argon2id hash in PHC string format; none = only tokens prove who it is.
    pub password: Option<String>,
    /// When the user was made.
    pub created: Timestamp,
}

/// Hashes stay out of logs, also by accident.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, role, .. } = self;
        f.debug_struct("User").field("name", name).field("role", role).finish_non_exhaustive()
    }
}

/// What proves who somebody is, until it expires: made by a login or for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiToken {
    /// The format of this record.
    pub revision: FormatRevision,
    /// Its id, which the token's text begins with.
    pub id: TokenId,
    /// Whose it is.
    pub user: Name,
    /// How it came to be.
    pub kind: TokenKind,
    /// What it is for, in the words of whoever made it.
    pub about: String,
    /// What it may do where that is less than its user may.
    pub role: Option<Role>,
    /// BLAKE3 of the token's text in hexadecimal; the token has 256 random bits, so a fast hash
    /// tells nothing about it.
    pub hash: String,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it proves nothing any more; none = until it is revoked.
    pub expires: Option<Timestamp>,
    /// When it was last used, to the hour; none = never.
    pub last_used: Option<Timestamp>,
}

/// How a token came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// By a login with a password.
    Login,
    /// By `headwater token create`, for a program.
    Program,
}

/// What a token is found by: 10 lower-case letters or digits, no secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(String);

/// How many letters a token's id has: 50 bits, so that none is drawn twice.
pub const TOKEN_ID_LENGTH: usize = 10;

impl TokenId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        match text.len() == TOKEN_ID_LENGTH && text.chars().all(allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("a token's id has {TOKEN_ID_LENGTH} lower-case letters or digits")),
        }
    }
}

impl TryFrom<String> for TokenId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.0
    }
}

impl ApiToken {
    /// Whether it still proves something at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Record for User {}
impl Record for ApiToken {}
