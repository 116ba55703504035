//! The HTTP listener and its routes.

use super::access::{self, Needs};
use super::audit::{self, Actions};
use super::boot_http;
use super::listen_error::listen_message;
use super::shutdown::Shutdown;
use super::state::Shared;
use super::{api_error::ApiError, api_routes, page};
use anyhow::{Context, Result};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, middleware};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The largest JSON body in bytes; images are streamed on a route of their own.
pub(super) const MAX_BODY: usize = 256 * 1024;

/// Takes the port, or says who could have it.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    let unbound = |error| anyhow::anyhow!(listen_message(address, "http.listen", &error));
    TcpListener::bind(address).await.map_err(unbound)
}

/// All routes: the API behind its access control, the boot endpoints and the status page without.
pub(super) fn router(state: &Shared) -> Router {
    let routes = api_routes::routes();
    let outside = routes.outside();
    let (api, endpoints) = routes.into_parts();
    let audited = (state.clone(), Arc::new(Actions::of(&endpoints)));
    let needs = (state.clone(), Arc::new(Needs::of_endpoints(&endpoints)));
    // The last layer is asked first: who asks, then the audit, then whether that is allowed.
    let guarded = api
        .fallback(unknown_path)
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(needs.clone(), access::check))
        .layer(middleware::from_fn_with_state(audited, audit::record))
        .layer(middleware::from_fn_with_state(needs.clone(), access::identify));
    let outside = outside
        .layer(middleware::from_fn_with_state(needs.clone(), access::check))
        .layer(middleware::from_fn_with_state(needs, access::identify));
    Router::new()
        .nest("/v1", guarded)
        .merge(outside)
        .route("/", get(page::show))
        .route(api::paths::HEALTHZ, get(|| async { "ok\n" }))
        .with_state(state.clone())
        .merge(boot_http::router(state.boot.clone()))
}

async fn unknown_path() -> impl IntoResponse {
    ApiError::new(StatusCode::NOT_FOUND, "the API has no such path", "is the client newer than the server?")
}

/// Serves until the stop begins, then lets requests end.
pub(super) async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stop = shutdown.clone();
    let served = axum::serve(listener, service).with_graceful_shutdown(async move { stop.wait().await });
    let too_long = async {
        shutdown.wait().await;
        tokio::time::sleep(super::STOP_PATIENCE).await;
    };
    tokio::select! {
        ended = served.into_future() => ended.context("the HTTP listener failed"),
        () = too_long => {
            tracing::warn!("some requests did not end in time");
            Ok(())
        }
    }
}
