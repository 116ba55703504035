//! What this server's sessions read, told to the whole farm before they read it.
//!
//! Nobody deletes what a session reads (DESIGN section 9), on whichever server: deletions ask the
//! records that this file keeps (`farm::rules::reading`). [`Reading::begin`] comes before every
//! session; where the record has the version already, which is so for all but its first device, it
//! waits for nothing. Otherwise it waits for a write, and all who wait at that time share one: there
//! is at most one a second, however many devices boot.
//!
//! Beside what sessions read the record names what devices may begin to read without the database:
//! versions that they boot and of which a part is still on other servers only. A session on anything
//! else is refused while the database is away, unless all of its content is here.
//!
//! Read next: `reading/keeper.rs` for what happens by itself.

mod keeper;

use super::farm::{FarmError, FarmHandle};
use super::sessions::{SessionSpec, Sessions};
use super::stores::Stores;
use farm::rules::reading::{Earlier, may_begin, publish};
use farm::{Change, FarmView, Reads};
use model::{Name, Root, VersionNumber};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

pub(super) use keeper::run;

/// How often the record is written at most.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// How long the record is relied on without having heard from the database. The others let it go
/// later: [`keeper::GRACE`] after a lease has ended that was renewed at about the same time.
const TRUST: Duration = Duration::from_secs(15 * 60);

/// A version as a session is bound to it.
type Bound = (Name, VersionNumber, Root);

/// Keeps the farm's record of what is read here.
pub(crate) struct Reading {
    farm: Arc<FarmHandle>,
    sessions: Arc<Sessions>,
    stores: Stores,
    state: Mutex<State>,
    /// When the record was last written. Held while it is.
    writing: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct State {
    /// Sessions that are about to be in the table.
    beginning: BTreeMap<Bound, (Name, u32)>,
    /// What the record has once the write that was begun last is through.
    written: Vec<Reads>,
    /// Whether the last write was answered; none was at the start.
    answered: bool,
    /// When the database was last asked that has answered.
    heard: Option<Instant>,
}

/// That a session is about to begin: what it reads stays in the record as long as this is held.
pub(crate) struct Begun {
    reading: Arc<Reading>,
    bound: Bound,
}

impl Reading {
    /// Nothing is read yet.
    pub(super) fn new(farm: Arc<FarmHandle>, sessions: Arc<Sessions>, stores: Stores) -> Arc<Self> {
        Arc::new(Self { farm, sessions, stores, state: Mutex::default(), writing: Default::default() })
    }

    /// To be called, and held until the session is in the table, before it is opened.
    ///
    /// Errors: the version is not there any more; the record cannot be written and not all of the
    /// content is here.
    pub(crate) async fn begin(self: &Arc<Self>, spec: &SessionSpec) -> Result<Begun, FarmError> {
        let reads = Reads {
            vdisk: spec.vdisk.clone(),
            version: spec.version,
            root: spec.root,
            store: spec.store.clone(),
            sessions: 0,
        };
        let begun = Begun::new(self, &reads);
        // In a task of its own: it goes on if this request ends, and is not part of its audit.
        let (reading, asked) = (Arc::clone(self), reads.clone());
        let told = tokio::spawn(async move { reading.tell(&asked).await });
        match told.await.expect("writing the record answers with an error") {
            Err(FarmError::Refused(refusal)) => Err(refusal.into()),
            Err(error) if !self.is_whole_here(&reads) => Err(error),
            told => {
                if let Err(error) = told {
                    tracing::warn!(%error, root = %reads.root.short(), "a session begins that the farm does not know of yet; all that it reads is here");
                }
                Ok(begun)
            }
        }
    }

    /// Has the record have what a session is about to read.
    async fn tell(&self, reads: &Reads) -> Result<(), FarmError> {
        if self.is_told(reads) {
            return Ok(());
        }
        may_begin(&self.farm.view(), reads)?;
        self.write(|reading| reading.is_told(reads)).await?;
        // It may have gone before the record was written; from now on it cannot.
        may_begin(&self.farm.view(), reads).map_err(FarmError::from)
    }

    /// Brings the record in step now: what is not read any more may be deleted then.
    pub(crate) async fn refresh(self: &Arc<Self>) -> Result<(), FarmError> {
        let reading = Arc::clone(self);
        let written = tokio::spawn(async move {
            let view = reading.farm.view();
            reading.write(|reading| reading.is_in_step(&reading.wanted(&view))).await
        });
        written.await.expect("writing the record answers with an error")
    }

    /// Notes what the sessions of the last run read, before anything is deleted here.
    pub(super) fn look(&self) {
        self.wanted(&self.farm.view());
    }

    /// Writes the record unless `is_done`, which is asked when it is this call's turn.
    async fn write(&self, is_done: impl Fn(&Self) -> bool) -> Result<(), FarmError> {
        let mut last = self.writing.lock().await;
        if is_done(self) {
            return Ok(());
        }
        if let Some(last) = *last {
            tokio::time::sleep_until(last + WRITE_EVERY).await;
        }
        let asked = Instant::now();
        let (wanted, mut earlier) = {
            let view = self.farm.view();
            let mut state = self.lock();
            let wanted = self.wanted_with(&state, &view);
            state.written = wanted.clone();
            let earlier = if state.answered { Earlier::Answered } else { Earlier::MayCome };
            state.answered = false;
            (wanted, earlier)
        };
        let mut more = true;
        while more {
            let rule = |view: &FarmView, _| {
                let change = publish(view, self.farm.server(), &wanted, earlier)?;
                more = change != Change::default();
                Ok(change)
            };
            self.farm.decide(rule).await?;
            earlier = Earlier::Answered;
        }
        *last = Some(Instant::now());
        let mut state = self.lock();
        (state.heard, state.answered) = (Some(asked), true);
        Ok(())
    }

    /// Whether the record has a content of a version and keeps it, as far as is known here.
    fn is_told(&self, reads: &Reads) -> bool {
        let state = self.lock();
        let is_heard = state.heard.is_some_and(|heard| heard.elapsed() < TRUST);
        let view = self.farm.view();
        let is_recorded = view
            .readings
            .get(self.farm.server())
            .is_some_and(|record| record.reads.iter().any(|known| known.is_of(reads)));
        is_heard && is_recorded && state.written.iter().any(|known| known.is_of(reads))
    }

    fn is_in_step(&self, wanted: &[Reads]) -> bool {
        let view = self.farm.view();
        let recorded = view.readings.get(self.farm.server()).map(|record| &record.reads[..]);
        recorded.unwrap_or_default() == wanted
    }

    fn is_whole_here(&self, reads: &Reads) -> bool {
        self.stores.find(Some(&reads.store)).is_some_and(|share| share.store.has_whole(&reads.root))
    }

    /// What the record should have now.
    fn wanted(&self, view: &FarmView) -> Vec<Reads> {
        self.wanted_with(&self.lock(), view)
    }

    fn wanted_with(&self, state: &State, view: &FarmView) -> Vec<Reads> {
        let mut wanted = self.bootable_in_part(view);
        let beginning = state.beginning.iter().map(|(bound, (store, _))| (bound.clone(), store.clone()));
        wanted.extend(beginning.map(|(bound, store)| (bound, (store, 0))));
        wanted.extend(self.sessions.reads());
        let reads =
            |((vdisk, version, root), (store, sessions))| Reads { vdisk, version, root, store, sessions };
        let wanted: Vec<Reads> = wanted.into_iter().map(reads).collect();
        self.stores.read_here(wanted.iter().map(|reads| reads.root));
        wanted
    }

    /// What devices boot and what is here in part only.
    fn bootable_in_part(&self, view: &FarmView) -> BTreeMap<Bound, (Name, u32)> {
        let mut bootable = BTreeMap::new();
        for (vdisk, number) in booted(view) {
            let (Some(of), Some(version)) = (view.vdisks.get(vdisk), view.version(vdisk, number)) else {
                continue;
            };
            let share = self.stores.find(Some(&of.store));
            if share.is_some_and(|share| !share.store.has_whole(&version.root)) {
                bootable.insert((vdisk.clone(), number, version.root), (of.store.clone(), 0));
            }
        }
        bootable
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

/// The versions that collections and devices boot, but for those that are still in test.
fn booted(view: &FarmView) -> BTreeSet<(&Name, VersionNumber)> {
    let collections = view.collections.values().map(|of| (&of.vdisks, &of.pins));
    let devices = view.devices.values().map(|of| (&of.vdisks, &of.pins));
    let mut booted = BTreeSet::new();
    for (vdisks, pins) in collections.chain(devices) {
        booted.extend(pins.iter().map(|(vdisk, number)| (vdisk, *number)));
        for vdisk in vdisks.iter().filter_map(|name| view.vdisks.get(name)) {
            let pointers = [vdisk.production, vdisk.pinned].into_iter().flatten();
            booted.extend(pointers.map(|number| (&vdisk.name, number)));
        }
    }
    booted
}

impl Begun {
    fn new(reading: &Arc<Reading>, reads: &Reads) -> Self {
        let bound = (reads.vdisk.clone(), reads.version, reads.root);
        let mut state = reading.lock();
        state.beginning.entry(bound.clone()).or_insert_with(|| (reads.store.clone(), 0)).1 += 1;
        reading.stores.also_read_here(reads.root);
        Self { reading: Arc::clone(reading), bound }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut state = self.reading.lock();
        if let Some((_, count)) = state.beginning.get_mut(&self.bound) {
            *count -= 1;
            if *count == 0 {
                state.beginning.remove(&self.bound);
            }
        }
    }
}

#[cfg(test)]
mod tests;
