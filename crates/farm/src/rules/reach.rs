//! What content the records and the devices still need: what prune may not delete.

use crate::view::FarmView;
use model::Root;
use std::collections::BTreeSet;

/// Every content that a version, a draft's checkpoint, an orphan's or a canary needs.
///
/// Whether a server may delete one that is not among these is [`roots_kept`]'s to say.
pub fn roots_in_use(view: &FarmView) -> BTreeSet<Root> {
    let versions = view.versions.values().map(|version| version.root);
    let drafts = view.drafts.values().map(|draft| draft.checkpoint);
    let orphans = view.orphans.values().map(|orphan| orphan.checkpoint);
    let canaries = view.canaries.values().map(|canary| canary.root);
    versions.chain(drafts).chain(orphans).chain(canaries).collect()
}

/// The same, and every content that the sessions of any server read. The drafts that a server has
/// open are known to that server only; it adds them.
pub fn roots_kept(view: &FarmView) -> BTreeSet<Root> {
    let read = view.readings.values().flat_map(|reading| &reading.reads);
    roots_in_use(view).into_iter().chain(read.map(|reads| reads.root)).collect()
}
