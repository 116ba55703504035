//! Points in time and spans as people give them: how long ago, or a date.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::macros::format_description;
use time::{Date, OffsetDateTime, UtcOffset};

/// A point in time, in milliseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since(pub(crate) u64);

impl FromStr for Since {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let ago = || Some(Self(milliseconds(SystemTime::now().checked_sub(duration(text)?)?)));
        let wrong =
            || format!("{text:?} is no point in time: write 30m, 2h, 7d, 2026-11-22 or 2026-11-22T10:00:00Z");
        ago().or_else(|| date(text)).ok_or_else(wrong)
    }
}

/// A span of time, such as `90d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        duration(text).map(Self).ok_or_else(|| format!("{text:?} is no span of time: write 30m, 12h or 90d"))
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

/// A day begins at midnight UTC, as all times are shown in UTC.
fn date(text: &str) -> Option<Since> {
    let day =
        || Some(Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?.midnight().assume_utc());
    let moment = || OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok();
    let at = moment().or_else(day)?.to_offset(UtcOffset::UTC);
    Some(Since(u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()?))
}

fn milliseconds(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_durations_are_read() {
        let at = |text: &str| text.parse::<Since>();
        assert_eq!(at("2025-11-22"), Ok(Since(1_763_769_600_000)));
        assert_eq!(at("2025-11-22T01:00:00+01:00"), Ok(Since(1_763_769_600_000)));
        let hour_ago = milliseconds(SystemTime::now()) - 3_600_000;
        assert!(at("1h").unwrap().0.abs_diff(hour_ago) < 60_000);
        for wrong in ["", "h", "yesterday", "1w", "99999999999999999999d", "2026-13-01", "ü"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
