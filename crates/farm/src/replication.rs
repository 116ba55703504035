//! How servers may pull from each other: limits, the weekly schedule, pauses.

use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use jiff::tz::TimeZone;
use model::{Name, VersionNumber};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Slots of 15 minutes in a day.
const SLOTS: u8 = 96;
const SLOT_MS: u64 = 15 * 60 * 1000;
/// How far ahead a change is looked for: a week, and a day for clocks that are set.
const AHEAD: u64 = 8 * SLOTS as u64;

/// The settings of replication, one record of the farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicationSettings {
    /// The format of this record.
    pub revision: FormatRevision,
    /// The most bytes a second that come to a server, by class; unlimited where none is named.
    pub limits: BTreeMap<TrafficClass, u64>,
    /// The IANA name of the zone whose clock the windows mean.
    pub zone: String,
    /// When less is allowed; where several overlap, the strictest holds.
    pub windows: Vec<Window>,
    /// Whether nothing comes but what devices wait for.
    pub paused: bool,
    /// The same, of these vDisks.
    pub paused_vdisks: BTreeSet<Name>,
    /// The versions of a vDisk up to this one come whatever the schedule says.
    pub now: BTreeMap<Name, VersionNumber>,
}

impl Record for ReplicationSettings {}

impl Default for ReplicationSettings {
    /// Everything at full speed.
    fn default() -> Self {
        Self {
            revision: FormatRevision,
            limits: BTreeMap::new(),
            zone: "UTC".to_owned(),
            windows: Vec::new(),
            paused: false,
            paused_vdisks: BTreeSet::new(),
            now: BTreeMap::new(),
        }
    }
}

/// What is limited on its own; what devices wait for never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficClass {
    /// What devices will probably read when they boot.
    BootProfile,
    /// Drafts' checkpoints.
    Checkpoint,
    /// All the rest.
    Bulk,
}

/// A part of the week in which less is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days on which it begins: 1 is Monday, 7 is Sunday.
    pub days: BTreeSet<u8>,
    /// The 15 minutes of the day that it begins with, 0 to 95.
    pub from: u8,
    /// The 15 minutes that it ends before, 1 to 96; not after `from`: on the next day.
    pub to: u8,
    /// Bytes a second for all classes together; none = nothing comes.
    pub bytes_per_s: Option<u64>,
}

/// What the schedule allows, strictest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowed {
    /// Nothing but what devices wait for.
    Nothing,
    /// So many bytes a second.
    Limited(u64),
    /// Everything.
    Everything,
}

/// What the schedule allows now, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedUntil {
    /// What is allowed.
    pub allowed: Allowed,
    /// When it changes; none = not within eight days.
    pub until: Option<Timestamp>,
}

impl Window {
    fn allowed(&self) -> Allowed {
        self.bytes_per_s.map_or(Allowed::Nothing, Allowed::Limited)
    }

    /// Whether it covers a slot of a day, 1 is Monday.
    fn covers(&self, day: u8, slot: u8) -> bool {
        let before = if day == 1 { 7 } else { day - 1 };
        match self.from < self.to {
            true => self.days.contains(&day) && (self.from..self.to).contains(&slot),
            false => {
                (self.days.contains(&day) && slot >= self.from)
                    || (self.days.contains(&before) && slot < self.to)
            }
        }
    }

    /// Whether its figures mean something.
    pub(crate) fn is_sound(&self) -> bool {
        let days = !self.days.is_empty() && self.days.iter().all(|day| (1..=7).contains(day));
        days && self.from < SLOTS && (1..=SLOTS).contains(&self.to) && self.from != self.to
    }
}

/// `mon,tue 08:00-18:00 closed`
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let days = self.days.iter().filter_map(|day| DAYS.get(usize::from(*day).wrapping_sub(1)).copied());
        let days: Vec<&str> = days.collect();
        write!(f, "{} {}-{} ", days.join(","), clock(self.from), clock(self.to))?;
        match self.bytes_per_s {
            None => f.write_str("closed"),
            Some(bytes) => write!(f, "{bytes} bytes/s"),
        }
    }
}

/// `08:15` of the 15 minutes of a day.
pub fn clock(slot: u8) -> String {
    format!("{:02}:{:02}", slot / 4, slot % 4 * 15)
}

/// The 15 minutes of a day, of `08:15`; `24:00` is the end of the day.
pub fn slot_of(clock: &str) -> Option<u8> {
    let (hours, minutes) = clock.split_once(':')?;
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    let fits = hours <= 24 && minutes < 60 && minutes % 15 == 0;
    fits.then(|| hours * 4 + minutes / 15).filter(|slot| *slot <= SLOTS)
}

/// Whether there is a zone of this name.
pub fn is_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok()
}

/// What the schedule allows at `now`, and until when. Pure: the zones are part of the program.
pub fn policy_at(settings: &ReplicationSettings, now: Timestamp) -> AllowedUntil {
    // The rules let no other name in; a newer server may know a newer zone.
    let zone = TimeZone::get(&settings.zone).unwrap_or(TimeZone::UTC);
    let at = |ms: u64| match i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
    {
        Some(time) => {
            let local = zone.to_datetime(time);
            let day = local.weekday().to_monday_one_offset().unsigned_abs();
            allowed(settings, day, local.hour().unsigned_abs() * 4 + local.minute().unsigned_abs() / 15)
        }
        None => Allowed::Everything,
    };
    let allowed = at(now.0);
    // All zones of today change at whole quarters of an hour.
    let first = now.0 - now.0 % SLOT_MS;
    let mut later = (1..=AHEAD).map(|slots| first.saturating_add(slots * SLOT_MS));
    let until = match settings.windows.is_empty() {
        true => None,
        false => later.find(|ms| at(*ms) != allowed).map(Timestamp),
    };
    AllowedUntil { allowed, until }
}

/// What the windows allow in the 15 minutes of a day, 1 is Monday.
pub fn allowed(settings: &ReplicationSettings, day: u8, slot: u8) -> Allowed {
    let covering = settings.windows.iter().filter(|window| window.covers(day, slot));
    covering.map(Window::allowed).min().unwrap_or(Allowed::Everything)
}

/// The week for people: seven days from Monday on, a character an hour: `.` everything, `l`
/// limited, `#` nothing; of an hour its strictest part.
pub fn week(settings: &ReplicationSettings) -> Vec<String> {
    let hour =
        |day: u8, hour: u8| match (0..4).map(|quarter| allowed(settings, day, hour * 4 + quarter)).min() {
            Some(Allowed::Nothing) => '#',
            Some(Allowed::Limited(_)) => 'l',
            _ => '.',
        };
    (1..=7).map(|day| (0..24).map(|h| hour(day, h)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[u8], from: &str, to: &str, bytes_per_s: Option<u64>) -> Window {
        let days = days.iter().copied().collect();
        Window { days, from: slot_of(from).unwrap(), to: slot_of(to).unwrap(), bytes_per_s }
    }

    fn settings(zone: &str, windows: Vec<Window>) -> ReplicationSettings {
        ReplicationSettings { zone: zone.to_owned(), windows, ..ReplicationSettings::default() }
    }

    fn time(text: &str) -> Timestamp {
        let time: jiff::Timestamp = text.parse().unwrap();
        Timestamp(time.as_millisecond().unsigned_abs())
    }

    #[test]
    fn a_window_means_the_clock_of_its_zone_also_when_that_is_set() {
        let night = settings("Europe/Berlin", vec![window(&[1, 2, 3, 4, 5, 6, 7], "08:00", "18:00", None)]);
        for (from, to) in [
            // The clock is set forward on 2026-03-29 and back on 2026-10-25.
            ("2026-03-28T07:00:00Z", "2026-03-28T17:00:00Z"),
            ("2026-03-29T06:00:00Z", "2026-03-29T16:00:00Z"),
            ("2026-10-24T06:00:00Z", "2026-10-24T16:00:00Z"),
            ("2026-10-25T07:00:00Z", "2026-10-25T17:00:00Z"),
        ] {
            let (from, to) = (time(from), time(to));
            let before = policy_at(&night, Timestamp(from.0 - 1));
            assert_eq!(before, AllowedUntil { allowed: Allowed::Everything, until: Some(from) });
            let within = policy_at(&night, from);
            assert_eq!(within, AllowedUntil { allowed: Allowed::Nothing, until: Some(to) });
        }
    }

    #[test]
    fn the_hour_that_is_skipped_closes_nothing_and_the_one_that_comes_twice_closes_twice() {
        let one = settings("Europe/Berlin", vec![window(&[7], "02:00", "03:00", None)]);
        let skipped = policy_at(&one, time("2026-03-29T00:59:00Z"));
        assert_eq!(skipped.until, Some(time("2026-04-05T00:00:00Z")));
        let twice = policy_at(&one, time("2026-10-25T00:00:00Z"));
        assert_eq!(twice.until, Some(time("2026-10-25T02:00:00Z")));
    }

    #[test]
    fn a_window_goes_on_over_midnight_and_over_the_end_of_the_week() {
        let sunday = settings("UTC", vec![window(&[7], "22:00", "06:00", None)]);
        // 2026-11-22 is a Sunday.
        let within = policy_at(&sunday, time("2026-11-22T23:00:00Z"));
        assert_eq!(within.until, Some(time("2026-11-23T06:00:00Z")));
        assert_eq!(policy_at(&sunday, time("2026-11-23T05:59:59Z")).allowed, Allowed::Nothing);
        assert_eq!(policy_at(&sunday, time("2026-11-22T05:00:00Z")).allowed, Allowed::Everything);
        let week = week(&sunday);
        assert_eq!(week[0], "######..................");
        assert_eq!(week[6], "......................##");
    }

    #[test]
    fn of_overlapping_windows_the_stricter_holds() {
        let both = settings(
            "UTC",
            vec![
                window(&[1], "08:00", "18:00", Some(5_000_000)),
                window(&[1], "10:00", "12:00", None),
                window(&[1], "11:00", "14:00", Some(1_000_000)),
            ],
        );
        let hour = |hour: u8| allowed(&both, 1, hour * 4);
        assert_eq!(hour(7), Allowed::Everything);
        assert_eq!(hour(9), Allowed::Limited(5_000_000));
        assert_eq!(hour(11), Allowed::Nothing);
        assert_eq!(hour(13), Allowed::Limited(1_000_000));
        assert_eq!(hour(15), Allowed::Limited(5_000_000));
    }

    /// The stored form of revision 1: a change here is a change of the format.
    #[test]
    fn the_golden_record_is_read_and_written_to_the_byte() {
        let golden = include_str!("../golden/replication-1.txt");
        let (key, value) = golden.trim_end().split_once(' ').unwrap();
        let mut view = crate::FarmView::default();
        view.put(key, value.as_bytes(), 1).unwrap();
        let mut written = settings("Europe/Berlin", vec![window(&[1, 5], "08:00", "18:00", None)]);
        written.windows.push(window(&[6], "22:00", "06:00", Some(2_500_000)));
        written.limits.insert(TrafficClass::Bulk, 1 << 20);
        written.paused_vdisks.insert(Name::new("office").unwrap());
        written.now.insert(Name::new("lab").unwrap(), VersionNumber(3));
        let written = String::from_utf8(written.encode()).unwrap();
        assert_eq!(format!("{key} {written}\n"), golden);
    }

    #[test]
    fn without_windows_nothing_changes_ever() {
        let now = policy_at(&ReplicationSettings::default(), time("2026-11-22T00:00:00Z"));
        assert_eq!(now, AllowedUntil { allowed: Allowed::Everything, until: None });
    }
}
