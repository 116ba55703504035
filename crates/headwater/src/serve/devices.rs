//! `/v1/devices`

use super::api_error::ApiError;
use super::routes::Routes;
use super::state::{AppState, Shared};
use super::{params, views};
use api::{DeviceView, Endpoint, Least, Method, NewDevice, PatchDevice, paths};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use farm::DeviceKind;
use farm::rules::device::{self, AddDevice, DevicePatch};
use model::{MacAddress, Name};

/// The endpoints of devices.
pub(super) fn routes(routes: Routes) -> Routes {
    let new = Endpoint::change(Method::Post, paths::DEVICES, "device.add", "Adds a device");
    let patch = Endpoint::change(Method::Patch, paths::DEVICE, "device.change", "Changes a device");
    routes
        .on(Endpoint::get(paths::DEVICES, "Lists all devices").lists::<DeviceView>(), list)
        .on(Endpoint::get(paths::DEVICE, "Shows a device").answers::<DeviceView>(200), show)
        .on(new.least(Least::DeviceOperator).takes::<NewDevice>().answers::<DeviceView>(201), add)
        .on(patch.least(Least::DeviceOperator).takes::<PatchDevice>().answers::<DeviceView>(200), update)
        .on(
            Endpoint::change(Method::Delete, paths::DEVICE, "device.remove", "Removes a device")
                .least(Least::DeviceOperator),
            remove,
        )
}

pub(super) async fn list(State(state): State<Shared>) -> Json<Vec<DeviceView>> {
    let view = state.farm.view();
    let sessions = views::sessions_by_mac(&state);
    Json(view.devices.values().map(|device| views::device(&view, device, &state.server, &sessions)).collect())
}

pub(super) async fn show(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<DeviceView>, ApiError> {
    Ok(Json(view_of(&state, &params::name(&name)?)?))
}

pub(super) async fn add(
    State(state): State<Shared>,
    body: Result<Json<NewDevice>, JsonRejection>,
) -> Result<(StatusCode, Json<DeviceView>), ApiError> {
    let Json(new) = body?;
    let mac = new.mac;
    let command = AddDevice {
        mac,
        name: new.name,
        collection: new.collection.unwrap_or_else(params::default_collection),
        kind: kind(new.kind),
        vdisks: new.vdisks,
    };
    state.farm.decide(|view, now| device::add(view, command.clone(), now)).await?;
    Ok((StatusCode::CREATED, Json(view_of_mac(&state, mac)?)))
}

pub(super) async fn update(
    State(state): State<Shared>,
    Path(name): Path<String>,
    body: Result<Json<PatchDevice>, JsonRejection>,
) -> Result<Json<DeviceView>, ApiError> {
    let (name, Json(patch)) = (params::name(&name)?, body?);
    let new_name = patch.name.clone().unwrap_or_else(|| name.clone());
    let PatchDevice { name: to, collection, vdisks, kind: new_kind, disabled } = patch;
    let patch = DevicePatch { name: to, collection, kind: new_kind.map(kind), vdisks, disabled };
    state.farm.decide(|view, _| device::update(view, &name, patch.clone())).await?;
    Ok(Json(view_of(&state, &new_name)?))
}

pub(super) async fn remove(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let name = params::name(&name)?;
    state.farm.decide(|view, _| device::remove(view, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn kind(kind: api::DeviceKind) -> DeviceKind {
    match kind {
        api::DeviceKind::Production => DeviceKind::Production,
        api::DeviceKind::Test => DeviceKind::Test,
        api::DeviceKind::Maintenance => DeviceKind::Maintenance,
    }
}

fn view_of(state: &AppState, name: &Name) -> Result<DeviceView, ApiError> {
    let view = state.farm.view();
    Ok(views::device(&view, device::find(&view, name)?, &state.server, &views::sessions_by_mac(state)))
}

/// The device that an address has just become.
pub(super) fn view_of_mac(state: &AppState, mac: MacAddress) -> Result<DeviceView, ApiError> {
    let view = state.farm.view();
    let gone = || ApiError::not_found(format!("{mac} was removed again meanwhile"), "");
    let device = view.device_of(mac).ok_or_else(gone)?;
    Ok(views::device(&view, device, &state.server, &views::sessions_by_mac(state)))
}
