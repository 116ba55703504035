//! `/v1/openapi.json`: the description of the API, made of the routes that are served.

use super::api_routes;
use super::state::Shared;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

/// The description as JSON text, one field to a line, with a line's end at its end.
pub(crate) fn text() -> String {
    let (_, endpoints) = api_routes::routes().into_parts();
    let document = api::openapi::document(&endpoints, env!("CARGO_PKG_VERSION"));
    serde_json::to_string_pretty(&document).expect("a description is JSON") + "\n"
}

pub(super) async fn show(State(_): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Changed on purpose: `cargo run -p headwater -- openapi > docs/openapi.json`.
    const GOLDEN: &str = include_str!("../../../../docs/openapi.json");

    #[test]
    fn the_description_in_the_docs_is_the_one_that_is_served() {
        let current = text();
        assert!(
            current == GOLDEN,
            "docs/openapi.json is out of date\n\
             hint: cargo run -p headwater -- openapi > docs/openapi.json, and look at the difference"
        );
    }

    #[test]
    fn every_route_is_described_once() {
        let (_, endpoints) = api_routes::routes().into_parts();
        let keys: BTreeSet<_> = endpoints.iter().map(|endpoint| (endpoint.path, endpoint.method)).collect();
        assert_eq!(keys.len(), endpoints.len());
        let json: serde_json::Value = serde_json::from_str(&text()).unwrap();
        let described: usize =
            json["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(described, endpoints.len());
        for endpoint in &endpoints {
            assert!(endpoint.about.len() > 5, "{} says nothing about itself", endpoint.path);
        }
    }
}
