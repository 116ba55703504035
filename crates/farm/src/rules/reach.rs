//! What content the records still need: what prune may not delete.

use crate::view::FarmView;
use model::Root;
use std::collections::BTreeSet;

/// Every content that a version, a draft's checkpoint, an orphan's or a canary needs.
///
/// Sessions and the drafts that a server has open are known to that server only; it adds them.
pub fn roots_in_use(view: &FarmView) -> BTreeSet<Root> {
    let versions = view.versions.values().map(|version| version.root);
    let drafts = view.drafts.values().map(|draft| draft.checkpoint);
    let orphans = view.orphans.values().map(|orphan| orphan.checkpoint);
    let canaries = view.canaries.values().map(|canary| canary.root);
    versions.chain(drafts).chain(orphans).chain(canaries).collect()
}
