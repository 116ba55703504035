//! This server as one of several: its identity, its links to the others, who may join.
//!
//! A server without an identity (`STATE_DIR/identity`) is a farm of its own and opens no port for
//! others. `headwater farm init` makes the first identity, `headwater farm join` the others.

mod desk;
mod first;
mod incarnation;
mod renewal;
mod routes;

use super::farm::{FarmError, FarmHandle, now};
use super::farm_status::{Answering, Seen};
use super::state::AppState;
use crate::config::Config;
use anyhow::{Context, Result, bail};
use farm::FarmView;
use farm::rules::membership::{self, Turn};
use farm::rules::restored;
use incarnation::Starts;
use mesh::identity::{Authority, IdentityError, ServerIdentity};
use mesh::link::{LinkEvent, LinkObserver, LinkOptions, Links, Peer};
use protocol::mesh::FarmId;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

pub(super) use routes::routes;

/// The directory in the state directory with certificate and key.
pub(crate) const IDENTITY_DIR: &str = "identity";
/// How often it is looked whether the certificate must be renewed.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);
/// How often it is tried to note a start for which the database was away.
const NOTE_EVERY: Duration = Duration::from_secs(5);
/// Refused connections are logged at most this often: anybody who reaches the port can cause them.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Opens the links where this server has an identity; notes its start.
pub(super) async fn start(state: &Arc<AppState>) -> Result<()> {
    // Only where the records are up to date: what they do not know is deleted.
    if state.farm.catch_up().await.is_ok() {
        first::resume(&state.config.server.state_dir, &state.farm)?;
    }
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
    let starts = Starts::count(&directory)?;
    let incarnation = starts.number;
    if !note_start(state, &starts).await? {
        tracing::warn!("that this server has started is not written down: the farm database is away");
        tokio::spawn(note_later(Arc::clone(state), starts));
    }
    let farm = farm_id(&state.farm.view())?;
    let options = LinkOptions::new(farm, incarnation, state.config.mesh.listen);
    let (peers, watched) = watch::channel(peers_of(&state.farm));
    let handler = Answering::new(state, state.replication.handler());
    let desk: Arc<dyn mesh::join::JoinDesk> = Arc::new(desk::Desk::new(state));
    let links =
        Links::start(&identity, options, watched, handler, Some(desk), observer(Arc::clone(&state.seen)))
            .await?;
    tracing::info!(address = %links.local_addr(), incarnation, "listens for the other servers of the farm");
    let links = Arc::new(links);
    state.replication.connect(links.clone());
    tokio::spawn(follow(Arc::clone(state), links, peers));
    Ok(())
}

/// Refuses the start of a server that was taken out of the farm, or that is older or newer than the
/// records, before it writes any record and deletes anything that none names.
pub(super) async fn check(farm: &FarmHandle, config: &Config) -> Result<()> {
    let directory = config.server.state_dir.join(IDENTITY_DIR);
    let joined = ServerIdentity::load(&directory)?.is_some();
    if incarnation::accepts_older(&directory) {
        farm.decide(|view, now| Ok::<_, farm::Refusal>(restored::hold(view, now))).await?;
        if !joined {
            incarnation::has_accepted(&directory);
        }
    }
    let view = farm.view();
    let is_member = view.servers.get(farm.server()).is_some_and(|server| server.member.is_some());
    if joined && view.authority.is_some() && !is_member {
        bail!(
            "server {} is no member of the farm, or was removed from it\n\
             hint: move the identity in the state directory away and join again: `headwater farm join TOKEN`",
            farm.server()
        );
    }
    if joined && is_member {
        check_turn(farm, &Starts::look(&directory)?).await?;
    }
    Ok(())
}

async fn check_turn(farm: &FarmHandle, starts: &Starts) -> Result<()> {
    // What is remembered while the database is away may be a start behind.
    farm.catch_up().await?;
    let start = starts.start(String::new(), String::new());
    let turn = |view: &FarmView| membership::turn(view, farm.server(), &start);
    if turn(&farm.view()).map_err(FarmError::from)? == Turn::OlderFarm {
        farm.decide(|view, now| turn(view).map(|_| restored::hold(view, now))).await?;
    }
    Ok(())
}

/// Whether an admin has said that an older state of the farm's database is right.
pub(super) fn accepts_older(state_dir: &Path) -> bool {
    incarnation::accepts_older(&state_dir.join(IDENTITY_DIR))
}

fn identity_dir(state: &AppState) -> PathBuf {
    state.config.server.state_dir.join(IDENTITY_DIR)
}

/// An older copy of the state directory, or a second machine with it, or with an older database,
/// does not start. False where the database is away.
async fn note_start(state: &AppState, starts: &Starts) -> Result<bool> {
    let farm = &state.farm;
    let server = farm.server().clone();
    starts.may_be_recorded()?;
    let started = farm
        .decide(|view, now| {
            let member = view.servers.get(&server).and_then(|server| server.member.as_ref());
            let address = member.map(|member| member.address.clone()).unwrap_or_default();
            let boot = state.boot.settings.known_address(&address);
            let boot = boot.map(|address| address.to_string()).unwrap_or_default();
            membership::started(view, &server, starts.start(address, boot), now)
        })
        .await;
    match started {
        Ok(()) => {
            starts.is_recorded()?;
            starts.has_accepted();
            Ok(true)
        }
        Err(error) => {
            // Neither a refusal nor a database that is away leaves anything in the record.
            if error.is_away() || matches!(error, FarmError::Refused(_)) {
                starts.was_not_sent()?;
            }
            if error.is_away() { Ok(false) } else { Err(error.into()) }
        }
    }
}

/// Notes the start when the database is back. A server that should not have started changes nothing
/// any more, and its sessions go on.
async fn note_later(state: Arc<AppState>, starts: Starts) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(NOTE_EVERY) => (),
            () = state.shutdown.wait() => return,
        }
        match note_start(&state, &starts).await {
            Ok(true) => return,
            Ok(false) => (),
            Err(error) if matches!(error.downcast_ref(), Some(FarmError::Refused(_))) => {
                return state.farm.fence(&format!("{error:#}"));
            }
            Err(error) => tracing::warn!(%error, "that this server has started is not written down yet"),
        }
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

fn observer(seen: Arc<Seen>) -> LinkObserver {
    let told: Mutex<Option<Instant>> = Mutex::default();
    Arc::new(move |event| match event {
        LinkEvent::Up(peer) => {
            seen.up(&peer);
            tracing::info!(%peer, "connected to a server");
        }
        LinkEvent::Down(peer) => {
            seen.down(&peer);
            tracing::warn!(%peer, "a server is not connected any more");
        }
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
