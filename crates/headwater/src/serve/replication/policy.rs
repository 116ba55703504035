//! What the farm's settings mean for this server's pulling, now.

use crate::serve::farm::now;
use farm::replication::policy_at;
use farm::rules::replication::current;
use farm::{Allowed, FarmView, TrafficClass};
use mesh::{Policy, Priority, Slot};
use model::{Name, Root, VersionNumber};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long to wait at most before looking at the clock again: clocks are set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What is allowed now, and how long to wait before asking again.
pub(super) fn policy(view: &FarmView) -> (Policy, Duration) {
    let (settings, now) = (current(view), now());
    let schedule = policy_at(&settings, now);
    let slot = match schedule.allowed {
        Allowed::Nothing => Slot::Closed,
        Allowed::Limited(bytes_per_s) => Slot::Limited(bytes_per_s),
        Allowed::Everything => Slot::Open,
    };
    let priority = |class| match class {
        TrafficClass::BootProfile => Priority::BootProfile,
        TrafficClass::Checkpoint => Priority::Checkpoint,
        TrafficClass::Bulk => Priority::Bulk,
    };
    let limits = settings.limits.iter().map(|(class, bytes)| ((None, priority(*class)), *bytes)).collect();
    let forced = |(vdisk, last): (&Name, &VersionNumber)| roots(view, vdisk, *last);
    let policy = Policy {
        limits,
        slot,
        paused: settings.paused,
        paused_roots: paused(view, &settings.paused_vdisks),
        forced_roots: settings.now.iter().flat_map(forced).collect(),
    };
    let until = schedule.until.map_or(LOOK_AGAIN, |until| until.since(now));
    (policy, until.clamp(Duration::from_millis(1), LOOK_AGAIN))
}

/// What only paused vDisks need.
fn paused(view: &FarmView, vdisks: &BTreeSet<Name>) -> BTreeSet<Root> {
    let all = |vdisk: &Name| roots(view, vdisk, VersionNumber(u32::MAX));
    let paused: BTreeSet<Root> = vdisks.iter().flat_map(all).collect();
    if paused.is_empty() {
        return paused;
    }
    let others = view.vdisks.keys().filter(|vdisk| !vdisks.contains(*vdisk));
    let needed: BTreeSet<Root> = others.flat_map(all).collect();
    &paused - &needed
}

/// The contents of a vDisk's versions up to one, and of their drafts.
fn roots(view: &FarmView, vdisk: &Name, last: VersionNumber) -> Vec<Root> {
    let versions = view.versions_of(vdisk).filter(|version| version.number <= last);
    let of = |number| view.draft(vdisk, number).map(|draft| draft.checkpoint);
    versions.flat_map(|version| [Some(version.root), of(version.number)]).flatten().collect()
}
