//! The farm itself, its sites, servers and stores.

use crate::membership::Member;
use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use model::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Farm {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The farm's name.
    pub name: Name,
    /// When its first server started first.
    pub created: Timestamp,
}

/// A placement group of servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The site's name.
    pub name: Name,
}

/// One machine that runs `headwater serve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The server's name.
    pub name: Name,
    /// The site it belongs to.
    pub site: Name,
    /// When it was first seen.
    pub created: Timestamp,
    /// How its peers reach it and know it; none where it is a farm of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
}

/// A named set of vDisks and the servers that keep them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The store's name.
    pub name: Name,
    /// The local path of each server's share.
    pub paths: BTreeMap<Name, String>,
}

/// The token in a server's file that may do everything, as a hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminToken {
    /// The format of this record.
    pub revision: FormatRevision,
    /// BLAKE3 of the token's text in hexadecimal; the token has 256 random bits, so a fast hash
    /// tells nothing about it.
    pub hash: String,
    /// When it was made.
    pub created: Timestamp,
}

impl Record for Farm {}
impl Record for Site {}
impl Record for Server {}
impl Record for Store {}
impl Record for AdminToken {}
