//! What a booting machine gets: asks the farm's rules, opens the session, renders the script.
//!
//! Decides nothing itself: who may boot what is `farm::boot_decision`, what a script looks like is
//! `boot::ipxe`, which address a device is told is `reached.rs`.

use super::boot_files::{BootFileCache, Bootable, BootableError};
use super::boot_steps::{BootSteps, Step};
use super::disks::{DiskError, Disks};
use super::drafts::{DraftError, Drafts};
use super::farm::FarmHandle;
use super::profiles::Profiles;
use super::reached::Reached;
use super::reading::Reading;
use super::replication::Replication;
use super::sessions::{Holder, OpenError, SessionInfo, SessionMode, SessionSpec, Sessions, Token};
use boot::ipxe::{
    BootSource, DeviceScript, HttpUrl, KernelArg, chain_script, elsewhere_script, error_script, menu_script,
    pending_script,
};
use boot::loaders::Loaders;
use disk::BlockIo;
use farm::{Boot, BootAccess, BootDecision, EventKind, NewEvent, WriteCache};
use model::{MacAddress, Name, Root};
use protocol::plan::{BootStage, DeviceReport, WhenFull, WriteCachePlan};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

/// What of the configuration the boot path needs.
pub(crate) struct BootSettings {
    /// This server's name.
    pub(crate) server: Name,
    /// The address that devices are told, where it is configured.
    pub(crate) advertise: Option<IpAddr>,
    /// The HTTP listener, with the port that it really got.
    pub(crate) http: SocketAddr,
    /// The port of the NBD listener.
    pub(crate) nbd_port: u16,
    /// Kernel parameters for every device.
    pub(crate) args: Vec<KernelArg>,
}

/// The boot path of this server.
pub(crate) struct BootService {
    pub(crate) settings: BootSettings,
    pub(crate) farm: Arc<FarmHandle>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) disks: Arc<Disks>,
    pub(crate) files: Arc<BootFileCache>,
    pub(crate) steps: Arc<BootSteps>,
    pub(crate) loaders: Arc<Loaders>,
    pub(crate) drafts: Arc<Drafts>,
    pub(crate) profiles: Arc<Profiles>,
    pub(crate) replication: Arc<Replication>,
    pub(crate) reading: Arc<Reading>,
    /// One attachment at a time: a plan may be asked for twice.
    pub(crate) attaching: tokio::sync::Mutex<()>,
}

/// What a machine's loader asks for.
pub(crate) struct ScriptRequest {
    /// The machine's address.
    pub(crate) mac: MacAddress,
    /// What was chosen in its menu, if it was shown one.
    pub(crate) chosen: Option<Name>,
    /// How many servers have sent it on to another one by now.
    pub(crate) sent_on: u8,
    /// When it asked.
    pub(crate) now: SystemTime,
    /// Where it asked from.
    pub(crate) from: IpAddr,
}

/// How often a machine is sent on: once by the server it came to, once more where the draft has
/// moved meanwhile. Two servers whose records differ for a moment must not send it to and fro.
const MAX_SENT_ON: u8 = 2;

/// Why a device that the rules let boot gets no script.
#[derive(Debug, thiserror::Error)]
enum ScriptError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Files(#[from] BootableError),
    #[error(transparent)]
    Session(#[from] OpenError),
    #[error(transparent)]
    Draft(#[from] DraftError),
    #[error("the kernel parameters of collection {collection} are wrong: {source}")]
    Args { collection: Name, source: boot::ipxe::InvalidKernelArg },
}

impl BootSettings {
    /// Where devices reach us, as far as this server can know it without having been asked: as
    /// configured, else at the address that it gave to its peers.
    pub(crate) fn known_address(&self, mesh_address: &str) -> Option<SocketAddr> {
        let listens = Some(self.http.ip()).filter(|ip| !ip.is_unspecified());
        let of_peers = || mesh_address.parse::<SocketAddr>().ok().map(|address| address.ip());
        let ip = self.advertise.or(listens).or_else(of_peers)?;
        Some(SocketAddr::new(ip, self.http.port()))
    }
}

impl BootService {
    /// Where a device reached us, by the `Host` it asked for.
    pub(crate) fn reached(&self, host: Option<&str>) -> Reached {
        let settings = &self.settings;
        Reached::decide(settings.advertise, host, settings.http, settings.nbd_port)
    }

    /// The script that sends a loader to its own script, for loaders that have not said their MAC.
    pub(crate) fn chain_script(&self, reached: &Reached) -> String {
        chain_script(&[url(reached, "/boot/v1/script".to_owned())])
    }

    /// The script of a machine: it boots, chooses, waits to be accepted, or is told why not.
    pub(crate) async fn script(&self, asked: ScriptRequest, reached: &Reached) -> String {
        let ScriptRequest { mac, now, from, .. } = asked;
        let again = || url(reached, format!("/boot/v1/script?mac={mac}"));
        match self.farm.boot_decision(mac, asked.chosen.clone(), from).await {
            Ok(BootDecision::Elsewhere { servers, reason }) => self.send_on(&asked, &servers, &reason),
            Ok(BootDecision::Boot(boot)) => self.boot_script(*boot, reached, now).await,
            Ok(BootDecision::Menu(menu)) => menu_script(&menu.device, &menu.vdisks, menu.timeout, &again()),
            Ok(BootDecision::Pending { .. } | BootDecision::AutoAdd(_)) => pending_script(mac, &again()),
            Ok(BootDecision::Refuse { reason }) => self.refuse(mac.to_string(), &reason),
            Err(error) => self.refuse(mac.to_string(), &error.to_string()),
        }
    }

    async fn boot_script(&self, boot: Boot, reached: &Reached, now: SystemTime) -> String {
        let device = boot.device.clone();
        match self.open_session(boot, reached, now).await {
            Ok(script) => script,
            Err(error) => self.refuse(device.to_string(), &error.to_string()),
        }
    }

    async fn open_session(
        &self,
        boot: Boot,
        reached: &Reached,
        now: SystemTime,
    ) -> Result<String, ScriptError> {
        let (mode, write_cache, disk, boot) = match boot.access {
            BootAccess::ReadOnly { write_cache: cache } => {
                let disk = self.open_disk(&boot.store, boot.root).await?;
                let disk = self.profiles.recorded(boot.root, disk);
                (SessionMode::Shared, Some(write_cache(cache)), Some(disk), boot)
            }
            // Attached when the plan is fetched: a script can be had for any MAC address.
            BootAccess::Draft => {
                let root = self.present_root(&boot).await?;
                (SessionMode::Draft { epoch: None }, None, None, Boot { root, ..boot })
            }
        };
        let bootable = self.bootable(&boot.store, boot.root).await?;
        let args = self.args(&boot, &bootable)?;
        let mut steps = self.steps.take(boot.mac, now);
        steps.push(("script fetched", now));
        let spec = SessionSpec {
            holder: Holder::Device { name: boot.device.clone(), mac: boot.mac },
            store: boot.store.clone(),
            vdisk: boot.vdisk.clone(),
            version: boot.version,
            root: boot.root,
            size: boot.size,
            write_cache,
            mode,
            disk,
        };
        let token = self.open(spec, steps, now).await?;
        let message = format!(
            "{} boots {} version {} (root {})",
            boot.device,
            boot.vdisk,
            boot.version,
            boot.root.short()
        );
        self.farm.event(NewEvent::new(EventKind::BootStarted, &boot.device, message));
        Ok(device_script(&boot, &bootable, args, &token, reached).render())
    }

    /// Opens a session, of which the farm knows before; on a thread that may wait: it is written down.
    pub(crate) async fn open(
        &self,
        spec: SessionSpec,
        steps: Vec<Step>,
        now: SystemTime,
    ) -> Result<Token, OpenError> {
        // A draft says itself what it needs.
        let _begun = match spec.mode {
            SessionMode::Draft { epoch: Some(_) } => None,
            _ => Some(self.reading.begin(&spec).await?),
        };
        let sessions = Arc::clone(&self.sessions);
        let opened = tokio::task::spawn_blocking(move || sessions.open(spec, steps, now));
        opened.await.expect("opening does not panic")
    }

    /// A disk with the content of `root`, opened on a thread that may wait.
    pub(crate) async fn open_disk(&self, store: &Name, root: Root) -> Result<Arc<dyn BlockIo>, DiskError> {
        let (disks, store) = (Arc::clone(&self.disks), store.clone());
        let opened = tokio::task::spawn_blocking(move || disks.open(&store, root));
        opened.await.expect("opening does not panic")
    }

    /// The same for a session of the last run: what is not here at all ends it.
    pub(crate) async fn open_disk_here(
        &self,
        store: &Name,
        root: Root,
    ) -> Result<Arc<dyn BlockIo>, DiskError> {
        let (disks, store) = (Arc::clone(&self.disks), store.clone());
        let opened = tokio::task::spawn_blocking(move || disks.open_here(&store, root));
        opened.await.expect("opening does not panic")
    }

    /// The boot files of a root, extracted from the image on a thread that may wait.
    pub(crate) async fn bootable(&self, store: &Name, root: Root) -> Result<Bootable, BootableError> {
        let (disks, files, store) = (Arc::clone(&self.disks), Arc::clone(&self.files), store.clone());
        let made = tokio::task::spawn_blocking(move || files.get(root, disks.image(&store, root)?));
        made.await.expect("the maker does not panic")
    }

    /// Takes in what a device's agent says of itself; false where the session is gone.
    pub(crate) fn take_report(&self, token: &Token, report: DeviceReport, now: SystemTime) -> bool {
        let Some(before) = self.sessions.find(token) else { return false };
        for event in report_events(&before, &report) {
            self.farm.event(event);
        }
        self.sessions.report(token, report, now)
    }

    /// The image's own parameters, then the server's, then the collection's: the last word wins in
    /// the kernel.
    fn args(&self, boot: &Boot, bootable: &Bootable) -> Result<Vec<KernelArg>, ScriptError> {
        let wrong = |source| ScriptError::Args { collection: boot.collection.clone(), source };
        // The image's are checked where they are read; one that slips through is left out.
        let image = bootable.args.iter().filter_map(|arg| KernelArg::new(arg).ok());
        let mut args: Vec<KernelArg> = image.chain(self.settings.args.iter().cloned()).collect();
        for word in boot.boot_args.split_whitespace() {
            args.push(KernelArg::new(word).map_err(wrong)?);
        }
        Ok(args)
    }

    /// Sends a machine to the servers that can boot it, if they are there; else says who is missing.
    fn send_on(&self, asked: &ScriptRequest, servers: &[Name], reason: &str) -> String {
        let (connected, view) = (self.replication.connected(), self.farm.view());
        let vdisk = asked.chosen.as_ref().map(|vdisk| format!("&vdisk={vdisk}")).unwrap_or_default();
        let path =
            format!("/boot/v1/script?mac={}{vdisk}&sent={}", asked.mac, asked.sent_on.saturating_add(1));
        let script = |server: &Name| {
            let member = view.servers.get(server)?.member.as_ref()?;
            HttpUrl::new(member.boot.parse().ok()?, &path).ok()
        };
        let there = servers.iter().filter(|server| connected.contains(server));
        let scripts: Vec<HttpUrl> = there.filter_map(script).collect();
        if scripts.is_empty() || asked.sent_on >= MAX_SENT_ON {
            let names: Vec<&str> = servers.iter().map(Name::as_str).collect();
            let missing = format!("{reason}\nhint: not connected now: server {}", names.join(", "));
            return self.refuse(asked.mac.to_string(), &missing);
        }
        tracing::info!(mac = %asked.mac, ?servers, reason, "a machine is sent on");
        elsewhere_script(reason, &scripts)
    }

    fn refuse(&self, subject: String, reason: &str) -> String {
        self.farm.event(NewEvent::new(EventKind::BootRefused, subject, reason));
        error_script(reason)
    }
}

fn url(reached: &Reached, path: String) -> HttpUrl {
    HttpUrl::new(reached.http, &path).expect("made of a route, a token or a MAC address")
}

fn device_script(
    boot: &Boot,
    bootable: &Bootable,
    args: Vec<KernelArg>,
    token: &Token,
    reached: &Reached,
) -> DeviceScript {
    let file = |what: &str| url(reached, format!("/boot/v1/{what}/{}", token.as_str()));
    DeviceScript {
        device: boot.device.clone(),
        vdisk: boot.vdisk.clone(),
        version: boot.version,
        root: bootable.root_spec(),
        sources: vec![BootSource { kernel: file("kernel"), initrd: file("initrd"), plan: file("plan") }],
        args,
    }
}

fn write_cache(cache: WriteCache) -> WriteCachePlan {
    WriteCachePlan::DeviceRam {
        limit_bytes: cache.limit_bytes,
        when_full: match cache.when_full {
            farm::WhenFull::RefuseWrites => WhenFull::RefuseWrites,
            farm::WhenFull::Reboot => WhenFull::Reboot,
        },
    }
}

/// What a report tells people that the one before did not: each at most once a session.
fn report_events(before: &SessionInfo, report: &DeviceReport) -> Vec<NewEvent> {
    let Holder::Device { name, .. } = &before.holder else { return Vec::new() };
    let old = before.report.as_ref();
    let mut events = Vec::new();
    let reached = |stage| report.stage >= stage && old.is_none_or(|old| old.stage < stage);
    if reached(BootStage::Running) {
        let seconds = report.uptime_ms / 1000;
        let message = format!("{name} runs {} version {} after {seconds} s", before.vdisk, before.version);
        events.push(NewEvent::new(EventKind::DeviceRunning, name, message));
    }
    if reached(BootStage::Stopping) {
        events.push(NewEvent::new(EventKind::DeviceStopping, name, format!("{name} shuts down")));
    }
    let full = |report: &DeviceReport| report.cache_refused_writes > 0;
    if full(report) && !old.is_some_and(full) {
        let message = format!(
            "the write cache of {name} is full: {} of {} MiB",
            report.cache_used_bytes >> 20,
            report.cache_limit_bytes >> 20
        );
        events.push(NewEvent::new(EventKind::WriteCacheFull, name, message));
    }
    events
}
