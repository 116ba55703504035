//! How records become bytes: one JSON object each, with the revision of its format.

use crate::key::Key;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The format of a record, always 1 so far; every record has it as its field `revision`.
///
/// A record of another revision is not read: a newer program wrote it, and what this one does not
/// understand it may not act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct FormatRevision;

const REVISION: u32 = 1;

impl TryFrom<u32> for FormatRevision {
    type Error = String;
    fn try_from(revision: u32) -> Result<Self, String> {
        let newer = || format!("format revision {revision}, and this program knows {REVISION}");
        if revision == REVISION { Ok(Self) } else { Err(newer()) }
    }
}

impl From<FormatRevision> for u32 {
    fn from(_: FormatRevision) -> Self {
        REVISION
    }
}

/// A type that is stored as a record.
pub trait Record: Serialize + DeserializeOwned {
    /// The record's bytes.
    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("records have text keys and no failing serializers")
    }

    /// Reads the bytes of [`Record::encode`]. Fields that this program does not know are refused:
    /// writing the record back would lose them.
    fn decode(key: &Key, bytes: &[u8]) -> Result<Self, RecordError> {
        serde_json::from_slice(bytes)
            .map_err(|error| RecordError::Unreadable { key: key.to_string(), why: error.to_string() })
    }
}

/// Why what the database holds is no record of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A key that this program does not know.
    #[error(
        "the farm has a record {0:?} that this program does not know\nhint: a newer headwater wrote it; run that one"
    )]
    UnknownKey(String),
    /// A value that this program cannot read.
    #[error(
        "the farm's record {key} cannot be read: {why}\nhint: a newer headwater may have written it; run that one"
    )]
    Unreadable {
        /// The record's key.
        key: String,
        /// What is wrong.
        why: String,
    },
}
