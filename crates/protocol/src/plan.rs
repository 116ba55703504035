//! The boot plan: what a server tells a device's agent (DESIGN section 8), as JSON over HTTP.
//!
//! `GET /boot/v1/plan/{token}` answers with a [`BootPlan`]; the token is the session's secret, it
//! was put into the device's kernel command line by its iPXE script. The agent reports back with
//! `POST /boot/v1/report/{token}` and a [`DeviceReport`].

use model::{DiskSize, MacAddress, Name, Root};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kernel parameter that carries the plan's URLs, comma-separated, one for each server.
///
/// `headwater.plan=http://10.0.0.1:6900/boot/v1/plan/TOKEN,http://10.0.0.2:6900/boot/v1/plan/TOKEN`
pub const PLAN_PARAMETER: &str = "headwater.plan";
/// The kernel parameter with the address that the loader used:
/// `headwater.ip=ADDRESS/NETMASK/GATEWAY/MAC` (GATEWAY may be empty), e.g.
/// `10.0.0.9/255.255.255.0/10.0.0.1/52:54:00:12:34:56`.
pub const ADDRESS_PARAMETER: &str = "headwater.ip";

/// Everything a device needs to attach its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootPlan {
    /// Revision of this document: 1.
    pub revision: u32,
    /// The device's name; its host name unless the image says otherwise.
    pub device: Name,
    /// The device's MAC address.
    pub mac: MacAddress,
    /// The vDisk's name and version, for messages.
    pub vdisk: Name,
    /// The version's number.
    pub version: u32,
    /// The content: the session keeps this root for its whole life.
    pub root: Root,
    /// The disk's size in bytes.
    pub size: DiskSize,
    /// Where to stream from, in the order to try.
    pub servers: Vec<StreamServer>,
    /// The NBD export name to ask for: the session token.
    pub export: String,
    /// What the device may do with its disk, and where its writes go.
    pub disk: DiskPlan,
    /// Who the device is to be, where the farm gives devices their identity. Secret: it is for
    /// the holder of the token alone.
    pub identity: Option<Identity>,
    /// Where to send [`DeviceReport`]s: a URL for each server, same order as `servers`.
    pub report_urls: Vec<String>,
    /// Seconds between reports.
    pub report_interval_s: u32,
}

/// One server's streaming end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamServer {
    /// The server's name, for messages.
    pub name: Name,
    /// `address:port` of its NBD listener, never a host name: there is no resolver in an initrd.
    pub nbd: String,
}

/// What a device may do with its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DiskPlan {
    /// Everybody's: the content is sealed, the device's writes go to its write cache.
    Shared {
        /// Where the writes go.
        write_cache: WriteCachePlan,
    },
    /// The device's alone, while it holds the draft's lease: writes, flushes, trims and zeroes go
    /// to the server's NBD export, and there is no write cache. A server that refuses a write has
    /// its reasons (another holder, a discarded draft): the device does not ask again.
    Draft,
}

/// Who a device is: the same at each of its boots, another for each device.
///
/// The agent writes it into the write cache of a [`DiskPlan::Shared`] disk, never into a draft.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// For `/etc/hostname`.
    pub hostname: Name,
    /// For `/etc/machine-id`: 32 lower-case hexadecimal digits (machine-id(5)).
    pub machine_id: String,
    /// The text of `/etc/ssh/ssh_host_ed25519_key` (OpenSSH's PROTOCOL.key).
    pub ssh_private_key: String,
    /// The text of `/etc/ssh/ssh_host_ed25519_key.pub`.
    pub ssh_public_key: String,
}

/// The private key stays out of logs, also by accident.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

/// Where the device's writes go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum WriteCachePlan {
    /// In the device's RAM; gone at reboot.
    DeviceRam {
        /// The most bytes it may hold.
        limit_bytes: u64,
        /// What happens at the limit.
        when_full: WhenFull,
    },
}

/// The defined behaviour of a full write cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Writes to blocks that are not yet in the cache get ENOSPC, with a console message; reads
    /// and rewrites go on.
    RefuseWrites,
    /// The device says so on its console and reboots after ten seconds, clean.
    Reboot,
}

/// What the agent tells the server, every `report_interval_s` and at each stage of the boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// The furthest stage of the boot.
    pub stage: BootStage,
    /// Milliseconds since the device's kernel started.
    pub uptime_ms: u64,
    /// Bytes in the write cache.
    pub cache_used_bytes: u64,
    /// The cache's limit in bytes.
    pub cache_limit_bytes: u64,
    /// Writes refused because the cache was full.
    pub cache_refused_writes: u64,
    /// Bytes read from servers since boot.
    pub read_bytes: u64,
    /// Bytes that the device wrote since boot.
    pub written_bytes: u64,
    /// Requests that had to be sent again.
    pub retries: u64,
    /// The server in use.
    pub server: Option<Name>,
}

/// How far a device's boot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootStage {
    /// The agent runs.
    AgentStarted,
    /// The disk is attached.
    DiskAttached,
    /// The first block was read by the device.
    FirstRead,
    /// The image's own init runs from the streamed root file system.
    Running,
    /// The device shuts down.
    Stopping,
    /// The device is done with its disk: the root file system is read-only and the last write was
    /// flushed. A draft's lease can be given back; only reads may still come.
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_not_shown() {
        let identity = Identity {
            hostname: Name::new("m-01").unwrap(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            ssh_private_key: "SECRET".into(),
            ssh_public_key: "ssh-ed25519 AAAA".into(),
        };
        let shown = format!("{identity:?}");
        assert!(shown.contains("m-01") && !shown.contains("SECRET"), "{shown}");
    }

    #[test]
    fn a_disk_is_said_by_its_kind() {
        let draft = serde_json::to_value(DiskPlan::Draft).unwrap();
        assert_eq!(draft, serde_json::json!({"kind": "draft"}));
        let write_cache = WriteCachePlan::DeviceRam { limit_bytes: 1, when_full: WhenFull::Reboot };
        let shared = DiskPlan::Shared { write_cache };
        let json = serde_json::to_string(&shared).unwrap();
        assert_eq!(serde_json::from_str::<DiskPlan>(&json).unwrap(), shared);
    }
}
