//! Mark and sweep: deletes the versions that nobody needs, and the layers that no version uses.
//!
//! What must stay is the farm's to say (`farm::roots_kept`); this end adds what it alone knows:
//! versions that are open here or that a draft stands on, and those that an import has just made or found and whose farm
//! record may not be committed yet. The order matters: [`Store::prune_mark`] first, then the
//! farm's records are read, then [`Store::prune`]. What was imported or claimed after the mark
//! stays, so that records which are a little old never delete what a newer one names.
//!
//! A prune can be killed at any moment and run again: each record goes by one unlink, and layers
//! go only when no record is left that names them.

use crate::layout::{Claim, StoreError, used_bytes};
use crate::record::LayerName;
use crate::store::{State, Store};
use model::Root;
use std::collections::{BTreeMap, BTreeSet};

/// A moment in a store's life; what arrives later is not pruned.
#[derive(Clone, Copy, Debug)]
pub struct PruneMark(u64);

/// Whether to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneMode {
    /// Only say what would be deleted.
    DryRun,
    /// Delete.
    Delete,
}

/// What a prune deleted, or would delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The versions.
    pub roots: Vec<Root>,
    /// How many layers.
    pub layers: u32,
    /// Bytes of those layers on the disk.
    pub bytes: u64,
}

/// When versions came, in steps of one.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    now: u64,
    /// Imported or found by an import, and not claimed since: a farm record may be on its way.
    expected: BTreeSet<Root>,
    claimed: BTreeMap<Root, u64>,
}

impl Arrivals {
    pub(crate) fn arrived(&mut self, root: &Root) {
        self.expected.insert(*root);
    }

    pub(crate) fn claimed(&mut self, root: &Root) {
        self.now += 1;
        self.expected.remove(root);
        self.claimed.insert(*root, self.now);
    }

    /// Whether the version had been claimed, and no import knew it, when the mark was taken.
    fn came_before(&self, root: &Root, mark: PruneMark) -> bool {
        !self.expected.contains(root) && self.claimed.get(root).is_none_or(|at| *at <= mark.0)
    }
}

impl Store {
    /// Begins a prune: to be called before the farm's records are read.
    pub fn prune_mark(&self) -> PruneMark {
        PruneMark(self.state().arrivals.now)
    }

    /// Deletes the claimed versions that are not in `keep`, not open, and came before `mark`; then
    /// the layers that no version uses.
    pub fn prune(
        &self,
        mark: PruneMark,
        keep: &BTreeSet<Root>,
        mode: PruneMode,
    ) -> Result<Pruned, StoreError> {
        let mut state = self.state();
        let roots = garbage(&state, mark, &keep.union(&self.roots_of_drafts()).copied().collect());
        let doomed = doomed_layers(&state, &roots);
        let mut pruned = Pruned { roots, layers: doomed.len() as u32, bytes: 0 };
        let sizes = doomed.iter().map(|name| used_bytes(&self.layout().layer(name)).unwrap_or(0));
        pruned.bytes = sizes.sum();
        if mode == PruneMode::Delete {
            for root in &pruned.roots {
                self.remove_record(&mut state, root)?;
            }
            self.layout().remove_orphan_layers(&state.versions)?;
        }
        Ok(pruned)
    }
}

fn garbage(state: &State, mark: PruneMark, keep: &BTreeSet<Root>) -> Vec<Root> {
    let open: BTreeSet<Root> = state.alive().map(|version| version.root()).collect();
    let claimed = state.versions.iter().filter(|(_, found)| found.claim == Claim::Claimed);
    let unused = claimed.map(|(root, _)| *root).filter(|root| !keep.contains(root) && !open.contains(root));
    unused.filter(|root| state.arrivals.came_before(root, mark)).collect()
}

/// The layers that only the `roots` use; none while a record that stays cannot be read.
fn doomed_layers(state: &State, roots: &[Root]) -> BTreeSet<LayerName> {
    let (mut doomed, mut used) = (BTreeSet::new(), BTreeSet::new());
    for (root, found) in state.versions.iter() {
        let goes = roots.binary_search(root).is_ok();
        match &found.record {
            Ok(record) if goes => doomed.extend(record.layers.iter().cloned()),
            Ok(record) => used.extend(record.layers.iter().cloned()),
            Err(_) if goes => {}
            Err(_) => return BTreeSet::new(),
        }
    }
    doomed.difference(&used).cloned().collect()
}
