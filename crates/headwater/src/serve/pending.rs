//! `/v1/pending`

use super::api_error::ApiError;
use super::routes::Routes;
use super::state::Shared;
use super::{devices, params, views};
use api::{AcceptPending, DeviceView, Endpoint, Least, Method, PendingView, paths};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use farm::DeviceKind;
use farm::rules::device::AddDevice;
use farm::rules::pending as rules;

/// The endpoints of machines that wait to be accepted.
pub(super) fn routes(routes: Routes) -> Routes {
    let accept = Endpoint::change(
        Method::Post,
        paths::PENDING_ACCEPT,
        "pending.accept",
        "Makes a device of a machine",
    );
    let reject = Endpoint::change(
        Method::Post,
        paths::PENDING_REJECT,
        "pending.reject",
        "Keeps a machine from booting",
    );
    let forget = Endpoint::change(
        Method::Delete,
        paths::PENDING_ONE,
        "pending.forget",
        "Takes a machine off the list",
    );
    routes
        .on(Endpoint::get(paths::PENDING, "Lists machines that wait").lists::<PendingView>(), list)
        .on(
            accept.least(Least::DeviceOperator).takes::<AcceptPending>().answers::<DeviceView>(201),
            self::accept,
        )
        .on(reject.least(Least::DeviceOperator), self::reject)
        .on(forget.least(Least::DeviceOperator), self::forget)
}

pub(super) async fn list(State(state): State<Shared>) -> Json<Vec<PendingView>> {
    Json(state.farm.view().pending.values().map(|pending| views::pending(pending)).collect())
}

pub(super) async fn accept(
    State(state): State<Shared>,
    Path(mac): Path<String>,
    body: Result<Json<AcceptPending>, JsonRejection>,
) -> Result<(StatusCode, Json<DeviceView>), ApiError> {
    let (mac, Json(AcceptPending { name, collection })) = (params::mac(&mac)?, body?);
    let collection = collection.unwrap_or_else(params::default_collection);
    let command = AddDevice { mac, name, collection, kind: DeviceKind::Production, vdisks: Vec::new() };
    state.farm.decide(|view, now| rules::accept(view, command.clone(), now)).await?;
    Ok((StatusCode::CREATED, Json(devices::view_of_mac(&state, mac)?)))
}

pub(super) async fn reject(
    State(state): State<Shared>,
    Path(mac): Path<String>,
) -> Result<StatusCode, ApiError> {
    let mac = params::mac(&mac)?;
    state.farm.decide(|view, _| rules::reject(view, mac)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn forget(
    State(state): State<Shared>,
    Path(mac): Path<String>,
) -> Result<StatusCode, ApiError> {
    let mac = params::mac(&mac)?;
    state.farm.decide(|view, _| rules::forget(view, mac)).await?;
    Ok(StatusCode::NO_CONTENT)
}
