//! Verifying what is stored, once in so many days or when asked.
//!
//! The result of the last complete scrub of each store lies in `STATE_DIR/scrub-STORE.json`
//! (`docs/formats.md`): a restart neither forgets it nor scrubs anew because of it.

use crate::config::StoreConfig;
use crate::serve::farm::now;
use crate::serve::state::{AppState, Shared};
use crate::serve::stores::Share;
use api::{LastScrub, ScrubView};
use farm::{EventKind, NewEvent};
use model::Name;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use store::{BadChunk, ScrubObserver, ScrubOptions, ScrubProgress, Scrubbed};

/// A scrub that failed is not tried again before this.
const AGAIN_AFTER: Duration = Duration::from_secs(3600);

/// How long after its start a server scrubs nothing by itself.
const QUIET_AT_START: Duration = Duration::from_secs(600);

/// The scrub of one store.
pub(super) struct Scrub {
    store: Name,
    rate: Option<NonZeroU64>,
    every: Duration,
    file: PathBuf,
    stop: AtomicBool,
    stands: Mutex<Stands>,
}

#[derive(Default)]
struct Stands {
    started_ms: Option<u64>,
    progress: ScrubProgress,
    failed_ms: Option<u64>,
    /// An admin stopped it: it goes on when asked, or when the next one is due.
    stopped_ms: Option<u64>,
    last: Option<LastScrub>,
}

impl Scrub {
    pub(super) fn new(config: &StoreConfig, state_dir: &Path) -> Self {
        let file = state_dir.join(format!("scrub-{}.json", config.name));
        let last = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            store: config.name.clone(),
            rate: NonZeroU64::new(config.scrub_rate.0),
            every: Duration::from_secs(u64::from(config.scrub_days) * 86_400),
            file,
            stop: AtomicBool::new(false),
            stands: Mutex::new(Stands { last, ..Stands::default() }),
        }
    }

    /// How it stands.
    pub(super) fn view(&self, quarantined_chunks: u64) -> ScrubView {
        let next_ms = self.next_ms();
        let stands = self.lock();
        ScrubView {
            store: self.store.clone(),
            running: stands.started_ms.is_some(),
            started_ms: stands.started_ms,
            done_bytes: stands.progress.done_bytes,
            done_versions: stands.progress.done_versions,
            total_versions: stands.progress.total_versions,
            rate_bytes_per_s: self.rate.map_or(0, NonZeroU64::get),
            next_ms,
            quarantined_chunks,
            last: stands.last.clone(),
        }
    }

    /// Asks it to stop; the next one goes on from there.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// When the next one is due; a store that was never scrubbed is due at once.
    fn next_ms(&self) -> Option<u64> {
        let every = u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX);
        let stands = self.lock();
        let done = stands.last.as_ref().map_or(0, |last| last.ended_ms.saturating_add(every));
        let again = |at: u64, after: Duration| at.saturating_add(after.as_millis() as u64);
        let failed = stands.failed_ms.map_or(0, |at| again(at, AGAIN_AFTER));
        let stopped = stands.stopped_ms.map_or(0, |at| again(at, self.every));
        (every > 0).then_some(done.max(failed).max(stopped))
    }

    /// Takes the right to scrub; false where one is at work.
    fn begin(&self) -> bool {
        let mut stands = self.lock();
        if stands.started_ms.is_some() {
            return false;
        }
        self.stop.store(false, Ordering::Relaxed);
        (stands.started_ms, stands.progress) = (Some(now().0), ScrubProgress::default());
        true
    }

    fn end(&self, last: Option<LastScrub>, failed: bool) {
        let mut stands = self.lock();
        stands.started_ms = None;
        stands.failed_ms = failed.then(|| now().0);
        stands.stopped_ms = (!failed && last.is_none()).then(|| now().0);
        let Some(last) = last else { return };
        let text = serde_json::to_vec(&last).expect("a result is JSON");
        let staged = self.file.with_extension("new");
        if let Err(error) = std::fs::write(&staged, text).and_then(|()| std::fs::rename(&staged, &self.file))
        {
            tracing::warn!(%error, file = %self.file.display(), "the scrub's result is forgotten at the next start");
        }
        stands.last = Some(last);
    }

    fn lock(&self) -> MutexGuard<'_, Stands> {
        self.stands.lock().expect("no holder of this lock panics")
    }
}

/// Starts a scrub where its time has come.
pub(super) fn start_if_due(state: &Shared, share: &Arc<Share>) {
    // A server that has just started has machines to boot.
    if state.uptime() < QUIET_AT_START {
        return;
    }
    let due = state.scrub_of(share).next_ms().is_some_and(|at| at <= now().0);
    if due && !share.store.roots().is_empty() {
        start(state, share);
    }
}

/// Starts a scrub, unless one is at work.
pub(super) fn start(state: &Shared, share: &Arc<Share>) {
    let scrub = state.scrub_of(share);
    if !scrub.begin() {
        return;
    }
    let (state, share) = (Arc::clone(state), Arc::clone(share));
    tokio::task::spawn_blocking(move || {
        let observer = Watching { state: &state, scrub: &scrub };
        let found = share.store.scrub(&ScrubOptions { bytes_per_s: scrub.rate }, &observer);
        match found {
            Ok(found) if found.complete => {
                state.farm.event(report(&scrub.store, &found));
                scrub.end(Some(last(&found)), false);
                // What is damaged and nowhere else here comes from the other servers.
                state.care.look_soon();
            }
            Ok(_) => scrub.end(None, false),
            Err(error) => {
                let message = format!("the scrub of store {} failed: {error}", scrub.store);
                state.farm.event(NewEvent::new(EventKind::ServiceFailed, &scrub.store, message));
                scrub.end(None, true);
            }
        }
    });
}

fn report(store: &Name, found: &Scrubbed) -> NewEvent {
    let bad = match (found.bad_chunks, found.damaged_versions.len()) {
        (0, 0) => "all is whole".to_owned(),
        (chunks, versions) => format!(
            "{chunks} chunks damaged, {} repaired, {versions} versions that cannot be read",
            found.repaired_chunks
        ),
    };
    let message = format!("store {store} was verified, {} MiB: {bad}", found.bytes >> 20);
    NewEvent::new(EventKind::StoreScrubbed, store, message)
}

fn last(found: &Scrubbed) -> LastScrub {
    LastScrub {
        ended_ms: now().0,
        bytes: found.bytes,
        bad_chunks: found.bad_chunks,
        repaired_chunks: found.repaired_chunks,
        damaged_versions: u32::try_from(found.damaged_versions.len()).unwrap_or(u32::MAX),
    }
}

/// Takes in how a scrub goes.
struct Watching<'a> {
    state: &'a AppState,
    scrub: &'a Scrub,
}

impl Watching<'_> {
    fn tell(&self, kind: EventKind, chunk: &BadChunk, what: &str) {
        let at = format!("chunk {} of root {}", chunk.chunk.0, chunk.root.short());
        let message = format!("store {}: {at} {what}: {}", self.scrub.store, chunk.reason);
        self.state.farm.event(NewEvent::new(kind, format!("{}/{at}", self.scrub.store), message));
    }
}

impl ScrubObserver for Watching<'_> {
    fn progress(&self, progress: ScrubProgress) {
        self.scrub.lock().progress = progress;
    }

    fn quarantined(&self, chunk: &BadChunk) {
        self.tell(EventKind::ChunkQuarantined, chunk, "is damaged and will not be served");
    }

    fn repaired(&self, chunk: &BadChunk) {
        self.tell(EventKind::ChunkRepaired, chunk, "is whole again");
    }

    fn cancelled(&self) -> bool {
        self.scrub.stop.load(Ordering::Relaxed) || self.state.shutdown.has_begun()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrub(directory: &Path) -> Scrub {
        Scrub::new(&StoreConfig::new(Name::new("a").unwrap(), directory.join("store")), directory)
    }

    #[test]
    fn a_scrub_is_due_at_first_and_again_after_its_days() {
        let directory = tempfile::tempdir().unwrap();
        let first = scrub(directory.path());
        assert_eq!(first.next_ms(), Some(0));
        assert!(first.begin() && !first.begin(), "one at a time");
        let found = Scrubbed { complete: true, bytes: 7, ..Scrubbed::default() };
        first.end(Some(last(&found)), false);
        let again = scrub(directory.path());
        let ended = again.view(0).last.unwrap();
        assert_eq!(ended.bytes, 7, "a restart does not forget it");
        assert_eq!(again.next_ms(), Some(ended.ended_ms + 30 * 86_400_000));
    }

    #[test]
    fn a_scrub_that_failed_is_not_tried_again_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let failed = scrub(directory.path());
        assert!(failed.begin());
        failed.end(None, true);
        assert!(failed.next_ms().unwrap() > now().0);
    }
}
