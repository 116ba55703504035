//! `/v1/vdisks`

use super::api_error::ApiError;
use super::imports::{self, Import, Source};
use super::jobs::Job;
use super::routes::Routes;
use super::state::{AppState, Shared};
use super::{body_reader, params, vdisk_export, views};
use api::{
    ContentQuery, Endpoint, ErrorBody, ExportVDisk, ImportVDisk, JobState, JobView, Least, Method,
    PatchVDisk, VDiskView, paths,
};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use farm::rules::vdisk as rules;
use farm::{Checkpoints, FarmView, Here};
use model::Name;
use std::sync::Arc;

/// The endpoints of vDisks.
pub(super) fn routes(routes: Routes) -> Routes {
    let import = Endpoint::change(
        Method::Post,
        paths::VDISKS,
        "vdisk.import",
        "Makes a vDisk of an image that the server can read",
    );
    let import_content = Endpoint::change(
        Method::Put,
        paths::VDISK_CONTENT,
        "vdisk.import",
        "Makes a vDisk of the body; answers when it is imported",
    );
    let export = Endpoint::change(
        Method::Post,
        paths::VDISK_EXPORT,
        "vdisk.export",
        "Writes a version into a new file on the server",
    );
    let set = Endpoint::change(Method::Patch, paths::VDISK, "vdisk.set", "Changes a vDisk's settings");
    let delete = Endpoint::change(
        Method::Delete,
        paths::VDISK,
        "vdisk.delete",
        "Deletes a vDisk and all its versions",
    );
    routes
        .on(Endpoint::get(paths::VDISKS, "Lists all vDisks").lists::<VDiskView>(), list)
        .on(Endpoint::get(paths::VDISK, "Shows a vDisk and its versions").answers::<VDiskView>(200), show)
        .on(import.least(Least::FarmAdmin).takes::<ImportVDisk>().answers::<JobView>(202), self::import)
        .on(
            import_content
                .least(Least::SiteAdmin)
                .asks::<ContentQuery>()
                .takes_bytes("A raw image")
                .answers::<VDiskView>(201),
            self::import_content,
        )
        .on(export.least(Least::FarmAdmin).takes::<ExportVDisk>().answers::<JobView>(202), self::export)
        .on(set.least(Least::SiteAdmin).takes::<PatchVDisk>().answers::<VDiskView>(200), self::set)
        .on(delete.least(Least::SiteAdmin), self::delete)
}

pub(super) async fn list(State(state): State<Shared>) -> Json<Vec<VDiskView>> {
    let view = state.farm.view();
    Json(view.vdisks.values().map(|vdisk| views::vdisk(&state, &view, vdisk)).collect())
}

pub(super) async fn show(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<VDiskView>, ApiError> {
    Ok(Json(view_of(&state, &params::name(&name)?)?))
}

pub(super) async fn import(
    State(state): State<Shared>,
    body: Result<Json<ImportVDisk>, JsonRejection>,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    let Json(ImportVDisk { name, path, format, store, comment }) = body?;
    if !path.is_absolute() {
        let message = format!("{} is not an absolute path", path.display());
        return Err(ApiError::bad_request(message, "the server does not know where you are: begin with /"));
    }
    let job = imports::start(&state, Import { name, store, comment, source: Source::File { path, format } })?;
    Ok((StatusCode::ACCEPTED, Json(job.view())))
}

/// Imports the request's body, and answers when that is done. A sender that goes away cancels it.
pub(super) async fn import_content(
    State(state): State<Shared>,
    Path(name): Path<String>,
    Query(query): Query<ContentQuery>,
    body: Body,
) -> Result<(StatusCode, Json<VDiskView>), ApiError> {
    let (name, ContentQuery { comment, store, bytes: expected_bytes }) = (params::name(&name)?, query);
    let (feed, reader) = body_reader::pair();
    let source = Source::Stream { bytes: Box::new(reader), expected_bytes };
    let job = CancelOnDrop(imports::start(&state, Import { name: name.clone(), store, comment, source })?);
    tokio::select! {
        () = feed.feed(body.into_data_stream()) => (),
        // Without the feed the reader ends, also where the sender says nothing for hours.
        () = job.0.cancelled() => (),
    }
    match job.0.ended(&state.jobs).await {
        JobView { state: JobState::Done, .. } => Ok((StatusCode::CREATED, Json(view_of(&state, &name)?))),
        // As a job that failed, not as a request that was refused: the client's exit code tells.
        JobView { error: Some(ErrorBody { message, hint }), .. } => {
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message, hint))
        }
        _ => Err(ApiError::new(StatusCode::CONFLICT, "the import was cancelled", "nothing of it is left")),
    }
}

/// Cancels a job whose requester no longer waits for it.
struct CancelOnDrop(Arc<Job>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel_unless_ended();
    }
}

pub(super) async fn export(
    State(state): State<Shared>,
    Path(name): Path<String>,
    body: Result<Json<ExportVDisk>, JsonRejection>,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    let (name, Json(request)) = (params::name(&name)?, body?);
    let job = vdisk_export::start(&state, &name, request)?;
    Ok((StatusCode::ACCEPTED, Json(job.view())))
}

async fn set(
    State(state): State<Shared>,
    Path(name): Path<String>,
    body: Result<Json<PatchVDisk>, JsonRejection>,
) -> Result<Json<VDiskView>, ApiError> {
    let (name, Json(patch)) = (params::name(&name)?, body?);
    if let Some(hooks) = patch.hooks {
        // A name that is mistyped would refuse every seal to come.
        state.hooks.check(&hooks)?;
        state.farm.decide(|view, _| rules::set_hooks(view, &name, hooks.clone())).await?;
    }
    let (every, bytes) = (patch.checkpoint_s, patch.checkpoint_bytes);
    if every.is_some() || bytes.is_some() {
        let set = |view: &FarmView, _| {
            let now = view.vdisks.get(&name).map(|vdisk| vdisk.checkpoints).unwrap_or_default();
            let asked = |asked: Option<u64>, now| asked.map_or(now, |value| (value > 0).then_some(value));
            let next = Checkpoints { every_s: asked(every, now.every_s), bytes: asked(bytes, now.bytes) };
            rules::set_checkpoints(view, &name, next)
        };
        state.farm.decide(set).await?;
    }
    Ok(Json(view_of(&state, &name)?))
}

pub(super) async fn delete(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let name = params::name(&name)?;
    let before = state.farm.view();
    let store = before.vdisks.get(&name).map(|vdisk| vdisk.store.clone());
    // What our own sessions have stopped to read a moment ago is not in the way.
    state.boot.reading.refresh().await?;
    state
        .farm
        .decide(|view, _| {
            let sessions = views::sessions_of(&state, &name);
            rules::delete(view, &name, Here { server: &state.server, sessions: &sessions })
        })
        .await?;
    if let Some(share) = store.and_then(|store| state.stores.find(Some(&store)).cloned()) {
        share.settle(&state.farm).await;
        state.care.look_soon();
    }
    let after = state.farm.view();
    for version in before.versions_of(&name).filter(|version| !after.names(version.root)) {
        state.boot.files.forget(&version.root);
    }
    Ok(StatusCode::NO_CONTENT)
}

fn view_of(state: &AppState, name: &Name) -> Result<VDiskView, ApiError> {
    let view = state.farm.view();
    let none = || {
        ApiError::not_found(format!("there is no vDisk {name}"), "`headwater vdisk list` shows what there is")
    };
    Ok(views::vdisk(state, &view, view.vdisks.get(name).ok_or_else(none)?))
}
