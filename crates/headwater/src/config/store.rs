//! `[[store]]`: where this server's share of a store lies, and how it is looked after.

use super::ConfigError;
use crate::byte_size::ByteSize;
use model::Name;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `[[store]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreConfig {
    pub(crate) name: Name,
    pub(crate) path: PathBuf,
    /// Bytes a second.
    #[serde(default = "default_scrub_rate")]
    pub(crate) scrub_rate: ByteSize,
    /// 0 = only when asked.
    #[serde(default = "default_scrub_days")]
    pub(crate) scrub_days: u32,
    #[serde(default = "default_low")]
    pub(crate) space_low_percent: u8,
    #[serde(default = "default_high")]
    pub(crate) space_high_percent: u8,
}

/// A disk of 2 TB in a day, a tenth of what a SATA disk reads.
fn default_scrub_rate() -> ByteSize {
    ByteSize(20 << 20)
}

fn default_scrub_days() -> u32 {
    30
}

fn default_low() -> u8 {
    5
}

fn default_high() -> u8 {
    10
}

impl StoreConfig {
    /// A store under a path, looked after as usual.
    pub(crate) fn new(name: Name, path: PathBuf) -> Self {
        let (scrub_rate, scrub_days) = (default_scrub_rate(), default_scrub_days());
        let (space_low_percent, space_high_percent) = (default_low(), default_high());
        Self { name, path, scrub_rate, scrub_days, space_low_percent, space_high_percent }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong =
            |message: String, hint: &str| Err(ConfigError::Contradiction { message, hint: hint.to_owned() });
        let (low, high) = (self.space_low_percent, self.space_high_percent);
        if low > high || high > 90 {
            let message = format!("store {}: the low watermark is {low} %, the high one {high} %", self.name);
            return wrong(message, "give space_low_percent <= space_high_percent <= 90");
        }
        if self.scrub_rate.0 < 1 << 20 {
            let message = format!("store {}: scrub_rate is less than 1 MiB a second", self.name);
            return wrong(message, "to scrub only when asked, set scrub_days = 0");
        }
        Ok(())
    }
}
