//! Changing how servers may pull from each other.

use crate::change::{Change, Refusal, RefusalKind};
use crate::event::{EventKind, NewEvent};
use crate::key::Key;
use crate::replication::{ReplicationSettings, TrafficClass, Window, is_zone};
use crate::view::FarmView;
use model::Name;

/// The least bytes a second that a limit may be: a chunk.
pub const MIN_LIMIT: u64 = 64 << 10;
/// The most windows of the schedule.
pub const MAX_WINDOWS: usize = 100;

/// What to change; what is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicationPatch {
    /// A class and its limit in bytes a second; none = unlimited.
    pub limit: Option<(TrafficClass, Option<u64>)>,
    /// The IANA name of a zone.
    pub zone: Option<String>,
    /// A window to add.
    pub add_window: Option<Window>,
    /// A window to remove.
    pub remove_window: Option<Window>,
    /// Whether everything is paused.
    pub paused: Option<bool>,
}

/// What to do with one vDisk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// Nothing of it comes but what devices wait for.
    Pause,
    /// The opposite.
    Resume,
    /// The versions that there are come whatever the schedule says.
    Now,
    /// The opposite: they come when the schedule lets them.
    AsScheduled,
}

/// Changes the settings of the farm.
pub fn change(view: &FarmView, patch: &ReplicationPatch) -> Result<Change, Refusal> {
    let mut settings = current(view);
    if let Some((class, limit)) = patch.limit {
        check_rate(limit)?;
        match limit {
            Some(bytes) => drop(settings.limits.insert(class, bytes)),
            None => drop(settings.limits.remove(&class)),
        }
    }
    if let Some(zone) = &patch.zone {
        check_zone(zone)?;
        settings.zone.clone_from(zone);
    }
    if let Some(window) = &patch.remove_window {
        let at = settings.windows.iter().position(|other| other == window);
        let list = "replication window list";
        settings.windows.remove(at.ok_or_else(|| Refusal::not_found("window", window, list))?);
    }
    if let Some(window) = &patch.add_window {
        add(&mut settings, window)?;
    }
    settings.paused = patch.paused.unwrap_or(settings.paused);
    Ok(put(view, &settings, "farm", "the settings of replication were changed"))
}

/// Pauses or resumes a vDisk, or has it come now or as scheduled.
pub fn steer(view: &FarmView, vdisk: &Name, steer: Steer) -> Result<Change, Refusal> {
    if !view.vdisks.contains_key(vdisk) {
        return Err(Refusal::not_found("vDisk", vdisk, "vdisk list"));
    }
    let mut settings = current(view);
    let message = match steer {
        Steer::Pause => {
            settings.paused_vdisks.insert(vdisk.clone());
            settings.now.remove(vdisk);
            format!("replication of vDisk {vdisk} is paused")
        }
        Steer::Resume => {
            settings.paused_vdisks.remove(vdisk);
            format!("replication of vDisk {vdisk} goes on")
        }
        Steer::AsScheduled => {
            settings.now.remove(vdisk);
            format!("vDisk {vdisk} is replicated when the schedule lets it")
        }
        Steer::Now => {
            check_not_paused(&settings, vdisk)?;
            let newest = view.versions_of(vdisk).next_back().map(|version| version.number);
            settings.now.extend(newest.map(|number| (vdisk.clone(), number)));
            format!("vDisk {vdisk} is replicated now, whatever the schedule says")
        }
    };
    Ok(put(view, &settings, vdisk.as_str(), &message))
}

/// The settings, or how it is without any.
pub fn current(view: &FarmView) -> ReplicationSettings {
    view.replication.as_ref().map(|stored| stored.record.clone()).unwrap_or_default()
}

fn add(settings: &mut ReplicationSettings, window: &Window) -> Result<(), Refusal> {
    check_rate(window.bytes_per_s)?;
    if !window.is_sound() {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            format!("{window} is no window of the week"),
            "name days and times in steps of 15 minutes, such as --days mon-fri --from 08:00 --to 18:00",
        ));
    }
    if settings.windows.contains(window) {
        let message = format!("there is a window {window} already");
        return Err(Refusal::new(RefusalKind::Exists, message, "`headwater replication window list`"));
    }
    if settings.windows.len() >= MAX_WINDOWS {
        let message = format!("the schedule has at most {MAX_WINDOWS} windows");
        return Err(Refusal::new(RefusalKind::Limit, message, "remove some, or join neighbours"));
    }
    settings.windows.push(window.clone());
    Ok(())
}

fn check_rate(bytes_per_s: Option<u64>) -> Result<(), Refusal> {
    match bytes_per_s {
        Some(bytes) if bytes < MIN_LIMIT => Err(Refusal::new(
            RefusalKind::Invalid,
            format!("{bytes} bytes a second are less than one chunk of 64 KiB"),
            "pause it instead: `headwater replication pause`, or a window with --closed",
        )),
        _ => Ok(()),
    }
}

fn check_zone(zone: &str) -> Result<(), Refusal> {
    if is_zone(zone) {
        return Ok(());
    }
    let zone: String = zone.chars().take(60).collect();
    let hint = "write it as the IANA database does, such as Europe/Berlin or UTC";
    Err(Refusal::new(RefusalKind::Invalid, format!("there is no time zone {zone:?}"), hint))
}

fn check_not_paused(settings: &ReplicationSettings, vdisk: &Name) -> Result<(), Refusal> {
    let (what, hint) = match (settings.paused, settings.paused_vdisks.contains(vdisk)) {
        (true, _) => ("all replication".to_owned(), "headwater replication resume".to_owned()),
        (_, true) => (format!("vDisk {vdisk}"), format!("headwater replication resume {vdisk}")),
        _ => return Ok(()),
    };
    Err(Refusal::new(RefusalKind::InUse, format!("{what} is paused"), format!("first `{hint}`")))
}

fn put(view: &FarmView, settings: &ReplicationSettings, subject: &str, message: &str) -> Change {
    let mut change = Change::default();
    match &view.replication {
        Some(seen) if seen.record == *settings => return change,
        Some(seen) => change.unchanged(Key::Replication, seen),
        None => change.absent(Key::Replication),
    }
    let mut settings = settings.clone();
    // What is gone cannot come back under its name with somebody's old wish.
    settings.paused_vdisks.retain(|vdisk| view.vdisks.contains_key(vdisk));
    settings.now.retain(|vdisk, _| view.vdisks.contains_key(vdisk));
    change.put(Key::Replication, &settings);
    change.event(NewEvent::new(EventKind::ReplicationChanged, subject, message));
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Write;

    fn after(view: &FarmView, change: Change) -> FarmView {
        let mut view = view.clone();
        for write in change.writes {
            if let Write::Put(key, bytes) = write {
                view.put(&key.to_string(), &bytes, 7).unwrap();
            }
        }
        view
    }

    fn limit(bytes: u64) -> ReplicationPatch {
        ReplicationPatch { limit: Some((TrafficClass::Bulk, Some(bytes))), ..ReplicationPatch::default() }
    }

    #[test]
    fn a_limit_is_at_least_a_chunk_a_second_and_can_be_lifted() {
        let view = FarmView::default();
        let refusal = change(&view, &limit(MIN_LIMIT - 1)).unwrap_err();
        assert!(refusal.hint.contains("pause"), "{refusal}");
        let view = after(&view, change(&view, &limit(MIN_LIMIT)).unwrap());
        assert_eq!(current(&view).limits[&TrafficClass::Bulk], MIN_LIMIT);
        let lifted =
            ReplicationPatch { limit: Some((TrafficClass::Bulk, None)), ..ReplicationPatch::default() };
        let view = after(&view, change(&view, &lifted).unwrap());
        assert_eq!(current(&view).limits.len(), 0);
    }

    #[test]
    fn windows_are_added_once_and_removed_by_what_they_are() {
        let window = Window { days: [1, 7].into(), from: 32, to: 72, bytes_per_s: None };
        let add = ReplicationPatch { add_window: Some(window.clone()), ..ReplicationPatch::default() };
        let remove = ReplicationPatch { remove_window: Some(window.clone()), ..ReplicationPatch::default() };
        let view = FarmView::default();
        assert_eq!(change(&view, &remove).unwrap_err().kind, RefusalKind::NotFound);
        let view = after(&view, change(&view, &add).unwrap());
        assert_eq!(change(&view, &add).unwrap_err().kind, RefusalKind::Exists);
        let view = after(&view, change(&view, &remove).unwrap());
        assert_eq!(current(&view).windows, []);
        for (from, to) in [(96, 1), (4, 97), (4, 4)] {
            let bad = Window { from, to, ..window.clone() };
            let add = ReplicationPatch { add_window: Some(bad), ..ReplicationPatch::default() };
            assert_eq!(change(&view, &add).unwrap_err().kind, RefusalKind::Invalid);
        }
    }

    #[test]
    fn only_zones_that_there_are_are_taken() {
        let zone = |zone: &str| ReplicationPatch { zone: Some(zone.to_owned()), ..Default::default() };
        let view = FarmView::default();
        assert!(change(&view, &zone("Europe/Berlin")).is_ok());
        assert!(change(&view, &zone("Europe/Nowhere")).unwrap_err().hint.contains("IANA"));
    }

    #[test]
    fn what_changes_nothing_writes_nothing_and_a_vdisk_must_exist() {
        let pause = ReplicationPatch { paused: Some(true), ..ReplicationPatch::default() };
        let view = FarmView::default();
        let view = after(&view, change(&view, &pause).unwrap());
        assert_eq!(change(&view, &pause).unwrap(), Change::default());
        let name = Name::new("gone").unwrap();
        assert_eq!(steer(&view, &name, Steer::Pause).unwrap_err().kind, RefusalKind::NotFound);
    }
}
