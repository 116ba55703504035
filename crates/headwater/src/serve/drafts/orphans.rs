//! What becomes of discarded bytes: a vDisk of their own, or nothing.

use super::checkpoint::{claim, make};
use super::{DraftError, DraftKey, Drafts, blocking};
use crate::serve::farm::FarmError;
use crate::serve::stores::Share;
use farm::rules::orphan::{self, Restore};
use farm::rules::vdisk::name_is_free;
use farm::{Orphan, OrphanId, Refusal, RefusalKind, Stamp};
use model::Name;
use std::sync::Arc;

impl Drafts {
    /// Makes a vDisk `name` of discarded bytes; its version 1 is in test.
    pub(crate) async fn restore_orphan(
        &self,
        id: &OrphanId,
        name: &Name,
        by: &str,
    ) -> Result<(), DraftError> {
        let view = self.farm.view();
        name_is_free(&view, name).map_err(FarmError::from)?;
        let kept = orphan::kept(&view, id).map_err(FarmError::from)?.record.clone();
        let share = self.share_keeping(&kept)?;
        // Until its record is there, nothing else says that the content is needed.
        let relies_on_the_store = share.imports.read().await;
        let (worker, key, aside) = (Arc::clone(&share), DraftKey::new(&id.vdisk, id.number), name_of(&kept));
        let made = blocking(move || {
            let failed = |source| DraftError::Store { key: key.clone(), source };
            let draft = worker.store.open_draft(&aside).map_err(failed)?;
            make(&key, &worker, &draft, None, None)
        });
        let (saved, content) = made.await?;
        let restore = |view: &farm::FarmView, now| {
            let command = Restore { id: id.clone(), name: name.clone(), content: content.clone() };
            orphan::restore(view, command, &Stamp::new(by, now))
        };
        self.farm.decide(restore).await?;
        claim(&share, saved.root).await;
        drop(relies_on_the_store);
        self.clear_away_files().await;
        Ok(())
    }

    /// Deletes discarded bytes for good.
    pub(crate) async fn delete_orphan(&self, id: &OrphanId, by: &str) -> Result<(), DraftError> {
        let kept = orphan::find(&self.farm.view(), id).map_err(FarmError::from)?.record.clone();
        // Who has no share of the store cannot delete the files.
        self.share_keeping(&kept)?;
        self.farm.decide(|view, now| orphan::delete(view, id, &Stamp::new(by, now))).await?;
        self.clear_away_files().await;
        Ok(())
    }

    fn share_keeping(&self, orphan: &Orphan) -> Result<Arc<Share>, DraftError> {
        if orphan.server != self.server {
            let message = format!("server {} keeps the discarded changes {}", orphan.server, orphan.draft);
            let refusal = Refusal::new(RefusalKind::Invalid, message, "give the command on that server");
            return Err(FarmError::from(refusal).into());
        }
        let share = self.stores.find(Some(&orphan.store)).cloned();
        share.ok_or_else(|| DraftError::NoStore(orphan.store.clone()))
    }
}

fn name_of(orphan: &Orphan) -> store::DraftName {
    store::DraftName::new(&orphan.draft).expect("the rules make names of drafts")
}
