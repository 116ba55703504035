//! `[mesh]`: where other servers of the farm connect to.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// `[mesh]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MeshConfig {
    pub(crate) listen: SocketAddr,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self { listen: super::any(6910) }
    }
}
