//! A DHCP server that is not ours, on a host of its own.

use crate::child::Guarded;
use crate::network::Host;
use anyhow::Result;
use std::process::Stdio;
use tempfile::TempDir;

/// A running dnsmasq that leases addresses and knows nothing of booting.
#[derive(Debug)]
pub struct Dnsmasq {
    _process: Guarded,
    _folder: TempDir,
}

impl Dnsmasq {
    /// Leases the addresses from `first` to `last` on the host's segment.
    pub fn start(host: &Host, first: &str, last: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = host.command("dnsmasq");
        command.args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--user=root"]);
        command.args(["--interface=lan0", "--bind-interfaces", "--dhcp-authoritative"]);
        command.arg(format!("--dhcp-range={first},{last},255.255.255.0,1h"));
        command.arg(format!("--dhcp-leasefile={}", folder.path().join("leases").display()));
        let log = std::fs::File::create(folder.path().join("log"))?;
        let process = Guarded::start(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?;
        Ok(Self { _process: process, _folder: folder })
    }
}
