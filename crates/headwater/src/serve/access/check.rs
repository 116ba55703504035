//! The inner layer: lets through what the caller's role allows.

use super::Caller;
use crate::serve::api_error::ApiError;
use crate::serve::routes::method_of;
use crate::serve::state::Shared;
use api::{Endpoint, Least, Method};
use axum::extract::{MatchedPath, OriginalUri, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use farm::Level;
use farm::rules::people::{self, About, may};
use model::Name;
use std::collections::HashMap;
use std::sync::Arc;

/// What each endpoint needs, by method and path.
pub(in crate::serve) struct Needs(HashMap<(Method, &'static str), Least>);

impl Needs {
    /// What the API's endpoints need; farm admin where one does not say.
    pub(in crate::serve) fn of_endpoints(endpoints: &[Endpoint]) -> Self {
        let need = |endpoint: &Endpoint| {
            ((endpoint.method, endpoint.path), endpoint.least.unwrap_or(Least::FarmAdmin))
        };
        Self(endpoints.iter().map(need).collect())
    }

    /// What a request needs; none where no endpoint has its path and method.
    pub(super) fn of(&self, request: &Request) -> Option<Least> {
        let path = request.extensions().get::<MatchedPath>()?;
        self.0.get(&(method_of(request.method())?, path.as_str())).copied()
    }
}

/// Answers 403 where the caller's role does not allow the request.
///
/// A path that exists with a method that does not is let through: the router answers 405.
pub(in crate::serve) async fn check(
    State((state, needs)): State<(Shared, Arc<Needs>)>,
    request: Request,
    next: Next,
) -> Response {
    let refused = match (needs.of(&request).and_then(level), request.extensions().get::<Caller>()) {
        (None, _) => None,
        (Some(least), Some(caller)) => refusal(&state, caller, least, &request),
        // The outer layer let nobody through who must be known.
        (Some(_), None) => Some(ApiError::new(StatusCode::UNAUTHORIZED, "the API needs a token", "log in")),
    };
    match refused {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(state: &Shared, caller: &Caller, least: Level, request: &Request) -> Option<ApiError> {
    let view = state.farm.view();
    let about = about(request);
    let caller = people::Caller { name: caller.name.clone(), role: caller.role.clone() };
    may(&view, &caller, least, &about, &state.server).err().map(ApiError::from)
}

/// What a caller must be; none where anyone may.
fn level(least: Least) -> Option<Level> {
    match least {
        Least::Anyone => None,
        Least::ReadOnly => Some(Level::ReadOnly),
        Least::DeviceOperator => Some(Level::DeviceOperator),
        Least::SiteAdmin => Some(Level::SiteAdmin),
        Least::FarmAdmin => Some(Level::FarmAdmin),
    }
}

/// What the path names: `/v1/vdisks/{name}/...`, `/v1/stores/{name}/...`, `/v1/servers/{name}/...`.
fn about(request: &Request) -> About {
    let extensions = request.extensions();
    let template = extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let uri = extensions.get::<OriginalUri>().map_or(request.uri(), |original| &original.0);
    named(template, uri.path())
}

fn named(template: &str, path: &str) -> About {
    let kinds = template.split('/').collect::<Vec<_>>();
    let values = path.split('/').collect::<Vec<_>>();
    let value = |noun: &str| {
        let place = kinds.iter().position(|part| *part == noun)? + 1;
        let is_name = kinds.get(place)?.starts_with('{');
        values.get(place).filter(|_| is_name).and_then(|text| Name::new(text).ok())
    };
    About { vdisk: value("vdisks"), store: value("stores"), server: value("servers") }
}

#[cfg(test)]
mod tests;
