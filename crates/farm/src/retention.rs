//! How long events and audit records are kept: at most so many, none older than so many days.

use crate::event::EventId;
use crate::timestamp::Timestamp;
use std::time::Duration;

/// What is kept of records that sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// At most so many.
    pub records: usize,
    /// None older than this many days.
    pub days: u32,
}

impl Retention {
    /// The records that are to go, oldest first; `ids` are all of them, oldest first.
    pub fn expired(self, ids: &[EventId], now: Timestamp) -> &[EventId] {
        let life = Duration::from_secs(u64::from(self.days) * 86_400);
        let too_many = ids.len().saturating_sub(self.records);
        let too_old = ids.partition_point(|id| now.since(id.at) > life);
        &ids[..too_many.max(too_old)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Name;

    fn ids(days: std::ops::Range<u64>) -> Vec<EventId> {
        let id =
            |day| EventId { at: Timestamp(day * 86_400_000), server: Name::new("a").unwrap(), count: day };
        days.map(id).collect()
    }

    #[test]
    fn the_oldest_go_by_count_or_by_age_whichever_is_more() {
        let (all, now) = (ids(0..10), Timestamp(10 * 86_400_000));
        let expired = |records, days| Retention { records, days }.expired(&all, now).len();
        assert_eq!(expired(100, 100), 0);
        assert_eq!(expired(4, 100), 6);
        assert_eq!(expired(100, 3), 7);
        assert_eq!(expired(4, 3), 7);
        assert_eq!(expired(0, 0), 10);
        assert_eq!(Retention { records: 1, days: 1 }.expired(&[], now).len(), 0);
    }
}
