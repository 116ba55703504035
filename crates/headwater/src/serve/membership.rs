//! This server as one of several: its identity, its links to the others, who may join.
//!
//! A server without an identity (`STATE_DIR/identity`) is a farm of its own and opens no port for
//! others. `headwater farm init` makes the first identity, `headwater farm join` the others.

mod desk;
mod incarnation;
mod renewal;
mod routes;

use super::farm::{FarmHandle, now};
use super::state::AppState;
use crate::config::Config;
use anyhow::{Context, Result, bail};
use farm::FarmView;
use farm::rules::membership;
use mesh::identity::{Authority, IdentityError, ServerIdentity};
use mesh::link::{LinkEvent, LinkObserver, LinkOptions, Links, Peer};
use protocol::mesh::FarmId;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

pub(super) use routes::routes;

/// The directory in the state directory with certificate and key.
pub(crate) const IDENTITY_DIR: &str = "identity";
/// How often it is looked whether the certificate must be renewed.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Refused connections are logged at most this often: anybody who reaches the port can cause them.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Opens the links where this server has an identity; notes its start.
pub(super) async fn start(state: &Arc<AppState>) -> Result<()> {
    let directory = identity_dir(state);
    let Some(identity) = ServerIdentity::load(&directory)? else { return Ok(()) };
    let name = &identity.peer().name;
    if *name != state.server {
        bail!(
            "the identity in {} is that of server {name}, and server.name is {}\n\
             hint: set server.name back, or join again with another state directory",
            directory.display(),
            state.server
        );
    }
    let incarnation = incarnation::count(&directory)?;
    note_start(state, incarnation).await?;
    let farm = farm_id(&state.farm.view())?;
    let options = LinkOptions::new(farm, incarnation, state.config.mesh.listen);
    let (peers, watched) = watch::channel(peers_of(&state.farm));
    let handler = state.replication.handler();
    let desk: Arc<dyn mesh::join::JoinDesk> = Arc::new(desk::Desk::new(state));
    let links = Links::start(&identity, options, watched, handler, Some(desk), observer()).await?;
    tracing::info!(address = %links.local_addr(), incarnation, "listens for the other servers of the farm");
    let links = Arc::new(links);
    state.replication.connect(links.clone());
    tokio::spawn(follow(Arc::clone(state), links, peers));
    Ok(())
}

/// Refuses the start of a server that was taken out of the farm, before it writes any record.
pub(super) fn check(farm: &FarmHandle, config: &Config) -> Result<()> {
    let joined = ServerIdentity::load(&config.server.state_dir.join(IDENTITY_DIR))?.is_some();
    let view = farm.view();
    let is_member = view.servers.get(farm.server()).is_some_and(|server| server.member.is_some());
    if joined && view.authority.is_some() && !is_member {
        bail!(
            "server {} is no member of the farm, or was removed from it\n\
             hint: move the identity in the state directory away and join again: `headwater farm join TOKEN`",
            farm.server()
        );
    }
    Ok(())
}

fn identity_dir(state: &AppState) -> PathBuf {
    state.config.server.state_dir.join(IDENTITY_DIR)
}

/// An older copy of the state directory, or a second machine with it, does not start.
async fn note_start(state: &AppState, incarnation: u64) -> Result<()> {
    let farm = &state.farm;
    let server = farm.server().clone();
    let started = farm
        .decide(|view, _| {
            let member = view.servers.get(&server).and_then(|server| server.member.as_ref());
            let address = member.map(|member| member.address.clone()).unwrap_or_default();
            let boot = state.boot.settings.known_address(&address);
            let boot = boot.map(|address| address.to_string()).unwrap_or_default();
            membership::started(view, &server, incarnation, address, boot)
        })
        .await;
    match started {
        Err(error) if error.is_away() => {
            tracing::warn!("that this server has started is not written down: the farm database is away");
            Ok(())
        }
        started => Ok(started?),
    }
}

fn farm_id(view: &FarmView) -> Result<FarmId> {
    let authority = view.authority.as_ref().context("the farm has no certificate authority")?;
    authority.farm.parse().context("the farm's id cannot be read")
}

/// The authority in the records.
fn authority(view: &FarmView) -> Result<Authority, IdentityError> {
    let none = || IdentityError::Making("the farm has no certificate authority".into());
    let stored = view.authority.as_ref().ok_or_else(none)?;
    Authority::from_pem(&stored.certificate, &stored.key)
}

/// The other members, as the records have them.
fn peers_of(farm: &FarmHandle) -> Vec<Peer> {
    let view = farm.view();
    let others = view.servers.values().filter(|server| server.name != *farm.server());
    let peer = |server: &farm::Server| {
        let member = server.member.as_ref()?;
        let serials = member.serials.iter().filter_map(|serial| serial.clone().try_into().ok()).collect();
        Some(Peer { name: server.name.clone(), address: member.address.clone(), serials })
    };
    others.filter_map(|server| peer(server)).collect()
}

/// Keeps the links in step with the records, and the certificate young.
async fn follow(state: Arc<AppState>, links: Arc<Links>, peers: watch::Sender<Vec<Peer>>) {
    let mut changes = state.farm.changes();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let now = peers_of(&state.farm);
        peers.send_if_modified(|before| {
            *before != now && {
                *before = now;
                true
            }
        });
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = look.tick() => renewal::renew_if_due(&state, &links).await,
            () = state.shutdown.wait() => return,
        }
    }
}

fn observer() -> LinkObserver {
    let told: Mutex<Option<Instant>> = Mutex::default();
    Arc::new(move |event| match event {
        LinkEvent::Up(peer) => tracing::info!(%peer, "connected to a server"),
        LinkEvent::Down(peer) => tracing::warn!(%peer, "a server is not connected any more"),
        LinkEvent::Rubbish { peer, class, reason } => {
            tracing::warn!(%peer, %class, reason, "a server sent what makes no sense; that connection was closed");
        }
        LinkEvent::Refused { who, reason } => {
            let mut told = told.lock().expect("no holder of this lock panics");
            if told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
                *told = Some(Instant::now());
                tracing::warn!(who, reason, "no connection between servers");
            }
        }
    })
}

/// The time, for certificates.
fn clock() -> time::OffsetDateTime {
    let since = Duration::from_millis(now().0);
    time::OffsetDateTime::UNIX_EPOCH + since
}
