//! The files of merged versions: each server makes one layer of them, while machines read on.
//!
//! A merge is a mark on the version's record; its content and its root stay as they are. What is
//! rebuilt here is only how this server's store keeps it. The same is done without a mark where a
//! chain of layers has become long, so that checkpoints can go on for ever.

use super::audit;
use super::jobs::{Job, Outcome, Step};
use super::state::Shared;
use super::stores::Share;
use api::JobKind;
use farm::{Actor, EventKind, FarmView, NewEvent, Version};
use model::Root;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{FlattenError, FlattenObserver, FlattenProgress, Flattened};

/// How many layers a version may have before those above its base become one: far below the 1,024
/// that a version record can hold, and by eye.
const MANY_LAYERS: usize = 64;
/// How long to wait before a version that was tried is looked at again.
const TRY_AGAIN: Duration = Duration::from_secs(600);

/// Rebuilds the files of one version after the other as long as the server runs.
pub(super) async fn run(state: Shared) {
    let mut changes = state.farm.changes();
    let mut tried: HashMap<Root, Instant> = HashMap::new();
    loop {
        // Before looking: what changes meanwhile wakes us again.
        changes.mark_unchanged();
        tried.retain(|_, at| at.elapsed() < TRY_AGAIN);
        while let Some(due) = next(&state, &tried) {
            // Whatever comes of it: what is still due then is looked at again after a while.
            tried.insert(due.version.root, Instant::now());
            let (actor, object) = (Actor::Server(state.server.clone()), subject(&due.version));
            audit::automatic(&state.farm, actor, ("version.rebuild", &object), rebuild(&state, &due)).await;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TRY_AGAIN) => (),
            () = state.shutdown.wait() => return,
        }
    }
}

/// A version whose files are to be rebuilt.
struct Due {
    version: Version,
    share: Arc<Share>,
    /// How many of its lowest layers stay as they are.
    kept: usize,
}

fn next(state: &Shared, tried: &HashMap<Root, Instant>) -> Option<Due> {
    let view: Arc<FarmView> = state.farm.view();
    view.versions.values().filter(|version| !tried.contains_key(&version.root)).find_map(|version| {
        let vdisk = view.vdisks.get(&version.vdisk)?;
        let share = state.stores.find(Some(&vdisk.store))?;
        // What cannot be opened is reported by others.
        let layers = share.store.layer_count(&version.root)?;
        let kept = if version.merged.is_some() { 0 } else { 1 };
        let long = if version.merged.is_some() { layers > 1 } else { layers > MANY_LAYERS };
        long.then(|| Due { version: version.record.clone(), share: Arc::clone(share), kept })
    })
}

/// The version as the audit names it.
fn subject(version: &Version) -> String {
    format!("{}/{}", version.vdisk, version.number)
}

async fn rebuild(state: &Shared, due: &Due) {
    let Version { vdisk, number, root, .. } = &due.version;
    let subject = format!("{vdisk} version {number}");
    // Too many jobs are at work: it has time.
    let Ok(job) = state.jobs.begin(JobKind::Merge, &subject) else { return };
    let (store, observed, root, kept) = (Arc::clone(&due.share.store), Arc::clone(&job), *root, due.kept);
    let work = move || store.fold(&root, kept, &Observed(&observed));
    let outcome = match tokio::task::spawn_blocking(work).await {
        Ok(folded) => outcome(&job, &subject, folded),
        Err(error) => Outcome::failed(&error),
    };
    if let Outcome::Failed(error) = &outcome {
        let message = format!("the files of {subject} could not be merged: {}", error.message);
        state.farm.event(NewEvent::new(EventKind::ServiceFailed, vdisk, message));
    }
    state.jobs.end(&job, outcome);
}

fn outcome(job: &Job, subject: &str, folded: Result<Flattened, FlattenError>) -> Outcome {
    match folded {
        Ok(Flattened { layers_before, layers_after, copied_bytes, shared_bytes, .. }) => {
            tracing::info!(layers_before, layers_after, copied_bytes, shared_bytes, "merged {subject}");
            Outcome::Done { warning: None }
        }
        Err(_) if job.is_cancelled() => Outcome::Cancelled,
        Err(error) => Outcome::failed(&error),
    }
}

/// Shows a merge's progress in its job.
struct Observed<'a>(&'a Job);

impl FlattenObserver for Observed<'_> {
    fn progress(&self, progress: FlattenProgress) {
        let FlattenProgress { done_bytes, total_bytes } = progress;
        self.0.step(Step {
            phase: "merging",
            done_bytes,
            total_bytes: Some(total_bytes),
            written_bytes: done_bytes,
        });
    }

    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}
