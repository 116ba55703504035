//! Bringing drafts in step with the records at the server's start, before anybody is answered.

use super::{Boots, DraftError, DraftKey, Drafts, blocking};
use farm::{EventKind, NewEvent};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Drafts {
    /// What the last run left: drafts that are held here by nobody any more, changes that no
    /// checkpoint has, files of drafts that are sealed or deleted.
    ///
    /// `held` are the drafts whose sessions go on.
    pub(crate) async fn settle(&self, held: &BTreeSet<DraftKey>) {
        self.put_aside().await;
        for key in self.left_behind(held) {
            match self.settle_one(&key).await {
                Ok(()) => tracing::info!(%key, "what the last run left of a draft is saved"),
                Err(error) => {
                    let message = format!("what the server's last run left of {key} is not saved: {error}");
                    self.farm.event(NewEvent::new(EventKind::ServiceFailed, &key.vdisk, message));
                }
            }
        }
        self.clear_away_files().await;
    }

    fn left_behind(&self, held: &BTreeSet<DraftKey>) -> Vec<DraftKey> {
        let view = self.farm.view();
        let ours = view.drafts.values().filter(|draft| {
            let held_here = draft.holder.as_ref().is_some_and(|holder| holder.server == self.server);
            let dirty_here = draft.dirty.as_ref().is_some_and(|dirty| dirty.server == self.server);
            held_here || (draft.holder.is_none() && dirty_here)
        });
        let keys = ours.map(|draft| DraftKey::new(&draft.vdisk, draft.number));
        keys.filter(|key| !held.contains(key)).collect()
    }

    /// Saves what was written, and gives the lease back that the last run held.
    async fn settle_one(&self, key: &DraftKey) -> Result<(), DraftError> {
        let view = self.farm.view();
        let Some(draft) = view.draft(&key.vdisk, key.number) else { return Ok(()) };
        match &draft.holder {
            Some(_) => {
                let attached = self.resume(key, draft.epoch.0).await?;
                self.detach(key, attached.epoch).await
            }
            None => self.checkpoint(key, Boots::Look, None).await.map(drop),
        }
    }

    /// Deletes the files of drafts that no record knows: their versions were sealed or deleted.
    pub(crate) async fn clear_away_files(&self) {
        for share in self.stores.all().cloned() {
            let worker = Arc::clone(&share);
            // Before the records are looked at: a record is written before its files are made.
            let found: Vec<_> = blocking(move || worker.store.drafts()).await;
            // What is only remembered while the database is away may be older than a draft.
            if let Err(error) = self.farm.may_delete().await {
                return tracing::warn!(%error, "what is left of drafts is not tidied up");
            }
            let view = self.farm.view();
            let known: BTreeSet<String> = view
                .drafts
                .values()
                .map(|draft| DraftKey::new(&draft.vdisk, draft.number).stored_as().to_string())
                .chain(view.orphans.values().map(|orphan| orphan.draft.clone()))
                .collect();
            let of_records = move |name: &store::DraftName| {
                let name = name.to_string();
                known.contains(&name) || name.rsplit('.').next().is_none_or(|last| !is_number(last))
            };
            blocking(move || {
                for draft in found {
                    if of_records(&draft.name) {
                        continue;
                    }
                    match share.store.delete_draft(&draft.name) {
                        Ok(_) => tracing::info!(name = %draft.name, "deleted the files of a draft that is none any more"),
                        Err(error) => tracing::warn!(name = %draft.name, %error, "files of a draft stay"),
                    }
                }
            })
            .await;
        }
    }
}

/// Whether the last part of a draft's name is that of a version's draft, `7`, or of one put aside,
/// `e7`; what hooks work on ends in something else.
fn is_number(last: &str) -> bool {
    last.strip_prefix('e').unwrap_or(last).parse::<u64>().is_ok()
}
