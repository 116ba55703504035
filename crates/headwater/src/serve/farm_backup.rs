//! `/v1/farm/backup`: every record of the farm as of one revision, in one file. `/v1/farm/accept`:
//! records that were restored are taken as they are.

use super::api_error::ApiError;
use super::farm::now;
use super::routes::Routes;
use super::state::Shared;
use api::{Endpoint, Least, Method, paths};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use farm_db::backup_file::{Backup, Description};

const MEDIA_TYPE: &str = "application/octet-stream";

/// The endpoint. Not a GET: whoever gets the farm's secrets stands in the audit.
pub(super) fn routes(routes: Routes) -> Routes {
    let backup = Endpoint::change(
        Method::Post,
        paths::FARM_BACKUP,
        "farm.backup",
        "Answers all records as of one revision, secrets among them",
    );
    let accept = Endpoint::change(
        Method::Post,
        paths::FARM_ACCEPT,
        "farm.accept",
        "Takes restored records as they are: what no record names may be deleted again",
    );
    routes
        .on(backup.least(Least::FarmAdmin).answers_bytes(MEDIA_TYPE), self::backup)
        .on(accept.least(Least::FarmAdmin).answers_nothing(204), self::accept)
}

async fn accept(State(state): State<Shared>) -> Result<StatusCode, ApiError> {
    state.farm.decide(|view, _| farm::rules::restored::accept(view)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn backup(State(state): State<Shared>) -> Result<impl IntoResponse, ApiError> {
    let mut away = state.away.clone();
    if let Some(away) = &mut away {
        away.mark_unchanged();
    }
    let records = state.farm.records().await?;
    // What is remembered lacks the audit: the database must have been there all the time.
    if away.is_some_and(|away| away.borrow().is_some() || away.has_changed().unwrap_or(true)) {
        let message = "the farm database went away while its records were read\nhint: try again";
        return Err(ApiError::from_text(StatusCode::SERVICE_UNAVAILABLE, message));
    }
    let description = Description {
        farm: state.farm.view().authority.as_ref().map(|authority| authority.farm.clone()),
        server: state.server.to_string(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        made_ms: now().0,
    };
    let encode = move || Backup::new(description, records).encode();
    let bytes = tokio::task::spawn_blocking(encode).await.expect("encoding does not panic");
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], bytes))
}
