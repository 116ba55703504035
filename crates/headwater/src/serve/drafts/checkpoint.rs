//! Checkpoints: the draft's present state becomes an immutable content, its machine runs on.

use super::gate::After;
use super::{DraftError, DraftKey, Drafts, OpenDraft, blocking};
use crate::serve::boot_files::inspect;
use crate::serve::farm::FarmError;
use crate::serve::jobs::{Job, Step};
use crate::serve::stores::Share;
use farm::Bootable;
use farm::rules::draft::{self, Content, SinceCheckpoint};
use model::Root;
use std::sync::Arc;

/// Whether to look for a kernel inside the new content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boots {
    /// Look: somebody may boot it next.
    Look,
    /// Take what was found before: it is one of many in between.
    AsBefore,
}

/// What a checkpoint has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// The content.
    pub(crate) root: Root,
    /// Chunks that differ from the checkpoint before.
    pub(crate) changed_chunks: u32,
    /// Bytes that were read to make it.
    pub(crate) bytes_read: u64,
    /// Bytes that were written.
    pub(crate) bytes_written: u64,
}

impl Drafts {
    /// Makes what a draft holds now durable as a content of its own. A draft that nobody holds is
    /// taken for a moment, if this server has changes of it.
    pub(crate) async fn checkpoint(
        &self,
        key: &DraftKey,
        boots: Boots,
        job: Option<Arc<Job>>,
    ) -> Result<Saved, DraftError> {
        let _turn = self.turn(key).await;
        if let Some(open) = self.opened(key) {
            return self.checkpoint_open(&open, boots, job).await;
        }
        let view = self.farm.view();
        let record = draft::find(&view, &key.vdisk, key.number).map_err(FarmError::from)?;
        if record.dirty.is_none() && record.holder.is_none() {
            let root = record.checkpoint;
            return Ok(Saved { root, changed_chunks: 0, bytes_read: 0, bytes_written: 0 });
        }
        let open = self.attach_in_turn(key, None).await?;
        let saved = self.checkpoint_open(&open, boots, job).await;
        self.detach_in_turn(&open).await?;
        saved
    }

    pub(super) async fn checkpoint_open(
        &self,
        open: &Arc<OpenDraft>,
        boots: Boots,
        job: Option<Arc<Job>>,
    ) -> Result<Saved, DraftError> {
        let view = self.farm.view();
        let before = view.draft(&open.key.vdisk, open.key.number).map(|draft| draft.checkpoint);
        let before_is_safe = before.is_none_or(|before| view.copies_of(before).nth(1).is_some());
        let _relies_on_the_store = open.share.imports.read().await;
        let (saved, content) = self.content(open, boots, job).await?;
        let since = since_checkpoint(open).await;
        let commit =
            |view: &farm::FarmView, now| draft::checkpoint(view, &open.lease, content.clone(), since, now);
        let committed = self.farm.decide(commit).await;
        match (&committed, since) {
            (Ok(()), SinceCheckpoint::Written) => open.gate.resume(After::Marked),
            (Err(FarmError::Refused(_)), _) => open.gate.fence(),
            // Also where nobody knows whether it was committed: marking twice does no harm.
            (_, _) => open.gate.resume(After::Unmarked),
        }
        committed?;
        self.note_saved(&open.key, saved.bytes_written, before_is_safe);
        claim(&open.share, saved.root).await;
        drop(_relies_on_the_store);
        if let Some(before) = before.filter(|before| *before != saved.root) {
            open.share.let_go(&self.farm, before).await;
        }
        Ok(saved)
    }

    /// The content of a draft as of now, in the store; not yet named by a record.
    pub(super) async fn content(
        &self,
        open: &Arc<OpenDraft>,
        boots: Boots,
        job: Option<Arc<Job>>,
    ) -> Result<(Saved, Content), DraftError> {
        let known =
            self.farm.view().version(&open.key.vdisk, open.key.number).map(|version| version.boot.clone());
        let known = known.filter(|_| boots == Boots::AsBefore);
        let open = Arc::clone(open);
        blocking(move || make(&open.key, &open.share, &open.draft, known, job.as_deref())).await
    }
}

/// A checkpoint of the store, and what its record says. Blocking.
pub(super) fn make(
    key: &DraftKey,
    share: &Share,
    draft: &store::Draft,
    boot: Option<Bootable>,
    job: Option<&Job>,
) -> Result<(Saved, Content), DraftError> {
    let failed = |source| DraftError::Store { key: key.clone(), source };
    let saved = match draft.is_dirty() {
        false => Saved { root: draft.parent_root(), changed_chunks: 0, bytes_read: 0, bytes_written: 0 },
        true => {
            let made = draft.checkpoint(&Watching(job)).map_err(failed)?;
            Saved {
                root: made.root,
                changed_chunks: made.changed_chunks,
                bytes_read: made.bytes_read,
                bytes_written: made.bytes_written,
            }
        }
    };
    let version = share.store.version(&saved.root)?;
    let data_bytes = version.stored_bytes();
    let boot = boot.unwrap_or_else(|| inspect(version));
    Ok((saved, Content { root: saved.root, data_bytes, boot }))
}

/// Holds writes back until the gate is resumed, and says whether some came since the cut.
async fn since_checkpoint(open: &Arc<OpenDraft>) -> SinceCheckpoint {
    let open = Arc::clone(open);
    blocking(move || {
        open.gate.pause();
        match open.draft.is_dirty() {
            true => SinceCheckpoint::Written,
            false => SinceCheckpoint::Clean,
        }
    })
    .await
}

pub(super) async fn claim(share: &Arc<Share>, root: Root) {
    let worker = Arc::clone(share);
    if let Err(error) = blocking(move || worker.store.claim(&root)).await {
        tracing::error!(root = %root.short(), %error, "a checkpoint is claimed at the next start");
    }
}

/// Tells a job how a checkpoint goes.
struct Watching<'a>(Option<&'a Job>);

impl store::CheckpointObserver for Watching<'_> {
    fn progress(&self, done_bytes: u64, total_bytes: u64) {
        if let Some(job) = self.0 {
            let total_bytes = Some(total_bytes);
            job.step(Step { phase: "saving", done_bytes, total_bytes, written_bytes: done_bytes });
        }
    }

    fn cancelled(&self) -> bool {
        self.0.is_some_and(Job::is_cancelled)
    }
}

/// The checkpoint of a draft that is not open here, for people.
pub(crate) fn saved_text(key: &DraftKey, saved: &Saved) -> String {
    format!("{key}: {} chunks changed, {} bytes written", saved.changed_chunks, saved.bytes_written)
}
