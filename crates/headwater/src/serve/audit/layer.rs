//! The layer of the API that opens and closes the audit's entries.
//!
//! Every answer carries the request's id as `x-request-id`: the one that the client sent, where
//! that is harmless, else a new one.

use super::{Asked, Asker, ENTRY, Entry};
use crate::serve::api_error::ApiError;
use crate::serve::http::MAX_BODY;
use crate::serve::routes::method_of;
use crate::serve::state::{AppState, Shared};
use api::{Endpoint, ErrorBody, Method};
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, MatchedPath, OriginalUri, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use farm::{Actor, AuditResult};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

const REQUEST_ID: &str = "x-request-id";
/// The longest request id that is taken from a client.
const MAX_REQUEST_ID: usize = 64;
/// Fields of a body that say what a request is about where its path does not.
const NAMING_FIELDS: [&str; 3] = ["name", "mac", "vdisk"];

/// The names of all actions, by method and path.
pub(in crate::serve) struct Actions(HashMap<(Method, &'static str), &'static str>);

impl Actions {
    /// The actions of the API's endpoints.
    pub(in crate::serve) fn of(endpoints: &[Endpoint]) -> Self {
        let action = |endpoint: &Endpoint| Some(((endpoint.method, endpoint.path), endpoint.action?));
        Self(endpoints.iter().filter_map(action).collect())
    }
}

/// Answers the request; records it where it asks for a change.
pub(in crate::serve) async fn record(
    State((state, actions)): State<(Shared, Arc<Actions>)>,
    request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let mut response = match action_of(&actions, &request) {
        None => next.run(request).await,
        Some(action) => recorded(&state, action, id.clone(), request, next).await,
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn action_of(actions: &Actions, request: &Request) -> Option<&'static str> {
    let path = request.extensions().get::<MatchedPath>()?;
    actions.0.get(&(method_of(request.method())?, path.as_str())).copied()
}

async fn recorded(
    state: &AppState,
    action: &'static str,
    id: String,
    request: Request,
    next: Next,
) -> Response {
    let (request, body) = match with_body_read(request).await {
        Ok(read) => read,
        Err(refused) => return refused.into_response(),
    };
    let entry = Arc::new(state.farm.audit(asked(action, id, &request, &body)));
    let response = ENTRY.scope(Arc::clone(&entry), next.run(request)).await;
    let (result, message) = outcome(&response);
    tracing::info!(action, object = %entry.asked.object, request = ?entry.asked.request, ?result, message, "asked");
    if is_kept(state, &entry, response.status()) {
        close(state, &entry, result, &message).await;
    }
    response
}

/// Whoever need not say who they are could fill the audit: what waits is not recorded, and of what
/// fails only so much.
fn is_kept(state: &AppState, entry: &Entry, status: StatusCode) -> bool {
    let is_stranger = entry.asker().actor == Actor::Nobody;
    status != StatusCode::TOO_MANY_REQUESTS && (!is_stranger || state.access.records_stranger())
}

/// Writes the record where no transaction has carried it, or where it ended otherwise.
async fn close(state: &AppState, entry: &Entry, result: AuditResult, message: &str) {
    if result == AuditResult::Ok && entry.is_answered_by_job() {
        return;
    }
    if !entry.is_news(result, message) {
        return;
    }
    let (id, record) = entry.record(result, message);
    state.farm.write_audit(id, record).await;
}

/// Reads a body of JSON, so that both the audit and the handler have it. Images pass by.
async fn with_body_read(request: Request) -> Result<(Request, Bytes), ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("application/json")) {
        return Ok((request, Bytes::new()));
    }
    let (parts, body) = request.into_parts();
    let too_long = |_| {
        let message = format!("the request is longer than {MAX_BODY} bytes, or broke off");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message, "images are sent to /v1/vdisks/NAME/content")
    };
    let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(too_long)?;
    Ok((Request::from_parts(parts, Body::from(body.clone())), body))
}

fn asked(action: &'static str, id: String, request: &Request, body: &[u8]) -> Asked {
    let extensions = request.extensions();
    let template = extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    // The router takes the path's beginning off where it is nested; the template has it.
    let uri = extensions.get::<OriginalUri>().map_or(request.uri(), |original| &original.0);
    let parameters = parameters(uri, body);
    let in_path = object_in_path(template, uri.path());
    Asked {
        asker: extensions.get::<Asker>().cloned().expect("the outer layer says who asks"),
        action,
        object: in_path.or_else(|| object_in_body(&parameters)).unwrap_or_default(),
        from: extensions.get::<ConnectInfo<SocketAddr>>().map(|from| from.0.to_string()),
        request: Some(id),
        parameters,
    }
}

/// `/v1/vdisks/{name}/versions/{n}` and `/v1/vdisks/win11/versions/3`: `win11/3`.
fn object_in_path(template: &str, path: &str) -> Option<String> {
    let parts = template.split('/').zip(path.split('/'));
    let named: Vec<&str> = parts.filter(|(name, _)| name.starts_with('{')).map(|(_, value)| value).collect();
    (!named.is_empty()).then(|| named.join("/").replace("%3A", ":").replace("%3a", ":"))
}

fn object_in_body(parameters: &Value) -> Option<String> {
    NAMING_FIELDS.iter().find_map(|field| Some(parameters.get(field)?.as_str()?.to_owned()))
}

/// The fields of the body and of the query.
fn parameters(uri: &Uri, body: &[u8]) -> Value {
    let mut fields = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => fields,
        Ok(Value::Null) | Err(_) => Map::new(),
        Ok(other) => Map::from_iter([("body".to_owned(), other)]),
    };
    if let Ok(Query(query)) = Query::<BTreeMap<String, String>>::try_from_uri(uri) {
        fields.extend(query.into_iter().map(|(name, value)| (name, Value::String(value))));
    }
    if fields.is_empty() { Value::Null } else { Value::Object(fields) }
}

fn outcome(response: &Response) -> (AuditResult, String) {
    let status = response.status();
    let result = match status {
        status if status.is_success() => return (AuditResult::Ok, String::new()),
        status if status.is_server_error() => AuditResult::Failed,
        _ => AuditResult::Refused,
    };
    let told = response.extensions().get::<ErrorBody>().map(|body| body.message.clone());
    (result, told.unwrap_or_else(|| status.to_string()))
}

fn request_id(headers: &HeaderMap) -> String {
    let harmless = |id: &&str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.chars().all(allowed)
    };
    let sent = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(harmless);
    sent.map_or_else(new_request_id, str::to_owned)
}

fn new_request_id() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system's randomness is available");
    format!("{:016x}", u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::api_routes;
    use std::fmt::Write;

    /// The table of `docs/operations/audit.md`: a route that changes something has its row there.
    #[test]
    fn every_change_has_its_action_in_the_documentation() {
        let (_, endpoints) = api_routes::routes().into_parts();
        let mut rows: Vec<_> = endpoints
            .iter()
            .filter_map(|endpoint| {
                let method = format!("{:?}", endpoint.method).to_uppercase();
                Some((endpoint.action?, method, endpoint.path, endpoint.about))
            })
            .map(|(action, method, path, about)| format!("| `{action}` | `{method} {path}` | {about} |"))
            .collect();
        rows.sort();
        let documented: Vec<&str> = include_str!("../../../../../docs/operations/audit.md")
            .lines()
            .filter(|line| line.starts_with("| `") && line.contains(" /v1/"))
            .collect();
        let mut table = String::new();
        rows.iter().for_each(|row| writeln!(table, "{row}").unwrap());
        assert!(rows == documented, "docs/operations/audit.md: its table of actions must be\n{table}");
    }

    #[test]
    fn an_action_names_its_noun_and_its_verb() {
        let (_, endpoints) = api_routes::routes().into_parts();
        for action in endpoints.iter().filter_map(|endpoint| endpoint.action) {
            let plain =
                |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            let (noun, verb) = action.split_once('.').unwrap();
            assert!(plain(noun) && plain(verb), "{action}");
        }
    }

    #[test]
    fn what_a_request_is_about_is_found_in_its_path_or_body() {
        let path = object_in_path("/v1/vdisks/{name}/versions/{number}", "/v1/vdisks/win11/versions/3");
        assert_eq!(path.as_deref(), Some("win11/3"));
        assert_eq!(object_in_path("/v1/devices", "/v1/devices"), None);
        let mac =
            object_in_path("/v1/pending/{mac}/accept", "/v1/pending/52%3A54%3A00%3A12%3A34%3A56/accept");
        assert_eq!(mac.as_deref(), Some("52:54:00:12:34:56"));
        let uri = Uri::from_static("/v1/vdisks/a/content?comment=first%20one");
        let said = parameters(&uri, br#"{"mac":"52:54:00:12:34:56"}"#);
        assert_eq!(said["comment"], "first one");
        assert_eq!(object_in_body(&said).as_deref(), Some("52:54:00:12:34:56"));
    }

    #[test]
    fn only_a_harmless_request_id_is_taken_over() {
        let of = |id: &str| {
            request_id(&HeaderMap::from_iter([(
                header::HeaderName::from_static(REQUEST_ID),
                HeaderValue::from_str(id).unwrap(),
            )]))
        };
        assert_eq!(of("deploy-17"), "deploy-17");
        assert_ne!(of("a b"), "a b");
        assert_ne!(of(&"a".repeat(100)).len(), 100);
    }
}
