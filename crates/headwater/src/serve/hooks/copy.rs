//! The copy of a draft that hooks run against: a draft of its own over a checkpoint.
//!
//! It is gone when this value is, and what a crash leaves of it goes at the next start. Its root,
//! once cut, stays in the store as long as the copy is there: the caller keeps the copy until a
//! record names the root.

use super::{HookError, HookReport, Hooks, Subject};
use disk::{BlockIo, DraftDisk};
use model::{Name, Root};
use std::sync::Arc;
use store::{Draft, DraftError, DraftName, Quiet, Store};

/// How the names of copies end; names of drafts end in a number.
const SUFFIX: &str = ".hook";

/// What hooks made of a checkpoint.
pub(crate) struct Hooked {
    /// The content after the hooks; the checkpoint's own where they changed nothing.
    pub(crate) root: Root,
    /// Chunks that differ from the checkpoint's.
    pub(crate) changed_chunks: u32,
    /// What each hook did.
    pub(crate) reports: Vec<HookReport>,
    /// Keeps the root in the store.
    copy: DraftCopy,
}

impl Hooked {
    /// Lets go of the copy, now that a record names the root and the store has claimed it.
    pub(crate) fn end(self) {
        drop(self.copy);
    }
}

impl Hooks {
    /// Runs hooks against a copy of a checkpoint and cuts what they made.
    ///
    /// After an error nothing of it is left. Blocks.
    pub(crate) fn run(
        &self,
        store: &Arc<Store>,
        subject: &Subject,
        checkpoint: &Root,
        hooks: &[Name],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Hooked, HookError> {
        let copy = DraftCopy::make(store, subject, checkpoint)?;
        let reports = self.run_on(&copy.disk(), subject, hooks, cancelled)?;
        let cut = copy.draft.checkpoint(&Quiet)?;
        Ok(Hooked { root: cut.root, changed_chunks: cut.changed_chunks, reports, copy })
    }

    /// Runs hooks against a copy of a content and throws the copy away. Blocks.
    pub(crate) fn test(
        &self,
        store: &Arc<Store>,
        subject: &Subject,
        content: &Root,
        hooks: &[Name],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<HookReport>, HookError> {
        let copy = DraftCopy::make(store, subject, content)?;
        self.run_on(&copy.disk(), subject, hooks, cancelled)
    }
}

/// Deletes what a crash left of copies; called at the start, before any hook runs.
pub(crate) fn clear_away(store: &Store) {
    for left in store.drafts().into_iter().filter(|draft| draft.name.as_str().ends_with(SUFFIX)) {
        match store.delete_draft(&left.name) {
            Ok(()) => tracing::info!(name = %left.name, "deleted what the last run left of a hook's copy"),
            Err(error) => tracing::warn!(name = %left.name, %error, "a hook's copy stays"),
        }
    }
}

/// A draft that is deleted when it is dropped.
struct DraftCopy {
    store: Arc<Store>,
    draft: Arc<Draft>,
}

impl DraftCopy {
    fn make(store: &Arc<Store>, subject: &Subject, content: &Root) -> Result<Self, HookError> {
        let name = format!("{}.{}{SUFFIX}", subject.vdisk, subject.number);
        let name = DraftName::new(&name).expect("a name, a number and letters");
        let draft = store.create_draft(&name, content).map_err(|error| match error {
            DraftError::Exists(_) => HookError::Busy { vdisk: subject.vdisk.clone(), number: subject.number },
            error => error.into(),
        })?;
        Ok(Self { store: Arc::clone(store), draft })
    }

    fn disk(&self) -> Arc<dyn BlockIo> {
        Arc::new(DraftDisk::new(Arc::clone(&self.draft)))
    }
}

impl Drop for DraftCopy {
    fn drop(&mut self) {
        let name = self.draft.name();
        if let Err(error) = self.store.delete_draft(name) {
            tracing::warn!(%name, %error, "a hook's copy goes at the next start");
        }
    }
}

#[cfg(test)]
mod tests;
