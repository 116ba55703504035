//! `/v1/collections`

use super::api_error::ApiError;
use super::routes::Routes;
use super::state::{AppState, Shared};
use super::{params, views};
use api::{CollectionView, Endpoint, Least, Method, NewCollection, PatchCollection, paths};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use farm::rules::collection::{self, CollectionPatch};
use model::Name;

/// The endpoints of collections.
pub(super) fn routes(routes: Routes) -> Routes {
    let new = Endpoint::change(Method::Post, paths::COLLECTIONS, "collection.create", "Makes a collection");
    let patch =
        Endpoint::change(Method::Patch, paths::COLLECTION, "collection.change", "Changes a collection");
    let delete = Endpoint::change(
        Method::Delete,
        paths::COLLECTION,
        "collection.delete",
        "Deletes an empty collection",
    );
    routes
        .on(Endpoint::get(paths::COLLECTIONS, "Lists all collections").lists::<CollectionView>(), list)
        .on(Endpoint::get(paths::COLLECTION, "Shows a collection").answers::<CollectionView>(200), show)
        .on(new.least(Least::SiteAdmin).takes::<NewCollection>().answers::<CollectionView>(201), create)
        .on(patch.least(Least::SiteAdmin).takes::<PatchCollection>().answers::<CollectionView>(200), update)
        .on(delete.least(Least::SiteAdmin), self::delete)
}

pub(super) async fn list(State(state): State<Shared>) -> Json<Vec<CollectionView>> {
    let view = state.farm.view();
    Json(view.collections.values().map(|collection| views::collection(&view, collection)).collect())
}

pub(super) async fn show(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<CollectionView>, ApiError> {
    Ok(Json(view_of(&state, &params::name(&name)?)?))
}

pub(super) async fn create(
    State(state): State<Shared>,
    body: Result<Json<NewCollection>, JsonRejection>,
) -> Result<(StatusCode, Json<CollectionView>), ApiError> {
    let Json(new) = body?;
    let (name, patch) = (new.name, patch_of(new.template));
    state.farm.decide(|view, now| collection::create(view, name.clone(), patch.clone(), now)).await?;
    Ok((StatusCode::CREATED, Json(view_of(&state, &name)?)))
}

pub(super) async fn update(
    State(state): State<Shared>,
    Path(name): Path<String>,
    body: Result<Json<PatchCollection>, JsonRejection>,
) -> Result<Json<CollectionView>, ApiError> {
    let (name, Json(patch)) = (params::name(&name)?, body?);
    let patch = patch_of(patch);
    state.farm.decide(|view, _| collection::update(view, &name, patch.clone())).await?;
    Ok(Json(view_of(&state, &name)?))
}

pub(super) async fn delete(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let name = params::name(&name)?;
    state.farm.decide(|view, _| collection::delete(view, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view_of(state: &AppState, name: &Name) -> Result<CollectionView, ApiError> {
    let view = state.farm.view();
    let none = || {
        ApiError::not_found(
            format!("there is no collection {name}"),
            "`headwater collection list` shows what there is",
        )
    };
    Ok(views::collection(&view, view.collections.get(name).ok_or_else(none)?))
}

fn patch_of(patch: PatchCollection) -> CollectionPatch {
    let PatchCollection {
        vdisks,
        cache_limit_bytes,
        when_full,
        boot_args,
        prefix,
        digits,
        suffix,
        auto_add,
        identity,
    } = patch;
    let when_full = when_full.map(|when| match when {
        api::WhenFull::RefuseWrites => farm::WhenFull::RefuseWrites,
        api::WhenFull::Reboot => farm::WhenFull::Reboot,
    });
    CollectionPatch {
        vdisks,
        cache_limit_bytes,
        when_full,
        boot_args,
        prefix,
        digits,
        suffix,
        auto_add,
        identity,
    }
}
