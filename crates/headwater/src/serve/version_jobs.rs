//! What of a version's life takes longer than a request, and deleting.

use super::api_error::ApiError;
use super::audit;
use super::drafts::{Boots, DraftError, DraftKey, Saved, Sealing, saved_text};
use super::jobs::{Job, Outcome};
use super::state::Shared;
use super::versions::by_asker;
use super::views;
use api::{JobKind, SealVersion};
use farm::rules::version as rules;
use farm::{EventKind, Here, NewEvent};
use model::Name;
use std::sync::Arc;

/// Begins a checkpoint.
pub(super) fn checkpoint(state: &Shared, key: DraftKey) -> Result<Arc<Job>, ApiError> {
    farm::rules::draft::find(&state.farm.view(), &key.vdisk, key.number)?;
    let job = state.jobs.begin(JobKind::Checkpoint, &key.to_string())?;
    let (state, running) = (state.clone(), Arc::clone(&job));
    audit::spawn(async move {
        let saved = state.boot.drafts.checkpoint(&key, Boots::Look, Some(Arc::clone(&running))).await;
        state.jobs.end(&running, outcome(&running, &key, saved));
    });
    Ok(job)
}

/// Begins a seal; refuses at once what the rules refuse now.
pub(super) fn seal(state: &Shared, key: DraftKey, request: SealVersion) -> Result<Arc<Job>, ApiError> {
    state.boot.drafts.may_attach(&key)?;
    let hooks = hooks(&rules::find_vdisk(&state.farm.view(), &key.vdisk)?.hooks, request)?;
    let job = state.jobs.begin(JobKind::Seal, &key.to_string())?;
    let (state, running) = (state.clone(), Arc::clone(&job));
    audit::spawn(async move {
        let sealing = Sealing { hooks, by: audit::asker_text() };
        let sealed = state.boot.drafts.seal(&key, &sealing, Arc::clone(&running)).await;
        if let (Err(DraftError::Hook(error)), false) = (&sealed, running.is_cancelled()) {
            state.farm.event(NewEvent::new(
                EventKind::HookFailed,
                &key.vdisk,
                format!("{key} is not sealed: {error}"),
            ));
        }
        state.jobs.end(&running, outcome(&running, &key, sealed));
    });
    Ok(job)
}

/// The vDisk's own hooks first, then what is asked for this time; none where that is asked for.
fn hooks(own: &[Name], request: SealVersion) -> Result<Vec<Name>, ApiError> {
    match (request.no_hooks, request.hooks) {
        (true, hooks) if hooks.is_empty() => Ok(Vec::new()),
        (true, _) => {
            let message = "a seal runs hooks, or it runs none";
            Err(ApiError::bad_request(message, "leave no_hooks out, or the hooks"))
        }
        (false, asked) => {
            let more = asked.into_iter().filter(|hook| !own.contains(hook));
            Ok(own.iter().cloned().chain(more).collect())
        }
    }
}

fn outcome(job: &Job, key: &DraftKey, saved: Result<Saved, DraftError>) -> Outcome {
    match saved {
        Ok(saved) => {
            tracing::info!("{}", saved_text(key, &saved));
            Outcome::Done { warning: None }
        }
        Err(_) if job.is_cancelled() => Outcome::Cancelled,
        Err(error) => Outcome::failed(&error),
    }
}

/// Deletes a version; its content goes where nothing needs it.
pub(super) async fn delete(state: &Shared, key: &DraftKey) -> Result<(), ApiError> {
    let before = state.farm.view();
    let DraftKey { vdisk, number } = key;
    let root = rules::find(&before, vdisk, *number)?.root;
    let store = rules::find_vdisk(&before, vdisk)?.store.clone();
    // What our own sessions have stopped to read a moment ago is not in the way.
    state.boot.reading.refresh().await?;
    state
        .farm
        .decide(|view, now| {
            let sessions = views::sessions_of_version(state, vdisk, *number);
            let here = Here { server: &state.server, sessions: &sessions };
            rules::delete(view, vdisk, *number, here, &by_asker(now))
        })
        .await?;
    state.boot.drafts.forget(key).await;
    if let Some(share) = state.stores.find(Some(&store)).cloned() {
        share.settle(&state.farm).await;
    }
    if !state.farm.view().names(root) {
        state.boot.files.forget(&root);
    }
    Ok(())
}
