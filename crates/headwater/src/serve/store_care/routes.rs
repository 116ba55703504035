//! `/v1/stores/{name}/prune`, `/v1/stores/{name}/scrub` and `/v1/stores/{name}/adopt`.

use super::{adopt, prune, scrub};
use crate::serve::api_error::ApiError;
use crate::serve::params;
use crate::serve::routes::Routes;
use crate::serve::state::{AppState, Shared};
use crate::serve::stores::Share;
use api::{
    AdoptFile, AdoptedView, Endpoint, JobView, Least, Method, PruneStore, PruneView, ScrubView, paths,
};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use std::sync::Arc;

/// The endpoints of the care of stores.
pub(in crate::serve) fn routes(routes: Routes) -> Routes {
    let prune = Endpoint::change(
        Method::Post,
        paths::STORE_PRUNE,
        "store.prune",
        "Deletes what no version, draft or session needs, or says what would go",
    );
    let start =
        Endpoint::change(Method::Post, paths::STORE_SCRUB, "store.scrub", "Verifies all that is stored");
    let stop = Endpoint::change(
        Method::Delete,
        paths::STORE_SCRUB,
        "store.scrub-stop",
        "Stops a scrub; the next one goes on from there",
    );
    let show = Endpoint::get(paths::STORE_SCRUB, "Shows how a scrub stands and what the last one found");
    let adopt = Endpoint::change(
        Method::Post,
        paths::STORE_ADOPT,
        "store.adopt",
        "Hashes a file that was brought by other means: what it has is copied and not fetched",
    );
    let forget = Endpoint::change(
        Method::Delete,
        paths::STORE_ADOPT,
        "store.adopt-forget",
        "Lets go of the files that were adopted; they themselves are not touched",
    );
    let adopted = Endpoint::get(paths::STORE_ADOPT, "Shows the files that were adopted");
    routes
        .on(adopt.least(Least::FarmAdmin).takes::<AdoptFile>().answers::<JobView>(202), start_adoption)
        .on(forget.least(Least::FarmAdmin), forget_adopted)
        .on(adopted.answers::<AdoptedView>(200), show_adopted)
        .on(prune.least(Least::SiteAdmin).takes::<PruneStore>().answers::<PruneView>(200), self::prune)
        .on(show.answers::<ScrubView>(200), show_scrub)
        .on(start.least(Least::SiteAdmin).answers::<ScrubView>(202), start_scrub)
        .on(stop.least(Least::SiteAdmin).answers::<ScrubView>(202), stop_scrub)
}

fn share(state: &AppState, name: &str) -> Result<Arc<Share>, ApiError> {
    let name = params::name(name)?;
    let none = || {
        let message = format!("this server has no share of store {name}");
        ApiError::not_found(message, "`headwater store list` shows what it has")
    };
    state.stores.find(Some(&name)).cloned().ok_or_else(none)
}

async fn prune(
    State(state): State<Shared>,
    Path(name): Path<String>,
    body: Result<Json<PruneStore>, JsonRejection>,
) -> Result<Json<PruneView>, ApiError> {
    let (share, Json(PruneStore { dry_run })) = (share(&state, &name)?, body?);
    let pruned = match dry_run {
        true => prune::dry_run(&state, &share).await,
        false => prune::prune(&state, &share).await,
    };
    let failed = |error: prune::PruneError| match error {
        prune::PruneError::Farm(error) => error.into(),
        prune::PruneError::Store(error) => {
            ApiError::from_text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    };
    let store::Pruned { roots, layers, bytes } = pruned.map_err(failed)?;
    Ok(Json(PruneView { store: share.name.clone(), dry_run, roots, layers, bytes }))
}

fn view(state: &AppState, share: &Share) -> Json<ScrubView> {
    Json(state.scrub_of(share).view(share.store.quarantined_chunks()))
}

async fn show_scrub(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<ScrubView>, ApiError> {
    Ok(view(&state, &*share(&state, &name)?))
}

async fn start_scrub(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<ScrubView>), ApiError> {
    let share = share(&state, &name)?;
    scrub::start(&state, &share);
    Ok((StatusCode::ACCEPTED, view(&state, &share)))
}

async fn stop_scrub(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<ScrubView>), ApiError> {
    let share = share(&state, &name)?;
    state.scrub_of(&share).stop();
    Ok((StatusCode::ACCEPTED, view(&state, &share)))
}

async fn start_adoption(
    State(state): State<Shared>,
    Path(name): Path<String>,
    body: Result<Json<AdoptFile>, JsonRejection>,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    let (share, Json(AdoptFile { path })) = (share(&state, &name)?, body?);
    let job = adopt::start(&state, share, path)?;
    Ok((StatusCode::ACCEPTED, Json(job.view())))
}

async fn forget_adopted(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    share(&state, &name)?.store.forget_adopted();
    Ok(StatusCode::NO_CONTENT)
}

async fn show_adopted(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<AdoptedView>, ApiError> {
    let share = share(&state, &name)?;
    let (files, taken_bytes) = (share.store.adopted_files(), share.store.taken_bytes());
    Ok(Json(AdoptedView { store: share.name.clone(), files, taken_bytes }))
}
