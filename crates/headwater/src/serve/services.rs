//! The listeners beside HTTP: NBD, DHCP, TFTP. Started in order, stopped in reverse.

use super::boot_steps::BootSteps;
use super::exports::Exports;
use super::listen_error::listen_message;
use super::own_address;
use super::sessions::{Sessions, Token};
use crate::config::{Config, DhcpMode, TlsMode};
use anyhow::{Context, Result};
use boot::dhcp::{DhcpServer, DhcpSettings};
use boot::loaders::Loaders;
use boot::tftp::{TftpServer, TftpSettings};
use boot::{BootEvent, BootObserver, BootStep};
use protocol::dhcp::{BootOffer, ClientKind, DhcpConfig, Loader, Mode, Pool};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use streaming::{Listener, NbdOptions, NbdServer, Peer, TlsPolicy};

/// The file in the state directory with the leases of a full DHCP server.
const LEASES_FILE: &str = "dhcp.leases";
/// How often the sessions hear which connections there are.
const OBSERVE_EVERY: Duration = Duration::from_secs(2);

/// The listeners of a running server.
pub(crate) struct Services {
    nbd: Arc<NbdServer>,
    dhcp: Option<DhcpServer>,
    tftp: Option<TftpServer>,
}

/// What the listeners speak for.
pub(crate) struct Behind {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) steps: Arc<BootSteps>,
    pub(crate) exports: Exports,
    pub(crate) loaders: Arc<Loaders>,
}

/// Takes the NBD port; done before anything is promised to devices.
pub(crate) fn bind_nbd(config: &Config) -> Result<TcpListener> {
    let address = config.nbd.listen;
    TcpListener::bind(address).map_err(|error| anyhow::anyhow!(listen_message(address, "nbd.listen", &error)))
}

impl Services {
    /// Starts everything that the configuration asks for.
    pub(crate) async fn start(
        config: &Config,
        nbd: TcpListener,
        http: SocketAddr,
        behind: Behind,
    ) -> Result<Self> {
        let mut options = NbdOptions::new(vec![Listener::from(nbd)]);
        options.tls = tls_policy(config)?;
        if config.nbd.workers > 0 {
            options.workers = config.nbd.workers;
        }
        let nbd = Arc::new(NbdServer::start(options, Arc::new(behind.exports))?);
        tokio::spawn(observe(Arc::downgrade(&nbd), Arc::clone(&behind.sessions)));
        let observer: Arc<dyn BootObserver> = Arc::new(Timeline(behind.steps));
        let mut services = Self { nbd, dhcp: None, tftp: None };
        if config.dhcp.mode != DhcpMode::Off {
            let settings = dhcp_settings(config, http, &behind.loaders)?;
            services.dhcp = Some(DhcpServer::start(settings, Arc::clone(&observer))?);
        }
        if config.tftp_enabled() {
            let settings = tftp_settings(config, &behind.loaders)?;
            services.tftp = Some(TftpServer::start(settings, observer).await?);
        }
        Ok(services)
    }

    /// Closes the connections of a session that is gone.
    pub(crate) fn close(&self, token: &Token) {
        self.nbd.close_export(token.as_str());
    }

    /// What has been streamed so far.
    pub(crate) fn stats(&self) -> streaming::ServerStats {
        self.nbd.stats()
    }

    /// Tells the sessions which connections there are now.
    pub(crate) fn observe(&self, sessions: &Sessions) {
        observe_once(&self.nbd, sessions);
    }

    /// Stops answering: first those who would send new devices here, then the devices.
    pub(crate) async fn stop(self, patience: Duration) {
        if let Some(dhcp) = self.dhcp {
            dhcp.stop().await;
        }
        if let Some(tftp) = self.tftp {
            tftp.stop().await;
        }
        if let Some(nbd) = Arc::into_inner(self.nbd) {
            // A panic in there was logged already, and there is nothing left to undo.
            let _ = tokio::task::spawn_blocking(move || nbd.stop(patience)).await;
        }
    }
}

async fn observe(nbd: std::sync::Weak<NbdServer>, sessions: Arc<Sessions>) {
    let mut turn = tokio::time::interval(OBSERVE_EVERY);
    loop {
        turn.tick().await;
        let Some(nbd) = nbd.upgrade() else { return };
        observe_once(&nbd, &sessions);
    }
}

fn observe_once(nbd: &NbdServer, sessions: &Sessions) {
    let address = |peer| match peer {
        Peer::Network(address) => Some(address),
        Peer::Local => None,
    };
    let open: Vec<_> =
        nbd.sessions().into_iter().map(|open| (Token::from_text(&open.name), address(open.peer))).collect();
    for (token, _) in open.iter().filter(|(token, _)| !sessions.knows(token)) {
        // Its session has ended: another one holds the draft, or an admin closed it.
        nbd.close_export(token.as_str());
    }
    sessions.observe(&open, SystemTime::now());
}

fn tls_policy(config: &Config) -> Result<TlsPolicy> {
    let read = |path: &Option<std::path::PathBuf>, key: &str| {
        let path = path.as_deref().with_context(|| format!("{key} is not set"))?;
        std::fs::read(path).with_context(|| format!("{key}: {} cannot be read", path.display()))
    };
    let server = || -> Result<_> {
        let (cert, key) = (read(&config.nbd.cert, "nbd.cert")?, read(&config.nbd.key, "nbd.key")?);
        streaming::tls_config(&cert, &key).context("nbd.cert and nbd.key make no TLS server")
    };
    Ok(match config.nbd.tls {
        TlsMode::Off => TlsPolicy::Off,
        TlsMode::Optional => TlsPolicy::Optional(server()?),
        TlsMode::Required => TlsPolicy::Required(server()?),
    })
}

fn dhcp_settings(config: &Config, http: SocketAddr, loaders: &Loaders) -> Result<DhcpSettings> {
    let dhcp = &config.dhcp;
    let interface = own_address::find(dhcp.interface.as_deref()).context("dhcp.interface")?;
    let server = interface.address;
    let told = match config.http.advertise {
        Some(IpAddr::V4(address)) => address,
        _ => server,
    };
    let mode = match dhcp.mode {
        DhcpMode::Off => Mode::Off,
        DhcpMode::Proxy => Mode::Proxy,
        DhcpMode::Full => Mode::Full(pool(config).context("dhcp.mode is \"full\" without a pool")?),
    };
    let boot = boot_offer(SocketAddr::new(told.into(), http.port()), loaders);
    Ok(DhcpSettings {
        interface: interface.name,
        config: DhcpConfig { mode, server, boot },
        lease_file: config.server.state_dir.join(LEASES_FILE),
    })
}

fn pool(config: &Config) -> Option<Pool> {
    let dhcp = &config.dhcp;
    Some(Pool {
        first: dhcp.pool_start?,
        last: dhcp.pool_end?,
        netmask: dhcp.netmask?,
        router: dhcp.gateway,
        dns: dhcp.dns.clone(),
        domain: None,
        lease_s: dhcp.lease_s,
        reservations: dhcp.reservations.iter().map(|reserved| (reserved.mac, reserved.address)).collect(),
    })
}

fn boot_offer(http: SocketAddr, loaders: &Loaders) -> BootOffer {
    let loader = |file: &String| {
        let url = format!("http://{http}/boot/v1/loader/{file}");
        Loader { file: file.clone(), url }
    };
    BootOffer {
        script_url: format!("http://{http}/boot/v1/script"),
        loaders: loaders.by_architecture.iter().map(|(kind, file)| (*kind, loader(file))).collect(),
    }
}

fn tftp_settings(config: &Config, loaders: &Loaders) -> Result<TftpSettings> {
    let listen = config.tftp.listen;
    let IpAddr::V4(told) = listen.ip() else {
        anyhow::bail!("tftp.listen {listen}: only IPv4 addresses are served");
    };
    // Replies must come from the address that the device was told, so one of our own is taken.
    let address = match (told, config.dhcp.mode) {
        (Ipv4Addr::UNSPECIFIED, DhcpMode::Proxy | DhcpMode::Full) => {
            own_address::find(config.dhcp.interface.as_deref()).context("dhcp.interface")?.address
        }
        (told, _) => told,
    };
    Ok(TftpSettings { port: listen.port(), ..TftpSettings::new(address, loaders.files.clone()) })
}

/// Notes what DHCP and TFTP saw for the timelines of the sessions to come.
struct Timeline(Arc<BootSteps>);

impl BootObserver for Timeline {
    fn on_boot_event(&self, event: BootEvent) {
        let label = match event.step {
            // The booted system asks for its address too, which is no step of a boot.
            BootStep::Dhcp { client: ClientKind::Ordinary, .. } => return,
            BootStep::Dhcp { client: ClientKind::Ipxe(_), .. } => "dhcp (iPXE)",
            BootStep::Dhcp { .. } => "dhcp (firmware)",
            BootStep::LoaderStarted { .. } => "loader asked for",
            BootStep::LoaderDone { .. } => "loader fetched",
        };
        self.0.note(event.mac, label, event.at);
    }
}

/// Reads the loaders and says what is missing, once, at the start.
pub(crate) fn read_loaders(directory: &Path) -> Arc<Loaders> {
    let loaders = Loaders::read(directory);
    loaders.problems.iter().for_each(|problem| tracing::warn!("{problem}"));
    Arc::new(loaders)
}
