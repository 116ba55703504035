//! `headwater serve`: start, run until told to stop, stop in order.
//!
//! This file is the order of things; each thing is in its own file. `state.rs` is what they share.

mod access;
mod api_error;
mod api_routes;
mod audit;
mod body_reader;
mod boot_files;
mod boot_http;
mod boot_service;
mod boot_steps;
mod collections;
mod database;
pub(crate) mod database_files;
mod devices;
mod disks;
mod draft_sessions;
mod drafts;
mod dry_run;
mod events;
mod exports;
mod farm;
mod farm_backup;
mod farm_status;
mod flood;
mod gates;
mod hook_routes;
mod hooks;
mod http;
mod identity;
mod imports;
mod jobs;
mod listen_error;
mod logs;
mod membership;
mod merges;
mod metrics;
mod openapi;
mod own_address;
mod page;
mod params;
mod pending;
mod profiles;
mod reached;
mod reading;
mod replication;
mod routes;
mod services;
mod session_restore;
mod session_routes;
mod sessions;
mod shutdown;
mod state;
mod store_care;
mod stores;
mod strangers;
mod succession;
mod upkeep;
mod vdisk_export;
mod vdisks;
mod version_jobs;
mod version_views;
mod versions;
mod views;

use crate::config::Config;
use anyhow::{Context, Result};
use shutdown::Shutdown;
use std::time::Duration;

pub(crate) use logs::LogFormat;
pub(crate) use membership::IDENTITY_DIR;
pub(crate) use openapi::text as openapi_text;
pub(crate) use state::{API_URL_FILE, TOKEN_FILE};

/// How long requests, sessions and jobs may take to end after a stop was asked for: below
/// systemd's 90 s, above an import's undoing.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(config: Config, log_format: LogFormat) -> Result<()> {
    logs::init(log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(config));
    // Blocking work that ignores its cancellation must not keep the process.
    runtime.shutdown_timeout(STOP_PATIENCE);
    served
}

async fn serve(config: Config) -> Result<()> {
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("signals cannot be caught")?;
    let listener = http::bind(config.http.listen).await?;
    let nbd = services::bind_nbd(&config)?;
    let listeners = state::Listeners { http: listener.local_addr()?, nbd };
    let state = state::start(config, listeners, shutdown.clone()).await?;
    membership::start(&state).await?;
    let url = state.publish_url(&listener)?;
    tracing::info!(server = %state.server, %url, "headwater serves");
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::spawn(state::cancel_jobs_on_stop(state.clone()));
    tokio::spawn(store_care::run(state.clone()));
    tokio::spawn(merges::run(state.clone()));
    tokio::spawn(replication::run(
        state.replication.clone(),
        state.stores.clone(),
        state.farm.clone(),
        shutdown.clone(),
    ));
    tokio::spawn(profiles::run(
        state.boot.profiles.clone(),
        state.farm.clone(),
        state.boot.disks.clone(),
        shutdown.clone(),
    ));
    let served = http::serve(listener, http::router(&state), shutdown.clone()).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    shutdown.begin();
    state.stop(STOP_PATIENCE).await;
    tracing::info!("headwater stopped");
    served
}
