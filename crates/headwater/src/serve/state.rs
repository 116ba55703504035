//! What all parts of the server share, and how it comes to be.

use super::access::{Access, token_file};
use super::boot_files::BootFileCache;
use super::boot_service::{BootService, BootSettings};
use super::boot_steps::BootSteps;
use super::disks::Disks;
use super::drafts::Drafts;
use super::exports::Exports;
use super::farm::{FarmError, FarmHandle, Kept, Spool};
use super::farm_status::Seen;
use super::hooks::{self, Hooks};
use super::identity;
use super::jobs::Jobs;
use super::metrics::Metrics;
use super::profiles::Profiles;
use super::reading::{self, Reading};
use super::replication::Replication;
use super::services::{Behind, Services, read_loaders};
use super::sessions::{Ledger, Sessions};
use super::shutdown::Shutdown;
use super::store_care::Care;
use super::stores::Stores;
use super::{database, gates, membership, upkeep};
use crate::config::Config;
use anyhow::{Context, Result};
use boot::ipxe::KernelArg;
use disk::MappedCache;
use farm::rules::setup::{ServerStarts, server_starts};
use farm::{EventKind, NewEvent};
use farm_db::Away;
use model::Name;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

/// The file in the state directory with the admin's token.
pub(crate) const TOKEN_FILE: &str = "admin.token";
/// The file in the state directory that says where the API is, as long as the server runs.
pub(crate) const API_URL_FILE: &str = "api.url";
/// How often a server that started without the database tries to enter the farm.
const ENTER_EVERY: Duration = Duration::from_secs(1);
/// The directory in the state directory with what outlives the server of its sessions.
const SESSIONS_DIR: &str = "sessions";
/// The file in the state directory with records of the audit that wait for the database.
const SPOOL_FILE: &str = "audit.spool";

/// The server's state, shared by all of its tasks.
pub(crate) type Shared = Arc<AppState>;

/// What all parts of the server share.
pub(crate) struct AppState {
    pub(crate) config: Config,
    pub(crate) server: Name,
    pub(crate) farm: Arc<FarmHandle>,
    pub(crate) stores: Stores,
    pub(crate) boot: Arc<BootService>,
    pub(crate) hooks: Hooks,
    pub(crate) replication: Arc<Replication>,
    /// None once the stop has begun.
    pub(super) services: Mutex<Option<Services>>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) access: Access,
    pub(super) metrics: Metrics,
    pub(crate) care: Care,
    /// Since when the database is away; none where it cannot be.
    pub(super) away: Option<watch::Receiver<Away>>,
    /// When other servers were last connected.
    pub(crate) seen: Arc<Seen>,
    pub(crate) shutdown: Shutdown,
    pub(crate) started: Instant,
}

/// The ports that are taken before anything else is done.
pub(super) struct Listeners {
    pub(super) http: SocketAddr,
    pub(super) nbd: std::net::TcpListener,
}

/// Opens everything that the server needs, writes what the farm lacks, and begins to answer.
pub(super) async fn start(config: Config, listeners: Listeners, shutdown: Shutdown) -> Result<Shared> {
    let state_dir = config.server.state_dir.clone();
    let cannot =
        || format!("the state directory {} cannot be made\nhint: set server.state_dir", state_dir.display());
    // Nobody else reads the database, which has the token's hash in it.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&state_dir).with_context(cannot)?;
    let database::Opened { db, away } = database::open(&config).await?;
    let server = config.server.name.clone();
    let spool = state_dir.join(SPOOL_FILE);
    let spool = Spool::open(&spool).with_context(|| format!("{} cannot be opened", spool.display()))?;
    let kept = Kept { events: config.events.retention(), audit: config.audit.retention() };
    let farm = FarmHandle::start(db, server.clone(), kept, spool, shutdown.clone()).await?;
    let entered = enter_farm(&farm, &config).await?;
    let stores = open_stores(&config).await?;
    let hooks = Hooks::new(config.hooks.dir.clone(), Duration::from_secs(config.hooks.timeout_s.into()));
    let drafts = Drafts::new(Arc::clone(&farm), stores.clone(), hooks.clone());
    let replication = Replication::start(&config.server.name, &stores)?;
    let boot = boot_service(&config, &stores, &listeners, drafts, &replication)?;
    boot.restore_sessions().await;
    boot.reading.look();
    match entered {
        true => settle_stores(&stores, &farm).await?,
        false => drop(tokio::spawn(enter_later(config.clone(), Arc::clone(&boot), stores.clone()))),
    }
    if let Some(away) = away.clone() {
        tokio::spawn(database::tell(away, Arc::clone(&farm), shutdown.clone()));
    }
    tokio::spawn(reading::run(Arc::clone(&boot.reading), shutdown.clone()));
    tokio::spawn(gates::run(Arc::clone(&farm), server.clone(), shutdown.clone()));
    tokio::spawn(upkeep::run(Arc::clone(&boot), config.draft.clone(), shutdown.clone()));
    let behind = Behind {
        sessions: Arc::clone(&boot.sessions),
        steps: Arc::clone(&boot.steps),
        exports: Exports::new(Arc::clone(&boot.sessions), Arc::clone(&farm)),
        loaders: Arc::clone(&boot.loaders),
    };
    let services = Services::start(&config, listeners.nbd, listeners.http, behind).await?;
    let state = Arc::new(AppState {
        server,
        farm,
        stores,
        boot,
        hooks,
        replication,
        services: Mutex::new(Some(services)),
        jobs: Arc::new(Jobs::default()),
        access: Access::new(&config.access),
        metrics: Metrics::default(),
        care: Care::new(&config),
        away,
        seen: Arc::default(),
        shutdown,
        started: Instant::now(),
        config,
    });
    let message = format!("server {} started, version {}", state.server, env!("CARGO_PKG_VERSION"));
    let event = NewEvent::new(EventKind::ServerStarted, &state.server, message);
    let started = state
        .farm
        .decide(|_, _| Ok(farm::Change { events: vec![event.clone()], ..Default::default() }))
        .await;
    match started {
        // It is in the log at least.
        Err(error) if error.is_away() => state.farm.event(event),
        started => started?,
    }
    Ok(state)
}

fn boot_service(
    config: &Config,
    stores: &Stores,
    listeners: &Listeners,
    drafts: Drafts,
    replication: &Arc<Replication>,
) -> Result<Arc<BootService>> {
    let settings = BootSettings {
        server: config.server.name.clone(),
        advertise: config.http.advertise,
        http: listeners.http,
        nbd_port: listeners.nbd.local_addr()?.port(),
        args: kernel_args(&config.boot.extra_args)?,
    };
    let dir = config.server.state_dir.join(SESSIONS_DIR);
    let sessions = Ledger::open(dir.clone()).with_context(|| format!("{} cannot be made", dir.display()))?;
    let cache = MappedCache::new(config.nbd.mapped_cache_bytes.0);
    let (farm, sessions) = (Arc::clone(drafts.farm()), Arc::new(Sessions::kept_in(sessions)));
    Ok(Arc::new(BootService {
        reading: Reading::new(Arc::clone(&farm), Arc::clone(&sessions), stores.clone()),
        farm,
        drafts: Arc::new(drafts),
        profiles: Arc::new(Profiles::new(config.boot.profile_limits())),
        attaching: tokio::sync::Mutex::default(),
        settings,
        sessions,
        disks: Arc::new(Disks::new(stores.by_name(), cache, replication.source())),
        files: Arc::new(BootFileCache::new(config.server.state_dir.join("boot"), config.agent_path())),
        steps: Arc::new(BootSteps::default()),
        loaders: read_loaders(&config.boot.loader_dir),
        replication: Arc::clone(replication),
    }))
}

fn kernel_args(text: &str) -> Result<Vec<KernelArg>> {
    let args = text.split_whitespace().map(KernelArg::new);
    args.collect::<Result<_, _>>().context("boot.extra_args")
}

async fn open_stores(config: &Config) -> Result<Stores> {
    let configs = config.stores.clone();
    tokio::task::spawn_blocking(move || Stores::open(&configs)).await?
}

/// Writes down that this server is there; false where the database is away.
async fn enter_farm(farm: &FarmHandle, config: &Config) -> Result<bool> {
    let entered = async {
        membership::check(farm, config).await?;
        write_setup(farm, config).await?;
        identity::make_farm_secret(farm).await?;
        anyhow::Ok(())
    };
    match entered.await {
        Err(error) if error.downcast_ref::<FarmError>().is_some_and(FarmError::is_away) => Ok(false),
        entered => entered.map(|()| true),
    }
}

/// Does what the start could not do without the database, when it is back. Until then nothing is
/// tidied up: what is remembered of the records may be old.
async fn enter_later(config: Config, boot: Arc<BootService>, stores: Stores) {
    let farm = boot.drafts.farm();
    loop {
        tokio::time::sleep(ENTER_EVERY).await;
        match enter_farm(farm, &config).await {
            Ok(true) => break,
            Ok(false) => (),
            Err(error) => tracing::error!(%error, "this server is not written down in the farm"),
        }
    }
    boot.settle_drafts().await;
    if let Err(error) = settle_stores(&stores, farm).await {
        tracing::error!(%error, "the stores are not settled until the next start");
    }
}

/// After the drafts were brought in step: a checkpoint that no record named yet must not go.
async fn settle_stores(stores: &Stores, farm: &FarmHandle) -> Result<()> {
    for share in stores.all() {
        hooks::clear_away(&share.store);
        share.settle(farm).await;
        share.report_missing(farm);
    }
    stores.report_copies(farm).await.context("what this server has cannot be written down")
}

async fn write_setup(farm: &FarmHandle, config: &Config) -> Result<()> {
    let path = config.server.state_dir.join(TOKEN_FILE);
    let stored = farm.view().admin_tokens.get(&config.server.name).map(|token| token.hash.clone());
    let new_token_hash = match token_file::is_current(&path, stored.as_deref()) {
        true => None,
        false => {
            tracing::info!(path = %path.display(), "wrote a new admin token");
            Some(token_file::create(&path).with_context(|| format!("{} cannot be written", path.display()))?)
        }
    };
    let path = |store: &crate::config::StoreConfig| store.path.display().to_string();
    let stores = config.stores.iter().map(|store| (store.name.clone(), path(store))).collect();
    let starts = ServerStarts { server: config.server.name.clone(), stores, new_token_hash };
    farm.decide(|view, now| Ok(server_starts(view, starts.clone(), now))).await?;
    Ok(())
}

/// Cancels all jobs when the stop begins: requests that wait for them end then.
pub(super) async fn cancel_jobs_on_stop(state: Shared) {
    state.shutdown.wait().await;
    state.jobs.cancel_all();
}

impl AppState {
    /// Writes where the API is, for commands on this machine; answers the URL.
    pub(super) fn publish_url(&self, listener: &TcpListener) -> Result<String> {
        let mut address = listener.local_addr()?;
        if address.ip().is_unspecified() {
            address.set_ip(match address.is_ipv4() {
                true => std::net::Ipv4Addr::LOCALHOST.into(),
                false => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        let url = format!("http://{address}");
        let path = self.url_file();
        let staged = path.with_extension("new");
        std::fs::write(&staged, &url)
            .and_then(|()| std::fs::rename(&staged, &path))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(url)
    }

    /// Lets jobs end and notes the stop.
    pub(super) async fn stop(&self, patience: Duration) {
        if let Some(services) = self.services.lock().await.take() {
            services.stop(patience).await;
        }
        if tokio::time::timeout(patience, self.jobs.all_ended()).await.is_err() {
            tracing::warn!("some jobs did not end in time; what they left is removed at the next start");
        }
        let event = NewEvent::new(EventKind::ServerStopped, &self.server, "the server stopped");
        if let Err(error) = self.farm.write_event_now(event).await {
            tracing::warn!(%error, "the stop is only in this log");
        }
        // Nobody needs it any more; a file left behind says a port where nobody listens.
        let _ = std::fs::remove_file(self.url_file());
    }

    fn url_file(&self) -> PathBuf {
        self.config.server.state_dir.join(API_URL_FILE)
    }

    /// How long the server has been running.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}
