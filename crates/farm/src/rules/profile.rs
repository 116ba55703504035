//! Boot profiles: learned from boots, inherited by the versions that come after, forgotten with
//! their content.
//!
//! Nothing relies on them: a profile that is lost or wrong makes a boot slower and harms nobody.

use crate::change::Change;
use crate::key::Key;
use crate::profile::LearnedProfile;
use crate::record::FormatRevision;
use crate::timestamp::Timestamp;
use crate::vdisk::Version;
use crate::view::{FarmView, Stored};
use model::{BootProfile, Root, VersionNumber};
use std::collections::BTreeSet;

/// After so many boots a profile changes only where a boot has read much else.
const KNOWN_AFTER_BOOTS: u32 = 4;
/// Much else: one chunk of so many.
const MUCH: usize = 64;
/// The most records that one sweep changes.
const SWEEP_BATCH: usize = 32;

/// A profile as a version has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileOf<'a> {
    /// The record.
    pub learned: &'a LearnedProfile,
    /// The version it was learned from, where that is another one: the nearest below that has one.
    pub inherited_from: Option<VersionNumber>,
}

/// The profile of a version: its own, or else that of the nearest version below that has one, for
/// what is below lies at the same addresses.
pub fn profile_of<'a>(view: &'a FarmView, version: &Version) -> Option<ProfileOf<'a>> {
    if let Some(own) = view.profiles.get(&version.root) {
        return Some(ProfileOf { learned: own, inherited_from: None });
    }
    let mut seen = BTreeSet::from([version.number]);
    let mut number = version.parent?;
    // A version's parent has a lower number, but records are not trusted to end a loop.
    while seen.insert(number) {
        let parent = view.version(&version.vdisk, number)?;
        if let Some(learned) = view.profiles.get(&parent.root) {
            return Some(ProfileOf { learned, inherited_from: Some(number) });
        }
        number = parent.parent?;
    }
    None
}

/// Takes in what one boot of a content has read; changes nothing where that tells nothing new.
pub fn learned(view: &FarmView, root: Root, read: &BootProfile, now: Timestamp) -> Change {
    let mut change = Change::default();
    let version = view.versions.values().find(|version| version.root == root);
    let Some(version) = version.filter(|_| !read.is_empty()) else { return change };
    let key = Key::Profile(root);
    let before = profile_of(view, version);
    if let Some(known) = before.as_ref().filter(|known| known.inherited_from.is_none()) {
        let many = known.learned.boots >= KNOWN_AFTER_BOOTS;
        if many && known.learned.chunks.lacks(read) * MUCH <= read.chunks().len() {
            return change;
        }
    }
    match view.profiles.get(&root) {
        Some(own) => change.unchanged(key.clone(), own),
        None => change.absent(key.clone()),
    }
    let boots = view.profiles.get(&root).map_or(0, |own| own.boots).saturating_add(1);
    let chunks = before.map_or_else(|| read.clone(), |known| known.learned.chunks.merged(read));
    change.put(key, &LearnedProfile { revision: FormatRevision, boots, at: now, chunks });
    change
}

/// Hands profiles on to the versions in production that have none of their own, so that they stay
/// when the versions below go, and forgets those of contents that no version has. At most 32
/// records; none are left when it answers an empty change.
pub fn sweep(view: &FarmView, now: Timestamp) -> Change {
    let mut change = Change::default();
    let production = view.vdisks.keys().filter_map(|vdisk| view.production_of(vdisk));
    for version in production {
        let Some(ProfileOf { learned, inherited_from: Some(_) }) = profile_of(view, version) else {
            continue;
        };
        if change.writes.len() < SWEEP_BATCH && !puts(&change, version) {
            let key = Key::Profile(version.root);
            change.absent(key.clone());
            change.put(key, &LearnedProfile { boots: 0, at: now, ..learned.clone() });
        }
    }
    let used: BTreeSet<Root> = view.versions.values().map(|version| version.root).collect();
    let left = SWEEP_BATCH - change.writes.len();
    for (root, profile) in view.profiles.iter().filter(|(root, _)| !used.contains(*root)).take(left) {
        change.unchanged(Key::Profile(*root), profile);
        change.delete(Key::Profile(*root));
    }
    change
}

/// Whether another vDisk's version of the same content was handed the profile already.
fn puts(change: &Change, version: &Stored<Version>) -> bool {
    let key = Key::Profile(version.root);
    change.preconditions.iter().any(|precondition| precondition.key == key)
}
