//! The draft service: who writes which draft of this server, and how its bytes become versions.
//!
//! The rules are in `farm::rules::draft`, the bytes in `store::Draft`; here is the order of things
//! that makes both agree after any crash. Whatever concerns one draft takes its turn ([`Drafts::turn`]);
//! only writes do not, they pass the gate (`gate.rs`).
//!
//! Read next: `drafts/open.rs` for attaching, `checkpoint.rs`, `seal.rs`, `upkeep.rs`.

mod checkpoint;
mod gate;
mod gated;
mod open;
mod orphans;
mod resume;
mod seal;

use super::farm::{FarmError, FarmHandle};
use super::hooks::{HookError, Hooks};
use super::stores::{Share, Stores};
use farm::rules::draft::Lease;
use farm::{Draft, FarmView};
use gate::Gate;
use model::{Name, VersionNumber};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use store::DraftName;
use tokio::sync::OwnedMutexGuard;

pub(crate) use checkpoint::{Boots, Saved, saved_text};
pub(crate) use seal::Sealing;

/// A draft: a version that is not sealed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DraftKey {
    pub(crate) vdisk: Name,
    pub(crate) number: VersionNumber,
}

impl DraftKey {
    pub(crate) fn new(vdisk: &Name, number: VersionNumber) -> Self {
        Self { vdisk: vdisk.clone(), number }
    }

    /// What the store calls it.
    pub(crate) fn stored_as(&self) -> DraftName {
        let name = format!("{}.{}", self.vdisk, self.number);
        DraftName::new(&name).expect("a name, a dot and a number")
    }
}

/// `version 3 of vDisk win11`
impl fmt::Display for DraftKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} of vDisk {}", self.number, self.vdisk)
    }
}

/// Why something was not done with a draft.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DraftError {
    /// The rules or the database said no.
    #[error(transparent)]
    Farm(#[from] FarmError),
    /// The store is not one of this server's.
    #[error("this server has no share of store {0}\nhint: add a [[store]] section for it")]
    NoStore(Name),
    /// The store could not do it.
    #[error("the store cannot keep {key}: {source}")]
    Store { key: DraftKey, source: store::DraftError },
    /// A content cannot be read.
    #[error(transparent)]
    Version(#[from] store::VersionError),
    /// Its acknowledged bytes are not where they were.
    #[error(
        "the changes of {0} since its last checkpoint are not in this server's store any more\n\
         hint: bring the store's disk back; only if they are lost: `headwater version discard`"
    )]
    Lost(DraftKey),
    /// A hook failed, or could not be run; the draft is as it was.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// Somebody else has taken it meanwhile.
    #[error("{0} is not held here any more\nhint: `headwater version show` says who holds it")]
    Gone(DraftKey),
}

/// A draft that is written on this server now.
pub(crate) struct OpenDraft {
    key: DraftKey,
    lease: Lease,
    share: Arc<Share>,
    draft: Arc<store::Draft>,
    gate: Arc<Gate>,
}

/// The drafts of this server.
pub(crate) struct Drafts {
    farm: Arc<FarmHandle>,
    server: Name,
    stores: Stores,
    hooks: Hooks,
    open: Mutex<HashMap<DraftKey, Arc<OpenDraft>>>,
    turns: Mutex<HashMap<DraftKey, Weak<tokio::sync::Mutex<()>>>>,
    /// Bytes of this server's checkpoints that no other server had when the next was made.
    saved_alone: Mutex<HashMap<DraftKey, u64>>,
}

impl Drafts {
    /// The drafts of this server, none of them open; `hooks` may run before a seal.
    pub(crate) fn new(farm: Arc<FarmHandle>, stores: Stores, hooks: Hooks) -> Self {
        let server = farm.server().clone();
        Self {
            farm,
            server,
            stores,
            hooks,
            open: Mutex::default(),
            turns: Mutex::default(),
            saved_alone: Mutex::default(),
        }
    }

    /// The farm whose drafts they are.
    pub(crate) fn farm(&self) -> &Arc<FarmHandle> {
        &self.farm
    }

    /// Bytes of a draft that no checkpoint has, where they are here and the draft is open.
    pub(crate) fn dirty_bytes(&self, key: &DraftKey) -> Option<u64> {
        self.opened(key).map(|open| open.draft.dirty_bytes())
    }

    /// Bytes of a draft that only this server may have, where the draft is open here: those that no
    /// checkpoint has, and those of checkpoints that had not come to others when the next was made.
    pub(crate) fn alone_bytes(&self, key: &DraftKey) -> Option<u64> {
        let dirty = self.dirty_bytes(key)?;
        let view = self.farm.view();
        let draft = view.draft(&key.vdisk, key.number)?;
        let saved = match view.copies_of(draft.checkpoint).nth(1) {
            Some(_) => 0,
            None => self.saved_alone().get(key).copied().unwrap_or(0),
        };
        Some(dirty + saved)
    }

    /// Notes the bytes of a new checkpoint; `before_is_safe` says whether another server has the one
    /// before, so that only the new one's bytes are alone.
    fn note_saved(&self, key: &DraftKey, bytes: u64, before_is_safe: bool) {
        let mut alone = self.saved_alone();
        // Bounded by the drafts that are open here.
        let open = self.lock();
        alone.retain(|other, _| other == key || open.contains_key(other));
        drop(open);
        let sum = alone.entry(key.clone()).or_default();
        *sum = if before_is_safe { bytes } else { *sum + bytes };
    }

    fn saved_alone(&self) -> MutexGuard<'_, HashMap<DraftKey, u64>> {
        self.saved_alone.lock().expect("no holder of this lock panics")
    }

    /// Whether a draft is open here in this epoch.
    pub(crate) fn is_open(&self, key: &DraftKey, epoch: u64) -> bool {
        self.opened(key).is_some_and(|open| open.lease.epoch.0 == epoch)
    }

    /// The drafts that are open here, with the epoch of each.
    pub(crate) fn list(&self) -> Vec<(DraftKey, u64)> {
        self.lock().values().map(|open| (open.key.clone(), open.lease.epoch.0)).collect()
    }

    /// Keeps out the writes of every epoch that has passed by now.
    pub(crate) fn fence_passed(&self, view: &FarmView) {
        let passed = |open: &OpenDraft| {
            let holds = |draft: &Draft| {
                let here = draft.holder.as_ref().is_some_and(|holder| holder.server == self.server);
                here && draft.epoch == open.lease.epoch
            };
            // A lease that is newer than the view is not passed but not seen yet.
            let seen = view.draft(&open.key.vdisk, open.key.number);
            !seen.is_some_and(|draft| holds(draft) || draft.epoch < open.lease.epoch)
        };
        self.lock().retain(|key, open| {
            if passed(open) {
                tracing::warn!(%key, epoch = open.lease.epoch.0, "this server does not hold the draft any more");
                open.gate.fence();
            }
            !passed(open)
        });
    }

    /// Waits for the draft's turn: attaching, checkpoints, sealing exclude each other.
    async fn turn(&self, key: &DraftKey) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().expect("no holder of this lock panics");
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(key.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    fn opened(&self, key: &DraftKey) -> Option<Arc<OpenDraft>> {
        self.lock().get(key).cloned()
    }

    fn share_of(&self, vdisk: &Name) -> Result<Arc<Share>, DraftError> {
        let view = self.farm.view();
        let store = &farm::rules::version::find_vdisk(&view, vdisk).map_err(FarmError::from)?.store;
        self.stores.find(Some(store)).cloned().ok_or_else(|| DraftError::NoStore(store.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DraftKey, Arc<OpenDraft>>> {
        self.open.lock().expect("no holder of this lock panics")
    }
}

/// Since when a draft has bytes that only one server has; none also where only one has a share of its
/// store, which is how that farm is meant to be.
pub(crate) fn alone_since(view: &FarmView, draft: &Draft) -> Option<farm::Timestamp> {
    let store = view.vdisks.get(&draft.vdisk).and_then(|vdisk| view.stores.get(&vdisk.store))?;
    let since = farm::rules::draft::alone_since(view, draft);
    since.filter(|_| store.paths.len() > 1)
}

/// Runs what may wait for a disk on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("work on a draft answers with an error")
}
