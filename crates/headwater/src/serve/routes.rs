//! The API's router, built out of [`Endpoint`]s: what is not declared cannot be routed.
//!
//! Each area has a function `routes(Routes) -> Routes` that adds its endpoints; `api_routes.rs`
//! calls them all. The declarations are also what `headwater openapi` prints and what the audit
//! takes the names of actions from.

use super::state::Shared;
use api::{Endpoint, Method};
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};

/// A router below `/v1`, one for what lies outside, and the declarations of all that is in them.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<Shared>,
    outside: Router<Shared>,
    endpoints: Vec<Endpoint>,
}

impl Routes {
    /// Adds an endpoint and what answers it.
    pub(super) fn on<T: 'static>(mut self, endpoint: Endpoint, handler: impl Handler<T, Shared>) -> Self {
        let route = on(filter(endpoint.method), handler);
        match endpoint.path.strip_prefix("/v1") {
            Some(path) => self.router = self.router.route(path, route),
            None => self.outside = self.outside.route(endpoint.path, route),
        }
        self.endpoints.push(endpoint);
        self
    }

    /// The routes that do not lie below `/v1`.
    pub(super) fn outside(&self) -> Router<Shared> {
        self.outside.clone()
    }

    /// The routes below `/v1`, which is where the caller puts them, and their declarations.
    pub(super) fn into_parts(self) -> (Router<Shared>, Vec<Endpoint>) {
        (self.router, self.endpoints)
    }
}

/// The method of a request, as the API's declarations have it; none where no endpoint has such.
pub(super) fn method_of(method: &axum::http::Method) -> Option<Method> {
    Some(match *method {
        // The router answers HEAD by what answers GET.
        axum::http::Method::GET | axum::http::Method::HEAD => Method::Get,
        axum::http::Method::POST => Method::Post,
        axum::http::Method::PUT => Method::Put,
        axum::http::Method::PATCH => Method::Patch,
        axum::http::Method::DELETE => Method::Delete,
        _ => return None,
    })
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    }
}
