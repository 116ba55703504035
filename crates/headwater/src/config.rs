//! The configuration of `headwater serve`: one TOML file, every key documented in [`keys`].
//!
//! Defaults work without a file. A key that is not known is refused with the nearest one that is:
//! a typing error must not silently mean the default. What it does not do: look whether addresses
//! are free or files exist; that is said when they are used.

mod access;
mod farm;
mod kept;
pub(crate) mod keys;
mod mesh;
mod nearest;
mod network;
mod reservation;
mod store;

pub(crate) use access::AccessConfig;
pub(crate) use farm::{Database, FarmConfig};
pub(crate) use kept::{AuditConfig, EventsConfig};
pub(crate) use mesh::MeshConfig;
pub(crate) use network::Network;
pub(crate) use reservation::ReservationConfig;
pub(crate) use store::StoreConfig;

use crate::byte_size::ByteSize;
use model::Name;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that `headwater serve` can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) farm: FarmConfig,
    pub(crate) mesh: MeshConfig,
    #[serde(rename = "store")]
    pub(crate) stores: Vec<StoreConfig>,
    pub(crate) http: HttpConfig,
    pub(crate) nbd: NbdConfig,
    pub(crate) dhcp: DhcpConfig,
    pub(crate) tftp: TftpConfig,
    pub(crate) boot: BootConfig,
    pub(crate) hooks: HooksConfig,
    pub(crate) events: EventsConfig,
    pub(crate) audit: AuditConfig,
    pub(crate) draft: DraftConfig,
    pub(crate) access: AccessConfig,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ServerConfig {
    pub(crate) name: Name,
    pub(crate) state_dir: PathBuf,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HttpConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) advertise: Option<IpAddr>,
}

/// `[nbd]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NbdConfig {
    pub(crate) listen: SocketAddr,
    /// 0 = one for each core.
    pub(crate) workers: usize,
    pub(crate) mapped_cache_bytes: ByteSize,
    pub(crate) tls: TlsMode,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Whether NBD connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TlsMode {
    Off,
    Optional,
    Required,
}

/// `[dhcp]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DhcpConfig {
    pub(crate) mode: DhcpMode,
    pub(crate) interface: Option<String>,
    pub(crate) pool_start: Option<Ipv4Addr>,
    pub(crate) pool_end: Option<Ipv4Addr>,
    pub(crate) netmask: Option<Ipv4Addr>,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) dns: Vec<Ipv4Addr>,
    pub(crate) lease_s: u32,
    #[serde(rename = "reservation")]
    pub(crate) reservations: Vec<ReservationConfig>,
}

/// What part of DHCP is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DhcpMode {
    /// None: another server names us.
    Off,
    /// Only what to boot; another server gives the addresses.
    Proxy,
    /// Addresses too.
    Full,
}

/// `[tftp]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TftpConfig {
    /// None = where DHCP is not off.
    pub(crate) enabled: Option<bool>,
    pub(crate) listen: SocketAddr,
}

/// `[boot]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BootConfig {
    pub(crate) loader_dir: PathBuf,
    pub(crate) agent: Option<PathBuf>,
    pub(crate) extra_args: String,
    pub(crate) profile_s: u64,
    pub(crate) profile_calm_s: u64,
}

impl BootConfig {
    /// When a boot counts as over; none where boots are not noted.
    pub(crate) fn profile_limits(&self) -> Option<disk::BootLimits> {
        let (longest, calm) = (Duration::from_secs(self.profile_s), Duration::from_secs(self.profile_calm_s));
        (self.profile_s > 0).then_some(disk::BootLimits { longest, calm })
    }
}

/// `[hooks]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HooksConfig {
    pub(crate) dir: PathBuf,
    pub(crate) timeout_s: u32,
}

/// `[draft]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DraftConfig {
    pub(crate) checkpoint_s: u64,
    pub(crate) checkpoint_bytes: ByteSize,
    pub(crate) reconnect_s: u64,
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(
        "the configuration {path} cannot be read: {source}\nhint: `headwater config show` prints one to begin with"
    )]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the configuration {path} is not TOML: {message}")]
    Syntax { path: PathBuf, message: String },
    #[error("the configuration {path} has an unknown key {key}\nhint: {hint}")]
    UnknownKey { path: PathBuf, key: String, hint: String },
    #[error("the configuration {path} is wrong: {message}")]
    Value { path: PathBuf, message: String },
    #[error("the configuration does not go together: {message}\nhint: {hint}")]
    Contradiction { message: String, hint: String },
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { name: host_name(), state_dir: default_state_dir() }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: any(6900), advertise: None }
    }
}

impl Default for NbdConfig {
    fn default() -> Self {
        Self {
            listen: any(10809),
            workers: 0,
            mapped_cache_bytes: ByteSize(half_of_memory()),
            tls: TlsMode::Off,
            cert: None,
            key: None,
        }
    }
}

impl Default for DhcpConfig {
    fn default() -> Self {
        Self {
            mode: DhcpMode::Off,
            interface: None,
            pool_start: None,
            pool_end: None,
            netmask: None,
            gateway: None,
            dns: Vec::new(),
            lease_s: 3600,
            reservations: Vec::new(),
        }
    }
}

impl Default for TftpConfig {
    fn default() -> Self {
        Self { enabled: None, listen: any(69) }
    }
}

impl Default for BootConfig {
    fn default() -> Self {
        let disk::BootLimits { longest, calm } = disk::BootLimits::default();
        Self {
            loader_dir: "/usr/lib/ipxe".into(),
            agent: None,
            extra_args: String::new(),
            profile_s: longest.as_secs(),
            profile_calm_s: calm.as_secs(),
        }
    }
}

impl Default for HooksConfig {
    fn default() -> Self {
        // Longer than a package manager needs inside an image, by eye.
        Self { dir: "/etc/headwater/hooks".into(), timeout_s: 1800 }
    }
}

impl Default for DraftConfig {
    /// A checkpoint is a layer of its own until the seal: an hour of work makes six of them.
    fn default() -> Self {
        Self { checkpoint_s: 600, checkpoint_bytes: ByteSize(4 << 30), reconnect_s: 300 }
    }
}

impl Config {
    /// Reads and checks the file; without one, the defaults.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_with_state_dir(path, None)
    }

    /// [`Config::load`] with another state directory than the file's.
    pub(crate) fn load_with_state_dir(
        path: Option<&Path>,
        state_dir: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let mut config = match path {
            None => Self::default(),
            Some(path) => {
                let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
                Self::parse(path, &std::fs::read_to_string(path).map_err(unreadable)?)?
            }
        };
        config.server.state_dir = state_dir.unwrap_or(config.server.state_dir);
        if config.stores.is_empty() {
            let path = config.server.state_dir.join("store");
            config.stores.push(StoreConfig::new(Name::new("default").expect("a name"), path));
        }
        config.check()?;
        Ok(config)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let path = path.to_owned();
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return Err(ConfigError::Syntax { path, message: error.to_string() }),
        };
        if let Some(key) = keys::first_unknown(&table) {
            return Err(ConfigError::UnknownKey { path, hint: keys::hint(&key), key });
        }
        // From the text, not the table: messages then name the line.
        toml::from_str(text).map_err(|error| ConfigError::Value { path, message: error.to_string() })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let contradiction = |message: &str, hint: &str| {
            Err(ConfigError::Contradiction { message: message.to_owned(), hint: hint.to_owned() })
        };
        let (nbd, dhcp) = (&self.nbd, &self.dhcp);
        if nbd.tls != TlsMode::Off && (nbd.cert.is_none() || nbd.key.is_none()) {
            return contradiction(
                "nbd.tls is on, but there is no nbd.cert and nbd.key",
                "give both, as PEM files",
            );
        }
        let pool = [dhcp.pool_start, dhcp.pool_end, dhcp.netmask];
        if dhcp.mode == DhcpMode::Full && pool.contains(&None) {
            return contradiction(
                "dhcp.mode is \"full\", but there is no pool to give addresses from",
                "give dhcp.pool_start, dhcp.pool_end and dhcp.netmask",
            );
        }
        if dhcp.pool_start > dhcp.pool_end {
            return contradiction("dhcp.pool_start lies behind dhcp.pool_end", "swap them");
        }
        reservation::check(dhcp)?;
        self.events.check()?;
        self.audit.check()?;
        self.access.check()?;
        self.farm.check()?;
        self.stores.iter().try_for_each(StoreConfig::check)?;
        let mut names: Vec<&Name> = self.stores.iter().map(|store| &store.name).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => {
                contradiction(&format!("two stores are called {}", twice[0]), "rename one of them")
            }
            None => Ok(()),
        }
    }

    /// The file as it would have to be to mean this, with every key explained.
    pub(crate) fn explained(&self) -> String {
        keys::explain(&toml::Table::try_from(self).expect("a configuration is a table"))
    }

    /// Whether TFTP is served: as told, else where DHCP sends devices to us.
    pub(crate) fn tftp_enabled(&self) -> bool {
        self.tftp.enabled.unwrap_or(self.dhcp.mode != DhcpMode::Off)
    }

    /// The agent to put into initrds: as told, else beside this program, else where the package
    /// puts it.
    pub(crate) fn agent_path(&self) -> PathBuf {
        const PACKAGED: &str = "/usr/lib/headwater/headwater-agent";
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("headwater-agent"));
        let there = |path: &PathBuf| path.exists();
        self.boot.agent.clone().or_else(|| beside().filter(there)).unwrap_or_else(|| PACKAGED.into())
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

/// Half of the machine's memory: what devices boot from stays mapped, the rest is left to everything
/// else. The pages are the page cache's in any case.
fn half_of_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit) / 2
}

/// Where a server keeps its state unless told otherwise: a system's place for root, else the user's.
pub(crate) fn default_state_dir() -> PathBuf {
    let home = || std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(std::env::temp_dir);
    match rustix::process::geteuid().is_root() {
        true => "/var/lib/headwater".into(),
        false => home().join(".local/share/headwater"),
    }
}

/// The host's name as far as it is a name, else "server".
fn host_name() -> Name {
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let label = host.split('.').next().unwrap_or_default();
    Name::new(label).unwrap_or_else(|_| Name::new("server").expect("a name"))
}

#[cfg(test)]
mod tests;
