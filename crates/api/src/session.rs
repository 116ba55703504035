//! Sessions: one device on one server, bound to one root.

use model::{MacAddress, Name, Root};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A session of this server; its token is not shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// The session's id on its server.
    pub id: String,
    /// The device; none for a session that an admin opened.
    pub device: Option<Name>,
    /// The device's address.
    pub mac: Option<MacAddress>,
    /// What it reads.
    pub vdisk: Name,
    /// Which version.
    pub version: u32,
    /// That version's content; a draft's when the session was opened.
    pub root: Root,
    /// Whether it writes to the version itself.
    pub writes: bool,
    /// The virtual disk's size in bytes.
    pub size_bytes: u64,
    /// When it was opened.
    pub opened_ms: u64,
    /// When it was last heard of.
    pub last_seen_ms: u64,
    /// Open NBD connections.
    pub connections: u32,
    /// The address of the last connection.
    pub peer: Option<String>,
    /// How the write cache stands, as the device reported; none for an admin's.
    pub write_cache: Option<WriteCacheView>,
    /// Bytes that the device read from servers, as it reported.
    pub read_bytes: Option<u64>,
    /// Bytes that the device wrote, as it reported.
    pub written_bytes: Option<u64>,
    /// The boot, step by step.
    pub timeline: Vec<TimelineStep>,
}

/// How a write cache stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WriteCacheView {
    /// Bytes in it.
    pub used_bytes: u64,
    /// The most it may hold.
    pub limit_bytes: u64,
    /// Writes refused because it was full.
    pub refused_writes: u64,
}

/// A step of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimelineStep {
    /// What happened.
    pub label: String,
    /// When.
    pub at_ms: u64,
}

/// Asks for a session for an admin or a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// What to read.
    pub vdisk: Name,
    /// Which version; the one in production where there is none.
    #[serde(default)]
    pub version: Option<u32>,
    /// Makes the disk writable: this many bytes of the server's RAM may hold writes, which are
    /// gone with the session.
    #[serde(default)]
    pub scratch_bytes: Option<u64>,
    /// Writes to the version itself, which must be a draft that nobody else holds.
    #[serde(default)]
    pub write: bool,
    /// Notes what is read first as a boot of the version: for machines that are not the farm's.
    #[serde(default)]
    pub record_boot: bool,
}

/// A session, and how to attach to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenedSession {
    /// The session's id.
    pub id: String,
    /// `nbd://address:port/token`: whoever has it can read the disk.
    pub uri: String,
}
