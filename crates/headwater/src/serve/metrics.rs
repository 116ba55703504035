//! `/metrics`: the server's figures in Prometheus' text format, version 0.0.4.
//!
//! Read from what is there already: counters of the streaming server, the snapshot of the farm, the
//! tables of sessions and jobs. Nothing is counted for it on the way of a read. An answer is kept for
//! some seconds, so that asking often costs nothing. docs/operations/metrics.md lists the figures.
//!
//! What it does not do: decide who may ask (`access/`).

mod figures;
mod text;

use super::routes::Routes;
use super::state::Shared;
use api::{Endpoint, paths};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long an answer is good for: below every scrape interval that makes sense.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// The media type of the format.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The last answer.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Option<(Instant, String)>>);

/// The endpoint of metrics.
pub(super) fn routes(routes: Routes) -> Routes {
    let show = Endpoint::get(paths::METRICS, "The server's figures, for Prometheus");
    routes.on(show.answers_bytes(MEDIA_TYPE), self::show)
}

async fn show(State(state): State<Shared>) -> impl IntoResponse {
    let mut last = state.metrics.0.lock().await;
    let text = match last.as_ref() {
        Some((at, text)) if at.elapsed() < GOOD_FOR => text.clone(),
        _ => {
            let text = figures::of(&state).await;
            *last = Some((Instant::now(), text.clone()));
            text
        }
    };
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], text)
}
