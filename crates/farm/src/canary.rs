//! A canary: a small content that exists to see how long it takes until every server has it.

use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use model::{Name, Root};
use serde::{Deserialize, Serialize};

/// The canary of a store, as long as its test runs. Every server with a share of the store pulls it
/// like a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The server that tests.
    pub server: Name,
    /// The content.
    pub root: Root,
    /// Since when.
    pub at: Timestamp,
}

impl Record for Canary {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    #[test]
    fn the_golden_record_is_read_and_written_to_the_byte() {
        let (key, value) = include_str!("../golden/canary-1.txt").trim_end().split_once(' ').unwrap();
        let key: Key = key.parse().unwrap();
        let canary = Canary::decode(&key, value.as_bytes()).unwrap();
        assert_eq!(canary.server, Name::new("pvs01").unwrap());
        assert_eq!(canary.encode(), value.as_bytes());
    }
}
