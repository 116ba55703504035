//! Points in time, as the records keep them, and who did something then.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// How long after `earlier` this is; zero where clocks went backwards.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The time for people who read it at `now`: `14:02 UTC` on the same day, else with its date.
    pub fn seen_at(self, now: Self) -> String {
        if self.0 / DAY_MS == now.0 / DAY_MS { self.clock() } else { self.to_string() }
    }

    fn clock(self) -> String {
        let minutes = self.0 % DAY_MS / MINUTE_MS;
        format!("{:02}:{:02} UTC", minutes / 60, minutes % 60)
    }
}

/// `2026-11-22 14:02 UTC`: to the minute, in the proleptic Gregorian calendar.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Days since 0000-03-01, so that a leap day ends its year; 400 years have 146,097 days.
        let days = self.0 / DAY_MS + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let from_march = (5 * day + 2) / 153;
        let (day, month) = (day - (153 * from_march + 2) / 5 + 1, (from_march + 2) % 12 + 1);
        let year = era * 400 + year + u64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02} {}", self.clock())
    }
}

/// Times before 1970 become 1970.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Who did something, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// When.
    pub at: Timestamp,
    /// Who: "admin", a server's name, a device's.
    pub by: String,
}

impl Stamp {
    /// That `by` did it at `at`.
    pub fn new(by: impl Into<String>, at: Timestamp) -> Self {
        Self { at, by: by.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        for (ms, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399_000, "2000-02-28 23:59 UTC"),
            (951_782_400_000, "2000-02-29 00:00 UTC"),
            (1_735_689_599_999, "2024-12-31 23:59 UTC"),
            (1_795_356_120_000, "2026-11-22 14:02 UTC"),
        ] {
            assert_eq!(Timestamp(ms).to_string(), text);
        }
    }

    #[test]
    fn the_date_is_left_out_on_the_same_day() {
        let then = Timestamp(1_795_356_120_000);
        assert_eq!(then.seen_at(Timestamp(then.0 + 3_600_000)), "14:02 UTC");
        assert_eq!(then.seen_at(Timestamp(then.0 + DAY_MS)), "2026-11-22 14:02 UTC");
    }
}
