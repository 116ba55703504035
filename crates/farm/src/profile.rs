//! What devices read while they boot a content, over their boots.

use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use model::BootProfile;
use serde::{Deserialize, Serialize};

/// The boot profile of a content: at most 32 KiB, so that every server knows those of all versions,
/// also of versions that it does not have yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnedProfile {
    /// The format of this record.
    pub revision: FormatRevision,
    /// How many boots it was learned from; 0 where it is another version's as it was.
    pub boots: u32,
    /// When it last changed.
    pub at: Timestamp,
    /// The chunks, in the text form of [`BootProfile`].
    pub chunks: BootProfile,
}

impl Record for LearnedProfile {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    #[test]
    fn the_golden_record_is_read_and_written_to_the_byte() {
        let (key, value) = include_str!("../golden/profile-1.txt").trim_end().split_once(' ').unwrap();
        let key: Key = key.parse().unwrap();
        let learned = LearnedProfile::decode(&key, value.as_bytes()).unwrap();
        assert_eq!(learned.chunks.chunks().len(), 6);
        assert_eq!(learned.encode(), value.as_bytes());
    }
}
