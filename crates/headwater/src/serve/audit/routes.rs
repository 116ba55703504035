//! `/v1/audit`: who asked for which change, newest first.

use crate::serve::api_error::ApiError;
use crate::serve::routes::Routes;
use crate::serve::state::Shared;
use api::{AuditQuery, AuditView, Endpoint, Least, paths};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use farm::{AuditFilter, AuditId, AuditRecord, AuditResult, Timestamp};

/// The most records of one answer; the next page begins before its last one.
const MAX_PAGE: usize = 1000;
const DEFAULT_PAGE: usize = 100;

/// The endpoint of the audit.
pub(in crate::serve) fn routes(routes: Routes) -> Routes {
    let list = Endpoint::get(paths::AUDIT, "Who asked for which change, newest first");
    let list = list.least(Least::SiteAdmin);
    routes.on(list.asks::<AuditQuery>().lists::<AuditView>(), self::list)
}

async fn list(
    State(state): State<Shared>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<Vec<AuditView>>, ApiError> {
    let Query(query) = query?;
    let limit = query.limit.map_or(DEFAULT_PAGE, |limit| limit as usize).clamp(1, MAX_PAGE);
    let before = query.before.as_deref().map(id).transpose()?;
    let filter = filter(query)?;
    let records = state.farm.audit_records().await.map_err(|error| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), "the server's log may say more")
    })?;
    let wanted = |(id, record): &(AuditId, AuditRecord)| {
        before.as_ref().is_none_or(|before| id < before) && filter.admits(record)
    };
    Ok(Json(records.into_iter().rev().filter(wanted).take(limit).map(view).collect()))
}

fn id(text: &str) -> Result<AuditId, ApiError> {
    let wrong =
        || ApiError::bad_request(format!("{text:?} is no audit record's id"), "take the id of the last one");
    text.parse().map_err(|()| wrong())
}

fn filter(query: AuditQuery) -> Result<AuditFilter, ApiError> {
    let AuditQuery { since_ms, actor, object, action, result, .. } = query;
    let known = |text: String| AuditResult::ALL.into_iter().find(|result| result.id() == text).ok_or(text);
    let result = result.map(known).transpose().map_err(|text| {
        ApiError::bad_request(format!("{text:?} is no result"), "one of ok, started, refused, failed")
    })?;
    Ok(AuditFilter { since: since_ms.map(Timestamp), actor, object, action, result })
}

fn view((id, record): (AuditId, AuditRecord)) -> AuditView {
    AuditView {
        id: id.to_string(),
        at_ms: record.at.0,
        server: record.server,
        actor: record.actor.to_string(),
        token: record.token.map(|token| token.to_string()),
        action: record.action,
        object: record.object,
        from: record.from,
        request: record.request,
        result: record.result.id().to_owned(),
        message: record.message,
        parameters: record.parameters,
    }
}
