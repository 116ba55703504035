//! What the boot servers saw a device do.

use model::MacAddress;
use protocol::dhcp::ClientKind;
use std::net::Ipv4Addr;
use std::time::SystemTime;

/// Hears of every step; called from the servers' tasks, so it must not block.
pub trait BootObserver: Send + Sync {
    /// A device made a step.
    fn on_boot_event(&self, event: BootEvent);
}

/// One step of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootEvent {
    /// The device.
    pub mac: MacAddress,
    /// When.
    pub at: SystemTime,
    /// What.
    pub step: BootStep,
}

/// What a device did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootStep {
    /// Its DHCP request was answered.
    Dhcp {
        /// What kind of client asked; an ordinary one is the booted system.
        client: ClientKind,
        /// The address that it got from this server; none beside another DHCP server.
        address: Option<Ipv4Addr>,
    },
    /// It asks for its loader by TFTP.
    LoaderStarted {
        /// The file.
        file: String,
    },
    /// It has its loader.
    LoaderDone {
        /// The file.
        file: String,
    },
}

/// For callers that draw no timelines.
impl BootObserver for () {
    fn on_boot_event(&self, _: BootEvent) {}
}
