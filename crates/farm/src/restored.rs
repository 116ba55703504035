//! That the farm's records were turned back to an older state.

use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// The farm's records come from a backup, and stores may have what they do not name. As long as this
/// record is there, no server deletes anything because no record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// The format of this record.
    pub revision: FormatRevision,
    /// When the backup was made; none where another program restored the database.
    pub made: Option<Timestamp>,
    /// When it was restored, or when the first server heard of it.
    pub at: Timestamp,
}

impl Record for Restored {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    #[test]
    fn the_golden_record_is_read_and_written_to_the_byte() {
        let (key, value) = include_str!("../golden/restored-1.txt").trim_end().split_once(' ').unwrap();
        let key: Key = key.parse().unwrap();
        let restored = Restored::decode(&key, value.as_bytes()).unwrap();
        assert_eq!((key, restored.made), (Key::Restored, Some(Timestamp(1_700_000_001_000))));
        assert_eq!(restored.encode(), value.as_bytes());
    }
}
