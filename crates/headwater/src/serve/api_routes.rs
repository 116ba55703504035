//! The routes under `/v1` and the small ones among their handlers.

use super::api_error::ApiError;
use super::state::Shared;
use super::{collections, devices, events, pending, session_routes, vdisks, views};
use api::{JobView, ServerView, StatusView, StoreView};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};

/// The routes below `/v1`, which is where the caller puts them.
pub(super) fn router() -> Router<Shared> {
    let at = |path: &'static str| path.strip_prefix("/v1").expect("an API path");
    Router::new()
        .route(at(api::paths::STATUS), get(status))
        .route(at(api::paths::VDISKS), get(vdisks::list).post(vdisks::import))
        .route(at(api::paths::VDISK), get(vdisks::show).delete(vdisks::delete))
        .route(at(api::paths::VDISK_EXPORT), post(vdisks::export))
        .route(at(api::paths::VDISK_CONTENT), put(vdisks::import_content))
        .route(at(api::paths::JOBS), get(jobs))
        .route(at(api::paths::JOB), get(job).delete(cancel_job))
        .route(at(api::paths::DEVICES), get(devices::list).post(devices::add))
        .route(at(api::paths::DEVICE), get(devices::show).patch(devices::update).delete(devices::remove))
        .route(at(api::paths::COLLECTIONS), get(collections::list).post(collections::create))
        .route(
            at(api::paths::COLLECTION),
            get(collections::show).patch(collections::update).delete(collections::delete),
        )
        .route(at(api::paths::PENDING), get(pending::list))
        .route(at(api::paths::PENDING_ONE), axum::routing::delete(pending::forget))
        .route(at(api::paths::PENDING_ACCEPT), post(pending::accept))
        .route(at(api::paths::PENDING_REJECT), post(pending::reject))
        .route(at(api::paths::SERVERS), get(servers))
        .route(at(api::paths::STORES), get(stores))
        .route(at(api::paths::SESSIONS), get(session_routes::list).post(session_routes::open))
        .route(at(api::paths::SESSION), get(session_routes::show).delete(session_routes::close))
        .route(at(api::paths::EVENTS), get(events::list))
}

async fn status(State(state): State<Shared>) -> Json<StatusView> {
    Json(views::status(&state))
}

async fn servers(State(state): State<Shared>) -> Json<Vec<ServerView>> {
    let view = state.farm.view();
    Json(view.servers.values().map(|server| views::server(server, &state.server)).collect())
}

/// Measures each share, which reads directories.
async fn stores(State(state): State<Shared>) -> Result<Json<Vec<StoreView>>, ApiError> {
    let measured = tokio::task::spawn_blocking(move || {
        let view = state.farm.view();
        state.stores.all().map(|share| views::store(&view, share)).collect::<Result<Vec<_>, _>>()
    });
    let failed =
        |e: store::StoreError| ApiError::from_text(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string());
    measured.await.expect("measuring does not panic").map(Json).map_err(failed)
}

async fn jobs(State(state): State<Shared>) -> Json<Vec<JobView>> {
    Json(state.jobs.list())
}

async fn job(State(state): State<Shared>, Path(id): Path<u64>) -> Result<Json<JobView>, ApiError> {
    state.jobs.find(id).map(|job| Json(job.view())).ok_or_else(|| no_job(id))
}

async fn cancel_job(State(state): State<Shared>, Path(id): Path<u64>) -> Result<StatusCode, ApiError> {
    state.jobs.find(id).ok_or_else(|| no_job(id))?.cancel_unless_ended();
    Ok(StatusCode::ACCEPTED)
}

fn no_job(id: u64) -> ApiError {
    ApiError::not_found(format!("there is no job {id}"), "jobs are forgotten when the server starts anew")
}
