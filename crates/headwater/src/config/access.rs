//! `[access]`: logins, and who needs none for `/metrics`.

use super::{ConfigError, Network};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A month: who wants more makes a token for a program.
const MAX_HOURS: u32 = 720;

/// `[access]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AccessConfig {
    pub(crate) session_hours: u32,
    /// Who may read `/metrics` without a token.
    pub(crate) metrics_from: Vec<Network>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self { session_hours: 12, metrics_from: Vec::new() }
    }
}

impl AccessConfig {
    /// How long a login is good for.
    pub(crate) fn session(&self) -> Duration {
        Duration::from_secs(u64::from(self.session_hours) * 3600)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if (1..=MAX_HOURS).contains(&self.session_hours) {
            return Ok(());
        }
        let message = format!("access.session_hours is {}", self.session_hours);
        Err(ConfigError::Contradiction { message, hint: format!("give 1 to {MAX_HOURS}") })
    }
}
