//! Sealing: the draft's content becomes the version's for ever.

use super::{Boots, DraftError, DraftKey, Drafts, OpenDraft, Saved, blocking, checkpoint};
use crate::serve::boot_files::inspect;
use crate::serve::farm::{FarmError, now};
use crate::serve::hooks::{HookReport, Hooked, Subject};
use crate::serve::jobs::Job;
use farm::rules::draft::Content;
use farm::rules::orphan::Discard;
use farm::rules::{draft, orphan};
use farm::{Orphan, OrphanId, OrphanState, Stamp};
use model::Name;
use std::sync::Arc;

/// How a draft is sealed.
pub(crate) struct Sealing {
    /// What runs against a copy of the content first, in order.
    pub(crate) hooks: Vec<Name>,
    /// Who seals.
    pub(crate) by: String,
}

impl Drafts {
    /// Seals a draft that nobody holds. Every byte that was ever acknowledged is in its content.
    pub(crate) async fn seal(
        &self,
        key: &DraftKey,
        request: &Sealing,
        job: Arc<Job>,
    ) -> Result<Saved, DraftError> {
        self.hooks.check(&request.hooks)?;
        let _turn = self.turn(key).await;
        let open = self.attach_in_turn(key, None).await?;
        let sealed = self.seal_in_turn(&open, request, job).await;
        match &sealed {
            Ok(_) => self.clear_away(&open).await,
            Err(_) => self.detach_in_turn(&open).await?,
        }
        sealed
    }

    async fn seal_in_turn(
        &self,
        open: &Arc<OpenDraft>,
        request: &Sealing,
        job: Arc<Job>,
    ) -> Result<Saved, DraftError> {
        // The server itself holds it and writes nothing: what is cut now is all there is.
        let before = self.farm.view().draft(&open.key.vdisk, open.key.number).map(|draft| draft.checkpoint);
        let relies_on_the_store = open.share.imports.read().await;
        let (mut saved, mut content) = self.content(open, Boots::Look, Some(Arc::clone(&job))).await?;
        let mut hooked = None;
        if !request.hooks.is_empty() {
            let (after, its_content, copy) = self.after_hooks(open, request, saved, job).await?;
            (saved, content, hooked) = (after, its_content, Some(copy));
        }
        let seal = |view: &farm::FarmView, now| {
            draft::seal(view, &open.lease, content.clone(), &Stamp::new(&request.by, now))
        };
        self.farm.decide(seal).await?;
        checkpoint::claim(&open.share, saved.root).await;
        if let Some(hooked) = hooked {
            blocking(move || hooked.end()).await;
        }
        drop(relies_on_the_store);
        if let Some(before) = before.filter(|before| *before != saved.root) {
            open.share.let_go(&self.farm, before).await;
        }
        Ok(saved)
    }

    /// What hooks make of a content; the second part is kept until a record names the root.
    async fn after_hooks(
        &self,
        open: &Arc<OpenDraft>,
        request: &Sealing,
        before: Saved,
        job: Arc<Job>,
    ) -> Result<(Saved, Content, Hooked), DraftError> {
        let (open, hooks, names) = (Arc::clone(open), self.hooks.clone(), request.hooks.clone());
        blocking(move || {
            let subject = Subject { vdisk: open.key.vdisk.clone(), number: open.key.number };
            let store = &open.share.store;
            let hooked = hooks.run(store, &subject, &before.root, &names, &|| job.is_cancelled())?;
            for HookReport { hook, lines, touched_chunks } in &hooked.reports {
                tracing::info!(key = %open.key, %hook, touched_chunks, "a hook has run: {}", lines.join("; "));
            }
            let version = store.version(&hooked.root)?;
            let (root, data_bytes) = (hooked.root, version.stored_bytes());
            let content = Content { root, data_bytes, boot: inspect(version) };
            let changed_chunks = before.changed_chunks + hooked.changed_chunks;
            Ok((Saved { root, changed_chunks, ..before }, content, hooked))
        })
        .await
    }

    /// Deletes the files of a draft that is none any more.
    async fn clear_away(&self, open: &Arc<OpenDraft>) {
        self.lock().remove(&open.key);
        let ended = Arc::clone(open);
        let deleted = blocking(move || {
            ended.gate.fence();
            ended.share.store.delete_draft(&ended.key.stored_as())
        });
        if let Err(error) = deleted.await {
            tracing::warn!(key = %open.key, %error, "the files of a sealed draft go at the next start");
        }
    }

    /// Takes a draft away from whoever holds it, wherever that is; nothing is given up.
    pub(crate) async fn release(&self, key: &DraftKey, by: &str) -> Result<(), FarmError> {
        let DraftKey { vdisk, number } = key;
        self.farm.decide(|view, now| draft::release(view, vdisk, *number, &Stamp::new(by, now))).await?;
        self.fence_passed(&self.farm.view());
        Ok(())
    }

    /// Gives up what this server has of a draft and no checkpoint has; it is kept aside.
    pub(crate) async fn discard(
        &self,
        key: &DraftKey,
        command: &Discard,
        by: &str,
    ) -> Result<(), DraftError> {
        let _turn = self.turn(key).await;
        let discard = |view: &farm::FarmView, now| orphan::discard(view, command, &Stamp::new(by, now));
        self.farm.decide(discard).await?;
        // Its epoch has passed with the commit.
        let open = self.lock().remove(key);
        if let Some(open) = open {
            blocking(move || open.end()).await;
        }
        self.put_aside().await;
        Ok(())
    }

    /// Gives discarded bytes of this server their own name, after which the draft can be attached.
    pub(super) async fn put_aside(&self) {
        let view = self.farm.view();
        let claimed = orphan::claimed_from(&view, &self.server);
        let claimed: Vec<_> = claimed.map(|(id, orphan)| (id.clone(), orphan.record.clone())).collect();
        for (id, orphan) in claimed {
            let found = match self.put_one_aside(&id, &orphan).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(orphan = orphan.draft, %error, "discarded bytes are not put aside");
                    continue;
                }
            };
            if let Err(error) = self.farm.decide(|view, _| orphan::settle(view, &id, found)).await {
                tracing::error!(orphan = orphan.draft, %error, "discarded bytes are settled at the next start");
            }
        }
    }

    async fn put_one_aside(&self, id: &OrphanId, orphan: &Orphan) -> Result<OrphanState, DraftError> {
        let key = DraftKey::new(&id.vdisk, id.number);
        let share = self
            .stores
            .find(Some(&orphan.store))
            .cloned()
            .ok_or_else(|| DraftError::NoStore(orphan.store.clone()))?;
        let aside = orphan.draft.clone();
        blocking(move || {
            let failed = |source| DraftError::Store { key: key.clone(), source };
            let aside = store::DraftName::new(&aside).expect("the rules make names of drafts");
            let has = |name: &store::DraftName| share.store.drafts().iter().any(|draft| draft.name == *name);
            if has(&aside) {
                return Ok(OrphanState::Kept);
            }
            if !has(&key.stored_as()) {
                return Ok(OrphanState::Lost);
            }
            share.store.rename_draft(&key.stored_as(), &aside).map_err(failed)?;
            Ok(OrphanState::Kept)
        })
        .await
    }

    /// Deletes the files of a draft whose version was deleted.
    pub(crate) async fn forget(&self, key: &DraftKey) {
        let _turn = self.turn(key).await;
        if let Some(open) = self.lock().remove(key) {
            open.gate.fence();
        }
        self.clear_away_files().await;
    }

    /// Whether this server could take a draft now; refuses as attaching would.
    pub(crate) fn may_attach(&self, key: &DraftKey) -> Result<(), FarmError> {
        let DraftKey { vdisk, number } = key.clone();
        let attach = draft::Attach { vdisk, number, server: self.server.clone(), device: None };
        draft::attach(&self.farm.view(), &attach, now()).map(drop)?;
        Ok(())
    }
}
