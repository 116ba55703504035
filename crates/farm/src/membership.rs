//! What makes servers one farm: its certificate authority, its members, the tokens to join with.
//!
//! The rules are in [`crate::rules::membership`].

use crate::people::TokenId;
use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use model::Name;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What `headwater farm init` made, once: the farm's id and who signs its servers' certificates.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FarmAuthority {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The farm's id: 32 hexadecimal digits.
    pub farm: String,
    /// The authority's certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM: whoever reads the farm's database can make members.
    pub key: String,
    /// When it was made.
    pub created: Timestamp,
}

/// Keys stay out of logs, also by accident.
impl fmt::Debug for FarmAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FarmAuthority").field("farm", &self.farm).finish_non_exhaustive()
    }
}

/// That a server is one of several: how its peers reach it and know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Where it listens for its peers, `HOST:PORT`.
    pub address: String,
    /// Where devices reach its boot endpoints, `ADDRESS:PORT`; empty until it has started, and where
    /// it does not know.
    pub boot: String,
    /// The serials of the certificates that it may show, 32 hexadecimal digits each; the newest
    /// first, two at most.
    pub serials: Vec<String>,
    /// How often it has started since it joined.
    pub incarnation: u64,
    /// 128 random bits of its last start, in hexadecimal, so that two copies of a server, or of the
    /// farm's records, are told apart though both count alike; empty until it has started.
    pub mark: String,
    /// When it joined.
    pub joined: Timestamp,
}

/// A token that lets one server join, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// The format of this record.
    pub revision: FormatRevision,
    /// Its id: the first ten digits of its hash.
    pub id: TokenId,
    /// BLAKE3 of its secret in hexadecimal; the secret has 256 random bits, so a fast hash tells
    /// nothing about it.
    pub hash: String,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it lets nobody in.
    pub expires: Timestamp,
    /// Which server joined with it; it lets no other one in.
    pub used: Option<Name>,
}

impl JoinToken {
    /// The id of the token whose secret has this hash; none where that is no hash.
    pub fn id_of(hash: &str) -> Option<TokenId> {
        hash.get(..crate::people::TOKEN_ID_LENGTH)?.parse().ok()
    }
}

impl Record for FarmAuthority {}
impl Record for JoinToken {}
