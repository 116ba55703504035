//! The routes under `/v1` and the small ones among their handlers.

use super::api_error::ApiError;
use super::routes::Routes;
use super::state::Shared;
use super::{
    access, audit, collections, devices, events, farm_backup, farm_status, hook_routes, membership, metrics,
    openapi, pending, replication, session_routes, store_care, vdisks, versions, views,
};
use api::{Endpoint, JobView, Least, Method, ServerView, StatusView, StoreView, paths};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

/// Every route of the API.
pub(super) fn routes() -> Routes {
    let routes = Routes::default()
        .on(
            Endpoint::get(paths::STATUS, "How the server and the farm stand").answers::<StatusView>(200),
            status,
        )
        .on(
            Endpoint::get(paths::OPENAPI, "This description").answers_bytes("application/json"),
            openapi::show,
        )
        .on(Endpoint::get(paths::SERVERS, "Lists the servers of the farm").lists::<ServerView>(), servers)
        .on(Endpoint::get(paths::STORES, "Lists the answering server's stores").lists::<StoreView>(), stores)
        .on(Endpoint::get(paths::JOBS, "Lists jobs, newest last").lists::<JobView>(), jobs)
        .on(Endpoint::get(paths::JOB, "Shows a job").answers::<JobView>(200), job)
        .on(
            Endpoint::change(Method::Delete, paths::JOB, "job.cancel", "Cancels a job")
                .least(Least::SiteAdmin)
                .answers_nothing(202),
            cancel_job,
        );
    [
        vdisks::routes,
        versions::routes,
        devices::routes,
        collections::routes,
        pending::routes,
        session_routes::routes,
        events::routes,
        hook_routes::routes,
        audit::routes,
        access::routes,
        metrics::routes,
        store_care::routes,
        replication::routes,
        membership::routes,
        farm_status::routes,
        farm_backup::routes,
    ]
    .into_iter()
    .fold(routes, |routes, add| add(routes))
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
        state
            .stores
            .all()
            .map(|share| views::store(&view, &state.config, share))
            .collect::<Result<Vec<_>, _>>()
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
