//! Which contents this server's stores must have, by the farm's records and by what is read here.

use crate::serve::stores::{Share, Stores};
use farm::FarmView;
use mesh::{Priority, Wanted};
use model::{Name, Root};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What must be here: the versions of every vDisk in a store that this server has a share of, and
/// the checkpoints of their drafts; and what sessions read here, as long as they do.
pub(super) fn wanted(view: &FarmView, stores: &Stores, server: &Name) -> BTreeMap<Root, Wanted> {
    let mut wanted = BTreeMap::new();
    for share in stores.all() {
        let ours = view.stores.get(&share.name).is_some_and(|store| store.paths.contains_key(server));
        if ours {
            of_share(view, share, &mut wanted);
        }
        let reads = view.readings.get(server).into_iter().flat_map(|reading| &reading.reads);
        for reads in reads.filter(|reads| reads.store == share.name) {
            let store = Arc::clone(&share.store);
            wanted.entry(reads.root).or_insert(Wanted { store, below: None, priority: Priority::Bulk });
        }
    }
    wanted
}

fn of_share(view: &FarmView, share: &Share, wanted: &mut BTreeMap<Root, Wanted>) {
    let is_here = |vdisk: &Name| view.vdisks.get(vdisk).is_some_and(|vdisk| vdisk.store == share.name);
    for version in view.versions.values().filter(|version| is_here(&version.vdisk)) {
        let siblings = || view.versions.values().filter(|other| other.vdisk == version.vdisk);
        let parent = siblings().find(|other| Some(other.number) == version.parent);
        let older = siblings().filter(|other| other.number < version.number).max_by_key(|other| other.number);
        let below = parent.or(older).map(|other| other.root).filter(|root| *root != version.root);
        let store = Arc::clone(&share.store);
        wanted.entry(version.root).or_insert(Wanted { store, below, priority: Priority::Bulk });
    }
    if let Some(canary) = view.canaries.get(&share.name) {
        let store = Arc::clone(&share.store);
        wanted.entry(canary.root).or_insert(Wanted { store, below: None, priority: Priority::Bulk });
    }
    for (of, draft) in view.drafts.iter().filter(|((vdisk, _), _)| is_here(vdisk)) {
        let below = view.versions.get(of).map(|version| version.root);
        let below = below.filter(|root| *root != draft.checkpoint);
        let store = Arc::clone(&share.store);
        wanted.entry(draft.checkpoint).or_insert(Wanted { store, below, priority: Priority::Checkpoint });
    }
}

/// Deletes what was on its way here, that no record names any more and nobody reads. Nothing as long
/// as the records are older than the stores.
pub(super) fn let_go(view: &FarmView, stores: &Stores, wanted: &BTreeMap<Root, Wanted>) {
    if view.restored.is_some() {
        return;
    }
    for share in stores.all() {
        for root in share.store.receiving().into_iter().filter(|root| !wanted.contains_key(root)) {
            if share.is_read(view, root) {
                continue;
            }
            match share.store.delete(&root) {
                Ok(_) => tracing::info!(root = %root.short(), "let go of a version that was on its way"),
                Err(error) => tracing::warn!(root = %root.short(), %error, "a version on its way stays"),
            }
        }
    }
}
