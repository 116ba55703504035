//! The boot endpoints: script, kernel, initrd, plan and report, under `/boot/v1`.
//!
//! They need no login: a device that boots has none. What they give away is bounded instead. A
//! script can be had for any MAC address and opens a session; everything else needs the session's
//! token. Scripts for unknown addresses go by the farm's rules (auto-add, pending list).
//!
//! Read next: `sessions.rs` for the table, `boot_files.rs` for where kernels come from.

use super::boot_files::{Bootable, BootableError};
use super::boot_service::{BootService, ScriptRequest};
use super::identity::identity_of;
use super::sessions::{Token, boot_plan};
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use model::{MacAddress, Name};
use protocol::plan::{BootPlan, BootStage, DeviceReport};
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::io::AsyncReadExt;

/// Bytes read from a kernel or initrd at a time: large enough that a boot storm is not a storm of
/// small reads, small enough that a thousand downloads hold 256 MB at most.
const FILE_PIECE: usize = 256 * 1024;

/// The routes of the boot endpoints.
pub(crate) fn router(service: Arc<BootService>) -> Router {
    Router::new()
        .route("/boot/v1/script", get(script))
        .route("/boot/v1/kernel/{token}", get(kernel))
        .route("/boot/v1/initrd/{token}", get(initrd))
        .route("/boot/v1/plan/{token}", get(plan))
        .route("/boot/v1/loader/{file}", get(loader))
        .route("/boot/v1/report/{token}", post(report))
        .with_state(service)
}

#[derive(Deserialize)]
struct ScriptQuery {
    mac: Option<String>,
    /// What was chosen in the boot menu.
    vdisk: Option<String>,
    /// How many servers have sent the machine on.
    #[serde(default)]
    sent: u8,
}

/// Answers an iPXE script, always with status 200: iPXE shows nothing of an error page, so what
/// went wrong is said by a script as well.
async fn script(
    State(service): State<Arc<BootService>>,
    Query(query): Query<ScriptQuery>,
    from: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
) -> Response {
    let reached = service.reached(host_of(&headers));
    let mac = query.mac.as_deref().map(str::parse::<MacAddress>);
    let chosen = query.vdisk.as_deref().map(str::parse::<Name>).transpose();
    let text = match (mac, chosen) {
        (None, _) => service.chain_script(&reached),
        (Some(Err(error)), _) => boot::ipxe::error_script(&error.to_string()),
        (_, Err(error)) => boot::ipxe::error_script(&error.to_string()),
        (Some(Ok(mac)), Ok(chosen)) => {
            let from = from.map_or(Ipv4Addr::UNSPECIFIED.into(), |from| from.0.0.ip());
            let asked = ScriptRequest { mac, chosen, sent_on: query.sent, now: SystemTime::now(), from };
            service.script(asked, &reached).await
        }
    };
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

async fn kernel(State(service): State<Arc<BootService>>, Path(token): Path<String>) -> Response {
    boot_file(&service, &token, "kernel fetched", Bootable::kernel).await
}

async fn initrd(State(service): State<Arc<BootService>>, Path(token): Path<String>) -> Response {
    boot_file(&service, &token, "initrd fetched", Bootable::initrd).await
}

/// The distribution's iPXE, for firmware that boots over HTTP.
async fn loader(State(service): State<Arc<BootService>>, Path(file): Path<String>) -> Response {
    match service.loaders.files.get(&file) {
        Some(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes.clone()).into_response(),
        None => (StatusCode::NOT_FOUND, "no such loader\n").into_response(),
    }
}

async fn plan(
    State(service): State<Arc<BootService>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Response {
    let token = Token::from_text(&token);
    if let Err(error) = service.attach_draft(&token).await {
        return (StatusCode::CONFLICT, format!("{error}\n")).into_response();
    }
    let Some(info) = service.sessions.find(&token) else { return unknown_token() };
    service.sessions.step(&token, "plan fetched", SystemTime::now());
    let reached = service.reached(host_of(&headers));
    match boot_plan(&info, &token, &service.settings.server, &reached) {
        Some(plan) => {
            let identity = identity_of(&service.farm.view(), &plan.device);
            Json(BootPlan { identity, ..plan }).into_response()
        }
        None => unknown_token(),
    }
}

async fn report(
    State(service): State<Arc<BootService>>,
    Path(token): Path<String>,
    Json(report): Json<DeviceReport>,
) -> Response {
    let (token, stopped) = (Token::from_text(&token), report.stage == BootStage::Stopped);
    if !service.take_report(&token, report, SystemTime::now()) {
        return unknown_token();
    }
    if stopped {
        // The device does not wait for it: nothing of it is lost any more.
        tokio::spawn(async move { service.device_stopped(&token).await });
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn boot_file(
    service: &BootService,
    token: &str,
    label: &'static str,
    pick: fn(&Bootable) -> PathBuf,
) -> Response {
    let token = Token::from_text(token);
    let Some(info) = service.sessions.find(&token) else { return unknown_token() };
    service.sessions.step(&token, label, SystemTime::now());
    match service.bootable(&info.store, info.root).await {
        Ok(bootable) => send_file(pick(&bootable)).await,
        Err(error) => failed(&error),
    }
}

async fn send_file(path: PathBuf) -> Response {
    let opened = async {
        let file = tokio::fs::File::open(&path).await?;
        let len = file.metadata().await?.len();
        Ok::<_, std::io::Error>((file, len))
    };
    match opened.await {
        Ok((file, len)) => {
            let headers = [
                (header::CONTENT_LENGTH, len.to_string()),
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            ];
            (headers, Body::from_stream(pieces(file))).into_response()
        }
        Err(source) => failed(&BootableError::Cache { path, source }),
    }
}

fn pieces(file: tokio::fs::File) -> impl futures::Stream<Item = std::io::Result<bytes::Bytes>> {
    futures::stream::unfold(Some(file), |file| async {
        let mut file = file?;
        let mut piece = bytes::BytesMut::with_capacity(FILE_PIECE);
        match file.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(piece.freeze()), Some(file))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

fn host_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST).and_then(|value| value.to_str().ok())
}

/// One answer for every token that is not ours: an expired one and a guess look the same.
fn unknown_token() -> Response {
    (StatusCode::NOT_FOUND, "no such session; boot again to get a new one\n").into_response()
}

fn failed(error: &BootableError) -> Response {
    tracing::error!(%error, "boot files are not available");
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}
