//! How the API says no: a status and a JSON body with message and hint.

use super::farm::FarmError;
use api::ErrorBody;
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use farm::{Refusal, RefusalKind};

/// An answer other than 2xx.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) body: ErrorBody,
}

impl ApiError {
    /// An answer with its message and hint.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { message: message.into(), hint: hint.into() } }
    }

    /// What the request names does not exist.
    pub(crate) fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message, hint)
    }

    /// A request that makes no sense.
    pub(crate) fn bad_request(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, hint)
    }

    /// An error whose text may carry its hint in a line of its own.
    pub(crate) fn from_text(status: StatusCode, text: &str) -> Self {
        let (message, hint) = split_hint(text);
        Self::new(status, message, hint)
    }
}

/// Parts `message\nhint: what to do` at its hint.
pub(crate) fn split_hint(text: &str) -> (&str, &str) {
    text.split_once("\nhint: ").unwrap_or((text, ""))
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Exists
            | RefusalKind::InUse
            | RefusalKind::Limit
            | RefusalKind::Fenced
            | RefusalKind::Changed => StatusCode::CONFLICT,
            RefusalKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalKind::NotAllowed => StatusCode::FORBIDDEN,
        };
        Self::new(status, refusal.message, refusal.hint)
    }
}

impl From<FarmError> for ApiError {
    fn from(error: FarmError) -> Self {
        match error {
            FarmError::Refused(refusal) => refusal.into(),
            FarmError::Restored => Self::from_text(StatusCode::CONFLICT, &error.to_string()),
            FarmError::Database(_) | FarmError::Busy | FarmError::Behind => {
                tracing::error!(%error, "a change of the farm failed");
                Self::from_text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
            }
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::bad_request(
            rejection.body_text(),
            "send JSON as `docs/` describes it, with Content-Type: application/json",
        )
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text(), "`headwater openapi` lists the fields of each query")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // The audit reads it there.
        let told = axum::Extension(self.body.clone());
        (self.status, told, Json(self.body)).into_response()
    }
}
