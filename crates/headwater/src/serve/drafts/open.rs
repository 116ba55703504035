//! Attaching a draft: lease, files, gate. And giving it back.

use super::gate::{Gate, Mark, NotMarked};
use super::gated::Gated;
use super::{DraftError, DraftKey, Drafts, OpenDraft, blocking};
use crate::serve::farm::{FarmError, FarmHandle};
use disk::{BlockIo, DraftDisk};
use farm::Draft;
use farm::rules::draft::{self, Attach, Lease};
use model::Name;
use std::sync::Arc;
use store::Store;

/// A draft's disk for one epoch.
pub(crate) struct Attached {
    pub(crate) epoch: u64,
    pub(crate) disk: Arc<dyn BlockIo>,
}

impl Drafts {
    /// Takes the write lease for a device, or for this server itself, and opens the draft. What an
    /// older epoch still sends is refused from here on.
    pub(crate) async fn attach(&self, key: &DraftKey, device: Option<Name>) -> Result<Attached, DraftError> {
        let _turn = self.turn(key).await;
        let open = self.attach_in_turn(key, device).await?;
        Ok(Attached { epoch: open.lease.epoch.0, disk: open.disk() })
    }

    /// Opens a draft in the epoch that this server held it in when it ended.
    pub(crate) async fn resume(&self, key: &DraftKey, epoch: u64) -> Result<Attached, DraftError> {
        let _turn = self.turn(key).await;
        let (server, DraftKey { vdisk, number }) = (self.server.clone(), key.clone());
        let lease = Lease { vdisk, number, server, epoch: farm::Epoch(epoch) };
        let open = self.open_in_turn(key, lease).await?;
        Ok(Attached { epoch, disk: open.disk() })
    }

    /// Ends an epoch: makes what it wrote a checkpoint, and gives the lease back. Does nothing where
    /// the draft is not open in this epoch.
    pub(crate) async fn detach(&self, key: &DraftKey, epoch: u64) -> Result<(), DraftError> {
        let _turn = self.turn(key).await;
        match self.opened(key).filter(|open| open.lease.epoch.0 == epoch) {
            Some(open) => self.detach_in_turn(&open).await,
            None => Ok(()),
        }
    }

    pub(super) async fn attach_in_turn(
        &self,
        key: &DraftKey,
        device: Option<Name>,
    ) -> Result<Arc<OpenDraft>, DraftError> {
        let DraftKey { vdisk, number } = key.clone();
        let attach = Attach { vdisk, number, server: self.server.clone(), device };
        let mut epoch = farm::Epoch(0);
        let taken = self.farm.decide(|view, now| {
            let (change, next) = draft::attach(view, &attach, now)?;
            epoch = next;
            Ok(change)
        });
        taken.await?;
        let Attach { vdisk, number, server, .. } = attach;
        let lease = Lease { vdisk, number, server, epoch };
        let opened = self.open_in_turn(key, lease.clone()).await;
        if opened.is_err() {
            self.give_back(&lease).await;
        }
        opened
    }

    /// Opens the files for a lease that the farm has granted.
    async fn open_in_turn(&self, key: &DraftKey, lease: Lease) -> Result<Arc<OpenDraft>, DraftError> {
        let record = self.record(&lease)?;
        let share = self.share_of(&key.vdisk)?;
        // Out of the table while it is between two epochs: nobody may find the old one.
        let before = self.lock().remove(key);
        let (files, store, server, known) =
            (key.clone(), Arc::clone(&share.store), self.server.clone(), record.clone());
        let opened = blocking(move || {
            if let Some(before) = before {
                before.end();
            }
            open_files(&store, &files, &known, &server)
        });
        let draft = opened.await?;
        let gate = Arc::new(Gate::new(mark(&self.farm, &lease)));
        let (key, lease) = (key.clone(), lease);
        let open = Arc::new(OpenDraft { key: key.clone(), lease, share, draft, gate });
        self.reconcile(&open, &record).await?;
        self.lock().insert(key, Arc::clone(&open));
        Ok(open)
    }

    /// Brings record and files together after a crash between the two; no write enters meanwhile.
    async fn reconcile(&self, open: &Arc<OpenDraft>, record: &Draft) -> Result<(), DraftError> {
        if open.draft.parent_root() != record.checkpoint {
            // The store has a checkpoint that the record does not name: it goes into the record.
            return self.checkpoint_open(open, super::Boots::Look, None).await.map(drop);
        }
        if open.draft.is_dirty() && record.dirty.is_none() {
            // Bytes that were never acknowledged; from now on they count like those that were.
            let gate = Arc::clone(&open.gate);
            let marked = blocking(move || gate.mark_now()).await;
            return marked.map_err(|_| DraftError::Gone(open.key.clone()));
        }
        Ok(())
    }

    pub(super) async fn detach_in_turn(&self, open: &Arc<OpenDraft>) -> Result<(), DraftError> {
        let ended = Arc::clone(open);
        blocking(move || ended.end()).await;
        let saved = self.checkpoint_open(open, super::Boots::Look, None).await;
        self.lock().remove(&open.key);
        let given_back = self.farm.decide(|view, _| draft::detach(view, &open.lease)).await;
        // Without a checkpoint the record goes on to say that this server has bytes of its own.
        saved?;
        Ok(given_back?)
    }

    async fn give_back(&self, lease: &Lease) {
        if let Err(error) = self.farm.decide(|view, _| draft::detach(view, lease)).await {
            tracing::warn!(%error, "a lease is given back at the next start");
        }
    }

    /// The record of a draft that this lease holds.
    fn record(&self, lease: &Lease) -> Result<Draft, DraftError> {
        let view = self.farm.view();
        let held = |draft: &&farm::Stored<Draft>| {
            let here = draft.holder.as_ref().is_some_and(|holder| holder.server == lease.server);
            here && draft.epoch == lease.epoch
        };
        let found = view.draft(&lease.vdisk, lease.number).filter(held);
        let gone = || DraftError::Gone(DraftKey::new(&lease.vdisk, lease.number));
        found.map(|draft| draft.record.clone()).ok_or_else(gone)
    }
}

impl OpenDraft {
    fn disk(&self) -> Arc<dyn BlockIo> {
        Arc::new(Gated::new(DraftDisk::new(Arc::clone(&self.draft)), Arc::clone(&self.gate)))
    }

    /// Keeps all writes out and waits until none is under way. Blocking.
    pub(super) fn end(&self) {
        self.gate.fence();
        self.gate.drain();
    }
}

/// Commits the dirty record of a lease's epoch; called on threads that may wait.
fn mark(farm: &Arc<FarmHandle>, lease: &Lease) -> Mark {
    let (farm, lease, runtime) = (Arc::clone(farm), lease.clone(), tokio::runtime::Handle::current());
    Box::new(move || {
        let marked = runtime.block_on(farm.decide(|view, now| draft::mark_dirty(view, &lease, now)));
        marked.map_err(|error| match error {
            FarmError::Refused(refusal) => {
                tracing::warn!(%refusal, "a write is refused");
                NotMarked::Fenced
            }
            failed => NotMarked::Failed(failed.to_string()),
        })
    })
}

/// The draft's files as the record says they must be: made anew where the record needs none.
fn open_files(
    store: &Store,
    key: &DraftKey,
    record: &Draft,
    server: &Name,
) -> Result<Arc<store::Draft>, DraftError> {
    let name = key.stored_as();
    let failed = |source| DraftError::Store { key: key.clone(), source };
    let ours = record.dirty.as_ref().is_some_and(|dirty| dirty.server == *server);
    if !store.drafts().iter().any(|draft| draft.name == name) {
        return match ours {
            true => Err(DraftError::Lost(key.clone())),
            false => store.create_draft(&name, &record.checkpoint).map_err(failed),
        };
    }
    let draft = store.open_draft(&name).map_err(failed)?;
    if ours || draft.parent_root() == record.checkpoint {
        return Ok(draft);
    }
    // The draft went on elsewhere from a checkpoint that this server made: nothing here was
    // acknowledged since, and nothing is thrown away that somebody might still ask for.
    let dirty = draft.is_dirty();
    drop(draft);
    match dirty {
        false => store.delete_draft(&name).map_err(failed)?,
        true => {
            let aside = store::DraftName::new(&format!("{}.{}.stale{}", key.vdisk, key.number, record.epoch));
            store.rename_draft(&name, &aside.expect("a name, dots and numbers")).map_err(failed)?;
            tracing::warn!(%key, "unacknowledged writes from before the draft went on elsewhere are kept aside");
        }
    }
    store.create_draft(&name, &record.checkpoint).map_err(failed)
}
