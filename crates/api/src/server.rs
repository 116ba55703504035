//! Servers, stores and the state of all.

use model::Name;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A server of the farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerView {
    /// The server's name.
    pub name: Name,
    /// Its site.
    pub site: Name,
    /// Whether it is the one that answers.
    pub this: bool,
    /// When it joined the farm.
    pub created_ms: u64,
    /// Where the other servers reach it; none in a farm of one.
    pub address: Option<String>,
    /// How often it has started since it joined.
    pub incarnation: Option<u64>,
}

/// The answering server's share of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreView {
    /// The store's name.
    pub name: Name,
    /// Where the share lies.
    pub path: String,
    /// The size of the file system in bytes.
    pub total_bytes: u64,
    /// What may still be written, in bytes.
    pub free_bytes: u64,
    /// What the store's own files take, in bytes.
    pub used_bytes: u64,
    /// How many vDisks are in it.
    pub vdisks: u32,
    /// `ample`, `low` or `reserve`, by what is free now.
    pub space: String,
    /// With less than this free, space is low.
    pub low_bytes: u64,
    /// With this much free, it is ample again.
    pub high_bytes: u64,
    /// Chunks that are damaged and never served.
    pub quarantined_chunks: u64,
}

/// How the answering server and the farm stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// The answering server's name.
    pub server: Name,
    /// The program's version.
    pub version: String,
    /// The farm's name.
    pub farm: Name,
    /// Seconds since the server started.
    pub uptime_s: u64,
    /// The revision of the farm database.
    pub revision: u64,
    /// How many vDisks there are.
    pub vdisks: u32,
    /// How many devices there are.
    pub devices: u32,
    /// How many collections there are.
    pub collections: u32,
    /// How many MAC addresses wait for an admin.
    pub pending: u32,
    /// How many sessions are open on this server.
    pub sessions: u32,
    /// How many jobs are running on this server.
    pub jobs: u32,
}
