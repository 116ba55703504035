//! Checkpoints of drafts that came here and that a newer one has replaced: their room is given back.

use crate::serve::farm::FarmHandle;
use crate::serve::stores::Stores;
use farm::FarmView;
use model::Root;
use std::collections::BTreeSet;

/// The drafts' checkpoints that were seen and are still here.
#[derive(Debug, Default)]
pub(super) struct Former(BTreeSet<Root>);

impl Former {
    /// Notes the present checkpoints, and deletes the ones before that nothing names any more. What
    /// cannot go now (an import is at work, a draft lies above it) is tried again next time.
    pub(super) async fn let_go(&mut self, stores: &Stores, farm: &FarmHandle) {
        let view = farm.view();
        self.0.extend(view.drafts.values().map(|draft| draft.checkpoint));
        for root in self.replaced(&view) {
            for share in stores.all().filter(|share| share.store.roots().contains(&root)) {
                share.let_go(farm, root).await;
            }
            if !stores.all().any(|share| share.store.roots().contains(&root)) {
                self.0.remove(&root);
            }
        }
    }

    fn replaced(&self, view: &FarmView) -> Vec<Root> {
        self.0.iter().filter(|root| !view.names(**root)).copied().collect()
    }
}
