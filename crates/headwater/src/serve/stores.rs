//! This server's shares of the farm's stores, and keeping them in step with the records.
//!
//! A record names a content (root), a store holds it. An import makes the content first, unclaimed;
//! a deletion removes the record first and marks the content as doomed. [`Share::settle`] brings
//! the two together, at the start and after each of them: what no record names goes.

use super::farm::{FarmError, FarmHandle};
use crate::config::StoreConfig;
use anyhow::{Context, Result};
use farm::rules::copy;
use farm::rules::vdisk::swept;
use farm::{EventKind, FarmView, NewEvent};
use model::{Name, Root};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use store::Store;
use tokio::sync::RwLock;

/// The shares, by the name of their store.
#[derive(Clone)]
pub(crate) struct Stores {
    shares: BTreeMap<Name, Arc<Share>>,
    first: Name,
    read_here: Arc<ReadHere>,
}

/// What this server's sessions read: it stays, whatever the records say.
#[derive(Debug, Default)]
pub(crate) struct ReadHere(Mutex<BTreeSet<Root>>);

impl ReadHere {
    fn has(&self, root: &Root) -> bool {
        self.0.lock().expect("no holder of this lock panics").contains(root)
    }
}

/// This server's part of a store.
pub(crate) struct Share {
    pub(crate) name: Name,
    pub(crate) path: PathBuf,
    pub(crate) store: Arc<Store>,
    /// Held for reading by imports from their first byte until their record is committed, for
    /// writing by whoever deletes: an import may find its content stored already and rely on it.
    pub(crate) imports: Arc<RwLock<()>>,
    read_here: Arc<ReadHere>,
}

impl Stores {
    /// Opens every share. Blocking.
    pub(super) fn open(configs: &[StoreConfig]) -> Result<Self> {
        let first = configs.first().context("there is no store\nhint: add a [[store]] section")?.name.clone();
        let (mut shares, read_here) = (BTreeMap::new(), Arc::<ReadHere>::default());
        for StoreConfig { name, path, .. } in configs {
            let store = Store::open(path).with_context(|| format!("store {name} cannot be opened"))?;
            let (store, imports) = (Arc::new(store), Arc::new(RwLock::new(())));
            let (name, path, read_here) = (name.clone(), path.clone(), Arc::clone(&read_here));
            let share = Share { name: name.clone(), path, store, imports, read_here };
            shares.insert(name, Arc::new(share));
        }
        Ok(Self { shares, first, read_here })
    }

    /// The share of a store; the first one where none is asked for.
    pub(crate) fn find(&self, name: Option<&Name>) -> Option<&Arc<Share>> {
        self.shares.get(name.unwrap_or(&self.first))
    }

    /// Every share.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Share>> {
        self.shares.values()
    }

    /// Takes in what this server's sessions read now.
    pub(super) fn read_here(&self, roots: impl Iterator<Item = Root>) {
        *self.read_here.0.lock().expect("no holder of this lock panics") = roots.collect();
    }

    /// Takes in that a session is about to read something.
    pub(super) fn also_read_here(&self, root: Root) {
        self.read_here.0.lock().expect("no holder of this lock panics").insert(root);
    }

    /// Brings the records of what this server has completely in step with what it has.
    pub(super) async fn report_copies(&self, farm: &FarmHandle) -> Result<()> {
        loop {
            let complete: BTreeSet<Root> = self.all().flat_map(|share| share.claimed_whole()).collect();
            let mut done = false;
            let report = |view: &FarmView, now| {
                let change = copy::report(view, farm.server(), &complete, now);
                done = change.writes.is_empty();
                Ok(change)
            };
            farm.decide(report).await?;
            if done {
                return Ok(());
            }
        }
    }

    /// The stores themselves.
    pub(crate) fn by_name(&self) -> BTreeMap<Name, Arc<Store>> {
        self.shares.iter().map(|(name, share)| (name.clone(), Arc::clone(&share.store))).collect()
    }
}

impl Share {
    /// What is here for good and can be opened.
    fn claimed_whole(&self) -> BTreeSet<Root> {
        let claimed: BTreeSet<Root> = self.store.roots().into_iter().collect();
        &claimed & &self.store.whole()
    }

    /// Claims what records name and deletes what they do not. Does nothing while an import is at
    /// work, which settles when it ends.
    pub(crate) async fn settle(self: &Arc<Self>, farm: &FarmHandle) {
        let Ok(alone) = self.imports.try_write() else { return };
        // What is only remembered while the database is away may be older than a content.
        match farm.may_delete().await {
            Ok(()) => (),
            Err(FarmError::Restored) => return self.claim_named(farm.view()).await,
            Err(error) => return tracing::warn!(store = %self.name, %error, "nothing is deleted"),
        }
        let (share, view) = (Arc::clone(self), farm.view());
        for root in self.doomed(&view) {
            // Others must not count on a copy that is about to go.
            if let Err(error) = farm.decide(|view, _| copy::forget(view, root, farm.server())).await {
                tracing::warn!(root = %root.short(), %error, "a deleted content stays until the next start");
                return;
            }
        }
        let task = tokio::task::spawn_blocking(move || share.settle_with(&view));
        let gone = task.await.expect("settling does not panic");
        if gone.is_empty() {
            return;
        }
        if let Err(error) = farm.decide(|view, _| Ok(swept(view, &gone))).await {
            tracing::warn!(%error, "deleted contents stay marked until the next start");
        }
        drop(alone);
    }

    /// Claims what records name, and deletes nothing.
    async fn claim_named(self: &Arc<Self>, view: Arc<FarmView>) {
        let share = Arc::clone(self);
        let claim = move || {
            for root in share.store.unclaimed().into_iter().filter(|root| view.names(*root)) {
                logged("claimed", &root, share.store.claim(&root));
            }
        };
        tokio::task::spawn_blocking(claim).await.expect("claiming answers with an error");
    }

    /// The doomed contents that need no more looking after.
    fn settle_with(&self, view: &FarmView) -> Vec<Root> {
        let of_drafts = self.store.roots_of_drafts();
        for root in self.store.unclaimed() {
            if self.is_below_a_draft(root) {
                // A checkpoint that its record is still to name.
            } else if view.names(root) {
                logged("claimed", &root, self.store.claim(&root));
            } else if !of_drafts.contains(&root) && !self.is_read(view, root) {
                logged("deleted", &root, self.store.delete(&root));
            }
        }
        let named =
            view.doomed.iter().filter(|(root, doomed)| doomed.store == self.name && view.names(**root));
        let named: Vec<Root> = named.map(|(root, _)| *root).collect();
        named.into_iter().chain(self.doomed(view).into_iter().filter(|root| self.is_gone(root))).collect()
    }

    /// The contents that are to be deleted here and that nothing names and nobody reads.
    fn doomed(&self, view: &FarmView) -> Vec<Root> {
        let of_us = view.doomed.iter().filter(|(_, doomed)| doomed.store == self.name);
        let roots = of_us.map(|(root, _)| *root);
        roots.filter(|root| !view.names(*root) && !self.is_read(view, *root)).collect()
    }

    /// Deletes a content that was in use until now, unless something still needs it. What stays
    /// because somebody is at work goes with the next prune.
    pub(crate) async fn let_go(self: &Arc<Self>, farm: &FarmHandle, root: Root) {
        let Ok(_alone) = self.imports.try_write() else { return };
        let view = farm.view();
        let is_held = view.restored.is_some();
        if is_held || view.names(root) || self.is_read(&view, root) || self.is_below_a_draft(root) {
            return;
        }
        if let Err(error) = farm.decide(|view, _| copy::forget(view, root, farm.server())).await {
            tracing::warn!(root = %root.short(), %error, "a former checkpoint stays until the next prune");
            return;
        }
        let share = Arc::clone(self);
        let deleted = tokio::task::spawn_blocking(move || share.is_gone(&root));
        deleted.await.expect("deleting answers with an error");
    }

    /// Whether sessions read a content, here or on any other server.
    pub(crate) fn is_read(&self, view: &FarmView, root: Root) -> bool {
        self.read_here.has(&root) || farm::is_read(view, root)
    }

    fn is_below_a_draft(&self, root: Root) -> bool {
        self.store.roots_of_drafts().contains(&root)
    }

    /// Deletes a content if it is there; whether it is gone now.
    fn is_gone(&self, root: &Root) -> bool {
        !self.store.roots().contains(root) || logged("deleted", root, self.store.delete(root))
    }

    /// Tells people of every version that a record names and neither this store nor another server
    /// has.
    pub(super) fn report_missing(&self, farm: &FarmHandle) {
        let (view, here) = (farm.view(), self.store.roots());
        let of_us = |vdisk: &Name| view.vdisks.get(vdisk).is_some_and(|vdisk| vdisk.store == self.name);
        for version in view.versions.values().filter(|version| of_us(&version.vdisk)) {
            let elsewhere = view.copies_of(version.root).any(|(server, _)| server != farm.server());
            if !here.contains(&version.root) && !elsewhere {
                let (vdisk, number) = (&version.vdisk, version.number);
                let message = format!("version {number} of vDisk {vdisk} is not in store {}", self.name);
                farm.event(NewEvent::new(EventKind::VersionMissing, vdisk, message));
            }
        }
    }
}

fn logged<T>(what: &str, root: &Root, result: Result<T, store::StoreError>) -> bool {
    match &result {
        Ok(_) => tracing::info!(root = %root.short(), "{what} a stored version"),
        Err(error) => tracing::error!(root = %root.short(), %error, "a stored version is not {what}"),
    }
    result.is_ok()
}
